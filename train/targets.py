"""The labels of a dataset as the labels of a checkpoint that was trained elsewhere."""

import re
from collections.abc import Mapping, Sequence

from train.errors import Refused
from train.labels import Spellings, by_spelling, listed

_INDEX = re.compile(r"[0-9]{1,9}")


def names(
    labels: Spellings,
    *,
    declared: Sequence[str] | None,
    given: Mapping[str, str],
    answers: Sequence[str],
) -> tuple[dict[str, str], list[str]]:
    """Which of a checkpoint's labels each label of a dataset is.

    In this order: the name that `--labels` gives, the same name, the same name in upper or lower
    case, and the same index. An index counts where one side has numbers only: integers without
    names in the dataset, or `LABEL_0`, `LABEL_1` ... in the checkpoint beside as many names that
    the dataset declares.

    Args:
        labels: Those of the dataset, as they are written.
        declared: The names that the dataset gives to its integers.
        given: What `--labels` says.
        answers: The labels of the checkpoint, in their order.

    Returns:
        The checkpoint's label for each spelling for which there is one, and a line for each thing
        that was assumed.

    Raises:
        Refused: `--labels` gives a name that the checkpoint has not.
    """
    for value, name in given.items():
        if name.casefold() not in {answer.casefold() for answer in answers}:
            raise Refused(
                f"--labels: {value}={name}: the checkpoint has no label {name!r}; it has"
                f" {listed(answers)}"
            )
    nameless = list(answers) == [f"LABEL_{i}" for i in range(len(answers))]
    numbered = any(_INDEX.fullmatch(answer.lstrip("-")) for answer in answers)
    own = by_spelling(declared) if declared else {}
    folded = {answer.casefold(): answer for answer in answers}
    if len(folded) < len(answers):
        folded = {}
    found: dict[str, str] = {}
    cased: list[str] = []
    by_index = False
    for label in sorted({label for label in labels if label is not None}):
        name = own.get(label, label)
        name = given.get(label, given.get(name, name))
        if name in answers:
            found[label] = name
        elif name.casefold() in folded:
            found[label] = folded[name.casefold()]
            cased.append(f"{name} as {found[label]}")
        elif declared and nameless and name in declared and len(declared) == len(answers):
            found[label] = answers[list(declared).index(name)]
            by_index = True
        elif not declared and not numbered and _is_index(name, len(answers)):
            found[label] = answers[int(name)]
    notes = [f"labels that differ in case are taken for the checkpoint's: {', '.join(cased)}"]
    notes = notes if cased else []
    if by_index and declared:
        pairs = (f"{a} is {b}" for a, b in zip(answers[:3], declared[:3], strict=False))
        notes.append(
            "the checkpoint names no labels, so they are taken in the order of the dataset's:"
            f" {', '.join(pairs)}{' ...' if len(answers) > 3 else ''}"  # noqa: PLR2004
        )
    return found, notes


def _is_index(name: str, count: int) -> bool:
    return _INDEX.fullmatch(name) is not None and int(name) < count

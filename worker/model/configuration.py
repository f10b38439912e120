"""What `config.json` says of a model: its labels, its padding token, its vocabulary.

Source of the names and of the defaults: transformers' `PreTrainedConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from worker.errors import Refused
from worker.model.files import read_object

if TYPE_CHECKING:
    from pathlib import Path

FEWEST_LABELS = 2
"""transformers takes a head with one output for a regression."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A configuration of a classifier with one label of several."""

    values: dict[str, Any]
    """All that the file holds, and `pad_token_id` where it lacks it."""
    labels: tuple[str, ...]
    """In the order of the model's outputs."""
    pad_token_id: int
    vocabulary: int
    """Rows of the embedding table: token ids are below it."""


def read(path: Path) -> Configuration:
    """Reads `config.json` of a checkpoint directory.

    Raises:
        Refused: The model is no single-label classifier, or a value means nothing.
    """
    values = read_object(path / "config.json")
    labels = _labels(path, values)
    pad_token_id = _pad_token_id(path, values)
    return Configuration(
        values={**values, "pad_token_id": pad_token_id},
        labels=labels,
        pad_token_id=pad_token_id,
        vocabulary=_vocabulary(path, values, pad_token_id),
    )


def is_count(value: Any) -> TypeGuard[int]:
    """Whether a value of JSON is a whole number above 0; `true` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _labels(path: Path, values: dict[str, Any]) -> tuple[str, ...]:
    problem = values.get("problem_type") or "single_label_classification"
    heads = values.get("architectures") or []
    if not isinstance(heads, list):
        raise Refused(f"model.checkpoint: architectures in config.json of {path} is no array")
    if not isinstance(values.get("model_type"), str):
        raise Refused(f"model.checkpoint: config.json of {path} has no model_type")
    if "auto_map" in values and not heads:
        raise Refused(f"model.checkpoint: {path} needs code of its own, which is never run")
    if heads and not any(str(head).endswith("ForSequenceClassification") for head in heads):
        raise Refused(
            f"model.checkpoint: {path} holds a {heads[0]}, not a sequence classifier: "
            "fine-tune it with emotion-train run"
        )
    # transformers writes no id2label where it is the default one, of two.
    names = values.get("id2label") or _unnamed(values)
    if not isinstance(names, dict):
        raise Refused(
            f"model.checkpoint: id2label of {path} is no object: it maps 0, 1 ... to names"
        )
    missing = [str(index) for index in range(len(names)) if str(index) not in names]
    if missing:
        raise Refused(f"model.checkpoint: id2label of {path} has no entry {missing[0]!r}")
    ordered = [str(names[str(index)]) for index in range(len(names))]
    if problem != "single_label_classification" or len(ordered) < FEWEST_LABELS:
        kind = problem if problem != "single_label_classification" else "regression (one label)"
        raise Refused(f"model.checkpoint: {path} is for {kind}; one label of several is served")
    if len(set(ordered)) < len(ordered):
        raise Refused(f"model.checkpoint: id2label of {path} names a label twice")
    return tuple(ordered)


def _unnamed(values: dict[str, Any]) -> dict[str, str]:
    count = values.get("num_labels")
    return {str(index): f"LABEL_{index}" for index in range(count if is_count(count) else 2)}


def _pad_token_id(path: Path, values: dict[str, Any]) -> int:
    """What config.json says; without an entry, the family's; without one, the tokenizer's."""
    pad = values.get("pad_token_id")
    if "pad_token_id" not in values:
        pad = _padding_of_family(values["model_type"])
    if pad is None:
        from worker.model.tokenizer import padding_of_tokenizer  # noqa: PLC0415 - of tokenizers

        pad = padding_of_tokenizer(path)
    if isinstance(pad, int) and not isinstance(pad, bool) and pad >= 0:
        return pad
    raise Refused(
        f"model.checkpoint: config.json of {path} has no pad_token_id and its tokenizer no padding "
        "token, so that texts of different lengths cannot share a batch: set pad_token_id in "
        "config.json to the id that its training padded with"
    )


def _padding_of_family(kind: str) -> Any:
    from transformers import AutoConfig  # noqa: PLC0415 - seconds, and few checkpoints need it

    try:
        return AutoConfig.for_model(kind).pad_token_id
    except Exception:  # noqa: BLE001 - an unknown family: the weights' loader says so
        return None


def _vocabulary(path: Path, values: dict[str, Any], pad_token_id: int) -> int:
    size = values.get("vocab_size", 2**31)
    if not is_count(size) or size <= pad_token_id:
        raise Refused(
            f"model.checkpoint: vocab_size in config.json of {path} is no whole number above "
            f"pad_token_id, {pad_token_id}"
        )
    return int(size)

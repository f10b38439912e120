"""Texts mixed from others, for a teacher to label: more to learn from where no more texts are.

A small model learns more of what a large one knows if it is shown how that answers beside the texts
of the dataset (Jiao et al., TinyBERT, 2020). What was tried: tests/README.md, "Recipes".
"""

import random
from collections.abc import Sequence

LEFT_OUT = 0.15
"""Share of the words that a text loses."""
BEGIN, SKIPPED = (0.35, 0.75), (0.30, 0.70)
"""Shares of words between which the begin of one text ends, and the end of another begins."""


def mixed(texts: Sequence[str], *, each: int) -> tuple[str, ...]:
    """Mixes texts from the words of others.

    Half of them are a text that lost some words, half the begin of one and the end of another.

    Args:
        texts: Those of the dataset.
        each: How many to mix for each of them.

    Returns:
        The same ones for the same texts, whatever the seed of the run: a teacher is asked once.
    """
    draw = random.Random(0)  # noqa: S311 - no secret
    words = [text.split() for text in texts]
    found = []
    for _ in range(each):
        for ours in words:
            if draw.choice((True, False)):
                kept = [word for word in ours if draw.random() >= LEFT_OUT]
            else:
                theirs = draw.choice(words)
                kept = ours[: max(1, round(len(ours) * draw.uniform(*BEGIN)))]
                kept += theirs[round(len(theirs) * draw.uniform(*SKIPPED)) :]
            found.append(" ".join(kept or ours))
    return tuple(found)

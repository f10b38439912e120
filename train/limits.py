"""What the model card says of texts unlike those of the training."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from train.abstain import Abstained
from train.manifest import Abstain
from train.output import write_whole
from train.printer import counted

_BEGIN, _END = "<!-- abstains -->", "<!-- /abstains -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outside:
    """What the model does with texts that it was not trained for."""

    name: str
    texts: int
    out_of_domain: float
    """Share of the texts on which it abstains for their energy, 0 to 1."""
    low_score: float
    """Share on which it abstains for their score, 0 to 1."""

    @classmethod
    def of(cls, name: str, abstained: Abstained) -> Self:
        """Counts them."""
        return cls(
            name=name,
            texts=len(abstained.low_score),
            out_of_domain=float(abstained.out_of_domain.mean()),
            low_score=float(abstained.low_score.mean()),
        )

    def line(self) -> str:
        """For people."""
        return (
            f"abstains on {self.out_of_domain + self.low_score:.1%} of"
            f" {counted(self.texts, 'text')} (out of domain {self.out_of_domain:.1%}, low score"
            f" {self.low_score:.1%})"
        )


def paragraph(entry: Abstain | None, outside: Sequence[Outside] = ()) -> str:
    """Markdown on when the model abstains, between marks by which `rewrite` finds it.

    Args:
        entry: The thresholds; None where there are none.
        outside: Texts that it was not trained for.
    """
    if entry is None:
        text = "It has no thresholds, and never abstains: `emotion-train threshold` chooses them."
    else:
        low, high = entry.precision_interval or (0.0, 1.0)
        text = (
            "With `model.abstain` the worker says where the model does not know: below the score"
            f" {entry.score:.4f}, and above the energy {entry.energy:.4f}. It then answers"
            f" {entry.coverage or 0:.1%} of {entry.split}; {entry.precision or 0:.1%} of these"
            f" answers are right ({low:.1%} to {high:.1%})."
        )
        for each in outside:
            text += f"\n\nOf other texts, `{each.name}`: it {each.line()}."
    return f"{_BEGIN}\n{text}\n{_END}"


def rewrite(card: Path, entry: Abstain, outside: Sequence[Outside]) -> None:
    """Replaces the paragraph in a model card; a card without one is left as it is."""
    try:
        text = card.read_text(encoding="utf-8")
        before, begin, rest = text.partition(_BEGIN)
        _, end, after = rest.partition(_END)
        if begin and end:
            write_whole(card, f"{before}{paragraph(entry, outside)}{after}")
    except (OSError, UnicodeDecodeError):
        return  # the thresholds are in the manifest, which counts

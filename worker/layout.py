"""How the rows of a micro-batch stand in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Layout:
    """How a batch's rows stand in memory: from it follows for how many tokens the model computes.

    Packed rows stand end to end. The others are padded to one length.
    """

    packed: bool = False
    multiple: int = 1
    """Lengths of padded rows are multiples of it, but not beyond `longest`."""
    longest: int = 2**31
    """Most tokens of a row."""

    def length(self, tokens: int) -> int:
        """The length of padded rows of which the longest has so many tokens."""
        rounded = -(-tokens // self.multiple) * self.multiple
        return max(tokens, min(rounded, self.longest))

    def tokens(self, lengths: Sequence[int]) -> int:
        """Tokens of a batch of rows with these lengths, padding included."""
        return sum(lengths) if self.packed else len(lengths) * self.length(max(lengths))

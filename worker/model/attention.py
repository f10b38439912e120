"""Attention within each text, for rows that are padded and for rows that stand end to end."""

from __future__ import annotations

from math import isclose
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention

if TYPE_CHECKING:
    from collections.abc import Callable

    Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
    """Query, key and value to what was attended to: all of the shape (..., heads, width of a head),
    where (...) is that of the rows."""

SIXTEEN_BITS = (torch.float16, torch.bfloat16)
HEAD_MULTIPLE = 8
"""What the width of a head must be a multiple of, for `varlen_attn`."""


class Pack(NamedTuple):
    """Where each text of a pack is."""

    begins: torch.Tensor
    """Int32, shape (texts + 1,), on the device: the place of each first token, and the end."""
    lengths: list[int]
    """Tokens of each text, on the host."""
    longest: int
    """The most of them."""


def over_rows(mask: torch.Tensor | None) -> Attend:
    """Attention within each of some padded rows.

    Args:
        mask: Bool, shape (rows, 1, length, length): true where a token is attended to. None where
            nothing is padding.
    """

    def attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        heads_first = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        return scaled_dot_product_attention(*heads_first, mask).transpose(1, 2)

    return attend


class OverPack:
    """Attention within each text of a pack: on CUDA by one kernel, elsewhere text by text.

    Args:
        pack: Where the texts are.
        scale: Factor of the products; None: one over the root of a head's width.
        reach: How many tokens to each side are attended to; None: all of the text's.
    """

    def __init__(self, pack: Pack, *, scale: float | None = None, reach: int | None = None) -> None:
        self._pack = pack
        self._scale = scale
        self._reach = None if reach is None or reach >= pack.longest - 1 else reach

    def __call__(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        """As an `Attend`: all of shape (tokens, heads, width of a head)."""
        if query.device.type == "cuda":
            return self._by_one_kernel(query, key, value)
        return self._text_by_text(query, key, value)

    def _by_one_kernel(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        from torch.nn.attention.varlen import varlen_attn  # noqa: PLC0415 - not in every torch

        begins, longest = self._pack.begins, self._pack.longest
        # The positional arguments are those of torch 2.10 to 2.15. The others came later, and are
        # given only where a family needs them.
        options: dict[str, Any] = {}
        if self._scale is not None and not isclose(self._scale, query.shape[-1] ** -0.5):
            options["scale"] = self._scale
        if self._reach is not None:
            options["window_size"] = (self._reach, self._reach)
        found: Any = varlen_attn(query, key, value, begins, begins, longest, longest, **options)
        attended: torch.Tensor = found
        return attended

    def _text_by_text(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> torch.Tensor:
        lengths, found = self._pack.lengths, []
        texts = zip(*(torch.split(part, lengths) for part in (query, key, value)), strict=True)
        for parts in texts:
            one = scaled_dot_product_attention(
                parts[0].transpose(0, 1), parts[1].transpose(0, 1), parts[2].transpose(0, 1),
                attn_mask=self._near(len(parts[0]), query.device), scale=self._scale,
            )  # fmt: skip
            found.append(one.transpose(0, 1))
        return torch.cat(found)

    def _near(self, length: int, device: torch.device) -> torch.Tensor | None:
        """Bool, shape (length, length): whether a token is in another's reach. None: all are."""
        if self._reach is None:
            return None
        places = torch.arange(length, device=device)
        return (places[:, None] - places).abs() <= self._reach

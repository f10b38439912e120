"""Where a long text may be cut, before it is tokenized, without changing its first or last tokens.

A tokenizer makes all tokens of a text and forgets those that the model has no room for: 150 to 280
bytes of memory for each byte of text. It is given a prefix instead, which has to end where every
tokenizer of its kind separates words, whatever comes before and after. Then the tokens of the
prefix are the first tokens of the text, and if they fill the model, the rest of the text cannot
change them. A tokenizer that truncates on the left keeps a text's last tokens: it is given a
suffix, which begins at such a place.

`boundary` says where that is, for tokenizers that are made of known parts only: normalizers that
look at one character and the combining marks behind it, and pre-tokenizers that separate words at
a space. All others get the whole text.
"""

from __future__ import annotations

import json
import re
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tokenizers import AddedToken, Tokenizer

CHARACTERS_PER_TOKEN = 8
"""Length of the first prefix: English has about 5, Chinese about 1. A prefix that is too short is
tokenized in vain."""
SHORTEST_PREFIX = 1_024
GROWTH = 4
"""A prefix that does not fill the model is followed by one so many times as long."""

PLAIN = (
    "!-~\u00c0-\u017e\u0391-\u03a1\u03a3-\u03ce\u0400-\u0481\u05d0-\u05ea\u0621-\u063a"
    "\u0641-\u064a\u0905-\u0939\u0e01-\u0e30\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3"
    "\U0001f300-\U0001f3fa\U0001f400-\U0001f64f\U0001f900-\U0001f9ff"
)
"""Characters, as ranges of a regular expression, that no normalizer turns into white space or joins
with a space beside them. Not complete: a text of others is tokenized whole."""
IDEOGRAPHS = "\u4e00-\u9fff"
PUNCTUATION = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

_NORMALIZERS = frozenset(
    {
        "BertNormalizer",
        "Lowercase",
        "NFC",
        "NFD",
        "NFKC",
        "NFKD",
        "Nmt",
        "Precompiled",
        "Prepend",
        "Strip",
        "StripAccents",
    }
)
_SEVERAL_SPACES = {"Regex": " {2,}"}
_WITHIN_WORDS = frozenset(
    {
        r"(?i)(?<!\w)(?:https?://|www\.)\S+",
        r"(?<![\w.])@\w+",
        r"(?<!\w)#(?=\w)",
        r"(\p{L})\K\1{2,}",
    }
)
"""Regular expressions that neither match nor look at a space: those of `train/normalizers.py`."""


def boundary(tokenizer: Tokenizer) -> re.Pattern[str] | None:
    """What a match of begins a new word in any text; None where nothing is known to.

    Args:
        tokenizer: Where it truncates on the left, a match also begins a text of the same tokens.
    """
    normalizer, splitter = _parts(tokenizer.normalizer), _parts(tokenizer.pre_tokenizer)
    tokens = list(tokenizer.get_added_tokens_decoder().values())
    if not all(map(_is_local, normalizer)) or not _separates_at_spaces(splitter):
        return None
    if not all(map(_leaves_spaces, tokens)):
        return None
    if _keeps_the_end(tokenizer) and not _begins_anywhere(normalizer, splitter, tokens):
        return None
    marks = [" "]
    kinds = [part["type"] for part in (*normalizer, *splitter)]
    if kinds == ["BertNormalizer", "BertPreTokenizer"] and not any(t.single_word for t in tokens):
        # Its punctuation is a token each, and so are ideographs. One that is part of an added
        # token, like the brackets of [MASK], may stand inside it.
        inside = {character for token in tokens for character in token.content}
        marks = [r" \t\n\r", *(re.escape(mark) for mark in PUNCTUATION if mark not in inside)]
        if normalizer[0]["handle_chinese_chars"] and not re.search(
            f"[{IDEOGRAPHS}]", "".join(inside)
        ):
            marks.append(IDEOGRAPHS)
    return re.compile(f"(?<=[{PLAIN}])[{''.join(marks)}](?=[{PLAIN}])")


class PrefixTokenizer:
    """Tokenizes no more of a long text than the model has room for, where that is safe.

    Args:
        tokenizer: Truncates to the model's maximum length, and does not pad.
        max_length: That length in tokens.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_length: int) -> None:
        self._tokenizer = tokenizer
        self._boundary = boundary(tokenizer)
        self._keeps_the_end = _keeps_the_end(tokenizer)
        self._first = max(SHORTEST_PREFIX, CHARACTERS_PER_TOKEN * max_length)

    def encode(self, texts: Sequence[str]) -> list[tuple[Sequence[int], bool]]:
        """Token ids of each text with special tokens, and whether the text was truncated."""
        size = self._first
        if self._boundary is None or max(map(len, texts), default=0) <= size:
            return self._whole(texts)
        parts = [self._part(text, size) for text in texts]
        found = self._whole(parts)
        while short := [
            at for at, text in enumerate(texts) if not found[at][1] and len(parts[at]) < len(text)
        ]:
            size *= GROWTH
            for at in short:
                parts[at] = self._part(texts[at], size)
            again = self._whole([parts[at] for at in short])
            for at, encoded in zip(short, again, strict=True):
                found[at] = encoded
        return found

    def _part(self, text: str, size: int) -> str:
        return self._suffix(text, size) if self._keeps_the_end else self._prefix(text, size)

    def _prefix(self, text: str, size: int) -> str:
        """The text up to the first boundary behind `size` characters; all of it if that is far."""
        if self._boundary is None or len(text) <= size:
            return text
        cut = self._boundary.search(text, size, GROWTH * size)
        if cut is not None:
            return text[: cut.start()]
        return text if len(text) <= GROWTH * size else self._prefix(text, GROWTH * size)

    def _suffix(self, text: str, size: int) -> str:
        """The text from the last boundary before its last `size` characters on, as `_prefix`."""
        if self._boundary is None or len(text) <= size:
            return text
        first = max(0, len(text) - GROWTH * size)
        cuts = deque(self._boundary.finditer(text, first, len(text) - size), maxlen=1)
        if cuts:
            return text[cuts[0].start() :]
        return text if first == 0 else self._suffix(text, GROWTH * size)

    def _whole(self, texts: Sequence[str]) -> list[tuple[Sequence[int], bool]]:
        encodings = self._tokenizer.encode_batch_fast(list(texts))
        return [(encoding.ids, bool(encoding.overflowing)) for encoding in encodings]


def _keeps_the_end(tokenizer: Tokenizer) -> bool:
    """Whether it truncates on the left."""
    return bool((tokenizer.truncation or {}).get("direction", "right").lower() == "left")


def _begins_anywhere(
    normalizer: list[dict[str, Any]], splitter: list[dict[str, Any]], tokens: list[AddedToken]
) -> bool:
    """Whether a text that begins with a space has the tokens that it has behind another text.

    Not where a normalizer puts something before a text or strips its first space, where the first
    word is written otherwise than the others, or where an added token takes the space behind it.
    """
    steps = {part["type"] for part in normalizer}
    schemes = {part.get("prepend_scheme", "always") for part in splitter}
    return (
        not steps & {"Prepend", "Strip"}
        and schemes == {"always"}
        and not any(token.rstrip for token in tokens)
    )


def _parts(component: Any) -> list[dict[str, Any]]:
    """What a normalizer or pre-tokenizer consists of, as tokenizer.json has it."""
    if component is None:
        return []
    part = json.loads(component.__getstate__())
    if part["type"] == "Sequence":
        return list(part.get("normalizers", part.get("pretokenizers")))
    return [part]


def _is_local(normalizer: dict[str, Any]) -> bool:
    if normalizer["type"] != "Replace":
        return normalizer["type"] in _NORMALIZERS
    pattern = normalizer["pattern"]
    if pattern == _SEVERAL_SPACES or pattern.get("Regex") in _WITHIN_WORDS:
        return True
    return " " not in pattern.get("String", " ")


def _separates_at_spaces(splitter: list[dict[str, Any]]) -> bool:
    """Whether a space between two characters always separates words: the first part decides."""
    match splitter:
        case [{"type": "BertPreTokenizer" | "Whitespace" | "WhitespaceSplit"}, *_]:
            return True
        case [{"type": "ByteLevel", "use_regex": True}, *_]:
            return True
        case [{"type": "Metaspace", "split": True}, *_]:
            return True
    return False


def _leaves_spaces(token: AddedToken) -> bool:
    """Whether an added token cannot reach over a space."""
    content = token.content
    return content == "".join(content.split()) and (content.isascii() or not token.normalized)

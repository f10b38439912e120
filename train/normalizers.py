"""What is done to a text before a tokenizer's own steps: `--normalizer`.

The steps are part of the checkpoint's tokenizer.json, so that whatever reads it does the same as
the training: `emotion-worker`, `emotion-train`, transformers.
"""

from collections.abc import Mapping
from typing import Any, Literal

Normalizer = Literal["none", "tweets"]

VERSIONS: Mapping[str, str] = {"none": "", "tweets": "tweets-1"}
"""What the manifest says. Other steps are another version."""

_ENTITIES = {"&lt;": "<", "&gt;": ">", "&quot;": '"', "&#39;": "'", "&amp;": "&"}
"""The ampersand's last: a text about entities, `&amp;lt;`, says `&lt;`."""

_PATTERNS = (
    (r"(?i)(?<!\w)(?:https?://|www\.)\S+", " "),
    (r"(?<![\w.])@\w+", " "),
    (r"(?<!\w)#(?=\w)", ""),
    (r"(\p{L})\K\1{2,}", ""),
)
"""Regular expressions (Oniguruma's) and what stands in their place: links, mentions, the sign of a
hashtag, letters that stand three times or more in a row. None matches a space or looks at one:
`worker/model/prefix.py`, which cuts long texts at spaces, knows them."""


def put_before(tokenizer: Any, name: Normalizer) -> None:
    """Makes the steps the first ones of a fast tokenizer of transformers.

    Args:
        tokenizer: It keeps its own steps, after these.
        name: Which steps.
    """
    if name == "none":
        return
    from tokenizers import Regex, normalizers  # noqa: PLC0415 - not for `--help`

    steps = [normalizers.Replace(entity, sign) for entity, sign in _ENTITIES.items()]
    steps += [normalizers.Replace(Regex(pattern), other) for pattern, other in _PATTERNS]
    backend = tokenizer.backend_tokenizer
    own = [] if backend.normalizer is None else [backend.normalizer]
    backend.normalizer = normalizers.Sequence([*steps, *own])

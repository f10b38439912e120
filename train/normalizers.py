"""What is done to a text before a tokenizer's own steps: `--normalizer`.

The steps are part of the checkpoint's tokenizer.json, so that whatever reads it does the same as
the training: `emotion-worker`, `emotion-train`, transformers.
"""

import json
from collections.abc import Mapping
from pathlib import Path
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


def keep(checkpoint: Path, tokenizer: Any, name: Normalizer) -> None:
    """Has transformers read the steps, too, from the tokenizer.json that was saved.

    The class of a model's tokenizer makes its own steps anew from the vocabulary, and would forget
    these; the general class takes tokenizer.json as it is.

    Args:
        checkpoint: The directory with tokenizer_config.json.
        tokenizer: It has the names of the model's inputs, which the general class does not know.
        name: Which steps.
    """
    if name == "none":
        return
    path = checkpoint / "tokenizer_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_input_names": list(tokenizer.model_input_names),
    }
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

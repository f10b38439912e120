"""The tokenizer of a checkpoint: from `tokenizer.json`, or else as transformers makes it."""

import inspect
import json
from pathlib import Path
from typing import Any, Literal, cast

from tokenizers import Tokenizer
from transformers import AutoTokenizer

from train.errors import Refused
from train.given.library import first_line, vocabularies

Side = Literal["right", "left"]


def read(checkpoint: Path) -> Tokenizer:
    """The tokenizer of a checkpoint directory, as it was saved.

    Raises:
        Refused: It is missing or damaged, or can't be made of the files that are there.
    """
    if (checkpoint / "tokenizer.json").is_file():
        try:
            return Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
        except Exception as error:  # the Rust side raises plain Exception
            raise Refused(f"checkpoint {checkpoint}: {first_line(error)}") from error
    names = vocabularies(checkpoint)
    if not names:
        raise Refused(f"checkpoint {checkpoint}: there is no tokenizer.json in it")
    try:
        made: Tokenizer = _class_of(checkpoint).backend_tokenizer
    except Exception as error:
        raise Refused(f"checkpoint {checkpoint}: {cannot_make(names)}") from error
    return made


def cannot_make(names: list[str]) -> str:
    """What to do where transformers can't make a tokenizer of the files with these names."""
    return (
        f"there is no tokenizer.json, and transformers cannot make one of {', '.join(names)} here:"
        " where sentencepiece and protobuf are installed, run"
        " AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) once"
    )


def side(checkpoint: Path, name: str, *, default: str = "right") -> Side:
    """`padding_side` or `truncation_side` of a checkpoint's tokenizer.

    Args:
        checkpoint: Its directory; `tokenizer_config.json` is read.
        name: Which of the two.
        default: Where the file does not say.

    Raises:
        Refused: It is neither `left` nor `right`.
    """
    found = _config(checkpoint).get(name) or default.lower()
    if found not in {"left", "right"}:
        raise Refused(
            f"checkpoint {checkpoint}: {name} in tokenizer_config.json is neither left nor right"
        )
    return cast("Side", found)


def padding(checkpoint: Path, tokenizer: Tokenizer) -> int | None:
    """The id of the padding token that `tokenizer_config.json` names; None where there is none."""
    named = _config(checkpoint).get("pad_token")
    if isinstance(named, dict):  # as releases before 5 wrote it
        named = named.get("content")
    found: int | None = tokenizer.token_to_id(named) if isinstance(named, str) else None
    return found


def takes_types(checkpoint: Path, model: Any) -> bool:
    """Whether transformers would give token types to a checkpoint's model."""
    if "token_type_ids" not in inspect.signature(model.forward).parameters:
        return False
    names = _config(checkpoint).get("model_input_names")
    if names is None:
        try:
            names = _class_of(checkpoint).model_input_names
        except Exception:  # noqa: BLE001 - transformers raises many kinds
            return False
    return isinstance(names, list) and "token_type_ids" in names


def _class_of(checkpoint: Path) -> Any:
    return AutoTokenizer.from_pretrained(
        str(checkpoint), trust_remote_code=False, local_files_only=True
    )


def _config(checkpoint: Path) -> dict[str, Any]:
    file = checkpoint / "tokenizer_config.json"
    if not file.exists():
        return {}
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise Refused(f"checkpoint {checkpoint}: {file.name} cannot be read") from error
    if not isinstance(content, dict):
        raise Refused(f"checkpoint {checkpoint}: {file.name} is not a JSON object")
    return content

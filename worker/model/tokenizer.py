"""A checkpoint's tokenizer, without torch: `check` loads it before torch is imported.

`tokenizer.json` is read as it is. Where a checkpoint has only the files from which transformers
makes one (`vocab.txt`, `vocab.json` and `merges.txt`), transformers makes it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Literal, cast

import structlog
from tokenizers import Tokenizer

from worker.errors import Refused
from worker.given.library import first_line
from worker.model.files import read_object, tokenizer_files

if TYPE_CHECKING:
    from pathlib import Path

    from worker.model.checkpoint import Checkpoint

log = structlog.get_logger(__name__)

Side = Literal["right", "left"]

CONFIG = "tokenizer_config.json"


def load_tokenizer(checkpoint: Checkpoint) -> Tokenizer:
    """Loads the tokenizer, with the worker's truncation and without the padding that it may have.

    Raises:
        Refused: The file cannot be read, or has more tokens than the model.
    """
    tokenizer = _read(checkpoint.path)
    own = (tokenizer.truncation or {}).get("direction", "right").lower()
    side = _side(checkpoint.path, "truncation_side", default=own)
    tokenizer.no_padding()
    tokenizer.enable_truncation(checkpoint.max_length, direction=side)
    if tokenizer.get_vocab_size() > checkpoint.vocabulary:
        raise Refused(
            f"model.checkpoint: the tokenizer of {checkpoint.path} has "
            f"{tokenizer.get_vocab_size()} tokens, the model only {checkpoint.vocabulary}"
        )
    return tokenizer


def padding_side(path: Path) -> Side:
    """Where the tokenizer of a checkpoint directory says that rows are padded.

    Raises:
        Refused: It says something else than `left` or `right`.
    """
    return _side(path, "padding_side", default="right")


def padding_of_tokenizer(path: Path) -> int | None:
    """The id of the padding token that the tokenizer of a checkpoint directory names, if any.

    Raises:
        Refused: The tokenizer cannot be read.
    """
    named = _config(path).get("pad_token")
    if isinstance(named, dict):  # as releases before 5 wrote it
        named = named.get("content")
    if not isinstance(named, str):
        return None
    token: int | None = _read(path).token_to_id(named)
    return token


def takes_types(path: Path, network: Any) -> bool:
    """Whether a network is given token types, as transformers would give them.

    Args:
        path: The checkpoint directory.
        network: Its `forward` has an argument for them, or not.
    """
    if "token_type_ids" not in inspect.signature(network.forward).parameters:
        return False
    names = _config(path).get("model_input_names")
    if names is None:
        try:
            names = _by_transformers(path).model_input_names
        except Exception as error:  # noqa: BLE001 - transformers raises many kinds
            log.debug("tokenizer_without_a_class", error=first_line(error))
            return False
    return isinstance(names, list) and "token_type_ids" in names


def _side(path: Path, name: str, *, default: str) -> Side:
    side = _config(path).get(name) or default
    if side not in {"left", "right"}:
        raise Refused(f"model.checkpoint: {name} in {path / CONFIG} is neither left nor right")
    return cast("Side", side)


def _config(path: Path) -> dict[str, Any]:
    return read_object(path / CONFIG) if (path / CONFIG).exists() else {}


def _read(path: Path) -> Tokenizer:
    (file, *others) = tokenizer_files(path)
    if file.name == "tokenizer.json":
        try:
            return Tokenizer.from_file(str(file))
        except Exception as error:  # the Rust side raises plain Exception
            raise Refused(f"model.checkpoint: tokenizer.json cannot be read: {error}") from error
    names = ", ".join(one.name for one in (file, *others))
    try:
        made = _by_transformers(path)
        tokenizer: Tokenizer = made.backend_tokenizer
    except Exception as error:
        raise Refused(
            f"model.checkpoint: {path} has no tokenizer.json, and transformers cannot make one of "
            f"{names} here: where sentencepiece and protobuf are installed, run "
            "AutoTokenizer.from_pretrained(DIR).save_pretrained(DIR) once"
        ) from error
    log.info("tokenizer_made", files=names)
    return tokenizer


def _by_transformers(path: Path) -> Any:
    import transformers  # noqa: PLC0415 - seconds, and only these checkpoints need it

    transformers.utils.logging.set_verbosity_error()
    return transformers.AutoTokenizer.from_pretrained(
        path, trust_remote_code=False, local_files_only=True
    )

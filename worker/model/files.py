"""The files of a checkpoint directory: which hold the weights, what the JSON ones say, digests."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from worker.errors import Refused
from worker.given.library import vocabularies

if TYPE_CHECKING:
    from pathlib import Path

DIGEST_BYTES = 8 << 20
"""Bytes that are read and digested at a time. Each time the thread needs the interpreter again,
which another one that imports torch gives back every 5 ms: with the library's 256 KiB the digest of
400 MB would wait for 8 s."""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file.

    Raises:
        Refused: The file is not there, cannot be read, or holds something else.
    """
    try:
        if path.is_fifo():
            raise Refused(f"model.checkpoint: {path} is a pipe, which is never read")
        data = json.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise Refused(f"model.checkpoint: {path.parent} has no {path.name}") from error
    except RecursionError as error:
        raise Refused(f"model.checkpoint: {path} cannot be read: it is nested too deep") from error
    except OSError as error:
        raise Refused(f"model.checkpoint: {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise Refused(f"model.checkpoint: {path} cannot be read: {error}") from error
    if not isinstance(data, dict):
        raise Refused(f"model.checkpoint: {path} is not a JSON object")
    return data


def weights_of(path: Path, config: dict[str, Any]) -> tuple[Path, ...]:
    """The safetensors files that transformers would load: one, or the shards by name.

    Args:
        path: The checkpoint directory.
        config: What its `config.json` holds.

    Raises:
        Refused: There are none, or some are missing.
    """
    if config.get("transformers_weights") is not None:
        raise Refused(
            f"model.checkpoint: config.json of {path} names a file of weights "
            "(transformers_weights), which is not read: save it again with save_pretrained"
        )
    if (path / "model.safetensors").is_file():
        return (path / "model.safetensors",)
    index = path / "model.safetensors.index.json"
    if index.is_file():
        return _shards(path, index)
    raise Refused(
        f"model.checkpoint: {path} has no model.safetensors; other formats can run code when "
        "they are loaded and are not read: save it with save_pretrained"
    )


def tokenizer_files(path: Path) -> tuple[Path, ...]:
    """The files of which the tokenizer is made: tokenizer.json, or those that are older than it.

    Args:
        path: The checkpoint directory.

    Raises:
        Refused: There are none.
    """
    if (path / "tokenizer.json").is_file():
        return (path / "tokenizer.json",)
    if names := vocabularies(path):
        return tuple(path / name for name in names)
    raise Refused(
        f"model.checkpoint: {path} has no tokenizer.json: save the tokenizer beside the weights "
        "with save_pretrained"
    )


def sha256(path: Path) -> str:
    """The digest of a file, in hexadecimal digits.

    Raises:
        Refused: The file cannot be read.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(DIGEST_BYTES))
    try:
        with path.open("rb", buffering=0) as file:
            while count := file.readinto(buffer):
                digest.update(buffer[:count])
    except OSError as error:
        # transformers saves weights for their owner alone: another user cannot read them.
        raise Refused(
            f"model.checkpoint: {path} cannot be read: {error.strerror}: give the worker's user "
            "the right to read it"
        ) from error
    return digest.hexdigest()


def _shards(path: Path, index: Path) -> tuple[Path, ...]:
    shards = read_object(index).get("weight_map")
    if not isinstance(shards, dict) or not all(
        isinstance(name, str) and "/" not in name for name in shards.values()
    ):
        raise Refused(f"model.checkpoint: weight_map of {index} does not map to file names")
    names = sorted(set(shards.values()))
    missing = [name for name in names if not (path / name).is_file()]
    if missing or not names:
        raise Refused(f"model.checkpoint: {path} lacks {', '.join(missing) or 'its shards'}")
    return tuple(path / name for name in names)

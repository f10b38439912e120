"""Reads and checks a checkpoint directory before any weight is loaded.

The contract with `emotion-train`: the Hugging Face files plus `manifest.json`. A checkpoint
without a manifest works with defaults. Source of the defaults: transformers' own config.json and
tokenizer_config.json.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

from worker.errors import Refused
from worker.given.directory import trouble

if TYPE_CHECKING:
    from pathlib import Path

LONGEST = 512
"""Tokens kept of a text where nothing says otherwise; tokenizers may claim 1e30."""

SHORTEST = 3
"""A token between the two that begin and end a text."""
HOTTEST = 1e6
"""Above any temperature that a calibration finds: all labels have the same score long before."""

DIGEST_BYTES = 8 << 20
"""Bytes that are read and digested at a time. Each time the thread needs the interpreter again,
which another one that imports torch gives back every 5 ms: with the library's 256 KiB the digest of
400 MB would wait for 8 s."""

OFFSET_POSITIONS = frozenset(
    {
        "roberta",
        "roberta-prelayernorm",
        "xlm-roberta",
        "xlm-roberta-xl",
        "xmod",
        "camembert",
        "data2vec-text",
        "ibert",
        "longformer",
        "luke",
        "mpnet",
    }
)
"""Model types whose position table starts at the padding id + 1: the rows before it hold no
token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a checkpoint says of itself."""

    path: Path
    config: dict[str, Any]
    """What config.json holds."""
    weights: tuple[Path, ...]
    """The safetensors files: one, or the shards."""
    name: str
    version: str
    """12 hexadecimal digits: SHA-256 over weights and tokenizer, or the manifest's."""
    labels: tuple[str, ...]
    temperature: float
    """Logits are divided by it before the softmax."""
    max_length: int
    """Longest input in tokens, special tokens included."""
    pad_token_id: int
    vocabulary: int
    """Rows of the embedding table: token ids are below it."""
    label_shares: dict[str, float] | None
    """Share of each label in the training data, for drift; None without a manifest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Content:
    """All of a checkpoint but its weights and its tokenizer."""

    config: dict[str, Any]
    manifest: dict[str, Any]
    weights: tuple[Path, ...]
    labels: tuple[str, ...]
    temperature: float
    max_length: int
    pad_token_id: int
    vocabulary: int


def look(path: Path) -> None:
    """Checks all that is known without reading weights: ``read`` takes their digest.

    Raises:
        Refused: As ``read`` does.
    """
    _content(path)


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint's description and checks that this worker can serve it.

    Args:
        path: The checkpoint directory.

    Raises:
        Refused: With one line that says what is wrong and what to do.
    """
    content = _content(path)
    config, manifest = content.config, content.manifest
    digests = {file.name: _sha256(file) for file in (*content.weights, path / "tokenizer.json")}
    _verify(path, manifest, digests)
    return Checkpoint(
        path=path,
        config=config,
        weights=content.weights,
        name=str(manifest.get("name") or path.resolve().name),
        version=str(manifest.get("version") or version_of(digests)),
        labels=content.labels,
        temperature=content.temperature,
        max_length=content.max_length,
        pad_token_id=content.pad_token_id,
        vocabulary=content.vocabulary,
        label_shares=manifest.get("label_distribution"),
    )


def version_of(digests: dict[str, str]) -> str:
    """The version of a checkpoint without a manifest: a digest of its files' digests."""
    lines = "".join(f"{name}:{digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()[:12]


def _content(path: Path) -> _Content:
    wrong = trouble(path)
    if wrong:
        raise Refused(f"model.checkpoint: {wrong}")
    config = _json(path / "config.json")
    weights = _weights(path, config)
    if not (path / "tokenizer.json").is_file():
        raise Refused(f"model.checkpoint: {path} has no tokenizer.json: save a fast tokenizer")
    labels = _labels(path, config)
    manifest = _json(path / "manifest.json") if (path / "manifest.json").exists() else {}
    _shaped(path, manifest, labels)
    pad_token_id = _pad_token_id(path, config)
    return _Content(
        config=config,
        manifest=manifest,
        weights=weights,
        labels=labels,
        temperature=_temperature(path, manifest),
        max_length=_max_length(path, config, manifest, pad_token_id),
        pad_token_id=pad_token_id,
        vocabulary=_vocabulary(path, config, pad_token_id),
    )


def _json(path: Path) -> dict[str, Any]:
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


def _weights(path: Path, config: dict[str, Any]) -> tuple[Path, ...]:
    """The files that transformers would take, in its order."""
    if config.get("transformers_weights") is not None:
        raise Refused(
            f"model.checkpoint: config.json of {path} names a file of weights "
            "(transformers_weights), which is not read: save it again with save_pretrained"
        )
    if (path / "model.safetensors").is_file():
        return (path / "model.safetensors",)
    index = path / "model.safetensors.index.json"
    if index.is_file():
        shards = _json(index).get("weight_map")
        if not isinstance(shards, dict) or not all(
            isinstance(name, str) and "/" not in name for name in shards.values()
        ):
            raise Refused(f"model.checkpoint: weight_map of {index} does not map to file names")
        names = sorted(set(shards.values()))
        missing = [name for name in names if not (path / name).is_file()]
        if missing or not names:
            raise Refused(f"model.checkpoint: {path} lacks {', '.join(missing) or 'its shards'}")
        return tuple(path / name for name in names)
    raise Refused(
        f"model.checkpoint: {path} has no model.safetensors; other formats can run code when "
        "they are loaded and are not read: save it with save_pretrained"
    )


def _labels(path: Path, config: dict[str, Any]) -> tuple[str, ...]:
    problem = config.get("problem_type") or "single_label_classification"
    heads = config.get("architectures") or []
    if not isinstance(heads, list):
        raise Refused(f"model.checkpoint: architectures in config.json of {path} is no array")
    if not isinstance(config.get("model_type"), str):
        raise Refused(f"model.checkpoint: config.json of {path} has no model_type")
    if "auto_map" in config and not heads:
        raise Refused(f"model.checkpoint: {path} needs code of its own, which is never run")
    if heads and not any(str(head).endswith("ForSequenceClassification") for head in heads):
        raise Refused(
            f"model.checkpoint: {path} holds a {heads[0]}, not a sequence classifier: "
            "fine-tune it with emotion-train run"
        )
    # transformers writes no id2label where it is the default one, of two.
    names = config.get("id2label") or _unnamed(config)
    if not isinstance(names, dict):
        raise Refused(
            f"model.checkpoint: id2label of {path} is no object: it maps 0, 1 ... to names"
        )
    missing = [str(index) for index in range(len(names)) if str(index) not in names]
    if missing:
        raise Refused(f"model.checkpoint: id2label of {path} has no entry {missing[0]!r}")
    ordered = [str(names[str(index)]) for index in range(len(names))]
    if problem != "single_label_classification" or len(ordered) < 2:  # noqa: PLR2004
        kind = problem if problem != "single_label_classification" else "regression (one label)"
        raise Refused(f"model.checkpoint: {path} is for {kind}; one label of several is served")
    if len(set(ordered)) < len(ordered):
        raise Refused(f"model.checkpoint: id2label of {path} names a label twice")
    return tuple(ordered)


def _unnamed(config: dict[str, Any]) -> dict[str, str]:
    count = config.get("num_labels")
    return {str(index): f"LABEL_{index}" for index in range(count if _whole(count) else 2)}


def _whole(value: Any) -> TypeGuard[int]:
    """Whether it is a whole number above 0; JSON's true is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _vocabulary(path: Path, config: dict[str, Any], pad_token_id: int) -> int:
    size = config.get("vocab_size", 2**31)
    if not _whole(size) or size <= pad_token_id:
        raise Refused(
            f"model.checkpoint: vocab_size in config.json of {path} is no whole number above "
            f"pad_token_id, {pad_token_id}"
        )
    return int(size)


def _shaped(path: Path, manifest: dict[str, Any], labels: tuple[str, ...]) -> None:
    shapes = {"files": dict, "labels": list, "label_distribution": dict}
    for name, shape in shapes.items():
        if not isinstance(manifest.get(name) or shape(), shape):
            raise Refused(
                f"model.checkpoint: {name} in manifest.json of {path} is no "
                f"{'object' if shape is dict else 'array'}: it was not written by emotion-train"
            )
    shares = (manifest.get("label_distribution") or {}).values()
    if not all(isinstance(share, int | float) for share in shares):
        raise Refused(
            f"model.checkpoint: label_distribution in manifest.json of {path} is no number"
        )
    if manifest.get("labels") and tuple(manifest["labels"]) != labels:
        raise Refused(f"model.checkpoint: config.json and manifest.json of {path} differ in labels")


def _verify(path: Path, manifest: dict[str, Any], digests: dict[str, str]) -> None:
    told = manifest.get("files") or {}
    broken = [name for name, digest in digests.items() if told.get(name, digest) != digest]
    if broken:
        raise Refused(
            f"model.checkpoint: {', '.join(broken)} in {path} is not what manifest.json says: "
            "the copy is damaged or the file was replaced"
        )


def _temperature(path: Path, manifest: dict[str, Any]) -> float:
    temperature = manifest.get("temperature", 1.0)
    number = isinstance(temperature, int | float) and not isinstance(temperature, bool)
    if not number or not 0 < temperature <= HOTTEST:
        raise Refused(
            f"model.checkpoint: temperature in manifest.json of {path} is no number above 0 and "
            f"at most {HOTTEST:g}"
        )
    return float(temperature)


def _max_length(
    path: Path, config: dict[str, Any], manifest: dict[str, Any], pad_token_id: int
) -> int:
    tokenizer_config = path / "tokenizer_config.json"
    told = _json(tokenizer_config).get("model_max_length") if tokenizer_config.exists() else None
    limits = [LONGEST]
    if told is not None:  # transformers writes 1e30 where there is no limit
        if isinstance(told, bool) or not isinstance(told, int | float) or not told >= 1:
            raise Refused(f"model.checkpoint: model_max_length in {tokenizer_config} is no length")
        limits.append(int(min(told, 2**31)))
    positions = config.get("max_position_embeddings")
    if _whole(positions):
        after_padding = config.get("model_type") in OFFSET_POSITIONS
        # At least 2: MPNet's begins there, whatever its padding id is.
        limits.append(positions - (max(pad_token_id, 1) + 1 if after_padding else 0))
    longest = min(limits)
    asked = manifest.get("max_length")
    if _whole(asked):
        longest = min(asked, limits[-1])
    if longest < SHORTEST:
        raise Refused(
            f"model.checkpoint: {path} leaves room for {longest} tokens of a text, too few for one "
            "word: max_length of manifest.json, model_max_length of tokenizer_config.json or "
            "max_position_embeddings of config.json is wrong"
        )
    return longest


def _pad_token_id(path: Path, config: dict[str, Any]) -> int:
    pad = config.get("pad_token_id")
    if isinstance(pad, int) and not isinstance(pad, bool) and pad >= 0:
        return pad
    raise Refused(
        f"model.checkpoint: config.json of {path} has no pad_token_id, so that texts of different "
        "lengths cannot share a batch: set it and save the checkpoint again"
    )


def _sha256(path: Path) -> str:
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

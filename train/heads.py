"""A base model's weights with a new head, also where it has one of its own."""

import contextlib
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoModelForSequenceClassification, set_seed

from train.errors import Refused
from train.given.ends import ends_apart
from train.given.library import passed_over, why_unloadable, wrapped


def load(name: str, source: str, *, config: Any, seed: int) -> tuple[Any, list[str]]:
    """Loads the weights of a base model, in float32, under a head that is drawn at random.

    Args:
        name: As the user wrote it.
        source: What `from_pretrained` takes for it.
        config: With the labels of the new head.
        seed: The head's weights are drawn from it.

    Returns:
        The model, and a line for the user where the base model had a head of its own.

    Raises:
        Refused: The weights cannot be read, or are not those of the configuration.
    """
    _require_own_names(name, source)
    set_seed(seed)
    try:
        model, info = AutoModelForSequenceClassification.from_pretrained(
            source,
            config=config,
            trust_remote_code=False,
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # those of its own head; others are refused below
            dtype=torch.float32,  # weights that were saved in half precision cannot be trained
        )
    except Exception as error:
        raise Refused(f"base model {name!r}: {why_unloadable(error)}") from error
    if lost := passed_over(info["unexpected_keys"], model.base_model_prefix, heads=()):
        raise Refused(
            f"base model {name!r}: transformers has no place for {lost}, and would compute"
            " something else: the configuration or the library's version is not the one that it"
            " was trained with"
        )
    tensors = model.state_dict()
    encoder = {
        key: value
        for key, value in tensors.items()
        if key.startswith(f"{model.base_model_prefix}.")
    }
    misfits = {key for key, *_ in info["mismatched_keys"]}
    if misfits & encoder.keys():
        raise Refused(f"base model {name!r}: a tensor has another shape than config.json says")
    # The layer of the labels. ModernBERT's language models share the layer before it, which is
    # meant to be taken over.
    last = {
        key
        for key in tensors.keys() - encoder.keys()
        if tensors[key].shape[:1] == (config.num_labels,)
    }
    own = sorted(misfits | (last - set(info["missing_keys"])))
    if not own:
        return ends_apart(model), []
    # Again, without the head: transformers then draws one, as for any base model.
    set_seed(seed)
    fresh = type(model).from_pretrained(None, config=model.config, state_dict=encoder)
    return ends_apart(fresh), [
        f"it has a head of its own ({own[0]}), which is not used: a new one is trained"
    ]


def _require_own_names(name: str, source: str) -> None:
    for file in Path(source).glob("model*.safetensors"):
        with contextlib.suppress(SafetensorError, OSError), safe_open(file, "pt") as header:
            if wrong := wrapped(header.keys()):
                raise Refused(f"base model {name!r}: {wrong}")

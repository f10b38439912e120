"""What torch and transformers report of a GPU or a checkpoint, in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

HEADS = ("classifier.", "pre_classifier.", "score.")
"""What the names of the tensors of a classifier's head begin with."""

WRAPPERS = {
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FSDP",
    "_checkpoint_wrapped_module": "checkpoint_wrapper",
}
"""Parts of the names of tensors, by what puts them there."""
PARALLEL = "module."
"""What DataParallel and DistributedDataParallel put before every name."""

DRIVERS = {"11": 450, "12": 525, "13": 580}
"""For each major version of CUDA, NVIDIA's oldest driver that runs all of its minor versions:
https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html
"""

VOCABULARIES = (
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "spm.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "tokenizer.model",
    "bpe.codes",
)
"""What tokenizers are saved in that have no tokenizer.json."""
SPECIAL = ("added_tokens.json", "special_tokens_map.json")
"""What is beside them, and is no tokenizer by itself."""


def vocabularies(path: Path) -> list[str]:
    """The files of a directory of which transformers makes a tokenizer; empty without a vocabulary.

    Args:
        path: A checkpoint or a base model.
    """
    names = [name for name in VOCABULARIES if (path / name).is_file()]
    return names and [*names, *(name for name in SPECIAL if (path / name).is_file())]


def wrapped(names: Iterable[str]) -> str:
    """Why no model finds its tensors: another module is wrapped around it.

    transformers would take random weights in place of them.

    Args:
        names: Those of the tensors.

    Returns:
        What is wrong and what to do; empty where nothing is wrapped around the model.
    """
    for name in names:
        part = next((part for part in name.split(".") if part in WRAPPERS), "")
        if part or name.startswith(PARALLEL):
            part, by = part or PARALLEL[:-1], WRAPPERS.get(part, "DataParallel")
            return (
                f"the names of its tensors have the prefix {part}. of {by}: save the model inside "
                f"it, model.{part}.save_pretrained(DIR)"
            )
    return ""


def passed_over(unexpected: Iterable[str], prefix: str, heads: tuple[str, ...] = HEADS) -> str:
    """The tensors that the model has no place for although its logits depend on them.

    transformers only reports them, and computes something else. A language model's head, saved
    positions and a pooler that is not used do not count.

    Args:
        unexpected: Names of the tensors without a place, as transformers reports them.
        prefix: What the names of the encoder's tensors begin with: `base_model_prefix`.
        heads: What the names of the head's tensors begin with.

    Returns:
        The first name, and how many more there are; empty where there is none.
    """
    names = sorted(
        name
        for name in unexpected
        if name.startswith((f"{prefix}.", *heads))
        and not (name.endswith("position_ids") or ".pooler." in name)
    )
    more = f" (and {len(names) - 1} more)" if names[1:] else ""
    return f"{names[0]}{more}" if names else ""


def first_line(error: BaseException) -> str:
    """What is wrong, of a library's error, without its paragraphs of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if any("ignore_mismatched_sizes" in line for line in lines):
        return "a tensor has another shape than config.json says"
    if not lines:
        return type(error).__name__
    # A line that ends so only announces what is wrong.
    return " ".join(lines[:2]) if lines[0].endswith((":", "(")) else lines[0]


def why_unloadable(error: BaseException) -> str:
    """Why transformers cannot load a base model, in one line."""
    line = first_line(error)
    if "couldn't connect" in line or "offline" in line.lower():
        return "the hub cannot be reached and no copy is cached"
    if "trust_remote_code" in str(error):
        return "it needs code of its own, which is never run"
    if "safetensors" in str(error):
        return "it has no safetensors weights, and no others are loaded"
    return line


def unseen_gpu(cuda: str | None, *, image: str) -> str:
    """What to do about a GPU that torch does not see.

    Args:
        cuda: The version that torch was built for; None: it is the CPU build.
        image: Target of the image that has torch with CUDA.
    """
    if cuda is None:
        return f"it is the CPU build: install the one for CUDA (the image of target `{image}`)"
    driver = DRIVERS.get(cuda.partition(".")[0])
    least = f"{driver} or newer" if driver else f"for CUDA {cuda}"
    return f"check NVIDIA's driver ({least}) and the container's GPU request"

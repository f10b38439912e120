"""A checkpoint's network with its weights: float32, on the device.

The common families are built in torch alone (`encoder.py`). transformers, which takes seconds to
import, loads everything else: other families, weights under old names and quantized weights. What
lacks a tensor is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from worker.errors import Refused
from worker.given.ends import ends_apart
from worker.given.library import first_line, passed_over, wrapped
from worker.model import encoder, families

if TYPE_CHECKING:
    from torch import nn

    from worker.model.checkpoint import Checkpoint

log = structlog.get_logger(__name__)


def network(checkpoint: Checkpoint, device: torch.device) -> nn.Module:
    """Loads the network: a module that takes `input_ids` and `attention_mask` and returns `logits`.

    Args:
        checkpoint: What the checkpoint says of itself.
        device: Where the weights go.

    Raises:
        Refused: The weights cannot be read, some are missing, or some have no place.
    """
    _require_own_names(checkpoint)
    try:
        families.usual(checkpoint.config)
        return encoder.build(
            checkpoint.config, _tensors(checkpoint, device), labels=len(checkpoint.labels)
        )
    except families.Unusual as unusual:
        log.info("loaded_by_transformers", reason=str(unusual))
    return _by_transformers(checkpoint, device)


def _require_own_names(checkpoint: Checkpoint) -> None:
    """Refuses weights that were saved together with a module around the model."""
    try:
        for file in checkpoint.weights:
            with safe_open(file, framework="pt") as header:
                wrong = wrapped(header.keys())
            if wrong:
                raise Refused(f"model.checkpoint: {checkpoint.path}: {wrong}")
    except (SafetensorError, OSError) as error:
        raise _unreadable(checkpoint, error) from error


def _unreadable(checkpoint: Checkpoint, error: Exception) -> Refused:
    return Refused(f"model.checkpoint: {checkpoint.path} cannot be loaded: {first_line(error)}")


def _tensors(checkpoint: Checkpoint, device: torch.device) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    try:
        for file in checkpoint.weights:
            for name, tensor in load_file(file).items():
                _require_numbers(checkpoint, name, tensor)
                dtype = torch.float32 if tensor.is_floating_point() else tensor.dtype
                # Copied: memory that is mapped to the file would change with it, or, where the
                # file is cut short, kill the process.
                tensors[name] = tensor.to(device, dtype, copy=True)
    except (SafetensorError, OSError, ValueError) as error:
        raise _unreadable(checkpoint, error) from error
    return tensors


def _require_numbers(checkpoint: Checkpoint, name: str, tensor: torch.Tensor) -> None:
    """Refuses weights that are whole numbers although the configuration names no quantization.

    transformers would take the numbers for the weights themselves.
    """
    whole = not tensor.is_floating_point() and not name.endswith("_ids")
    if whole and not checkpoint.config.get("quantization_config"):
        raise Refused(
            f"model.checkpoint: {name} in {checkpoint.path} holds whole numbers, and config.json "
            "has no quantization_config: save the weights as floating-point numbers"
        )


def _by_transformers(checkpoint: Checkpoint, device: torch.device) -> nn.Module:
    import transformers  # noqa: PLC0415 - seconds, and only these checkpoints need it

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    try:
        model, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            checkpoint.path,
            dtype=torch.float32,
            use_safetensors=True,
            return_dict=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except Exception as error:  # transformers raises many kinds for a bad directory
        raise _unreadable(checkpoint, error) from error
    if report["missing_keys"]:
        raise Refused(
            f"model.checkpoint: {checkpoint.path} lacks weights, "
            f"{min(report['missing_keys'])} among them: it was not fine-tuned"
        )
    lost = passed_over(report["unexpected_keys"], model.base_model_prefix)
    if lost:
        raise Refused(
            f"model.checkpoint: transformers has no place for {lost} of {checkpoint.path}, and "
            "would compute something else: the configuration or the library's version is not the "
            "one that it was trained with"
        )
    if model.config.pad_token_id is None:  # the heads of decoders find a text's end by it
        model.config.pad_token_id = checkpoint.pad_token_id
    return _moved(model.eval(), device)


def _moved(model: Any, device: torch.device) -> nn.Module:
    moved: nn.Module = ends_apart(model).to(device)
    return moved

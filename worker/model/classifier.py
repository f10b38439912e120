"""A Hugging Face sequence classifier that keeps the worker's `Classifier` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch

from worker.classifier import BatchLimits
from worker.errors import Refused
from worker.laps import Laps
from worker.model import checkpoint as checkpoints
from worker.model import device as devices
from worker.model import mates, tuning
from worker.model.encoder import SequenceClassifier
from worker.model.failures import InferenceError, explained
from worker.model.prefix import PrefixTokenizer
from worker.model.rows import INPUTS, Rows, types_of
from worker.model.samples import SAMPLES
from worker.model.tokenizer import load_tokenizer, padding_side, takes_types
from worker.model.weights import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.model.checkpoint import Checkpoint

log = structlog.get_logger(__name__)

PAD_MULTIPLE = 8
"""On CUDA rows are padded to a multiple of it: for tensor cores, and so that fewer shapes occur."""

CPU_LIMITS = BatchLimits(max_records=256, max_tokens=2_048)
"""Measured with MiniLM: larger batches do not fit the processor's cache and are slower."""
CUDA_LIMITS = BatchLimits(max_records=4_096, max_tokens=65_536)
"""Not measured on a GPU yet. Twice as many take more memory and more time per batch."""


class TorchClassifier:
    """A checkpoint on a device.

    The assemble thread calls `tokenize` and `stage`, the classify thread `launch` and `scores`. On
    CUDA `launch` returns at once, and two batches may be launched, so that the device has the next
    one before it finishes this one.

    Args:
        checkpoint: What the checkpoint says of itself.
        model: Its network on the device; `weights.network` made it.
        device: The device.
    """

    def __init__(
        self, *, checkpoint: Checkpoint, model: torch.nn.Module, device: torch.device
    ) -> None:
        self.checkpoint = checkpoint
        self.device = device
        self.network = model
        self.gpu = devices.gpu_of(device)
        self.depth = 2 if device.type == "cuda" else 1
        self.limits = CUDA_LIMITS if device.type == "cuda" else CPU_LIMITS
        self.dtype = torch.float32
        """Precision of the matrix products; `tuning.py` sets it."""
        self._needs_no_mask = isinstance(model, SequenceClassifier)
        tokenizer = load_tokenizer(checkpoint)
        self._tokenizer = PrefixTokenizer(tokenizer, max_length=checkpoint.max_length)
        types = types_of(tokenizer, SAMPLES[0]) if takes_types(checkpoint.path, model) else None
        self.rows = Rows(checkpoint=checkpoint, types=types)

    @property
    def name(self) -> str:
        """The checkpoint's."""
        return self.checkpoint.name

    @property
    def version(self) -> str:
        """The checkpoint's."""
        return self.checkpoint.version

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the scores."""
        return self.checkpoint.labels

    @property
    def label_shares(self) -> dict[str, float] | None:
        """Each label's share of the training split; None without a manifest."""
        return self.checkpoint.label_shares

    def tokenize(self, texts: Sequence[str]) -> list[tuple[Sequence[int], bool]]:
        """Token ids of each text with special tokens, and whether the text was truncated."""
        try:
            return self._tokenizer.encode(texts)
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # of the Rust side; no Exception
                raise InferenceError("other", "the tokenizer panicked") from error
            raise

    def stage(self, rows: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """The inputs of `INPUTS`, int64, shape (rows, longest row), in pinned memory on CUDA.

        Raises:
            InferenceError: A token id is outside the embedding table.
        """
        longest = max(len(row) for row in rows)
        if self.device.type == "cuda":
            longest = -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE
            longest = min(longest, self.checkpoint.max_length)
        staged = [torch.from_numpy(array) for array in self.rows.padded(rows, longest)]
        if self.device.type == "cuda":
            try:
                with torch.cuda.device(self.device):
                    staged = [tensor.pin_memory() for tensor in staged]
            except Exception as error:
                raise explained(error, self.device) from error
        return staged

    def logits(self, staged: Sequence[torch.Tensor]) -> torch.Tensor:
        """Runs the model on staged rows; shape (rows, labels), on the device.

        Raises:
            InferenceError: The call failed.
        """
        try:
            inputs: dict[str, torch.Tensor | None] = {
                name: tensor.to(self.device, non_blocking=True)
                for name, tensor in zip(INPUTS, staged, strict=False)
            }
            if self._needs_no_mask and bool(staged[1].all()):
                inputs["attention_mask"] = None
            logits: torch.Tensor = self.network(**inputs).logits
        except Exception as error:
            raise explained(error, self.device) from error
        return logits

    @torch.inference_mode()
    def launch(
        self, staged: Sequence[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """Starts the model on a staged batch.

        Returns:
            The scores, float32, shape (rows, labels), and on CUDA the event after which they are
            in (pinned) host memory.

        Raises:
            InferenceError: The call failed.
        """
        logits = self.logits(staged)
        try:
            scores = probabilities(logits, self.checkpoint.temperature)
            if self.device.type != "cuda":
                return scores, None
            host = torch.empty(scores.shape, dtype=scores.dtype, pin_memory=True)
            host.copy_(scores, non_blocking=True)
            # Blocking: by default the thread that waits keeps a core busy, and the tokenizer needs
            # that core.
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            # On this device's stream: the thread's current device may be another, whose stream
            # has nothing to do, and the buffer would be read before it is written.
            done.record(torch.cuda.current_stream(self.device))
        except Exception as error:
            raise explained(error, self.device) from error
        return host, done

    def scores(self, launched: tuple[torch.Tensor, torch.cuda.Event | None]) -> np.ndarray:
        """Waits until a launched batch is in host memory; float32, shape (rows, labels).

        Raises:
            InferenceError: The model failed on the device.
        """
        scores, done = launched
        if done is not None:
            try:
                done.synchronize()
            except Exception as error:
                raise explained(error, self.device) from error
        return scores.numpy()

    def memory(self) -> dict[str, int]:
        """Bytes of device memory by kind; empty on a CPU."""
        return devices.memory_of(self.device)

    def warm_up(self, *, max_records: int, max_tokens: int) -> None:
        """Runs the shapes of batches that will come: the first time of a shape takes longer.

        Args:
            max_records: Most rows of a batch.
            max_tokens: Most tokens of a batch, padding included.

        Raises:
            Refused: A batch does not fit the device's memory, or fails otherwise.
        """
        length = PAD_MULTIPLE
        while True:
            length = min(length, self.checkpoint.max_length)
            rows = max(1, min(max_records, max_tokens // length))
            try:
                self.run([self.filler(length)] * rows)
            except InferenceError as error:
                raise Refused(
                    f"batch.max_tokens: the model fails on {self.device} for a batch of {rows} "
                    f"texts of {length} tokens ({error}): lower it"
                ) from error
            if length == self.checkpoint.max_length:
                return
            length *= 2

    def reference(self) -> np.ndarray:
        """Scores of the sample texts, shape (samples, labels)."""
        return self.run([ids for ids, _ in self.tokenize(SAMPLES)])

    def run(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Stages and launches rows of token ids, and waits; float32, shape (rows, labels)."""
        return self.scores(self.launch(self.stage(rows)))

    def filler(self, length: int) -> list[int]:
        """A row of that many tokens: a text's, since some models need the one that ends it."""
        (ids, _), *_ = self.tokenize(SAMPLES[:1])
        inner = ids[len(ids) // 2]
        return [ids[0], *[inner] * (length - 2), ids[-1]]


def probabilities(logits: torch.Tensor, temperature: float) -> torch.Tensor:
    """Softmax of logits / temperature, float32, shape (rows, labels).

    `train/calibrate.py` has the same in float64; `tests/unit/model/test_agreement.py` compares.
    """
    return torch.softmax(logits.float() / temperature, dim=-1)


def load(
    *,
    path: Path,
    device: str,
    dtype: str,
    threads: int | None = None,
    checkpoint: Checkpoint | None = None,
    laps: Laps | None = None,
) -> TorchClassifier:
    """Loads a checkpoint, and chooses the precision and the kernel of its matrix products.

    Args:
        path: The checkpoint directory.
        device: `auto`, `cpu`, `cuda` or `cuda:N`.
        dtype: `auto`, `float32`, `bfloat16` or `float16`.
        threads: Threads on a CPU; None: as many as the process may use.
        checkpoint: What `checkpoint.read` returned, where it was called before.
        laps: Measures the seconds of each step, which are logged at the end.

    Raises:
        Refused: The checkpoint, the device or the precision cannot be used.
    """
    laps = laps or Laps()
    checkpoint = checkpoint or checkpoints.read(path)
    place = devices.choose_device(device)
    devices.settle_arithmetic(place)
    precision = devices.choose_dtype(dtype, place)
    if place.type == "cpu":
        torch.set_num_threads(threads or devices.usable_cpus())
    classifier = TorchClassifier(
        checkpoint=checkpoint, model=network(checkpoint, place), device=place
    )
    laps.lap("weights")
    try:
        mates.settle_side(classifier, asked=padding_side(path))
        laps.lap("padding")
        expected = classifier.reference()
    except InferenceError as error:
        raise Refused(f"model.checkpoint: {path} cannot label a text: {error}") from error
    if expected.shape[1] != len(checkpoint.labels):
        raise Refused(
            f"model.checkpoint: the model of {path} has {expected.shape[1]} outputs, and "
            f"config.json names {len(checkpoint.labels)} labels"
        )
    if not np.isfinite(expected).all():
        raise Refused(f"model.checkpoint: the scores of {path} are not finite in float32")
    reduced = tuning.choose_precision(
        classifier, precision, expected=expected, required=dtype != "auto"
    )
    laps.lap("precision")
    kernels = tuning.choose_kernels(classifier, expected=reduced)
    laps.lap("kernels")
    log.info(
        "model_loaded",
        model=checkpoint.name,
        version=checkpoint.version,
        labels=len(checkpoint.labels),
        device=str(place),
        dtype=str(classifier.dtype).removeprefix("torch."),
        kernels=kernels,
        max_length=checkpoint.max_length,
        seconds=laps.seconds,
        cpu_seconds=laps.cpu_seconds,
    )
    return classifier

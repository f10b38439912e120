"""A Hugging Face sequence classifier that keeps the worker's `Classifier` protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from worker.classifier import BatchLimits
from worker.errors import Fatal, Refused
from worker.model import device as devices
from worker.model import precision
from worker.model.failures import InferenceError, explained
from worker.model.padded import PAD_MULTIPLE, HostBatch, PaddedRows, types_of
from worker.model.prefix import PrefixTokenizer
from worker.model.samples import SAMPLES
from worker.model.tokenizer import load_tokenizer, takes_types

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from worker.classifier import Abstention
    from worker.layout import Layout
    from worker.model.checkpoint import Checkpoint
    from worker.model.packed import PackedRows

CPU_LIMITS = BatchLimits(max_records=256, max_tokens=2_048)
CUDA_LIMITS = BatchLimits(max_records=4_096, max_tokens=65_536)
"""By device, where `budget.py` has measured none."""


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
        self.limits = CUDA_LIMITS if device.type == "cuda" else CPU_LIMITS
        self.precision = precision.FLOAT32
        """`tuning.py` sets it."""
        self.abstention: Abstention | None = None
        """`load.py` sets it, after all that compares scores."""
        tokenizer = load_tokenizer(checkpoint)
        self._tokenizer = PrefixTokenizer(tokenizer, max_length=checkpoint.max_length)
        multiple = PAD_MULTIPLE if device.type == "cuda" else 1
        types = types_of(tokenizer, SAMPLES[0]) if takes_types(checkpoint.path, model) else None
        self.padded = PaddedRows(checkpoint=checkpoint, types=types, multiple=multiple)
        self.rows: PaddedRows | PackedRows = self.padded
        """How rows are staged; `packing.py` sets it."""

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
    def layout(self) -> Layout:
        """Of the rows of a batch."""
        return self.rows.layout

    @property
    def depth(self) -> int:
        """Two on CUDA: the device has the next batch before it finishes this one."""
        return 2 if self.device.type == "cuda" else 1

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the matrix products."""
        return self.precision.dtype

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

    def stage(self, rows: Sequence[Sequence[int]]) -> HostBatch:
        """Rows of token ids as the model takes them, in pinned memory on CUDA.

        Raises:
            InferenceError: A token id is outside the embedding table.
        """
        staged = self.rows.stage(rows)
        if self.device.type != "cuda":
            return staged
        try:
            with torch.cuda.device(self.device):
                return staged._replace(tensors=tuple(one.pin_memory() for one in staged.tensors))
        except Exception as error:
            raise explained(error, self.device) from error

    def logits(self, staged: HostBatch) -> torch.Tensor:
        """Runs the model on staged rows; shape (rows, labels), on the device.

        Raises:
            InferenceError: The call failed.
        """
        try:
            tensors = [one.to(self.device, non_blocking=True) for one in staged.tensors]
            return self.rows.logits(self.network, tensors, staged.lengths)
        except Exception as error:
            raise explained(error, self.device) from error

    @torch.inference_mode()
    def launch(self, staged: HostBatch) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """Starts the model on a staged batch.

        Returns:
            What `scores` returns, and on CUDA the event after which it is in (pinned) host memory.

        Raises:
            InferenceError: The call failed.
        """
        logits = self.logits(staged)
        try:
            scores = probabilities(logits, self.checkpoint.temperature)
            if self.abstention is not None:
                scores = torch.cat([scores, energies(logits)], dim=-1)
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
        """Waits until a launched batch is in host memory.

        Returns:
            Probabilities, float32, shape (rows, labels); with `abstention` (rows, labels + 1), of
            which the last column is the energy.

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
            Fatal: A batch does not fit the device's memory.
            Refused: It fails otherwise.
        """
        length, packed = PAD_MULTIPLE, self.layout.packed
        while True:
            length = min(length, self.checkpoint.max_length)
            rows = max(1, min(max_records, max_tokens // length))
            try:
                self.run([self.filler(length)] * rows)
            except InferenceError as error:
                # What takes the memory may be gone at the next start: another process, perhaps.
                kind = Fatal if error.kind == "oom" else Refused
                raise kind(
                    f"batch.max_tokens: the model fails on {self.device} for a batch of {rows} "
                    f"texts of {length} tokens ({error}): lower it"
                ) from error
            if length == self.checkpoint.max_length:
                return
            length = self.checkpoint.max_length if packed else 2 * length

    def samples(self) -> list[Sequence[int]]:
        """Token ids of the sample texts."""
        return [ids for ids, _ in self.tokenize(SAMPLES)]

    def reference(self) -> np.ndarray:
        """What `scores` returns for the sample texts."""
        return self.run(self.samples())

    def run(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """Stages and launches rows of token ids, and waits; returns what `scores` does."""
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


def energies(logits: torch.Tensor) -> torch.Tensor:
    """-logsumexp(logits) of each row, before any temperature; float32, shape (rows, 1)."""
    return -torch.logsumexp(logits.float(), dim=-1, keepdim=True)

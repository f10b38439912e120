"""The Hugging Face sequence classifier behind the worker's ``Classifier`` protocol."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import structlog
import torch

from worker.classifier import BatchLimits
from worker.errors import Refused
from worker.laps import Laps
from worker.model import checkpoint as checkpoints
from worker.model import linear
from worker.model.device import choose_device, choose_dtype, usable_cpus
from worker.model.encoder import SequenceClassifier
from worker.model.tokenizer import load_tokenizer
from worker.model.weights import network

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from worker.model.checkpoint import Checkpoint

log = structlog.get_logger(__name__)

TOLERANCE = 0.02
"""Largest difference of a score between a reduced precision and float32 that is accepted."""

PAD_MULTIPLE = 8
"""Rows are padded to it on CUDA: tensor cores want multiples of 8, and fewer shapes recur."""

SAMPLES = (
    "i feel so happy that you are here",
    "My father died today",
    "Go and clean up your room",
    "what on earth was that noise in the middle of the night, i am still shaking",
    "ok",
    "she said it would be fine and then it was not fine at all " * 6,
    "I ❤️ this song, haven't slept, don't care #monday",
    "nothing to report",
)
"""Texts of many lengths, by which precisions and kernels are compared at start."""

CLEAR = 1.5
"""How many times faster a kernel must be in one timing for the matter to be settled. On the
processors that were measured the better one is twice as fast; a busy neighbour moves one timing by
less than half. Nearer than that, two more timings of each decide."""

CPU_LIMITS = BatchLimits(max_records=256, max_tokens=2_048)
"""Measured with MiniLM: larger batches leave the processor's cache and are slower."""
CUDA_LIMITS = BatchLimits(max_records=4_096, max_tokens=65_536)
"""Not measured on a GPU yet. Doubling it costs memory and latency."""


class InferenceError(Exception):
    """A model call failed. ``kind`` is ``oom``, ``device`` or ``other``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class TorchClassifier:
    """A checkpoint on a device.

    ``tokenize`` and ``stage`` belong to the batch thread, ``launch`` and ``scores`` to the model
    thread. On CUDA ``launch`` returns at once, and two batches may be under way, so that the
    device has the next one before it finishes this one.
    """

    def __init__(
        self, *, checkpoint: Checkpoint, model: torch.nn.Module, device: torch.device
    ) -> None:
        self.checkpoint = checkpoint
        self.name = checkpoint.name
        self.version = checkpoint.version
        self.labels = checkpoint.labels
        self.label_shares = checkpoint.label_shares
        self.device = device
        self.depth = 2 if device.type == "cuda" else 1
        self.limits = CUDA_LIMITS if device.type == "cuda" else CPU_LIMITS
        self.dtype = torch.float32
        """Precision of the matrix products."""
        self._model = model
        self._needs_no_mask = isinstance(model, SequenceClassifier)
        self._by_default: np.ndarray | None = None
        """``reference()`` in the precision in use, by torch's default kernel."""
        self._tokenizer = load_tokenizer(checkpoint)

    def tokenize(self, texts: Sequence[str]) -> list[tuple[Sequence[int], bool]]:
        """Token ids of each text with special tokens, at most ``max_length``, and if it was cut."""
        try:
            encodings = self._tokenizer.encode_batch_fast(list(texts))
        except BaseException as error:
            if type(error).__name__ == "PanicException":  # of the Rust side; no Exception
                raise InferenceError("other", "the tokenizer panicked") from error
            raise
        return [(encoding.ids, bool(encoding.overflowing)) for encoding in encodings]

    def stage(self, rows: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Token ids and attention mask, int64, shape (rows, longest row), in pinned memory on CUDA.

        Raises:
            InferenceError: A token id is outside the embedding table: on CUDA an index error
                would kill the context, so it is found here.
        """
        longest = max(len(row) for row in rows)
        if self.device.type == "cuda":
            longest = -(-longest // PAD_MULTIPLE) * PAD_MULTIPLE
            longest = min(longest, self.checkpoint.max_length)
        ids = np.full((len(rows), longest), self.checkpoint.pad_token_id, dtype=np.int64)
        mask = np.zeros((len(rows), longest), dtype=np.int64)
        for index, row in enumerate(rows):
            ids[index, : len(row)] = row
            mask[index, : len(row)] = 1
        if ids.max() >= self.checkpoint.vocabulary:
            raise InferenceError("other", "a token id is outside the model's vocabulary")
        staged = torch.from_numpy(ids), torch.from_numpy(mask)
        if self.device.type == "cuda":
            with torch.cuda.device(self.device):
                staged = staged[0].pin_memory(), staged[1].pin_memory()
        return staged

    @torch.inference_mode()
    def launch(
        self, staged: tuple[torch.Tensor, torch.Tensor]
    ) -> tuple[torch.Tensor, torch.cuda.Event | None]:
        """Starts the model; the scores follow into (pinned) host memory."""
        try:
            ids, mask = (tensor.to(self.device, non_blocking=True) for tensor in staged)
            unpadded = self._needs_no_mask and bool(staged[1].all())
            logits = self._model(input_ids=ids, attention_mask=None if unpadded else mask).logits
            scores = torch.softmax(logits.float() / self.checkpoint.temperature, dim=-1)
            if self.device.type != "cuda":
                return scores, None
            host = torch.empty(scores.shape, dtype=scores.dtype, pin_memory=True)
            host.copy_(scores, non_blocking=True)
            # Blocking: by default whoever waits for it keeps a core busy, and that core is missing
            # to the tokenizer.
            done = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
            # On this device's stream: the thread's current device may be another, whose stream
            # has nothing to do, and the buffer would be read before it is written.
            done.record(torch.cuda.current_stream(self.device))
        except Exception as error:
            raise self._explained(error) from error
        return host, done

    def scores(self, launched: tuple[torch.Tensor, torch.cuda.Event | None]) -> np.ndarray:
        """Waits for the one read-back of the batch; float32, shape (rows, labels)."""
        scores, done = launched
        if done is not None:
            try:
                done.synchronize()
            except Exception as error:
                raise self._explained(error) from error
        return scores.numpy()

    def memory(self) -> dict[str, int]:
        """Bytes of device memory by kind; empty on a CPU."""
        if self.device.type != "cuda":
            return {}
        return {
            "allocated": torch.cuda.memory_allocated(self.device),
            "reserved": torch.cuda.memory_reserved(self.device),
            "peak": torch.cuda.max_memory_allocated(self.device),
        }

    def warm_up(self, *, max_records: int, max_tokens: int) -> None:
        """Runs the batch shapes that will come, so that no message waits for a first time.

        Raises:
            Refused: The largest batch does not fit.
        """
        length = PAD_MULTIPLE
        while True:
            length = min(length, self.checkpoint.max_length)
            rows = max(1, min(max_records, max_tokens // length))
            try:
                self.scores(self.launch(self.stage([self._filler(length)] * rows)))
            except InferenceError as error:
                raise Refused(
                    f"batch.max_tokens: {rows} texts of {length} tokens do not go through the "
                    f"model on {self.device} ({error}): lower it"
                ) from error
            if length == self.checkpoint.max_length:
                return
            length *= 2

    def reference(self) -> np.ndarray:
        """Scores of the sample texts, shape (samples, labels)."""
        return self.scores(self.launch(self.stage([ids for ids, _ in self.tokenize(SAMPLES)])))

    def replace_products(self) -> None:
        """Puts layers whose precision and kernel can be chosen in the place of the linear ones."""
        linear.replace_all(self._model, labels=len(self.labels))

    def use_precision(self, dtype: torch.dtype, expected: np.ndarray) -> float:
        """Computes the matrix products in a precision.

        Args:
            dtype: The precision.
            expected: ``reference()`` of the model as it was read, in float32.

        Returns:
            The largest difference of a score; infinite where the model cannot run so.
        """
        linear.use_precision(self._model, dtype)
        self.dtype = dtype
        self._by_default = None
        try:
            self._by_default = self.reference()
        except InferenceError as error:
            log.debug("precision_unusable", dtype=str(dtype), error=str(error))
            return float("inf")
        difference = float(np.abs(self._by_default - expected).max())
        return difference if np.isfinite(difference) else float("inf")

    def settle_precision(self) -> None:
        """Gives back the memory that another precision would need."""
        linear.settle(self._model)

    def choose_kernels(self) -> str:
        """On a CPU, measures torch's default matrix product against oneDNN's; keeps the faster."""
        if self.device.type != "cpu" or not linear.onednn_is_there():
            return "default"
        taken = self._onednn_is_right() and self._onednn_is_faster()
        linear.use_onednn(self._model, use=taken)
        return "onednn" if taken else "default"

    def _onednn_is_right(self) -> bool:
        if self._by_default is None:  # the model cannot run with the layers that have kernels
            return False
        linear.use_onednn(self._model, use=True)
        try:
            return bool(np.abs(self.reference() - self._by_default).max() <= TOLERANCE)
        except InferenceError as error:
            log.debug("onednn_unusable", error=str(error))
            return False

    def _onednn_is_faster(self) -> bool:
        rows = [self._filler(32)] * 32
        best = {True: float("inf"), False: float("inf")}
        try:
            for _ in range(3):
                for onednn in (True, False):  # in turns: a busy moment falls on both
                    linear.use_onednn(self._model, use=onednn)
                    best[onednn] = min(best[onednn], self._seconds(rows))
                if max(best.values()) > CLEAR * min(best.values()):
                    break
        except InferenceError as error:
            log.debug("onednn_unusable", error=str(error))
            return False
        return best[True] < best[False]

    def _seconds(self, rows: list[list[int]]) -> float:
        begin = time.perf_counter()
        self.scores(self.launch(self.stage(rows)))
        return time.perf_counter() - begin

    def _filler(self, length: int) -> list[int]:
        # Any token but padding will do: only the shape matters.
        token = next(i for i in range(2) if i != self.checkpoint.pad_token_id)
        return [token] * length

    def _explained(self, error: Exception) -> InferenceError:
        # Its frames hold the failed call's activations: while the error is handled, and the halves
        # of its batch run, that memory would stay taken.
        error.__traceback__ = None
        if isinstance(error, torch.OutOfMemoryError):
            return InferenceError("oom", "out of device memory")
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        device = "CUDA" in text or isinstance(error, torch.AcceleratorError)
        return InferenceError("device" if device else "other", text)


def load(
    *,
    path: Path,
    device: str,
    dtype: str,
    threads: int | None = None,
    checkpoint: Checkpoint | None = None,
    laps: Laps | None = None,
) -> TorchClassifier:
    """Loads a checkpoint, checks its precision against float32 and chooses kernels.

    Args:
        path: The checkpoint directory.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        threads: Threads on a CPU; None takes what the process may use.
        checkpoint: What ``read(path)`` returned, where it was read before.
        laps: Gets the seconds of each step, which are logged at the end.

    Raises:
        Refused: The checkpoint, the device or the precision is unusable.
    """
    laps = laps or Laps()
    checkpoint = checkpoint or checkpoints.read(path)
    place = choose_device(device)
    precision = choose_dtype(dtype, place)
    if place.type == "cpu":
        torch.set_num_threads(threads or usable_cpus())
    classifier = TorchClassifier(
        checkpoint=checkpoint, model=network(checkpoint, place), device=place
    )
    laps.lap("weights")
    try:
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
    classifier.replace_products()
    _choose_precision(classifier, precision, expected, required=dtype != "auto")
    laps.lap("precision")
    kernels = classifier.choose_kernels()
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


def _choose_precision(
    classifier: TorchClassifier, dtype: torch.dtype, expected: np.ndarray, *, required: bool
) -> None:
    """Takes a precision if the scores bear it, else float32.

    Raises:
        Refused: They do not, and it was asked for by name.
    """
    difference = classifier.use_precision(dtype, expected)
    if difference > TOLERANCE:
        name = str(dtype).removeprefix("torch.")
        if required:
            raise Refused(
                f"model.dtype: scores in {name} differ from float32 by {difference:.3f}, "
                f"{TOLERANCE} is accepted: set float32 or auto"
            )
        log.warning("precision_refused", dtype=name, difference=difference, instead="float32")
        classifier.use_precision(torch.float32, expected)
    classifier.settle_precision()

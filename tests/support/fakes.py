"""Stand-ins that the tests share: values made short, and a model that is instant.

Run as a program (``python -m tests.support.fakes``) it is a whole worker with that model: the
settings come from the environment, as for the real one, and what the model does wrong from the
variable STUB, a JSON object of ``StubClassifier``'s arguments.
"""

import ctypes
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import numpy as np

from tests.support.device import SharedDevice
from worker.classifier import BatchLimits
from worker.errors import DeviceLost
from worker.gpu import Gpu, Reading
from worker.layout import Layout
from worker.records import Document, Encoded, Lease, Record

BREAKS, NOT_FINITE = "!breaks", "!nan"
"""Words that make the stub model raise, or return NaN, for the text they are in."""

_MARKS = {BREAKS: 1, NOT_FINITE: 2}


def record(
    offset=0,
    value=b'{"text": "hello"}',
    *,
    partition=0,
    epoch=1,
    key=b"k",
    headers=(),
    timestamp=1_700_000_000_000,
    topic="tweets",
):
    return Record(
        topic, Lease(partition, epoch), offset, timestamp, key, value, tuple(headers), 0.0
    )


def document(offset=0, text="hello", **kwargs):
    return Document(record(offset, **kwargs), text, None)


def encoded(offset=0, *, tokens=3, text="hello", **kwargs):
    return Encoded(document(offset, text=text, **kwargs), [9] * tokens, truncated=False)


class OutOfMemory(Exception):
    kind = "oom"


class Lost(Exception):
    kind = "device"


class StubClassifier:
    """Keeps the worker's ``Classifier`` protocol; a word is a token, scores follow from them.

    Args:
        seconds_per_batch: What each call takes.
        broken: Every call fails.
        breaks_after: Every call after so many fails.
        lost_after: Every call after so many finds the device lost.
        hangs_after: The call after so many never comes back.
        looks: How often the GPU's driver answers before an XID comes; None: there is no GPU.
        rows_of_memory: Calls of more rows run out of memory.
        seconds_to_load: What ``load`` takes, for the program.
        calls_file: A file that gets a line with its number of rows for every call.
        device: A file: `seconds_per_batch` are those of the device that all who name it share.
    """

    name = "stub"
    version = "0123456789ab"
    labels = ("sadness", "joy", "love")
    label_shares = None
    abstention = None
    limits = BatchLimits(max_records=256, max_tokens=8_192)
    layout = Layout()
    gpu = None
    depth = 1

    def __init__(
        self, *, seconds_per_batch=0.0, broken=False, breaks_after=None, hangs_after=None,
        lost_after=None, looks=None, rows_of_memory=None, seconds_to_load=0.0, calls_file=None,
        device=None,
    ):  # fmt: skip
        self.seconds_per_batch = seconds_per_batch
        self.broken = broken
        self.breaks_after = breaks_after
        self.lost_after = lost_after
        self.looks = looks
        if looks is not None:
            self.gpu = Gpu(
                uuid="GPU-0", name="a stub", capability="9.0", cuda="13.2", driver="580.95.05",
                look=self.look,
            )  # fmt: skip
        self.hangs_after = hangs_after
        self.rows_of_memory = rows_of_memory
        self.calls_file = calls_file
        self.compute = SharedDevice(device).compute if device else time.sleep
        self.calls = 0
        time.sleep(seconds_to_load)

    def tokenize(self, texts):
        return [([_token(word) for word in text.split()] or [0], False) for text in texts]

    def stage(self, rows):
        return [list(row) for row in rows]

    def launch(self, staged):
        return staged

    def scores(self, launched):
        self.calls += 1
        if self.calls_file:
            with Path(self.calls_file).open("a") as file:
                file.write(f"{len(launched)}\n")
        if self.hangs_after is not None and self.calls > self.hangs_after:
            ctypes.CDLL(None).sleep(10_000)  # in C code: no signal and no exception ends it
        if self.lost_after is not None and self.calls > self.lost_after:
            raise Lost("CUDA error: unspecified launch failure\nand its advice")
        if self.seconds_per_batch:
            self.compute(self.seconds_per_batch)
        if self.rows_of_memory is not None and len(launched) > self.rows_of_memory:
            raise OutOfMemory("the stub has too many rows")
        self.broken = self.broken or (
            self.breaks_after is not None and self.calls > self.breaks_after
        )
        if self.broken or any(_MARKS[BREAKS] in row for row in launched):
            raise RuntimeError("the stub breaks")
        scores = np.array([expected_scores(row) for row in launched], dtype=np.float32)
        for index, row in enumerate(launched):
            if _MARKS[NOT_FINITE] in row:
                scores[index] = np.nan
        return scores

    def warm_up(self, *, max_records, max_tokens):
        pass

    def memory(self):
        return {}

    def look(self):
        self.looks -= 1
        if self.looks < 0:
            raise DeviceLost("XID 79 (it has fallen off the bus)")
        return Reading(utilization=0.42, throttled={"power_cap": True})


def expected_scores(tokens):
    best = sum(tokens) % 3
    return [0.8 if index == best else 0.1 for index in range(3)]


def expected_label(text):
    """What the stub answers for a text: any two that differ likely differ here."""
    return StubClassifier.labels[sum(_token(word) for word in text.split()) % 3]


def _token(word):
    if word in _MARKS:
        return _MARKS[word]
    return 3 + int.from_bytes(hashlib.blake2b(word.encode(), digest_size=2).digest(), "big")


def main():
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    if sys.argv[2:3] == ["child"]:
        from worker.processes import child

        return child.main(int(sys.argv[3]), lambda *of, **more: stub_worker(seconds, *of, **more))
    from worker import logs, settings

    chosen = settings.load(sys.argv[2:])
    logs.configure(format=chosen.log.format, level=chosen.log.level)
    if chosen.processes == 1:
        return stub_worker(seconds, chosen)
    from worker.processes.supervisor import supervise
    from worker.signals import DrainSignals

    command = [sys.executable, "-m", "tests.support.fakes", str(seconds), "child"]
    with DrainSignals() as signals:
        return supervise(chosen, signals=signals, command=command)


def stub_worker(seconds, settings, **more):
    from worker.service import serve

    wrong = json.loads(os.environ.get("STUB", "{}"))
    return serve(settings, load=lambda: StubClassifier(seconds_per_batch=seconds, **wrong), **more)


if __name__ == "__main__":
    sys.exit(main())

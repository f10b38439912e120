"""Who takes part, and how each is started, killed and stopped."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from tests.benchmarks.contest.environment import INFINITY, STREAMS
from tests.benchmarks.contest.job import Job
from tests.support.worker_process import ROOT, WorkerProcess, clean_environment


class Running(Protocol):
    """A contestant's process."""

    def start(self) -> Any: ...

    def alive(self) -> bool:
        """True; raises with the log where the process has ended by itself."""

    def kill(self) -> None: ...

    def stop(self) -> Any:
        """SIGTERM, and the time that a drain needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contestant:
    """A way to label the stream."""

    name: str
    title: str
    module: str = ""
    """The baseline's module; empty: the worker."""
    requirements: str = ""
    """File with the packages of its own environment; empty: it runs in the project's."""
    torch: bool = True
    """Whether its model runs in torch, in the precision that is asked for."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Of the worker."""
    dtype: str = ""
    """Precision of its model; empty: the contest's."""


CONTESTANTS = (
    Contestant(name="worker", title="`emotion-worker`, at least once"),
    Contestant(
        name="worker-exactly-once",
        title="`emotion-worker`, exactly once",
        settings={"delivery__guarantee": "exactly_once", "kafka__replica_id": "contest"},
    ),
    Contestant(
        name="one_by_one", title="kafka-python and `pipeline`, one by one", module="one_by_one"
    ),
    Contestant(name="batches", title="kafka-python and `pipeline`, batches", module="batches"),
    Contestant(
        name="fixed_shape", title="kafka-python, fixed 64 x 128 tokens", module="fixed_shape"
    ),
    Contestant(
        name="onnx",
        title="kafka-python and ONNX Runtime, sorted by length",
        module="onnx_sorted",
        requirements=STREAMS,
        torch=False,
    ),
    Contestant(name="quix", title="Quix Streams", module="quix", requirements=STREAMS),
    Contestant(
        name="faststream", title="FastStream", module="faststream_batches", requirements=STREAMS
    ),
    Contestant(
        name="infinity",
        title="kafka-python and Infinity's engine",
        module="infinity_engine",
        requirements=INFINITY,
    ),
)


def chosen(names: str) -> list[Contestant]:
    """The contestants of a list with commas; all for an empty one.

    `NAME@float32` and `NAME@bfloat16` ask for a precision of their own.

    Raises:
        ValueError: There is no such contestant.
    """
    if not names:
        return list(CONTESTANTS)
    known = {each.name: each for each in CONTESTANTS}
    found = []
    for asked in names.split(","):
        name, _, dtype = asked.partition("@")
        if name not in known:
            raise ValueError(f"no contestant {name!r}: there are {', '.join(known)}")
        found.append(known[name])
        if dtype and not known[name].torch:
            raise ValueError(f"{name} has no {dtype}: its export chooses the precision")
        if dtype:
            title = f"{known[name].title}, {dtype}"
            found[-1] = replace(known[name], name=asked, title=title, dtype=dtype)
    return found


class Baseline:
    """A baseline's process.

    Args:
        command: What runs.
        variables: Its environment, in addition to the present one.
        log: The file of its output.
    """

    def __init__(self, command: list[str], variables: dict[str, str], log: Path) -> None:
        self._command, self._variables, self._log = command, variables, log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command, env=clean_environment(**self._variables), cwd=ROOT,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def alive(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            code = self._process and self._process.returncode
            text = self._log.read_text(errors="replace")[-6_000:]
            raise AssertionError(f"{self._command} ended with {code}:\n{text}")
        return True

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


class Worker(WorkerProcess):
    """`emotion-worker`, started without waiting until it is ready, as the baselines are."""

    def start(self) -> None:  # type: ignore[override]
        super().start(ready=False)

    def kill(self) -> None:
        if self.process is not None:
            super().kill()


def process(
    contestant: Contestant, job: Job, *, pythons: Mapping[str, Path], directory: Path
) -> Running:
    """The contestant's process for a job, not started yet.

    Args:
        contestant: Who.
        job: Its topics, group and checkpoint; its precision where the contestant has none.
        pythons: Interpreters of the environments, by their requirements.
        directory: For its log.
    """
    dtype = contestant.dtype or job.dtype
    if not contestant.module:
        return Worker(
            bootstrap=job.bootstrap,
            input_topic=job.input_topic,
            output_topic=job.output_topic,
            dlq_topic=f"{job.input_topic}.dlq",
            group=job.group,
            checkpoint=job.checkpoint,
            directory=directory,
            model__dtype=dtype,
            model__device="cpu",
            log__level="warning",
            kafka__session_timeout=job.session_timeout_ms / 1000,
            kafka__heartbeat_interval=job.heartbeat_interval_ms / 1000,
            **contestant.settings,
        )
    interpreter = (
        str(pythons[contestant.requirements]) if contestant.requirements else sys.executable
    )
    return Baseline(
        [interpreter, "-m", f"tests.benchmarks.contest.{contestant.module}"],
        {
            **replace(job, dtype=dtype).environment(),
            "HF_HUB_OFFLINE": "1",
            "TOKENIZERS_PARALLELISM": "true",
        },
        directory / f"{job.group}.log",
    )

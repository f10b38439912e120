"""Where the contest takes place: broker, checkpoint, texts, models, and topics for each run."""

import hashlib
import itertools
import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.benchmarks.contest import environment, reference
from tests.benchmarks.contest.contestants import Contestant
from tests.benchmarks.contest.environment import STREAMS
from tests.benchmarks.contest.job import Job
from tests.support.kafka_helpers import create_topic
from tests.support.worker_process import ROOT, clean_environment

PARTITIONS = 4
KEYS = 500


@dataclass(frozen=True, kw_only=True)
class Place:
    """What all runs of a contest share."""

    bootstrap: str
    checkpoint: Path
    texts: list[str]
    dtype: str
    directory: Path
    pythons: dict[str, Path] = field(default_factory=dict)
    """Interpreters of the contestants' own environments, by their requirements."""
    choice: dict[str, Any] = field(default_factory=dict)
    """Of `export`: the ONNX model and its precision."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def job(self, contestant: Contestant, *, append_time: bool) -> Job:
        """A job on fresh topics.

        Args:
            contestant: Whose.
            append_time: Whether the outputs have the broker's time, in place of the producer's.
        """
        name = f"{contestant.name.replace('@', '-')}-{next(self.numbers)}"
        kind = "LogAppendTime" if append_time else "CreateTime"
        create_topic(self.bootstrap, name, PARTITIONS)
        create_topic(self.bootstrap, f"{name}.dlq", 1)
        create_topic(
            self.bootstrap, f"{name}.out", PARTITIONS, config={"message.timestamp.type": kind}
        )
        return Job(
            bootstrap=self.bootstrap,
            input_topic=name,
            output_topic=f"{name}.out",
            group=name,
            checkpoint=str(self.checkpoint),
            dtype=self.dtype,
            onnx_model=self.choice.get("model", ""),
            session_timeout_ms=6_000,  # a restarted one waits this long for its own dead self
        )

    def text(self, number: int) -> str:
        """The text of a message, the same in each run."""
        return self.texts[number % len(self.texts)]

    def agreement(self, labels: dict[int, str], expected: list[str]) -> float:
        """Share of labels as float32 has them."""
        numbers = list(labels)
        return reference.agreement(
            [labels[number] for number in numbers],
            [expected[number % len(expected)] for number in numbers],
        )


def exported(checkpoint: Path, texts: Path, python: Path) -> dict[str, Any]:
    """The checkpoint as ONNX models, and which of them takes part; made once for a checkpoint."""
    directory = ROOT / ".tools" / f"contest-onnx-{fingerprint(checkpoint)}"
    chosen = directory / "choice.json"
    if not chosen.is_file():
        command = [str(python), "-m", "tests.benchmarks.contest.export", str(checkpoint)]
        done = subprocess.run(
            [*command, str(directory), str(texts)], env=clean_environment(HF_HUB_OFFLINE="1"),
            cwd=ROOT, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3_000:]
    choice: dict[str, Any] = json.loads(chosen.read_text(encoding="utf-8"))
    return {**choice, "model": str(directory / choice["model"])}


def fingerprint(checkpoint: Path) -> str:
    """Of the weights, and of how they are exported."""
    found = hashlib.sha256()
    recipe = Path(__file__).with_name("export.py")
    for path in (checkpoint / "model.safetensors", environment.path(STREAMS), recipe):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


def interpreters(contestants: list[Contestant]) -> dict[str, Path]:
    """Of the environments that contestants need, by their requirements."""
    needed = {each.requirements for each in contestants if each.requirements}
    return {name: environment.interpreter(environment.path(name)) for name in sorted(needed)}

"""What the demo prints at its end, and whether it has failed."""

from __future__ import annotations

import shlex
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import worker
from worker.errors import EXIT_DRAINED

if TYPE_CHECKING:
    from worker.demo.ledger import Ledger, PhaseAccount
    from worker.demo.outage import Outage

MEDIAN, RARE = 0.5, 0.99
_TERMINATED = 128 + signal.SIGTERM
"""Exit code of a worker that gets SIGTERM in its first tenths of a second, before it catches it."""
NO_FAULT = (
    "Under make one more line follows (*** [demo] Error 130, or Interrupt): it reports your "
    "Ctrl-C, it is no fault."
)


def phases(ledger: Ledger) -> list[tuple[str, ...]]:
    """A table, its head first: a row for each phase, of the messages that were sent in it."""
    head = ("phase", "messages", "sent/s", "p50", "p99", "peak lag")
    return [head, *(_phase(name, account) for name, account in ledger.phases.items())]


def rows(
    ledger: Ledger,
    *,
    worker_code: int | None,
    capacity: float | None = None,
    outage: Outage | None = None,
    interrupted: bool = False,
) -> list[tuple[str, str]]:
    """Names and values. Every count comes from the topics alone, read to their end.

    Args:
        ledger: What became of the messages.
        worker_code: The last worker's exit code; None: it had to be killed.
        capacity: Outputs a second at full load; None where it was not measured.
        outage: What the kill did; None where there was none.
        interrupted: Whether the stream was ended early: what has no output is then not lost.
    """
    reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.reasons.most_common())
    total = max(1, ledger.labelled)
    mix = ", ".join(f"{label} {count / total:.0%}" for label, count in ledger.labels.mix().items())
    waiting = f"{ledger.waiting:,}"
    found = [
        ("messages in", f"{ledger.inputs:,}"),
        ("labelled", f"{ledger.labelled:,}" + (f"   ({mix})" if mix else "")),
        ("dead-lettered", f"{ledger.dead:,}" + (f"   ({reasons})" if reasons else "")),
        ("not labelled yet", f"{waiting}   (on the topic)") if interrupted else ("lost", waiting),
        ("doubled", f"{ledger.doubled:,}   (exactly once, as a read_committed reader counts)"),
    ]
    if outage is not None:
        found.append(("worker killed", outage.sentence()))
    return [
        *found,
        ("throughput", _throughput(ledger, capacity)),
        ("latency", "from the send of a message until a read_committed reader has its output"),
        ("accuracy", _accuracy(ledger)),
        ("worker", _ending(worker_code)),
    ]


def problem(ledger: Ledger, *, worker_code: int | None) -> str | None:
    """Why the demo failed; None where nothing was lost or doubled and the worker drained."""
    found = []
    if ledger.waiting:
        found.append(f"{ledger.waiting:,} of {ledger.inputs:,} messages have no output")
    if ledger.doubled:
        found.append(f"{ledger.doubled:,} outputs are doubled")
    if worker_code != EXIT_DRAINED:
        found.append(f"the worker {_ending(worker_code)}")
    return "; ".join(found) or None


def again() -> tuple[str, str]:
    """The demo once more: the first of the commands after an early end."""
    name = "The demo again (a checkpoint that is trained is used again):"
    return name, f"{_program('emotion-worker')} demo"


def commands(checkpoint: Path, data: Path) -> list[tuple[str, str]]:
    """What a person may want next: what it does, and a command to paste.

    Args:
        checkpoint: The checkpoint of this run.
        data: The sentences that a checkpoint can be trained on.
    """
    compose_file = Path(worker.__file__).resolve().parents[1] / "deploy/compose/compose.yaml"
    demo, train = _program("emotion-worker"), _program("emotion-train")
    # Compose takes a relative path from where its file is.
    here = '"$PWD"/' if checkpoint.is_relative_to(Path.cwd()) else ""
    compose = f"CHECKPOINT={here}{_near(checkpoint)}"
    return [
        (
            "The same on your own Kafka, with topics of its own that it deletes afterwards:",
            f"{demo} demo --bootstrap-servers localhost:9092",
        ),
        (
            "A checkpoint of your own (name your data set and encoder), for --checkpoint:",
            f"{train} run --dataset {_near(data)} --base-model packaged --output checkpoint",
        ),
        (
            "Kafka, worker, Prometheus and Grafana's dashboard, on http://127.0.0.1:3000:",
            f"{compose} docker compose -f {_near(compose_file)} up --wait",
        ),
    ]


def _phase(name: str, account: PhaseAccount) -> tuple[str, ...]:
    rate, median, rare = account.sent_rate(), account.quantile(MEDIAN), account.quantile(RARE)
    return (
        name,
        f"{account.inputs:,}",
        "-" if rate is None else f"{rate:,.0f}",
        "-" if median is None else f"{median:,.0f} ms",
        "-" if rare is None else f"{rare:,.0f} ms",
        f"{account.peak_lag:,}",
    )


def _program(name: str) -> str:
    """The path of a program of this installation, as short as it can be in this directory."""
    return _near(Path(sys.executable).parent / name)


def _near(path: Path) -> str:
    """A path as short as it can be here, quoted for a shell."""
    here = Path.cwd()
    return shlex.quote(str(path.relative_to(here) if path.is_relative_to(here) else path))


def _ending(code: int | None) -> str:
    if code is None:
        return "did not drain in time and was killed"
    if code == _TERMINATED:
        return "stopped before it had started"
    return "drained, exit code 0" if code == EXIT_DRAINED else f"ended with code {code}"


def _throughput(ledger: Ledger, capacity: float | None) -> str:
    if capacity is not None:
        return f"{capacity:,.0f} messages/s at full load (measured first: the other rates follow)"
    found = ledger.throughput()
    return "-" if found is None else f"{found:,.0f} messages/s"


def _accuracy(ledger: Ledger) -> str:
    graded = ledger.labels.graded()
    if graded is None:
        return "-   (this checkpoint's labels are not those of the held-out sentences)"
    right, asked = graded
    return f"{right / asked:.3f}   ({right} of {asked} held-out sentences)"

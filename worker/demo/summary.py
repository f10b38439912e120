"""What is said at the end, and whether all went well."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from worker.demo.ledger import Ledger

MEDIAN, RARE = 0.5, 0.99


def rows(ledger: Ledger, *, worker_code: int | None) -> list[tuple[str, str]]:
    """Names and values. Every number is counted from the topics, read to their end."""
    reasons = ", ".join(f"{reason} {count}" for reason, count in ledger.reasons.most_common())
    total = max(1, ledger.labelled)
    mix = ", ".join(f"{label} {count / total:.0%}" for label, count in ledger.mix().items())
    return [
        ("messages in", f"{ledger.inputs:,}"),
        ("labelled", f"{ledger.labelled:,}" + (f"   ({mix})" if mix else "")),
        ("dead-lettered", f"{ledger.dead:,}" + (f"   ({reasons})" if reasons else "")),
        ("lost", f"{ledger.waiting:,}"),
        ("doubled", f"{ledger.doubled:,}"),
        ("throughput", _throughput(ledger)),
        ("latency", _latency(ledger)),
        ("accuracy", _accuracy(ledger)),
        ("worker", "drained, exit code 0" if worker_code == 0 else _ending(worker_code)),
    ]


def problem(ledger: Ledger, *, worker_code: int | None) -> str | None:
    """Why the demo failed; None where nothing was lost and the worker drained."""
    said = []
    if ledger.waiting:
        said.append(f"{ledger.waiting:,} of {ledger.inputs:,} messages have no output")
    if worker_code != 0:
        said.append(f"the worker {_ending(worker_code)}")
    return "; ".join(said) or None


def _ending(code: int | None) -> str:
    return "did not drain in time and was killed" if code is None else f"ended with code {code}"


def _throughput(ledger: Ledger) -> str:
    found = ledger.throughput()
    return "-" if found is None else f"{found:,.0f} messages/s"


def _latency(ledger: Ledger) -> str:
    median, rare = ledger.quantile(MEDIAN), ledger.quantile(RARE)
    if median is None or rare is None:
        return "-"
    return f"p50 {median:,.0f} ms, p99 {rare:,.0f} ms   (input topic to output topic)"


def _accuracy(ledger: Ledger) -> str:
    graded = ledger.graded()
    if graded is None:
        return "-   (this checkpoint's labels are not those of the held-out sentences)"
    right, asked = graded
    return f"{right / asked:.3f}   ({right} of {asked} held-out sentences)"

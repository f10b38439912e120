"""The metrics of all children as one exposition, each sample with the label `process`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from worker import awake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.registry import Collector

LABEL = "process"
SUPERVISOR = "supervisor"
"""The label's value for what the supervisor measures of itself."""
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"
"""What children are asked for: it says of each sample which family it belongs to."""
SCRAPE_SECONDS = 4.0
"""Longest wait for a child's metrics: Prometheus waits 10 s for all of them."""


def merged(families: Mapping[str, Iterable[Metric]]) -> list[Metric]:
    """The families of several processes, each family once.

    Args:
        families: By the value of `process`. A family that another process has as another type is
            left out: an exposition names a family once.
    """
    found: dict[str, Metric] = {}
    for process, theirs in families.items():
        for family in theirs:
            ours = found.setdefault(
                family.name, Metric(family.name, family.documentation, family.type)
            )
            if ours.type == family.type:
                ours.samples += [
                    sample._replace(labels={**sample.labels, LABEL: process})
                    for sample in family.samples
                ]
    return list(found.values())


class Merged:
    """What /metrics of the supervisor collects, for each request. Any thread.

    Args:
        scrape: The children's expositions, by number; None for one that does not answer.
        labelled: What the supervisor counts of the children, with the label already.
        own: What it measures of itself.
        answered: Called with each child's number, and whether it answered.
    """

    def __init__(
        self,
        *,
        scrape: Callable[[], Mapping[int, str | None]],
        labelled: Collector,
        own: Collector,
        answered: Callable[[int, bool], None],
    ) -> None:
        self._scrape = scrape
        self._labelled = labelled
        self._own = own
        self._answered = answered

    def collect(self) -> Iterator[Metric]:
        """Asks every child."""
        families: dict[str, Iterable[Metric]] = {}
        for number, text in self._scrape().items():
            theirs = _parsed(text)
            self._answered(number, theirs is not None)
            families[str(number)] = theirs or ()
        families[SUPERVISOR] = self._own.collect()
        yield from self._labelled.collect()
        yield from merged(families)

    def restricted_registry(self, names: Iterable[str]) -> _Restricted:
        """Only the samples of these names: what `name[]` in a request's query asks for."""
        return _Restricted(self, frozenset(names))


class _Restricted:
    def __init__(self, whole: Merged, names: frozenset[str]) -> None:
        self._whole = whole
        self._names = names

    def collect(self) -> Iterator[Metric]:
        for family in self._whole.collect():
            family.samples = [sample for sample in family.samples if sample.name in self._names]
            if family.samples:
                yield family


def scraped(
    ports: Mapping[int, int | None],
    ask: Callable[[int], str | None],
    *,
    seconds: float = SCRAPE_SECONDS,
) -> dict[int, str | None]:
    """What each child answers, all asked at once; None for one that is late, or has no port.

    Args:
        ports: By the child's number.
        ask: The answer at a port.
        seconds: Longest wait for all of them together.
    """
    found: dict[int, str | None] = dict.fromkeys(ports)

    def fill(number: int, port: int) -> None:
        answers[number] = ask(port)

    answers: dict[int, str | None] = {}
    threads = [
        # Of its own for each: one that hangs takes no thread from the next request.
        threading.Thread(target=fill, args=(number, port), name="scrape", daemon=True)
        for number, port in ports.items()
        if port is not None
    ]
    end = awake.now() + seconds
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, end - awake.now()))
    return found | dict(answers)


def _parsed(text: str | None) -> list[Metric] | None:
    try:
        if text is None:
            return None
        families = text_string_to_metric_families(text)  # type: ignore[no-untyped-call]
        return list(families)
    except Exception:  # noqa: BLE001 - half an answer, of a child that has just ended: many kinds
        return None

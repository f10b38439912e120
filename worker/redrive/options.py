"""The options of `emotion-worker redrive`: the docstring of a field is its line of `--help`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator
from pydantic_settings import CliSuppress  # noqa: TC002 - pydantic reads the annotation

from worker import settings
from worker.errors import Reason  # noqa: TC001 - pydantic reads the annotation
from worker.given.places import together
from worker.redrive.decisions import Filter
from worker.settings import (
    BatchSettings,
    BreakerSettings,
    Count,
    DeliverySettings,
    DrainSettings,
    HttpSettings,
    LogSettings,
    MetricsSettings,
    ModelSettings,
    OutputSettings,
    Settings,
)

HELP = """\
Puts dead letters back on the input topic, each once, with original key, value, headers and time.

A redrive reads the dead-letter topic from where the last redrive ended up to the topic's end now.
Dead letters that the options exclude are appended to the dead-letter topic again, for another
redrive; so are truncated ones, which cannot be put back, and records that are not of this input
topic. Stop it at any moment, even with kill -9, and run it again: it continues.

Fix the cause first: a record that is still wrong becomes a dead letter again. A record that was put
back is a new input record at a new offset, which its label names as its source; its header
dlq.redriven counts how often it was put back.
"""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _moment(given: Any) -> Any:
    """A time in ISO 8601, or how long ago it was: `90s`, `30m`, `2h`, `7d`, `1w`."""
    if not isinstance(given, str):
        return given
    ago = re.fullmatch(r"([0-9]{1,6}(?:\.[0-9]{1,6})?)([smhdw])", given.strip())
    try:
        if ago is not None:
            return datetime.now(UTC) - timedelta(**{UNITS[ago[2]]: float(ago[1])})
        moment = datetime.fromisoformat(given.strip())
    except (ValueError, OverflowError):
        raise ValueError(
            "is not a time like 2026-11-22T10:00:00Z, 2026-11-22 10:00 (UTC without a zone) or 2h "
            "(ago)"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


Moment = Annotated[datetime, BeforeValidator(_moment)]


class RedriveSettings(Settings):
    # Not a docstring: until Python 3.13 its lines keep their indentation.
    __doc__ = HELP

    # Accepted, so that a worker's environment can be used as it is, but without effect here.
    output: CliSuppress[OutputSettings] = OutputSettings()
    model: CliSuppress[ModelSettings] = ModelSettings()
    batch: CliSuppress[BatchSettings] = BatchSettings()
    breaker: CliSuppress[BreakerSettings] = BreakerSettings()
    delivery: CliSuppress[DeliverySettings] = DeliverySettings()
    drain: CliSuppress[DrainSettings] = DrainSettings()
    http: CliSuppress[HttpSettings] = HttpSettings()
    metrics: CliSuppress[MetricsSettings] = MetricsSettings()
    log: CliSuppress[LogSettings] = LogSettings()
    processes: CliSuppress[Count] = 1

    reason: tuple[Reason, ...] = ()
    """Only dead letters with this reason; repeat the option for several. Default: all."""
    since: Moment | None = None
    """Only dead letters written at or after this time: `2026-11-22T10:00:00Z`, or `2h` for two
    hours ago. The time of the original record does not matter."""
    until: Moment | None = None
    """Only dead letters written before this time."""
    max: Count | None = None
    """Put back at most this many, to see what becomes of them; the rest stays for the next run."""
    from_oldest: bool = False
    """Start at the oldest dead letter in partitions for which the cluster has no offset of an
    earlier redrive, even where it may have deleted that offset."""
    dry_run: bool = False
    """Only count what would be put back and what would be left. Writes and commits nothing."""

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            together(["{since}: must be before {until}: nothing is between them"])
        return self

    @property
    def chosen(self) -> Filter:
        """Which dead letters the options select."""
        return Filter(reasons=frozenset(self.reason), since=_ms(self.since), until=_ms(self.until))

    @property
    def group_id(self) -> str:
        """The group whose offsets record what redrives have settled.

        One for each dead-letter topic, whatever the workers' group: with two groups on one topic,
        redrives of each would put back what those of the other left.
        """
        return f"{self.dlq.topic}-redrive"


def load(options: list[str]) -> RedriveSettings:
    """The settings.

    Raises:
        Refused: With one line for each unknown option or bad value.
    """
    return settings.load_as(RedriveSettings, options, command="redrive")


def _ms(moment: datetime | None) -> int | None:
    return None if moment is None else round(moment.timestamp() * 1_000)

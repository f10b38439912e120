"""The options of `emotion-worker redrive`: the docstring of a field is its line of `--help`."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, model_validator
from pydantic_settings import CliSuppress, SettingsConfigDict

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
    ModelSettings,
    OutputSettings,
    Settings,
)

HELP = """\
Puts dead letters back on the input topic, each once: original key, value, headers and time.

It reads the dead-letter topic from where the last redrive ended to the end that it finds now.
Those that the options leave out are appended to the dead-letter topic again, for another
redrive; so are truncated ones, which cannot be put back, and what is not of this input topic.
Stop it at any moment, even with kill -9, and run it again: it goes on.

Fix the cause first: what is still wrong comes back as a dead letter. A record that was put back is
a new input record at a new offset, with how often in its header dlq.redriven: its label
names that offset as its source.
"""

UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def _moment(given: Any) -> Any:
    """ISO 8601, or how long ago: `90s`, `30m`, `2h`, `7d`, `1w`."""
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

    model_config = SettingsConfigDict(cli_implicit_flags="toggle")

    # Known, so that a worker's environment serves, and of no use here.
    output: CliSuppress[OutputSettings] = OutputSettings()
    model: CliSuppress[ModelSettings] = ModelSettings()
    batch: CliSuppress[BatchSettings] = BatchSettings()
    breaker: CliSuppress[BreakerSettings] = BreakerSettings()
    delivery: CliSuppress[DeliverySettings] = DeliverySettings()
    drain: CliSuppress[DrainSettings] = DrainSettings()
    http: CliSuppress[HttpSettings] = HttpSettings()
    log: CliSuppress[LogSettings] = LogSettings()

    reason: tuple[Reason, ...] = ()
    """Only dead letters of this reason; give it several times for several. Default: all."""
    since: Moment | None = None
    """Only dead letters from this time on: `2026-11-22T10:00:00Z`, or `2h` for two hours ago. It
    is the time at which the dead letter was written, not that of the original record."""
    until: Moment | None = None
    """Only dead letters from before this time."""
    max: Count | None = None
    """Put back at most so many, to see what becomes of them; the rest stays for the next run."""
    from_oldest: bool = False
    """Begin with the oldest dead letter in partitions where the cluster knows no earlier redrive,
    also where it may only have forgotten one."""
    dry_run: bool = False
    """Only count what would be put back and what left. Writes nothing, commits nothing."""

    @model_validator(mode="after")
    def _some_time(self) -> Self:
        if self.since is not None and self.until is not None and self.since >= self.until:
            together(["{since}: must be before {until}: nothing is between them"])
        return self

    @property
    def chosen(self) -> Filter:
        """Which dead letters are asked for."""
        return Filter(reasons=frozenset(self.reason), since=_ms(self.since), until=_ms(self.until))

    @property
    def group_id(self) -> str:
        """The group whose committed offsets say what redrives have settled.

        Of the topic, not of the workers: two that each kept account of one topic would both put
        back what the other left.
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

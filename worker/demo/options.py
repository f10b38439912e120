"""The options of `emotion-worker demo`. The docstring of a field is its text in `--help`."""

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Gt, Le
from pydantic_settings import SettingsConfigDict

from worker.demo.phases import Wishes
from worker.errors import Refused
from worker.given import places
from worker.given.base import Given
from worker.given.places import Wrong
from worker.settings import Servers


class DemoSettings(Given):
    """Labels a stream of sentences on this machine, with an Apache Kafka and a model of its own."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags="toggle",
        use_attribute_docstrings=True,
    )

    messages: Annotated[int, Ge(1), Le(10_000_000)] | None = None
    """How many messages to send, bad ones included. Default: 2,000 or more, as many as fill every
    phase on this machine."""
    rate: Annotated[float, Gt(0), Le(1_000_000)] | None = None
    """Messages sent in a second. Default: half of what the worker can label here, which is measured
    first. At a rate too high for the machine, messages wait unsent once 5,000 are on their way."""
    burst: bool | None = None
    """Send a burst at twice what the worker can label, and show the recovery. Default: yes, but not
    with --forever, --rate or --bootstrap-servers."""
    kill: bool | None = None
    """Kill the worker with -9 in mid-stream and start a successor. Default: as with --burst."""
    forever: bool = False
    """Send until Ctrl-C, then label the rest and show the summary."""
    checkpoint: Path | None = None
    """Directory of a checkpoint of your own. Default: one that the demo trains once, into .demo."""
    bootstrap_servers: Servers | None = None
    """A Kafka of your own, `host:port`. The demo creates topics of its own there, and deletes them
    at its end."""

    def wishes(self) -> Wishes:
        """The stream that these options ask for."""
        plain = self.forever or self.rate is not None or self.bootstrap_servers is not None
        return Wishes(
            messages=self.messages,
            rate=self.rate,
            burst=not plain if self.burst is None else self.burst,
            kill=not plain if self.kill is None else self.kill,
            forever=self.forever,
        )


def load(options: list[str]) -> DemoSettings:
    """Reads the options.

    Raises:
        Refused: With one line for each unknown option or bad value.
    """
    try:
        return places.read(DemoSettings, options, prog="emotion-worker demo")[0]
    except Wrong as error:
        raise Refused(str(error)) from error

"""Runs the demo's worker as a supervisor would: starts it, and after a kill its successor."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from worker.demo.children import Child, as_json
from worker.demo.scrape import Scraper
from worker.errors import EXIT_REFUSED, Fatal, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

START_SECONDS = 180.0
"""For a worker to import torch, load and warm up, which takes 10 s on two quiet cores."""
STOP_SECONDS = 30.0
"""For a worker to drain: its own deadline of 25 s, and a little more."""


class Supervisor:
    """Workers with the same settings, and so the same replica id, one after the other.

    Owned by the main thread. `check` must be called often: only it notices what has changed.

    Args:
        variables: The workers' settings, as environment variables.
        folder: Their working directory, where their logs are.
        children: Gets every worker, for whoever has to kill them.
    """

    def __init__(
        self, *, variables: Mapping[str, str], folder: Path, children: list[Child]
    ) -> None:
        self._variables = variables
        self._folder = folder
        self._children = children
        self._number = 0
        self._scraper: Scraper | None = None
        self._ready = False
        self._start()

    @property
    def scraper(self) -> Scraper | None:
        """Asks the present worker over HTTP; None while its port is not known."""
        return self._scraper

    @property
    def ready(self) -> bool:
        """Whether the present worker labelled at the last `check`."""
        return self._ready

    @property
    def log(self) -> Path:
        """The file of the present worker's log."""
        return self._child.log

    def check(self) -> None:
        """Checks that the present worker runs, and whether it is ready.

        Raises:
            Refused: It refuses its settings, its checkpoint or its topics.
            Fatal: It ended, or is not ready in time.
        """
        code = self._child.code()
        if code == EXIT_REFUSED and not self._ready:
            raise Refused(self._child.last_words())
        if code is not None:
            when = "in the middle of the stream" if self._ready else "before it was ready"
            raise Fatal(f"the worker ended with code {code} {when}: {self._last_words()}")
        if self._ready:
            return
        for fields in map(as_json, self._child.new_lines()):
            if fields.get("event") == "http_listening":
                self._scraper = Scraper(int(str(fields["port"])))
        if self._scraper is not None and self._scraper.ready():
            self._ready = True
        elif time.monotonic() - self._began > START_SECONDS:
            raise Fatal(f"the worker is not ready in time: {self._last_words()}")

    def kill(self) -> None:
        """Sends SIGKILL to the present worker, and starts the next at once."""
        self._child.kill()
        self._start()

    def stop(self, meanwhile: Callable[[], object] | None = None) -> int | None:
        """Drains the present worker; returns its exit code, None if it had to be killed.

        Args:
            meanwhile: Is called again and again until it has ended.
        """
        return self._child.stop(STOP_SECONDS, meanwhile=meanwhile)

    def _start(self) -> None:
        self._number += 1
        name = "worker.log" if self._number == 1 else f"worker-{self._number}.log"
        self._child = Child(
            "worker",
            ["run"],
            variables=self._variables,
            directory=self._folder,
            log=self._folder / name,
        )
        self._children.append(self._child)
        self._began = time.monotonic()
        self._scraper = None
        self._ready = False

    def _last_words(self) -> str:
        return f"{self._child.last_words()} (its log: {self._child.log})"

"""One topic, the workers on it behind the fault proxy, and what must hold at the end.

Workers reach the broker through the proxy; whatever feeds, watches and judges goes past it.
"""

import json
import uuid
from pathlib import Path
from typing import Any

from tests.support.audit import Verdict, audit, read_committed
from tests.support.kafka_helpers import (
    Message,
    committed,
    create_topic,
    end_offsets,
    produce,
    wait_until,
)
from tests.support.proxy import Proxy
from tests.support.worker_process import WorkerProcess


class Scene:
    """Three topics of their own, named after their role; the group has the input topic's name."""

    def __init__(self, direct: str, proxy: Proxy, directory: Path, *, partitions: int) -> None:
        self.direct, self.proxy, self.directory = direct, proxy, directory
        number = uuid.uuid4().hex[:8]
        self.names = {f"{role}_topic": f"{role}-{number}" for role in ("input", "output", "dlq")}
        self.topic = self.names["input_topic"]
        self.count = 0
        """Messages fed so far."""
        for name in self.names.values():
            create_topic(direct, name, partitions=partitions)

    def worker(self, **settings: Any) -> WorkerProcess:
        return WorkerProcess(
            bootstrap=self.proxy.bootstrap_servers,
            directory=self.directory,
            group=self.topic,
            **self.names,
            **settings,
        )

    def feed(self, count: int) -> None:
        """So many more messages, each with its number and one of 50 keys."""
        messages = (
            Message(value=json.dumps({"text": f"n {n}", "id": n}).encode(), key=b"%d" % (n % 50))
            for n in range(self.count, self.count + count)
        )
        produce(self.direct, self.topic, messages)
        self.count += count

    def committed(self) -> int:
        """Offsets committed, over all partitions."""
        return sum(committed(self.direct, self.topic).values())

    def wait_all_committed(self, worker: WorkerProcess, what: str = "all is committed") -> None:
        """Returns when the group is at the end; fails at once when the worker has ended."""
        wait_until(
            lambda: (
                worker.alive()
                and committed(self.direct, self.topic)
                == end_offsets(self.direct, self.topic, "read_committed")
            ),
            180, what,
        )  # fmt: skip

    def verdict(self) -> Verdict:
        """Every input against every output, of all that was fed."""
        verdict = audit(
            *(read_committed(self.direct, name) for name in self.names.values()), topic=self.topic
        )
        print(verdict)
        assert verdict.inputs == self.count
        return verdict

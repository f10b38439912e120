"""Conducts a chaos run: a stream through several workers while they and their brokers are hurt.

Faults are due at marks of the stream's progress, not of the clock, and the input is held back
until they have struck: a fast machine meets every one of them under load, as a slow one does.
"""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.feeder import _QUIET, Feeder
from tests.support.replica import Replica
from tests.support.worker_process import WorkerProcess
from worker.demo.broker import EmbeddedKafka

Kind = Literal["kill", "child", "join", "leave", "stop", "broker"]

SESSION_TIMEOUT = 6.0  # seconds; the shortest that the worker takes
_JOINERS = 2  # at most, beside the workers that stay
_NO_PROGRESS = 120.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is to happen."""

    messages: int
    partitions: int = 8
    workers: int = 3
    processes: int = 1
    """Of each worker: with more than one, a worker is their supervisor."""
    kills: int
    child_kills: int = 0
    """Of one of a worker's several processes."""
    joins: int
    """And as many leaves."""
    stops: int
    """SIGSTOPs past the session timeout."""
    broker_kills: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    kind: Kind
    mark: int
    """Settled inputs from which on it is due."""


def schedule(plan: Plan, rng: random.Random) -> list[Fault]:
    """The faults in random order, spread over the stream; every leave has its join before it."""
    kinds: list[str] = [
        *["kill"] * plan.kills,
        *["child"] * plan.child_kills,
        *["stop"] * plan.stops,
        *["broker"] * plan.broker_kills,
        *["member"] * (2 * plan.joins),
    ]
    rng.shuffle(kinds)
    joined, joins_left = 0, plan.joins
    faults = []
    for index, kind in enumerate(kinds):
        if kind == "member":
            join = joined == 0 or (joined < _JOINERS and joins_left > 0 and rng.random() < 0.5)
            kind = "join" if join and joins_left else "leave"  # noqa: PLW2901 - made definite
            joined += 1 if kind == "join" else -1
            joins_left -= kind == "join"
        share = 0.04 + 0.9 * (index + rng.random()) / len(kinds)
        faults.append(Fault(kind=kind, mark=int(share * plan.messages)))
    return faults


class Conductor:
    """One run. Everything happens on the thread that calls `run`, but a broker's slow restart.

    Args:
        cluster: Brokers that may be killed.
        topics: `input_topic`, `output_topic`, `dlq_topic`; the first names the group too.
        plan: How much is to happen.
        rng: When, and to whom.
        directory: For the workers' logs.
        settings: Of the workers, as `WorkerProcess` takes them.
    """

    def __init__(
        self,
        *,
        cluster: EmbeddedKafka,
        topics: dict[str, str],
        plan: Plan,
        rng: random.Random,
        directory: Path,
        settings: dict[str, Any],
    ) -> None:
        self.struck: Counter[str] = Counter()
        self.replicas: list[Replica] = []
        self._cluster = cluster
        self._bootstrap = cluster.bootstrap_servers
        self._topics = topics
        self._plan = plan
        self._rng = rng
        self._directory = directory
        self._settings = settings
        self._faults = schedule(plan, rng)
        self._feeder = Feeder(self._bootstrap, topics["input_topic"], plan.messages)
        self._began = time.monotonic()
        self._moved = self._began
        self._settled = 0
        self._restart: threading.Thread | None = None
        self._restart_failed: list[Exception] = []
        self._log = (directory / "chaos.log").open("w", buffering=1)
        self._progress = Progress(self._bootstrap, topics["input_topic"], plan.partitions)
        self._admin = AdminClient({"bootstrap.servers": self._bootstrap, **_QUIET})

    def run(self) -> None:
        """Until every fault has struck, every input is settled and every worker has drained."""
        for number in range(self._plan.workers):
            self._join(f"worker-{number}")
        while self._faults or self._settled < self._plan.messages or self._unfinished():
            self._tick()
        self._feeder.finish()
        # One that was just killed catches no signal before Python is up: there is no drain to see.
        self._until(lambda: all(replica.ready for replica in self._present()), "all are ready")
        self._note("all is settled: the workers drain")
        for replica in self._present():
            replica.leave()
        self._until(lambda: not self._present(), "the workers have drained")

    def close(self) -> None:
        """Leaves nothing running."""
        for replica in self.replicas:
            replica.worker.__exit__()
        if self._restart is not None:
            self._restart.join()
        self._progress.close()
        self._log.close()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def exits(self) -> list[str]:
        """Ends of workers that nobody asked for."""
        return [str(end) for replica in self.replicas for end in replica.exits]

    @property
    def drains(self) -> list[tuple[str, int, float]]:
        """Who left, with which exit code, in how many seconds."""
        return [(replica.name, *replica.left) for replica in self.replicas if replica.left]

    def warnings(self) -> Counter[str]:
        """What the workers' logs warn of, and how often."""
        return Counter(
            " ".join(
                str(event[name])[:60] for name in ("event", "error", "reason") if name in event
            )
            for replica in self.replicas
            for event in replica.events()
            if event.get("level") in {"warning", "error", "critical"}
        )

    def _tick(self) -> None:
        for replica in self.replicas:
            replica.tend()
            if replica.crash_looping:
                raise AssertionError(f"a crash loop: {self._evidence()}")
        if self._restart_failed:
            raise self._restart_failed[0]
        self._look_at_progress()
        if self._faults and self._settled >= self._faults[0].mark:
            self._strike(self._faults[0])
        self._feeder.feed(self._due())
        time.sleep(0.02)

    def _due(self) -> int:
        """How much input there may be now: some behind the next mark, for the fault to disturb."""
        if self._faults:
            return self._faults[0].mark + max(600, self._plan.messages // 50)
        if self._unfinished():  # a zombie has to wake while the others are at work
            return int(0.97 * self._plan.messages)
        return self._plan.messages

    def _look_at_progress(self) -> None:
        settled = self._progress.settled()
        now = time.monotonic()
        if settled > self._settled:
            self._settled, self._moved = settled, now
        if now - self._moved > _NO_PROGRESS:
            raise AssertionError(f"no progress for {_NO_PROGRESS:.0f} s: {self._evidence()}")

    def _strike(self, fault: Fault) -> None:
        hit = getattr(self, f"_{fault.kind}_one")()
        if hit:
            self._faults.pop(0)
            self.struck[fault.kind] += 1
            self._moved = time.monotonic()
            self._note(f"{fault.kind} {hit}, due at {fault.mark}")

    # Each returns whom it hit; nothing where there is nobody to hit yet, to be asked again.

    def _kill_one(self) -> str:
        if victims := [replica for replica in self.replicas if replica.hittable]:
            time.sleep(self._rng.uniform(0, 0.3))  # so as not to come always right after a commit
            victim = self._rng.choice(victims)
            victim.kill()
            return victim.name
        return ""

    def _child_one(self) -> str:
        if victims := [replica for replica in self.replicas if replica.hittable]:
            time.sleep(self._rng.uniform(0, 0.3))
            victim = self._rng.choice(victims)
            return f"{victim.name}, process {victim.kill_child(self._rng)}"
        return ""

    def _stop_one(self) -> str:
        victims = [replica for replica in self.replicas if replica.hittable]
        if len(victims) < 2 or any(replica.suspended for replica in self.replicas):
            return ""
        victim = self._rng.choice(victims)
        victim.suspend(SESSION_TIMEOUT + self._rng.uniform(2, 5), self._rng)
        return victim.name

    def _join_one(self) -> str:
        taken = {replica.name for replica in self._present()}
        free = (f"joiner-{number}" for number in range(_JOINERS))
        name = next((name for name in free if name not in taken), "")
        if name:
            self._join(name)
        return name

    def _leave_one(self) -> str:
        for replica in self.replicas[self._plan.workers :]:
            if replica.hittable:
                replica.leave()
                return replica.name
        return ""

    def _broker_one(self) -> str:
        if self._restarting() or not self._replicated():
            return ""
        node = self._rng.randint(1, 3)
        self._cluster.kill(node)
        wait = self._rng.uniform(2, 8)
        self._restart = threading.Thread(target=self._restart_broker, args=(node, wait))
        self._restart.start()
        return f"{node}, back after {wait:.0f} s"

    def _restart_broker(self, node: int, wait: float) -> None:
        time.sleep(wait)
        try:
            self._cluster.start(node)
        except Exception as error:  # noqa: BLE001 - the conductor raises it
            self._restart_failed.append(error)

    def _join(self, name: str) -> None:
        worker = WorkerProcess(
            bootstrap=self._bootstrap,
            directory=self._directory,
            group=self._topics["input_topic"],
            kafka__session_timeout=SESSION_TIMEOUT,
            kafka__heartbeat_interval=1,
            kafka__replica_id=name,
            processes=self._plan.processes,
            **self._topics,
            **self._settings,
        )
        self.replicas.append(Replica(worker, name))

    def _present(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.left is None]

    def _restarting(self) -> bool:
        return self._restart is not None and self._restart.is_alive()

    def _unfinished(self) -> bool:
        busy = any(each.suspended or each.leaving for each in self._present())
        return busy or self._restarting()

    def _replicated(self) -> bool:
        """Every partition has all its replicas in sync: a second loss would be too much."""
        try:
            topics = self._admin.list_topics(timeout=5).topics.values()
        except KafkaException:
            return False
        return all(
            len(partition.isrs) == len(partition.replicas)
            for each in topics
            for partition in each.partitions.values()
        )

    def _until(self, done: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + 90
        while not done():
            assert time.monotonic() < end, f"not in 90 s: {what}; {self._evidence()}"
            for replica in self.replicas:
                replica.tend()
            time.sleep(0.05)

    def _note(self, line: str) -> None:
        self._log.write(f"{self.seconds:7.2f} s {self._settled:7d} settled: {line}\n")

    def _evidence(self) -> str:
        """What a failure is told with; the metrics of all that still answer go to files."""
        for replica in self._present():
            metrics = self._directory / f"metrics-{replica.name}.txt"
            metrics.write_text(replica.worker.get("/metrics")[1])
        timeline = (self._directory / "chaos.log").read_text()[-3_000:]
        logs = (f"--- {r.name}, ready {r.ready}:\n{r.worker.log()[-2_500:]}" for r in self.replicas)
        state = (
            f"{self._settled} of {self._feeder.sent} fed inputs settled, "
            f"{len(self._faults)} faults to come; per partition: {self._progress.last}"
        )
        return "\n".join([state, *self.exits, timeline, *logs])


class Progress:
    """How many inputs are settled: the sum of the group's committed offsets.

    Exact, as the input has neither holes nor transaction markers.
    """

    def __init__(self, bootstrap: str, topic: str, partitions: int) -> None:
        self.last: dict[int, int] = {}
        self._partitions = [TopicPartition(topic, number) for number in range(partitions)]
        self._look_at = 0.0
        self._reader = Consumer(
            {"bootstrap.servers": bootstrap, "group.id": topic, "enable.auto.commit": False,
             "isolation.level": "read_uncommitted", **_QUIET}
        )  # fmt: skip

    def settled(self) -> int:
        """As of at most a tenth of a second ago, or longer while no coordinator answers."""
        now = time.monotonic()
        if now > self._look_at:
            self._look_at = now + 0.1
            try:
                found = self._reader.committed(self._partitions, timeout=1.0)
            except KafkaException:
                return sum(self.last.values())
            for each in found:
                if each.error is None and each.offset >= 0:
                    self.last[each.partition] = each.offset
        return sum(self.last.values())

    def close(self) -> None:
        self._reader.close()

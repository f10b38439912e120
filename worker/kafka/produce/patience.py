"""How long brokers may take for a transaction: more while they answer late.

Pure: no Kafka, no clock. Owned by the thread that sends.

    a transaction, or its producer's begin, was too late    twice as long, for the next producer
    a transaction took a third of its time at most          half as long, for the next producer
"""

from __future__ import annotations

from typing import Any

TRANSACTION_TIMEOUT = 15.0
"""Seconds after which the broker aborts a transaction by itself."""
DEADLINE = 13.0
"""Seconds from begin to the answer to commit, after which the producer is given up: six requests
that take 2 s each. Below the broker's limit, which counts from the first request: kafka-python
reports success for the commit of a transaction that the broker has aborted."""
DELIVERY_TIMEOUT = 8.0
REQUEST_TIMEOUT = 4.0
BEGIN_SECONDS = 5.0
"""How long a new producer may take to end the last one's transaction and get its identity."""
STEP_SECONDS = 3 * REQUEST_TIMEOUT
"""Longest wait for the answers of one step, of up to three requests: so a dead broker is noticed,
however long the transaction may take."""
MOST = 4
"""Times as long as usual: seven requests that take 4 s each fit."""


class Patience:
    """How many times as long as usual a transaction may take."""

    def __init__(self) -> None:
        self._most = MOST
        self.times = 1
        """For the next producer."""

    def late(self) -> None:
        """What was begun did not end in time."""
        self.times = min(self._most, self.times * 2)

    def took(self, seconds: float) -> None:
        """A transaction was committed after so many seconds."""
        if self.times > 1 and seconds * 3 <= DEADLINE:
            self.times //= 2

    def forbidden(self) -> bool:
        """The brokers do not allow so long a transaction; returns whether less can be tried."""
        if self.times == 1:
            return False
        self.times //= 2
        self._most = self.times
        return True

    def options(self) -> dict[str, Any]:
        """Of the next producer."""
        return {
            "transaction_timeout_ms": int(TRANSACTION_TIMEOUT * self.times * 1_000),
            "delivery_timeout_ms": int(DELIVERY_TIMEOUT * self.times * 1_000),
            "request_timeout_ms": int(REQUEST_TIMEOUT * 1_000),
            "max_block_ms": int(BEGIN_SECONDS * 1_000),
        }


def deadline_of(producer: Any) -> float:
    """Seconds that a transaction of this producer may take."""
    share = DEADLINE / TRANSACTION_TIMEOUT
    return float(producer.config["transaction_timeout_ms"]) / 1_000 * share

"""Offsets committed by the consumer. Owned by the poll thread.

A revocation commits on the client's IO thread, while the poll thread waits inside a poll.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import kafka.errors
import structlog
from kafka import TopicPartition
from kafka.structs import OffsetAndMetadata

from worker.errors import Transient

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kafka import KafkaConsumer

    from worker.records import Lease

log = structlog.get_logger(__name__)

_REBALANCING = (kafka.errors.RebalanceInProgressError, kafka.errors.CommitFailedError)


class Commits:
    """Commits by one consumer after another.

    Args:
        topic: The input topic.
        on_commit: Called with `ok` or `failed` after every commit.
    """

    def __init__(self, *, topic: str, on_commit: Callable[[str], None]) -> None:
        self._topic = topic
        self._on_commit = on_commit
        self._pending = False

    def forget(self) -> None:
        """The consumer was replaced: a commit that it has begun is not waited for."""
        self._pending = False

    def start(self, consumer: KafkaConsumer, offsets: Mapping[Lease, int]) -> bool:
        """Starts a commit and returns at once; returns false while another one is under way.

        Its result goes to `on_commit` during a later poll. There is none of no offsets.
        """
        if self._pending or not offsets:
            return False
        self._pending = True
        consumer.commit_async(self._structs(offsets), callback=self._ended)
        return True

    async def before_revocation(
        self, consumer: KafkaConsumer, offsets: Mapping[Lease, int]
    ) -> None:
        """Commits while the group takes the partitions away. On the client's IO thread."""
        try:
            await consumer.commit_async(self._structs(offsets))
            self._on_commit("ok")
        except kafka.errors.KafkaError as error:
            self._on_commit("failed")
            log.warning("commit_on_revoke_failed", error=type(error).__name__)

    def attempt(
        self,
        consumer: KafkaConsumer,
        offsets: Mapping[Lease, int],
        *,
        left: float,
        poll: Callable[[float], object],
    ) -> bool:
        """Commits and waits; returns false if it failed and another attempt may succeed.

        Args:
            consumer: Commits.
            offsets: What to commit.
            left: Seconds for this attempt and those that may follow.
            poll: Polls for the seconds given, to take part in a rebalance.

        Raises:
            Transient: The broker did not take it, and there is no time left.
        """
        try:
            consumer.commit(self._structs(offsets), timeout_ms=max(1, int(left * 1_000)))
        except _REBALANCING as error:
            # Another replica leaves at the same time: the commit can follow the rebalance.
            if left <= 0:
                self._on_commit("failed")
                raise Transient("the last commit did not get past a rebalance") from error
            poll(min(0.1, left))
            return False
        except kafka.errors.RetriableError as error:
            # The client's own timeout does not cover a refused connection.
            if left <= 0:
                self._on_commit("failed")
                raise Transient("the last commit was not acknowledged in time") from error
            time.sleep(min(0.1, max(left, 0.0)))
            return False
        except kafka.errors.KafkaError as error:
            self._on_commit("failed")
            raise Transient(f"the last commit failed: {type(error).__name__}") from error
        self._on_commit("ok")
        return True

    def _structs(self, offsets: Mapping[Lease, int]) -> dict[TopicPartition, OffsetAndMetadata]:
        return {
            TopicPartition(self._topic, lease.partition): OffsetAndMetadata(offset, "", -1)
            for lease, offset in offsets.items()
        }

    def _ended(self, _offsets: object, response: object) -> None:
        self._pending = False
        failed = isinstance(response, Exception)
        self._on_commit("failed" if failed else "ok")
        if failed:
            # Nothing is lost: the next commit carries these offsets too.
            log.warning("commit_failed", error=type(response).__name__)

"""What the worker watches in the cluster while records flow. Owned by the watch thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.kafka.cluster.hanging import TransactionWatch
    from worker.kafka.cluster.topics import TopicDesk, Topics


class ClusterMonitor:
    """Watches for deleted topics, added partitions, transactions that hang, and end offsets.

    Args:
        desk: Asks the cluster.
        topics: As they were found at the start.
        transactions: Looks for those that hang.
        on_partitions: Called with the number of partitions of the input topic.
    """

    def __init__(
        self,
        *,
        desk: TopicDesk,
        topics: Topics,
        transactions: TransactionWatch,
        on_partitions: Callable[[int], None],
    ) -> None:
        self._desk = desk
        self._topics = topics
        self._transactions = transactions
        self._on_partitions = on_partitions

    def look(self) -> dict[int, int]:
        """Looks once; returns where the input's partitions end, for `read_committed` readers.

        Raises:
            Transient: No broker answers.
            Fatal: A topic was deleted, or deleted and made again.
        """
        found = self._desk.verify(self._topics)
        self._on_partitions(found.input.partitions)
        every = (found.input, found.output, found.dlq)
        self._transactions.look({topic.name: topic.partitions for topic in every})
        return self._desk.end_offsets(found.input.name, found.input.partitions)

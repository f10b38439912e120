"""What the publish thread needs to know of the group that the poll thread is a member of.

The source (poll thread, and the client's IO thread inside its polls) writes; a transaction reads.
Every value is replaced whole, never changed, so no lock is held while the client works.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from kafka import KafkaConsumer

    from worker.records import Lease


class Membership:
    """The leases that are held, and the proof of membership that the broker checks. Any thread."""

    def __init__(self) -> None:
        self._consumer: KafkaConsumer | None = None
        self._held: Mapping[Lease, str] = {}
        self.left = False
        """No consumer of this process is, or will be, the member."""
        self._quiet = threading.Event()
        self._quiet.set()

    # The source writes ----------------------------------------------------------------------

    def joins_with(self, consumer: KafkaConsumer) -> None:
        """From now on this consumer is the member."""
        self._consumer = consumer

    def leaves(self) -> None:
        """The last consumer closes, at the end of this process."""
        self.left = True

    def holds(self, leases: Mapping[Lease, str]) -> None:
        """The leases held now, each with the member id it was given to."""
        self._held = dict(leases)

    def wait_until_quiet(self, timeout: float) -> bool:
        """Waits for the open transaction to end; returns whether it did in time."""
        return self._quiet.wait(timeout)

    # A transaction reads --------------------------------------------------------------------

    @property
    def member(self) -> str:
        """Member id in the group; empty outside it."""
        if self._consumer is None:
            return ""
        metadata = self._consumer.group_metadata()  # any thread: the client locks it
        return metadata.member_id if metadata.generation_id >= 0 else ""

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """While the block runs, a revocation waits, for a limited time, before leases end."""
        self._quiet.clear()
        try:
            yield
        finally:
            self._quiet.set()

    @property
    def newest_epoch(self) -> int:
        """The newest epoch among the leases held; 0 where there is none."""
        return max((lease.epoch for lease in self._held), default=0)

    def ended(self, leases: Iterable[Lease]) -> set[Lease]:
        """Those of the leases that are not held any more."""
        held = self._held
        return {lease for lease in leases if lease not in held}

    def proof(self, leases: Iterable[Lease]) -> Any | None:
        """The group metadata to commit offsets of these leases with.

        None while there is none: outside the group, or one of the leases has ended. With
        `(-1, '')`, which the client gives then, an empty group would take any offset.

        The order matters. A member that falls out of the group loses its generation first, then
        its leases end, then it gets a new generation. So where all leases are still held after
        the metadata was read, the metadata is that of the membership they were given to, or of
        a later generation through which they were kept.
        """
        consumer = self._consumer
        if consumer is None:
            return None
        metadata = consumer.group_metadata()  # any thread: the client locks it
        held = self._held
        if metadata.generation_id < 0 or not metadata.member_id:
            return None
        if consumer is not self._consumer:
            return None
        kept = all(held.get(lease) == metadata.member_id for lease in leases)
        return metadata if kept else None

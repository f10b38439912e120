"""How offsets are committed: by the consumer, or together with the outputs by transactions.

The two guarantees differ here and in the sink, and nowhere else. Owned by the poll thread.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from worker.messages import Positions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from worker.messages import ToPublish
    from worker.metrics import Metrics
    from worker.records import Lease
    from worker.stages.accounts import Accounts


class Offsets(Protocol):
    """The consumer, as far as a commit needs it."""

    def position(self, lease: Lease) -> int | None:
        """Offset of the next record under the lease; None while it is not known."""

    def commit(self, offsets: dict[Lease, int]) -> bool:
        """Starts a commit and returns at once; returns false while none can be started."""


class Committer(Protocol):
    """Commits what is settled, from turn to turn."""

    def commit(self, source: Offsets, *, past_markers: bool) -> bool:
        """Commits what is settled and not committed yet; returns whether a commit has begun.

        Args:
            source: The consumer.
            past_markers: Commit also positions of the consumer past offsets without records.
        """

    def before_revocation(self, leases: Iterable[Lease]) -> dict[Lease, int]:
        """Offsets that the consumer has to commit before these leases end."""

    def last(self, source: Offsets) -> dict[Lease, int]:
        """Offsets that the consumer has to commit before the worker ends."""


class ConsumerCommits:
    """At least once: the consumer commits what is settled.

    Args:
        accounts: What is settled.
        metrics: Counts commits.
    """

    def __init__(self, *, accounts: Accounts, metrics: Metrics) -> None:
        self._accounts = accounts
        self._metrics = metrics
        self._committed: dict[Lease, int] = {}

    def commit(self, source: Offsets, *, past_markers: bool) -> bool:
        """Starts a commit, if none is under way; its result comes back in `ended`."""
        offsets = self._committable(source, past_markers=past_markers)
        if not offsets or not source.commit(offsets):
            return False
        self._committed |= offsets
        return True

    def before_revocation(self, leases: Iterable[Lease]) -> dict[Lease, int]:
        """All that is settled, even if a commit of it is under way: that commit may still fail.

        Called on the client's IO thread while the poll thread waits in `poll`.
        """
        return self._accounts.reached(leases)

    def last(self, source: Offsets) -> dict[Lease, int]:
        """All that is settled, even if a commit of it is under way: that commit may still fail."""
        self._committed = {}
        return self._committable(source, past_markers=True)

    def ended(self, outcome: str) -> None:
        """A commit ended `ok` or `failed`; after a failure the next carries all offsets again."""
        self._metrics.committed(outcome)
        if outcome == "failed":
            self._committed = {}

    def _committable(self, source: Offsets, *, past_markers: bool) -> dict[Lease, int]:
        if past_markers:
            _pass_markers(self._accounts, source)
        accounts = dict(self._accounts)
        # Offsets of ended leases are forgotten here.
        self._committed = {lease: at for lease, at in self._committed.items() if lease in accounts}
        return {
            lease: account.reached
            for lease, account in accounts.items()
            if account.reached and account.reached != self._committed.get(lease)
        }


class TransactionCommits:
    """Exactly once: transactions commit offsets with their outputs.

    Markers and compaction holes have no output that could carry their offsets, so these are sent
    to the publish thread as `Positions`. The consumer never commits them: its commit could come
    after a transaction's and move the group's offset back.

    Args:
        accounts: What is settled.
        publish: Takes the positions.
    """

    def __init__(self, *, accounts: Accounts, publish: Callable[[ToPublish], None]) -> None:
        self._accounts = accounts
        self._publish = publish
        self._sent: dict[Lease, int] = {}

    def commit(self, source: Offsets, *, past_markers: bool) -> bool:
        """Sends positions that no output carries."""
        if not past_markers:
            return False
        _pass_markers(self._accounts, source)
        bare = {
            lease: account.reached
            for lease, account in self._accounts
            if account.reached > account.settled_to
        }
        fresh = {lease: at for lease, at in bare.items() if at != self._sent.get(lease)}
        self._sent = bare
        if fresh:
            self._publish(Positions(fresh))
        return bool(fresh)

    def before_revocation(self, leases: Iterable[Lease]) -> dict[Lease, int]:  # noqa: ARG002
        """None: the open transaction carries the offsets."""
        return {}

    def last(self, source: Offsets) -> dict[Lease, int]:  # noqa: ARG002
        """None: the last transaction carried the offsets."""
        return {}


def _pass_markers(accounts: Accounts, source: Offsets) -> None:
    for lease, account in accounts:
        if not account.in_flight:
            account.pass_to(source.position(lease))

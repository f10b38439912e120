"""What waits for the next spans: outputs, and offsets that no output carries.

Pure: no Kafka, no clock. Owned by the publish thread.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING

from worker.kafka.produce.refusals import size_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from worker.records import Lease, Output


class Waiting:
    """Outputs with their sizes in bytes, and positions, in the order they came."""

    def __init__(self) -> None:
        self.outputs: deque[Output] = deque()
        self.sizes: deque[int] = deque()
        self.bytes = 0
        self.positions: dict[Lease, int] = {}
        self._reached: dict[Lease, int] = {}
        self._void_epoch = 0

    def __len__(self) -> int:
        return len(self.outputs) + len(self.positions)

    def void(self, lease: Lease) -> bool:
        """Whether the lease is from before the last rewind: its records are read again."""
        return lease.epoch <= self._void_epoch

    def leases(self) -> set[Lease]:
        """The leases of everything that waits."""
        return {output.record.lease for output in self.outputs} | self.positions.keys()

    def add(self, output: Output) -> None:
        """Takes in an output."""
        size = size_of(output)
        self.outputs.append(output)
        self.sizes.append(size)
        self.bytes += size

    def replace(self, at: int, output: Output) -> None:
        """Takes in an output in place of the one at an index."""
        self.bytes += size_of(output) - self.sizes[at]
        self.sizes[at] = size_of(output)
        self.outputs[at] = output

    def take_positions(self, positions: Mapping[Lease, int]) -> bool:
        """Takes in the positions that are new; returns whether there are any."""
        news = {
            lease: offset
            for lease, offset in positions.items()
            if not self.void(lease) and offset > self._reached.get(lease, 0)
        }
        self.positions |= news
        return bool(news)

    def span(self, records: int) -> tuple[list[Output], dict[Lease, int]]:
        """The next `records` outputs, and the offset to commit for each lease."""
        outputs = list(islice(self.outputs, records))
        reached = dict(self.positions)
        for output in outputs:
            record = output.record
            reached[record.lease] = max(reached.get(record.lease, 0), record.offset + 1)
        return outputs, reached

    def committed(self, outputs: int, reached: Mapping[Lease, int]) -> None:
        """The first `outputs` outputs, and these offsets, are committed."""
        for _ in range(outputs):
            self.outputs.popleft()
            self.bytes -= self.sizes.popleft()
        self._reached |= reached
        self.positions = {
            lease: at for lease, at in self.positions.items() if at > reached.get(lease, 0)
        }

    def forget(self, leases: AbstractSet[Lease]) -> None:
        """Leases ended."""
        kept = [output for output in self.outputs if output.record.lease not in leases]
        self._clear()
        for output in kept:
            self.add(output)
        self.positions = {lease: at for lease, at in self.positions.items() if lease not in leases}
        self._reached = {lease: at for lease, at in self._reached.items() if lease not in leases}

    def forget_all(self, epoch: int) -> None:
        """Everything is read again; outputs of leases up to this epoch are void."""
        self._void_epoch = max(self._void_epoch, epoch)
        self._clear()
        self.positions.clear()

    def _clear(self) -> None:
        self.outputs.clear()
        self.sizes.clear()
        self.bytes = 0

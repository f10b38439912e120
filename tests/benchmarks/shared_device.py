"""The worker on a simulated device that other processes use, too: `processes.py` runs it.

The same program is the supervisor of several processes, and, with a descriptor, one of them. The
variable INSTANT is a JSON object of `queued`'s arguments.
"""

import json
import os
import queue
import sys
import threading

from tests.support.device import SharedDevice
from worker import logs, settings
from worker.processes import child
from worker.processes.supervisor import supervise
from worker.signals import DrainSignals


def queued(*, device, **arguments):
    """A model whose batches wait for their turn on the device; `arguments` are those of Instant."""
    from tests.benchmarks.hostpath.program import Instant  # torch: not for the supervisor

    shared, waiting = SharedDevice(device), queue.SimpleQueue()

    class Queued(Instant):
        def launch(self, staged):
            rows, longest = staged[0].shape
            done = threading.Event()
            waiting.put((self.seconds + self.seconds_per_token * rows * longest, done))
            return rows, done

        def scores(self, launched):
            rows, done = launched
            done.wait()
            return self.table[:rows]

    def work():
        while True:
            seconds, done = waiting.get()
            shared.compute(seconds)
            done.set()

    threading.Thread(target=work, name="device", daemon=True).start()
    return Queued(**arguments)


def run(chosen, **more):
    from worker.service import serve

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    return serve(chosen, load=lambda: queued(**json.loads(os.environ["INSTANT"])), **more)


def main():
    if sys.argv[1:]:
        return child.main(int(sys.argv[1]), run)
    chosen = settings.load([])
    logs.configure(format=chosen.log.format, level=chosen.log.level)
    if chosen.processes == 1:
        return run(chosen)
    command = [sys.executable, "-m", "tests.benchmarks.shared_device"]
    with DrainSignals() as signals:
        return supervise(chosen, signals=signals, command=command)


if __name__ == "__main__":
    sys.exit(main())

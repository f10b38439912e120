"""`make bench`: one benchmark after the other; each can be run alone, as `tests.benchmarks.NAME`.

    python -m tests.benchmarks [--quick] [--keep]

Some two and a half hours, by the times of its steps. With `--quick` five minutes: fewer rounds,
contestants and rows, enough to see that most of it works, and nothing that a document may quote.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks.checkpoint import fine_tuned, untrained
from tests.benchmarks.circumstances import tweets
from tests.benchmarks.results import add_argument, parsed
from tests.support.worker_process import ROOT, clean_environment

WHOLE = (
    "contest --checkpoint CHECKPOINT",
    "contest --kill --checkpoint CHECKPOINT",
    "hostpath",
    "rows --checkpoint CHECKPOINT",
    "simulated",
    "processes",
    "load",
    "load --checkpoint CHECKPOINT",
    "latency",
    "growth",
    "delivery",
    "refusals",
    "startup --checkpoint CHECKPOINT",
    "training",
    "outside",
    "abstaining --checkpoint CHECKPOINT",
)
QUICK = (
    "contest --rounds 1 --messages 600 --only worker,batches --checkpoint CHECKPOINT",
    "contest --kill --messages 600 --rate 150 --only worker --checkpoint CHECKPOINT",
    "hostpath --rounds 1 --messages 20000 --rows at_least_once,exactly_once",
    "rows --rounds 1 --checkpoint CHECKPOINT",
    "simulated --rounds 1 --messages 5000",
    "processes --rounds 1 --messages 10000",
    "latency --rounds 1 --seconds 3 --guarantees at_least_once",
    "growth --rounds 1 --messages 10000 --backlog 100000 --series headers",
)
KEEPING = (
    *("contest", "rows", "simulated", "processes", "load", "latency", "growth"),
    *("outside", "abstaining"),
)
"""Those that write results to the repository; `hostpath` does if it is given another checkout."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="in five minutes")
    add_argument(parser)
    given = parsed(parser, "--quick")
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        make = untrained if given.quick else fine_tuned
        checkpoint = make(Path(folder) / "checkpoint")
        for step in QUICK if given.quick else WHOLE:
            name, *arguments = step.replace("CHECKPOINT", str(checkpoint)).split()
            if name == "training" and tweets() is None:
                print("\nNo training benchmark: it needs the real tweets (EMOTION_TWEETS).")
                continue
            if given.keep and name in KEEPING:
                arguments.append("--keep")
            print(f"\n## {step}\n", flush=True)
            command = [sys.executable, "-m", f"tests.benchmarks.{name}", *arguments]
            if subprocess.run(command, env=clean_environment(), cwd=ROOT, check=False).returncode:
                failed.append(step)
    for step in failed:
        print(f"failed: {step}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

"""`make bench`: one benchmark after the other; each can be run alone, as `tests.benchmarks.NAME`.

    python -m tests.benchmarks [--quick] [--keep]

About an hour and a half. With `--quick` five minutes: fewer rounds, contestants and rows, enough to
see that all of it works, and nothing that a document may quote.
"""

import argparse
import subprocess
import sys

from tests.benchmarks.circumstances import tweets
from tests.support.worker_process import ROOT, clean_environment

WHOLE = (
    "contest",
    "contest --kill",
    "hostpath",
    "simulated",
    "load",
    "latency",
    "growth",
    "delivery",
    "refusals",
    "startup",
    "training",
)
QUICK = (
    "contest --quick --only worker,batches",
    "contest --quick --kill --only worker,batches",
    "hostpath --quick --rows at_least_once,exactly_once",
    "simulated --rounds 1 --messages 8000",
    "load --seconds 4 --guarantees at_least_once",
    "growth --rounds 1 --messages 3000 --backlog 30000",
)
KEEPING = ("contest", "hostpath", "simulated", "load", "latency", "growth")
"""Those that write results to the repository."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="in five minutes")
    parser.add_argument("--keep", action="store_true", help="write results to the repository")
    given = parser.parse_args()
    failed = []
    for step in QUICK if given.quick else WHOLE:
        name, *arguments = step.split()
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

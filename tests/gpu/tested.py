"""The tests marked `gpu`, on the device that is here."""

import re
import subprocess
import sys
from typing import Any

from tests.gpu.place import Place, stage
from tests.support.worker_process import ROOT, clean_environment


def measure(place: Place) -> dict[str, Any]:
    """How many passed, and the names of those that did not."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "tests/unit/model"]
    done = subprocess.run(
        [*command, "-rfE", "-W", "default"], cwd=ROOT, env=clean_environment(),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    print(done.stdout, done.stderr, flush=True)
    counts = {what: int(number) for number, what in re.findall(
        r"(\d+) (passed|failed|skipped|error)", done.stdout.splitlines()[-1])}  # fmt: skip
    failed = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    assert done.returncode == 0, f"{len(failed)} tests failed: {failed}"
    expected = "passed" if place.device == "cuda" else "skipped"
    assert counts.get(expected), f"no test {expected}: {counts}"
    return counts


if __name__ == "__main__":
    stage(measure)

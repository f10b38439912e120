"""`make gpu`: what a GPU does with this project, in one command of at most 20 minutes.

    python -m tests.gpu [--only model,worker] [--again] [--seconds 1200] [--device cpu] [--tiny]
                        [--out build/gpu]

Stages, each in a process of its own and stopped after eight minutes, or when the whole time is
over; what it has found by then is kept:

    tests      the tests marked `gpu`
    model      the model stage: rates by shape, texts and token budget, beside the card's peak
    rivals     `transformers.pipeline` in batches of 64, as it comes and compiled
    worker     the whole worker on Apache Kafka: 1, 2 and 4 of them, both guarantees, latency
    training   samples/s beside `Trainer`'s defaults; the packaged encoder on the real tweets

Writes results.json, report.md, log.txt and model.png to the output folder. What a stage found on
the same commit and device is kept: it runs again with `--again`, or where it failed. `--tiny` is
for machines without a GPU: a minute that shows that all of it works.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import circumstances
from tests.gpu import report
from tests.support.worker_process import ROOT, clean_environment

STAGES = {
    "tests": "tested",
    "model": "model",
    "rivals": "rivals",
    "worker": "whole",
    "training": "training",
}
"""Their names, and their modules."""
SECONDS = 480.0
"""A stage may take."""
NOTHING_MORE = 0.85
"""Part of a stage's time after which it begins nothing more."""
WATCHED = ("utilization.gpu", "memory.used", "clocks.sm", "power.draw", "temperature.gpu")
EVERY = 0.5


def main() -> int:
    given = asked()
    given.out.mkdir(parents=True, exist_ok=True)
    kept = given.out / "results.json"
    mark = {"commit": circumstances.commit(), "device": given.device, "tiny": given.tiny}
    found: dict[str, Any] = json.loads(kept.read_text()) if kept.exists() else {}
    if found.get("mark") != mark:
        found = {"mark": mark, "stages": {}}
    found["circumstances"] = circumstances.told()
    failed: list[str] = []
    begin = time.monotonic()
    for name in given.only or STAGES:
        before = found["stages"].get(name, {})
        if before and "error" not in before and not given.again:
            print(f"{name}: kept from before; --again runs it again", flush=True)
            continue
        print(f"{name} ...", end="", flush=True)
        left = min(SECONDS, given.seconds - (time.monotonic() - begin))
        found["stages"][name] = one = run(name, given, left)
        kept.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        try:
            report.write(found, given.out)
        except Exception as error:  # noqa: BLE001 - the other stages are of use
            print(f" no report: {type(error).__name__}: {error}", end="")
        print(f" {one['seconds']:.0f} s: {one.get('error', 'done')}", flush=True)
        if "error" in one:
            failed.append(name)
    report.write(found, given.out)
    print(f"\n{(given.out / 'report.md').read_text(encoding='utf-8')}")
    if failed:
        print(f"failed: {', '.join(failed)}; see {given.out / 'log.txt'}", file=sys.stderr)
    return 1 if failed else 0


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", type=chosen, help=f"of {', '.join(STAGES)}; commas between")
    parser.add_argument("--again", action="store_true", help="run what is there already, too")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a minute, without a GPU as well")
    parser.add_argument("--seconds", type=float, default=1_200.0, help="of all of it, at most")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu")
    given = parser.parse_args()
    if given.device == "cuda" and not cuda_is_there():
        if not given.tiny:
            parser.error("torch sees no CUDA device here; --tiny runs a little of it on the CPU")
        given.device = "cpu"
    elif given.device == "cpu" and not given.tiny:
        parser.error("--device cpu is for --tiny: the sizes are a GPU's")
    return given


def chosen(names: str) -> list[str]:
    found = names.split(",")
    for name in found:
        if name not in STAGES:
            raise argparse.ArgumentTypeError(f"no stage {name}: {', '.join(STAGES)}")
    return found


def cuda_is_there() -> bool:
    """In a process of its own: this one keeps its hands off the device."""
    program = "import sys, torch; sys.exit(not torch.cuda.is_available())"
    return subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def run(name: str, given: argparse.Namespace, seconds: float) -> dict[str, Any]:
    """A stage's results; with `error` where it did not end well within these seconds."""
    if seconds <= 0:
        return {"seconds": 0.0, "states": {}, "error": "was not begun: the time was over"}
    out = given.out / f".{name}.json"
    out.unlink(missing_ok=True)
    command = [sys.executable, "-m", f"tests.gpu.{STAGES[name]}", "--device", given.device]
    command += ["--folder", str(folder(given)), "--out", str(out), *(["--tiny"] * given.tiny)]
    command += ["--seconds", str(seconds * NOTHING_MORE)]
    begin = time.perf_counter()
    with (given.out / "log.txt").open("ab") as log, watched(given.device) as states:
        log.write(f"\n## {name}\n".encode())
        log.flush()
        process = subprocess.Popen(
            command, cwd=ROOT, env=clean_environment(HF_HUB_OFFLINE="1"), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        try:
            code = process.wait(seconds)
            error = f"ended with {code}" if code else None
        except subprocess.TimeoutExpired:
            error = f"was stopped after {seconds:.0f} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    found: dict[str, Any] = {"seconds": time.perf_counter() - begin, "states": states}
    if out.exists():
        found |= json.loads(out.read_text())
    if error is not None:
        found["error"] = error
    out.unlink(missing_ok=True)
    return found


def folder(given: argparse.Namespace) -> Path:
    """For checkpoints, which are large: beside the output folder, and nothing of it comes back."""
    path = given.out.with_name(f"{given.out.name}-scratch")
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def watched(device: str) -> Iterator[dict[str, list[float]]]:
    """The card's own figures while a stage runs: their least, median and greatest, at the end."""
    states: dict[str, list[float]] = {}
    seen: list[list[float]] = []
    ended = threading.Event()

    def look() -> None:
        command = ["nvidia-smi", f"--query-gpu={','.join(WATCHED)}", "--id=0"]
        command.append("--format=csv,noheader,nounits")
        while not ended.wait(EVERY):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                seen.append([float(value) for value in done.stdout.split(",")])
            except (OSError, subprocess.CalledProcessError, ValueError):
                return  # no such program, or a card that does not tell all of it

    thread = threading.Thread(target=look, daemon=True)
    if device == "cuda":
        thread.start()
    try:
        yield states
    finally:
        ended.set()
        if thread.ident:
            thread.join(10)
        for name, values in zip(WATCHED, map(sorted, zip(*seen, strict=True)), strict=False):
            states[name] = [values[0], values[len(values) // 2], values[-1]]


if __name__ == "__main__":
    sys.exit(main())

"""How long a worker takes until it is ready, by phase: wall and CPU seconds.

    python -m tests.benchmarks.startup [--checkpoint DIR] [--rounds N] [--dtype auto float32]
                                       [--against CHECKOUT] [--json FILE]

One broker, a new worker each time, warm file cache (a first start of each is not counted). Phases
come from the worker's own log. `--against` runs the worker of another checkout in turns with this
one's, in the same interpreter: an older one logs fewer phases. CPU seconds are the process's, read
when a line of the log is seen (every 10 ms); those within the model's loading are the worker's own.
"""

import argparse
import datetime as dt
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from tests.benchmarks.checkpoint import trained
from tests.support.kafka_helpers import create_topic
from tests.support.worker_process import ROOT, WorkerProcess
from worker.demo.broker import EmbeddedKafka

TOPICS = {"input_topic": "in", "output_topic": "out", "dlq_topic": "dlq"}
EVENTS = {
    "http_listening": "interpreter, settings, HTTP listening",
    "model_loaded": "topics, libraries, weights, padding, precision, kernels, rows, budget",
    "worker_started": "warm-up, rest of the topics' check",
    "ready": "producer, consumer, /readyz 200",
}
STEPS = {
    "import": "import torch and the model's code",
    "checkpoint": "digest of the weights, beyond the import",
    "weights": "read weights, build the network, tokenizer",
    "precision": "reference in float32, precision's gate",
    "kernels": "kernel's gate, timings",
}
WAIT = 180.0


def start(bootstrap, *, tree, checkpoint, dtype, directory):
    """Seconds (wall, CPU) of each phase of one start, by its name."""
    process = WorkerProcess(
        bootstrap=bootstrap, directory=directory, checkpoint=checkpoint, model__dtype=dtype,
        model__device="cpu", **TOPICS,
    )  # fmt: skip
    environment = {**process.environment, "PYTHONPATH": str(tree)}
    with process.log_path.open("ab") as log:
        born = time.time()
        process.process = subprocess.Popen(
            process.command, env=environment, cwd=tree, stdin=subprocess.DEVNULL,
            stdout=log, stderr=log,
        )  # fmt: skip
    with process:
        moments = watched(process, born)
        events = {each["event"]: each for each in process.events()}
        process.stop()
    return phases(moments, events)


def watched(process, born):
    """Event to (wall, CPU) seconds since the process began, in their order."""
    used = psutil.Process(process.process.pid)
    moments = {}
    while "ready" not in moments:
        assert process.alive()
        assert time.time() - born < WAIT, process.log()
        cpu = sum(used.cpu_times()[:2])
        for each in process.events():
            if each["event"] in EVENTS and each["event"] not in moments:
                at = dt.datetime.fromisoformat(each["timestamp"]).timestamp()
                moments[each["event"]] = (at - born, cpu)
        # Asked only now: each question costs the worker a thread.
        if "worker_started" in moments and process.get("/readyz")[0] == 200:
            moments["ready"] = (time.time() - born, sum(used.cpu_times()[:2]))
        time.sleep(0.01)
    return moments


def phases(moments, events):
    found, last = {}, (0.0, 0.0)
    for event, name in EVENTS.items():
        moment = moments[event]
        found[name] = (moment[0] - last[0], moment[1] - last[1])
        last = moment
    loaded, started = events["model_loaded"], events["worker_started"]
    for step, name in STEPS.items():
        if step in loaded.get("seconds", {}):
            found[f"- {name}"] = (loaded["seconds"][step], loaded["cpu_seconds"][step])
    if "topics_seconds" in started:
        found["- broker and topics, beside it"] = (started["topics_seconds"], None)
        found["- warm-up"] = (started["warm_up_seconds"], None)
    found["total"] = last
    return found


def median(values):
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 2) if known else None


def table(runs, names):
    """Lines of Markdown: a row for each phase, a column for each tree."""
    first, *others = names
    lines = ["| phase | " + " | ".join(f"{name}: wall s, CPU s" for name in names) + " |"]
    lines.append("|---" * (len(names) + 1) + "|")
    order = list(dict.fromkeys(phase for name in names for run in runs[name] for phase in run))
    order.sort(key=lambda phase: phase == "total")
    for phase in order:
        cells = []
        for name in names:
            pairs = [run[phase] for run in runs[name] if phase in run]
            wall, cpu = (median([pair[i] for pair in pairs]) for i in (0, 1))
            cells.append("" if wall is None else f"{wall}" + ("" if cpu is None else f", {cpu}"))
        lines.append(f"| {phase} | " + " | ".join(cells) + " |")
    for other in others:
        for index, unit in enumerate(("wall", "CPU")):
            ratios = [
                mine["total"][index] / theirs["total"][index]
                for mine, theirs in zip(runs[first], runs[other], strict=True)
            ]
            lines.append(f"| ratio of the totals, {unit} | {median(ratios)} | 1 |")
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", nargs="+", default=["auto", "float32"])
    parser.add_argument("--against", type=Path, help="another checkout, measured in turns")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    trees = {"this": ROOT}
    if args.against is not None:
        trees["against"] = args.against.resolve()
    results = {}
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as directory:
        checkpoint = (args.checkpoint or trained(Path(directory) / "checkpoint")).resolve()
        for topic in TOPICS.values():
            create_topic(kafka.bootstrap_servers, topic, 4)
        for dtype in args.dtype:
            runs = results[dtype] = {name: [] for name in trees}
            for turn in range(args.rounds + 1):
                for name, tree in trees.items():
                    run = start(
                        kafka.bootstrap_servers, tree=tree, checkpoint=checkpoint, dtype=dtype,
                        directory=directory,
                    )  # fmt: skip
                    print(f"{dtype} {turn} {name} {run['total']}", file=sys.stderr, flush=True)
                    if turn:  # the first one fills the file cache
                        runs[name].append(run)
    for dtype, runs in results.items():
        print(
            f"\n{dt.datetime.now(dt.UTC).date()}, {platform.machine()}, model.dtype={dtype}, "
            f"medians of {args.rounds} starts\n"
        )
        print("\n".join(table(runs, list(trees))))
    if args.json is not None:
        args.json.write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()

"""The host path alone, by stage: the worker with a model that takes no time, on a backlog.

    python -m tests.benchmarks.hostpath [--other CHECKOUT] [--rounds 5] [--messages 60000]
                                        [--rows a,b] [--flame FOLDER] [--quick]

With `--other`, another checkout with the same packages runs in turns with this one. Rows are the
guarantees with a made-up tokenizer, and again with the packaged encoder's own (`+tokenizer`).
`loop` is the plain loop of kafka-python on the same topic. The machine is noisy: trust the ratios.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.circumstances import line, told
from tests.benchmarks.hostpath import report
from tests.benchmarks.hostpath.run import PY_SPY, and_more, fill, run
from tests.benchmarks.results import add_argument, parsed, save
from tests.support.kafka_helpers import create_topic
from tests.support.worker_process import ROOT, clean_environment
from worker.demo.broker import EmbeddedKafka

ROWS = {
    "at_least_once": ("at_least_once", False),
    "exactly_once": ("exactly_once", False),
    "at_least_once+tokenizer": ("at_least_once", True),
    "exactly_once+tokenizer": ("exactly_once", True),
}
TOPIC = "backlog"


def main() -> None:
    given = asked()
    chosen = [name for name in given.rows.split(",") if name]
    roots = {"this": ROOT} | ({"other": given.other.resolve()} if given.other else {})
    found: dict[tuple[str, str], list[report.Figures]] = {}
    loops: list[float] = []
    start = told()
    with EmbeddedKafka() as kafka, tempfile.TemporaryDirectory() as folder:
        bootstrap = kafka.bootstrap_servers
        fill(bootstrap, TOPIC, texts(), and_more(given.messages))
        for turn in range(given.rounds):
            order = list(roots) if turn % 2 else list(reversed(roots))
            loops.append(loop(bootstrap, given.messages, f"loop-{turn}"))
            print(f"round {turn + 1}: loop: {loops[-1]:,.0f}/s", file=sys.stderr, flush=True)
            for row in chosen:
                guarantee, tokenizer = ROWS[row]
                for name in order:
                    figures = run(
                        bootstrap, TOPIC, messages=given.messages, guarantee=guarantee,
                        name=f"{name}-{row}-{turn}".replace("+", "-"), directory=Path(folder),
                        root=roots[name], instant=instant(tokenizer=tokenizer),
                    )  # fmt: skip
                    found.setdefault((name, row), []).append(figures)
                    print(f"round {turn + 1}: {name}: {row}: {figures.rate:,.0f}/s, "
                          f"{figures.interpreter:.0f} us", file=sys.stderr, flush=True)  # fmt: skip
        if given.flame:
            given.flame.mkdir(parents=True, exist_ok=True)
            for row in chosen:
                guarantee, tokenizer = ROWS[row]
                run(
                    bootstrap, TOPIC, messages=given.messages, guarantee=guarantee,
                    name=f"flame-{row}".replace("+", "-"), directory=Path(folder),
                    instant=instant(tokenizer=tokenizer), flame=given.flame / f"{row}.svg",
                )  # fmt: skip
    results = {
        "circumstances": start,
        "rounds": given.rounds,
        "messages": given.messages,
        "rows": chosen,
        "loop": loops,
        "runs": {
            f"{name} {row}": [asdict(one) for one in runs] for (name, row), runs in found.items()
        },
    }
    save("hostpath", results, keep=given.keep)
    print(f"{line(start)}; {given.rounds} rounds of {given.messages:,} messages\n")
    print(f"{report.rates(results)}\n\nuser µs a record:\n\n{report.stages(results)}")


def asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--other", type=Path, help="another checkout, with the same packages")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=60_000)
    parser.add_argument("--rows", default=",".join(ROWS))
    parser.add_argument("--flame", type=Path, help="a folder for pictures of one more run each")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 20,000")
    add_argument(parser)
    given = parsed(parser, "--quick", "--rows")
    if given.keep and given.other is None:
        parser.error("--keep needs --other: the documents compare two checkouts")
    if given.flame and not PY_SPY.exists():
        parser.error("--flame needs py-spy: .venv/bin/uv pip install py-spy")
    if given.quick:
        given.rounds, given.messages = 2, 20_000
    return given


def instant(*, tokenizer: bool) -> dict[str, object]:
    """Arguments of the model."""
    if not tokenizer:
        return {}
    from train.encoder import packaged

    return {"tokenizer": str(packaged())}


def texts() -> list[str]:
    """The demo's sentences: every checkout has them."""
    lines = (ROOT / "train" / "data" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


def loop(bootstrap: str, messages: int, name: str) -> float:
    """Messages/s of the plain loop, in a process of its own."""
    create_topic(bootstrap, name, 4)
    command = [sys.executable, "-m", "tests.benchmarks.hostpath.plain_loop", bootstrap, TOPIC]
    done = subprocess.run(
        [*command, name, name, str(messages)],
        env=clean_environment(), cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    main()

"""What a figure needs beside it: hardware, versions, commit, date; and which texts there are."""

import datetime as dt
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil

from tests.support.worker_process import ROOT

PROJECT = ("torch", "transformers", "tokenizers", "kafka-python", "confluent-kafka", "numpy")
SHOWN = ("torch", "transformers", "kafka-python")
"""Of these, what a line for people names."""


def told() -> dict[str, Any]:
    """As of now."""
    return {
        "date": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load": round(os.getloadavg()[0], 1),
        "nice": os.nice(0),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in PROJECT},
    }


def line(found: dict[str, Any], **others: str) -> str:
    """For people, above a table; with the versions of other packages."""
    versions = {**{name: found["versions"][name] for name in SHOWN}, **others}
    told = ", ".join(f"{name} {version}" for name, version in versions.items())
    return (
        f"{found['date'][:10]}, {found['cores']} cores of {found['processor']}, load before "
        f"{found['load']}, commit {found['commit']}; Python {found['python']}, {told}"
    )


def commit() -> str:
    def git(*command: str) -> str:
        try:
            done = subprocess.run(
                ["git", *command], cwd=ROOT, capture_output=True, text=True, check=False
            )
        except OSError:
            return ""  # no such program
        return done.stdout.strip()

    code = "--", ".", ":(exclude)tests/benchmarks/results"
    changed = "+changes" if git("status", "--porcelain", *code) else ""
    return f"{git('rev-parse', '--short', 'HEAD') or 'unknown'}{changed}"


def processor() -> str:
    """The CPU's name, family and model: cloud machines often hide the name."""
    try:
        given = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    values = dict(
        (part.strip() for part in each.split(":", 1)) for each in given.splitlines() if ":" in each
    )
    name = values.get("model name", platform.machine())
    return f"{name} (family {values.get('cpu family')}, model {values.get('model')})"


def tweets() -> Path | None:
    """The directory of the real tweets, as the tests find it."""
    named = os.environ.get("EMOTION_TWEETS")
    folder = Path(named) if named else ROOT.parent / "shared" / "datasets" / "emotion"
    return folder if (folder / "train.jsonl").is_file() else None


def texts() -> Path:
    """The validation tweets where they are, else the demo's sentences."""
    folder = tweets()
    return folder / "validation.jsonl" if folder else ROOT / "train" / "data" / "train.jsonl"


def read_texts(path: Path) -> list[str]:
    """The texts of a JSON Lines file."""
    return [json.loads(line)["text"] for line in path.read_text(encoding="utf-8").splitlines()]

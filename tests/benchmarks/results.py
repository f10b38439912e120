"""What the benchmarks found, as JSON: kept in the repository, or for the present only.

A benchmark writes to `build/bench`; with `--keep` to `tests/benchmarks/results`, from where `make
readme` takes the documents' tables.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from tests.support.worker_process import ROOT

KEPT = Path(__file__).with_name("results")
PASSING = ROOT / "build" / "bench"


def add_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", action="store_true", help="write the results to the repository")


def parsed(parser: argparse.ArgumentParser, *partial: str) -> argparse.Namespace:
    """The options. What a document quotes is whole: not kept with an option that leaves parts out.

    Args:
        parser: With `--keep`.
        partial: Options that leave parts out, as they are written.
    """
    given = parser.parse_args()
    for option in partial:
        name = option.removeprefix("--").replace("-", "_")
        if given.keep and getattr(given, name) != parser.get_default(name):
            parser.error(f"{option} leaves parts out: its results are not for --keep")
    return given


def save(name: str, found: dict[str, Any], *, keep: bool) -> Path:
    """Writes what a benchmark found; returns where."""
    folder = KEPT if keep else PASSING
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return path


def kept(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((KEPT / f"{name}.json").read_text(encoding="utf-8"))
    return found


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)

"""Every benchmark loads; `make bench` names them; what leaves parts out is not kept."""

import argparse
import importlib
import subprocess
import sys

import pytest

from tests.benchmarks import results
from tests.benchmarks.documents import tables
from tests.support.worker_process import ROOT

BENCHMARKS = ROOT / "tests" / "benchmarks"


@pytest.mark.slow
def test_every_module_loads():
    """`make bench` runs for an hour before it comes to some. Those that need an environment of
    their own are not loaded here."""
    elsewhere = {"onnx_sorted", "export", "quix", "faststream_batches", "infinity_engine"}
    names = sorted(
        path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        for path in BENCHMARKS.rglob("*.py")
        if path.stem not in elsewhere
    )
    assert len(names) > 30
    program = f"import importlib\nfor name in {names}: importlib.import_module(name)"
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def test_every_step_of_make_bench_is_a_benchmark():
    steps = importlib.import_module("tests.benchmarks.__main__")
    for step in (*steps.WHOLE, *steps.QUICK):
        name = step.split()[0]
        found = (BENCHMARKS / f"{name}.py", BENCHMARKS / name / "__main__.py")
        assert any(path.is_file() for path in found), step


def test_every_benchmark_is_a_step_of_make_bench():
    """But the parts that others are made of, the guard, which CI runs, and the recipes, which take
    hours and a teacher."""
    steps = importlib.import_module("tests.benchmarks.__main__")
    named = {step.split()[0] for step in steps.WHOLE}
    found = {path.stem for path in BENCHMARKS.glob("*.py") if "argparse" in path.read_text("utf-8")}
    assert (
        found - {"__main__", "results", "guard", "steps", "sentences", "plots", "recipes"} <= named
    )


def test_whatever_was_kept_has_its_table_in_the_documents():
    assert {f"results {path.stem}" for path in results.KEPT.glob("*.json")} == set(tables())


def test_what_leaves_parts_out_is_not_kept(monkeypatch, capsys):
    def asked(*arguments):
        parser = argparse.ArgumentParser()
        parser.add_argument("--only", default="")
        results.add_argument(parser)
        monkeypatch.setattr("sys.argv", ["benchmark", *arguments])
        return results.parsed(parser, "--only")

    assert asked("--keep").keep
    assert asked("--only", "a").only == "a"
    with pytest.raises(SystemExit):
        asked("--keep", "--only", "a")
    assert "--only leaves parts out: its results are not for --keep" in capsys.readouterr().err

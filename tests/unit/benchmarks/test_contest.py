"""The contest's arithmetic and tables, its schedule, and how a baseline is told its settings."""

import re
import subprocess
import sys

import pytest

from tests.benchmarks.contest import figures
from tests.benchmarks.contest.contestants import CONTESTANTS, Baseline, chosen, process
from tests.benchmarks.contest.environment import (
    INFINITY,
    KEPT,
    STREAMS,
    fingerprint,
    path,
    versions,
)
from tests.benchmarks.contest.job import Job, answer
from tests.benchmarks.contest.outputs import Outputs
from tests.support.audit import Verdict, audit
from tests.support.worker_process import ROOT
from tests.unit.test_audit import INPUTS, OUTPUTS, output_of

JOB = Job(
    bootstrap="localhost:9092",
    input_topic="in",
    output_topic="out",
    group="group",
    checkpoint="/checkpoint",
    dtype="bfloat16",
    onnx_model="/model.onnx",
    session_timeout_ms=6_000,
)


def test_a_ratio_is_of_the_same_round():
    rates = {"worker": [100.0, 50.0, 200.0], "other": [50.0, 50.0, 20.0]}
    found = figures.ratios(rates, "worker")
    assert found["other"] == figures.Spread(median=0.5, least=0.1, most=1.0)
    assert found["worker"] == figures.Spread(median=1.0, least=1.0, most=1.0)


def test_kills_are_due_between_the_ends_and_the_same_for_everyone():
    assert figures.marks(4_000, 3) == [1_000, 2_000, 3_000]
    assert figures.marks(4_000, 0) == []
    assert figures.delays(3, seed=14) == figures.delays(3, seed=14)
    assert all(0 <= delay <= 0.5 for delay in figures.delays(50, seed=1))


def test_the_stream_is_held_back_between_two_marks():
    """Else a fast one is past the second mark at the first kill, and dies while it starts."""
    first, second, _ = figures.marks(4_000, 3)
    assert figures.allowed(300, first, 4_000, 3) == 300
    assert first < figures.allowed(3_900, first, 4_000, 3) == 1_500 < second
    assert figures.allowed(3_900, None, 4_000, 3) == 3_900


def test_damage_counts_an_output_out_of_order_once():
    """It is behind in its partition and for its key."""
    swapped = [*OUTPUTS[:4], OUTPUTS[6], OUTPUTS[5], OUTPUTS[4], *OUTPUTS[7:]]
    verdict = audit(INPUTS, swapped, [], topic="in")
    assert len(verdict.disordered) == 3
    assert figures.damage(verdict).disordered == 2


def test_damage_counts_what_is_lost_and_what_is_doubled():
    again = [output_of(INPUTS[8], 11), output_of(INPUTS[8], 12)]
    verdict = audit(INPUTS, OUTPUTS[2:] + again, [], topic="in", expected=None)
    assert figures.damage(verdict) == figures.Damage(inputs=10, lost=2, doubled=2, disordered=0)


def test_no_kills_no_damage():
    verdict = Verdict(inputs=3)
    assert figures.damage(verdict) == figures.Damage(inputs=3, lost=0, doubled=0, disordered=0)


def test_the_table_of_speed():
    table = figures.speed_table(
        {"worker": "the worker", "one": "one by one"},
        {"worker": [1_000.0, 1_200.0, 900.0], "one": [100.0, 90.0, 99.0]},
        {"worker": 0.9985, "one": 1.0},
        base="worker",
    )
    assert table.splitlines() == [
        "| way | messages/s (median) | the worker's rate to it | labels as float32 |",
        "| --- | --- | --- | --- |",
        "| the worker | 1,000 (900-1,200) | 1.00 | 0.999 |",
        "| one by one | 99 (90-100) | 10.00 | 1.000 |",
    ]


def test_the_table_of_speed_without_the_worker_has_no_ratio():
    table = figures.speed_table({"one": "one"}, {"one": [5.0]}, {"one": 1.0}, base="worker")
    assert table.splitlines()[-1] == "| one | 5 (5-5) |  | 1.000 |"


def test_the_table_of_damage():
    damage = figures.Damage(inputs=4_000, lost=3, doubled=100, disordered=0)
    table = figures.kill_table({"one": "one by one"}, {"one": damage})
    assert table.splitlines() == [
        "| way | inputs | lost | doubled | out of order |",
        "| --- | --- | --- | --- | --- |",
        "| one by one | 4,000 | 3 | 100 (2.5%) | 0 |",
    ]


def test_a_job_is_read_from_the_variables_that_it_becomes(monkeypatch):
    for name, value in JOB.environment().items():
        monkeypatch.setenv(name, value)
    assert Job.from_environment() == JOB
    assert JOB.heartbeat_interval_ms == 2_000


def test_an_answer_names_its_input_as_the_workers_does():
    found = answer({"id": 7}, topic="in", partition=1, offset=2, label="joy", score=0.5)
    source = {"topic": "in", "partition": 1, "offset": 2}
    assert found == {"label": "joy", "score": 0.5, "id": 7, "source": source}


def test_contestants_are_chosen_by_name_and_precision():
    assert chosen("") == list(CONTESTANTS)
    worker, batches = chosen("worker,batches@float32")
    assert (worker.name, worker.dtype) == ("worker", "")
    assert (batches.name, batches.dtype, batches.module) == (
        "batches@float32",
        "float32",
        "batches",
    )
    assert batches.title.endswith(", float32")
    with pytest.raises(ValueError, match="no contestant 'nobody': there are worker, "):
        chosen("worker,nobody")
    with pytest.raises(ValueError, match="onnx has no float32: its export chooses"):
        chosen("onnx@float32")


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda each: each.name)
def test_a_contestant_is_told_the_same_job(contestant, tmp_path):
    pythons = {name: tmp_path / name for name in (STREAMS, INFINITY)}
    found = process(contestant, JOB, pythons=pythons, directory=tmp_path)
    if contestant.module:
        assert isinstance(found, Baseline)
        assert (ROOT / "tests" / "benchmarks" / "contest" / f"{contestant.module}.py").is_file()
        assert found._variables.items() >= JOB.environment().items()
        own = contestant.requirements
        assert found._command[0] == (str(tmp_path / own) if own else sys.executable)
    else:
        given = found.environment
        assert given["WORKER_KAFKA__SESSION_TIMEOUT"] == "6.0"
        assert given["WORKER_KAFKA__HEARTBEAT_INTERVAL"] == "2.0"
        assert given["WORKER_MODEL__CHECKPOINT"] == JOB.checkpoint


def test_a_baseline_that_ended_by_itself_is_told_with_its_log(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit('no such topic')"]
    baseline = Baseline(command, {}, tmp_path / "log")
    baseline.start()
    baseline._process.wait()
    with pytest.raises(AssertionError, match=r"ended with 1:\nno such topic"):
        baseline.alive()


def test_a_baseline_is_killed_and_started_again(tmp_path):
    baseline = Baseline([sys.executable, "-c", "input(); "], {}, tmp_path / "log")
    baseline._command = [sys.executable, "-c", "import time; time.sleep(60)"]
    for end in (baseline.kill, baseline.stop):
        baseline.start()
        assert baseline.alive()
        end()
        assert baseline._process.returncode < 0


class Message:
    def __init__(self, value, timestamp):
        self._value, self._timestamp = value, timestamp

    def value(self):
        return self._value

    def timestamp(self):
        return 1, self._timestamp


def test_the_first_output_of_an_input_counts():
    outputs = Outputs.__new__(Outputs)
    outputs.appended, outputs.labels = {}, {}
    for at, (source, label) in enumerate([(0, b"joy"), (1, b"fear"), (0, b"anger")]):
        value = b'{"source": {"partition": 2, "offset": %d}, "id": %d, "label": "%s"}'
        outputs._add(Message(value % (source, source, label), at))
    assert outputs.appended == {(2, 0): 0, (2, 1): 1}
    assert outputs.labels == {0: "joy", 1: "fear"}


@pytest.mark.parametrize("requirements", [STREAMS, INFINITY])
def test_what_the_baselines_need_is_pinned(requirements):
    lines = path(requirements).read_text(encoding="utf-8").splitlines()
    packages = [line for line in lines if not line.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in packages), packages


def test_the_results_name_the_baselines_versions():
    found = versions()
    assert list(found) == list(KEPT)
    assert found["transformers (infinity)"].startswith("4.")
    assert "infinity-emb" not in versions({"", STREAMS})
    assert not versions({""})


def test_other_requirements_are_another_environment(tmp_path):
    other = tmp_path / "requirements.txt"
    other.write_text("onnx==1.0\n", encoding="utf-8")
    assert fingerprint(other) != fingerprint(path(STREAMS))


@pytest.mark.slow
def test_the_parts_load_no_framework_of_the_baselines():
    """The project's environment has none of them."""
    program = (
        "import sys; from tests.benchmarks.contest import contestants, environment, figures, job, "
        "kills, outputs, place, rounds; "
        "print(*{'quixstreams', 'faststream', 'onnx', 'onnxruntime', 'infinity_emb'} "
        "& set(sys.modules))"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert not done.stdout.strip()

"""What a program does not import, by modules: a time limit would measure the machine.

`tests/integration/test_startup.py` looks at whole runs of the worker, with a broker.
"""

import subprocess
import sys

import pytest

from tests.support import imported
from tests.support.worker_process import ROOT, clean_environment

SLOW = pytest.mark.slow  # the client's patience with a broker
DEAD = ("--kafka.bootstrap-servers", "127.0.0.1:1")


def run(*command, code):
    done = subprocess.run(
        imported.command(*command), cwd=ROOT, env=clean_environment(), capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return imported.modules(done.stdout)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, ["worker", "--help"]),
        (0, ["worker", "run", "--help"]),
        (0, ["worker", "schema"]),
        pytest.param(1, ["worker", "redrive", *DEAD], marks=SLOW),
        pytest.param(
            2,
            ["worker", "run", "--http.port", "0", "--model.checkpoint", "nowhere", *DEAD],
            marks=SLOW,
        ),
        pytest.param(
            2,
            [
                "worker",
                "run",
                "--processes",
                "2",
                "--http.port",
                "0",
                "--model.checkpoint",
                "no",
                *DEAD,
            ],
            marks=SLOW,
        ),
        (0, ["train", "--help"]),
        (0, ["train", "run", "--help"]),
    ],
    ids=lambda value: "-".join(value[:2]) if isinstance(value, list) else "",
)
def test_a_command_that_needs_no_model_imports_none_of_its_libraries(code, words):
    assert not imported.WITHOUT_A_MODEL & run(*words, code=code)


@SLOW
def test_the_supervisor_of_several_processes_imports_no_client():
    command = ["worker", "run", "--processes", "2", "--http.port", "0", "--model.checkpoint", "no"]
    found = run(*command, *DEAD, code=2)
    assert "worker.processes.supervisor" in found
    assert not {"kafka", "worker.kafka", "worker.service", "worker.run"} & found


def test_a_model_that_is_loaded_and_warm_has_brought_nothing_that_compiles_or_trains(untrained):
    name = str(untrained)
    program = (
        "import sys, pathlib\n"
        "from worker.model.load import load\n"
        f"model = load(path=pathlib.Path({name!r}), device='cpu', dtype='auto', threads=1)\n"
        "model.warm_up(max_records=16, max_tokens=256)\n"
        "assert model.reference().shape == (8, 6)\n"
        "import json; print(json.dumps({'modules': sorted(sys.modules)}))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=clean_environment(), capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    found = imported.modules(done.stdout)
    assert "torch" in found
    assert not imported.WITH_A_MODEL & found

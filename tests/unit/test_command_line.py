"""`emotion-worker` as a user meets it, as far as no broker is needed."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from tests.conftest import ROOT
from worker.__main__ import main
from worker.kafka.cluster.clients import Connection
from worker.settings import Settings

COMMAND = str(Path(sys.executable).with_name("emotion-worker"))
DEAD = ("--kafka.bootstrap-servers", "127.0.0.1:1")
HEAVY = ("torch", "transformers", "tokenizers", "kafka", "pydantic", "numpy")


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """No settings but those of the test, and logging left as it is for the other tests."""
    for name in [name for name in os.environ if name.upper().startswith("WORKER_")]:
        monkeypatch.delenv(name)
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, os.environ.get(name, "1"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("worker.logs.configure", lambda **_: None)


def told(capsys, *words):
    """Exit code, output, and the lines on standard error."""
    code = main(list(words))
    shown = capsys.readouterr()
    return code, shown.out, shown.err.splitlines()


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_without_a_command_it_tells_its_commands(capsys, words):
    code, out, err = told(capsys, *words)
    assert (code, err) == (0, [])
    for command in ("run", "check", "schema", "demo", "redrive"):
        assert f"\n  {command} " in out


def test_help_answers_at_once_and_loads_nothing_heavy():
    program = (
        "import sys\n"
        "from worker.__main__ import main\n"
        "code = main(['--help'])\n"
        f"print('loaded', [name for name in {HEAVY!r} if name in sys.modules], code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded [] 0"


def test_the_installed_command_is_this_one():
    done = subprocess.run([COMMAND, "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.startswith("emotion-worker ")


def test_an_unknown_command_is_refused_with_the_known_ones(capsys):
    code, out, err = told(capsys, "label")
    assert (code, out) == (2, "")
    assert err == [
        "emotion-worker: there is no command 'label'; there are run, check, schema, demo, redrive"
    ]


def test_schema_prints_json_schema(capsys):
    code, out, _ = told(capsys, "schema")
    assert code == 0
    assert set(json.loads(out)["$defs"]) == {"input", "output", "dead_letter_headers"}


def test_schema_takes_no_options(capsys):
    code, out, err = told(capsys, "schema", "--pretty")
    assert (code, out, len(err)) == (2, "", 1)


@pytest.mark.parametrize("command", ["run", "check", "redrive"])
def test_wrong_settings_are_refused_one_line_each(capsys, monkeypatch, command):
    monkeypatch.setenv("WORKER_NOPE", "1")
    monkeypatch.setenv("WORKER_HTTP__PORT", "99999")
    code, out, err = told(capsys, command, "--batch.max-records", "0")
    assert (code, out) == (2, "")
    assert [line.split(":")[:2] for line in err] == [
        ["emotion-worker", " WORKER_NOPE"],
        ["emotion-worker", " --batch.max-records"],
        ["emotion-worker", " WORKER_HTTP__PORT"],
    ]


@pytest.mark.parametrize("command", ["run", "check", "redrive"])
def test_help_of_a_command_lists_its_settings(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main([command, "--help"])
    assert stopped.value.code == 0
    assert "--kafka.bootstrap-servers" in capsys.readouterr().out


def test_help_of_redrive_says_what_to_know_before_and_hides_what_it_does_not_use(capsys):
    with pytest.raises(SystemExit):
        main(["redrive", "--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Fix the cause first" in shown
    assert "Only dead letters written at or after this time" in shown
    for option in ("--reason", "--since", "--until", "--max", "--dry-run", "--dlq.topic"):
        assert option in shown
    for group in Settings.model_fields.keys() - {"kafka", "input", "dlq"}:
        assert f"--{group}." not in shown


@pytest.mark.parametrize("options", [[], ["--dry-run"]])
def test_redrive_without_a_broker_fails_with_one_line(capsys, monkeypatch, options):
    link = Connection(bootstrap_servers="127.0.0.1:1", client_id="c", patience=0.5)
    monkeypatch.setattr("worker.redrive.run.connection", lambda _: link)
    code, out, err = told(capsys, "redrive", *options)
    assert (code, out, len(err)) == (1, "", 1)
    assert err[0].startswith("emotion-worker: no broker answers at 127.0.0.1:1")


@pytest.mark.heavy
def test_a_checkpoint_that_is_not_there_is_refused(capsys):
    code, out, err = told(capsys, "check", *DEAD, "--model.checkpoint", "nowhere")
    assert code == 2
    assert out.startswith("settings    ok\n")
    dead, line = sorted(err, reverse=True)
    assert dead.startswith("emotion-worker: no broker answers at 127.0.0.1:1: ")
    assert line.startswith("emotion-worker: model.checkpoint: there is no directory nowhere: ")
    assert "emotion-train run" in line


@pytest.mark.heavy
@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_cuda_without_a_gpu_is_refused_and_never_replaced(capsys, untrained, device):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    code, out, err = told(
        capsys, "check", *DEAD, "--model.checkpoint", str(untrained),
        "--model.device", device,
    )  # fmt: skip
    assert code == 2
    assert [line.split()[0] for line in out.splitlines()] == ["settings", "checkpoint"]
    (line,) = [line for line in err if "no broker answers" not in line]
    assert line.startswith(f"emotion-worker: model.device: {device} was asked for")
    assert "GPU" in line


@pytest.fixture
def worker():
    """Starts `emotion-worker run` with no broker in sight; logs go to standard error."""
    started = []

    def start(**variables):
        silent = {
            "WORKER_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1",
            "WORKER_HTTP__HOST": "127.0.0.1",
        }
        process = subprocess.Popen(
            [COMMAND, "run"],
            env=os.environ | silent | variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_a_port_in_use_is_refused_before_anything_is_read(worker):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        process = worker(WORKER_HTTP__PORT=str(taken.getsockname()[1]))
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    (line,) = err.splitlines()
    assert "cannot be bound" in json.loads(line)["event"]


def test_a_wrong_checkpoint_is_refused_before_the_brokers_are_waited_for(worker):
    process = worker(WORKER_HTTP__PORT="0", WORKER_MODEL__CHECKPOINT="nowhere")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    http, last = map(json.loads, err.splitlines())
    assert http["event"] == "http_listening"
    assert (last["level"], last["event"].split(":")[0]) == ("error", "model.checkpoint")


def test_a_worker_that_is_to_abstain_without_thresholds_is_refused_as_early(worker, untrained):
    process = worker(
        WORKER_HTTP__PORT="0",
        WORKER_MODEL__CHECKPOINT=str(untrained),
        WORKER_MODEL__ABSTAIN="true",
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (2, "")
    http, last = map(json.loads, err.splitlines())
    assert http["event"] == "http_listening"
    assert last["event"].startswith(f"model.abstain: the checkpoint {untrained} has no thresholds")
    assert f"emotion-train threshold --checkpoint {untrained}" in last["event"]


SLOW_SETTINGS = """\
import sys, time
print("importing", file=sys.stderr, flush=True)
while True:  # one long sleep would not notice a signal that comes just before it
    time.sleep(0.05)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_before_the_settings_are_read_ends_the_process_at_once_with_0(
    worker, tmp_path, number
):
    """As process 1 of a container it would be lost."""
    (tmp_path / "pydantic_settings.py").write_text(SLOW_SETTINGS)
    process = worker(PYTHONPATH=str(tmp_path))
    assert process.stderr.readline() == "importing\n"
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert err == "emotion-worker: stopped before it had started\n"


@pytest.mark.parametrize(
    ("command", "module"),
    [("check", "pydantic_settings"), ("check", "torch"), ("redrive", "pydantic_settings")],
)
def test_ctrl_c_in_the_middle_of_an_import_is_one_line_and_130(tmp_path, command, module):
    (tmp_path / f"{module}.py").write_text(SLOW_SETTINGS)
    process = subprocess.Popen(
        [COMMAND, command, *DEAD], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    try:
        lines = [process.stderr.readline()]
        while "importing" not in lines[-1]:
            assert process.poll() is None, lines
            lines.append(process.stderr.readline())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert err == "emotion-worker: interrupted\n"


@pytest.mark.parametrize(
    "program", ["raise ImportError('libfoo.so.1: cannot open')", "import a_module_of_torch"]
)
def test_a_torch_that_cannot_be_imported_ends_the_process_with_one_line(
    worker, untrained, tmp_path, program
):
    (tmp_path / "torch.py").write_text(program)
    process = worker(
        WORKER_HTTP__PORT="0", WORKER_MODEL__CHECKPOINT=str(untrained), PYTHONPATH=str(tmp_path)
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert "Traceback" not in err
    (line,) = [each for each in map(json.loads, err.splitlines()) if each["level"] == "error"]
    assert line["event"].startswith("the libraries of the model cannot be imported: ")


SLOW_TORCH = """\
import sys, time
print('{"event": "importing"}', file=sys.stderr, flush=True)
time.sleep(3_000)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_an_import_ends_the_process_at_once_with_0(
    worker, untrained, tmp_path, number
):
    (tmp_path / "torch.py").write_text(SLOW_TORCH)
    process = worker(
        WORKER_HTTP__PORT="0", WORKER_MODEL__CHECKPOINT=str(untrained), PYTHONPATH=str(tmp_path)
    )
    while "importing" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "stopped_before_start" in err.splitlines()[-1]
    assert "Traceback" not in err


def test_an_import_that_never_ends_is_ended_by_the_loads_deadline(worker, untrained, tmp_path):
    (tmp_path / "torch.py").write_text(SLOW_TORCH)
    process = worker(
        WORKER_HTTP__PORT="0",
        WORKER_MODEL__CHECKPOINT=str(untrained),
        WORKER_MODEL__LOAD_DEADLINE="2",
        PYTHONPATH=str(tmp_path),
    )
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (1, "")
    assert "the model is not loaded and warm after 2 s: " in err.splitlines()[-1]


HANGS = """
import sys, time
from worker import logs, settings
from worker.service import serve
chosen = settings.load(sys.argv[1:])
logs.configure(format="json", level="info")
sys.exit(serve(chosen, load=None, look=lambda: time.sleep(3_000)))
"""


def test_a_volume_that_hangs_at_the_first_look_is_ended_by_the_loads_deadline():
    done = subprocess.run(
        [sys.executable, "-c", HANGS, *DEAD, "--http.port=0", "--model.load-deadline=1"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert "the model is not loaded and warm after 1 s: " in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(("number", "form"), [(signal.SIGTERM, "json"), (signal.SIGINT, "console")])
def test_without_a_broker_it_waits_alive_and_not_ready_until_a_signal_ends_it_with_0(
    worker, untrained, number, form
):
    process = worker(
        WORKER_HTTP__PORT="0", WORKER_LOG__FORMAT=form, WORKER_MODEL__CHECKPOINT=str(untrained)
    )
    first = process.stderr.readline()
    assert "http_listening" in first
    port = json.loads(first)["port"] if form == "json" else first.rpartition("port=")[2].split()[0]
    place = f"http://127.0.0.1:{port}"
    with urllib.request.urlopen(f"{place}/livez", timeout=60) as answer:
        assert answer.read() == b"ok\n"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"{place}/readyz", timeout=60)
    with refused.value as answer:
        assert answer.code == 503
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "stopped_before_start" in err.splitlines()[-1]
    assert "Traceback" not in err
    assert "\x1b" not in first + err  # no colours where there is no terminal

"""`emotion-worker check`: everything is asked, whatever is wrong is said, nothing waits for torch.

Each runs as a process, with torch not imported yet. A line is printed with what was imported then.
"""

import json
import os
import shutil
import socket
import subprocess
import sys

import pytest

from tests.support import tiny
from tests.support.worker_process import clean_environment

DEAD = "127.0.0.1:1"
PROGRAM = """\
import json, sys, worker.check
def show(self, line, stream):
    print(json.dumps([stream is sys.stderr, line, "torch" in sys.modules]), flush=True)
worker.check.Report._print = show
from worker.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def check(cwd, *options, servers=DEAD):
    """Exit code; lines of what is in order; lines of what is wrong; those before torch."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "check", "--kafka.bootstrap-servers", servers, *options],
        env=clean_environment(HF_HUB_OFFLINE="1"), cwd=cwd, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    first, *lines = done.stdout.splitlines()
    assert (first, done.stderr) == ("settings    ok", "")
    told = [json.loads(line) for line in lines]
    good = [line for wrong, line, _ in told if not wrong]
    bad = [line for wrong, line, _ in told if wrong]
    return done.returncode, good, bad, [line for _, line, torch in told if not torch]


@pytest.mark.slow  # torch
def test_a_missing_directory_and_a_dead_broker_are_both_told_before_torch_is_imported(tmp_path):
    code, good, bad, early = check(tmp_path, "--model.checkpoint", "nowhere", "--model.device=cpu")
    assert code == 2  # a person has to change something: that the broker is away too is less
    missing, dead = sorted(bad)
    assert missing.startswith("emotion-worker: model.checkpoint: there is no directory nowhere: ")
    assert dead.startswith(f"emotion-worker: no broker answers at {DEAD}: check kafka.bootstrap")
    assert "Connection refused" in dead
    assert sorted(early) == sorted(bad)
    assert good == ["device      ok: cpu; nothing was computed without a checkpoint"]


@pytest.mark.slow  # torch
def test_without_a_checkpoint_the_device_is_still_asked_for(tmp_path):
    code, good, bad, early = check(tmp_path, "--model.device", "cuda:99")
    assert (code, good) == (2, [])
    assert len(bad) == 3
    (late,) = set(bad) - set(early)
    assert late.startswith("emotion-worker: model.device: cuda:99 was asked for")


def test_a_dead_broker_alone_is_1_and_the_model_is_tried_meanwhile(tmp_path, untrained):
    code, good, bad, early = check(
        tmp_path, "--model.checkpoint", str(untrained), "--model.dtype", "float32"
    )
    assert code == 1
    (dead,) = bad
    assert f"no broker answers at {DEAD}" in dead
    told, device = good
    assert told.startswith("checkpoint  ok: tiny ")
    assert told.endswith(f"labels {', '.join(tiny.LABELS)}")
    assert device.startswith("device      ok: ")
    assert "in float32, " in device
    assert " rows, batches of " in device
    assert sorted(early) == sorted([dead, told])


def test_a_tokenizer_that_cannot_be_read_is_told_before_torch_is_imported(tmp_path, untrained):
    copy = shutil.copytree(untrained, tmp_path / "copy")
    (copy / "tokenizer.json").write_text("{}")
    code, _, bad, early = check(tmp_path, "--model.checkpoint", "copy", "--model.device=cpu")
    assert code == 2
    assert any("tokenizer.json cannot be read" in line for line in bad)
    assert sorted(early) == sorted(bad)


def test_missing_thresholds_are_told_before_torch_is_imported(tmp_path, untrained):
    code, _, bad, early = check(
        tmp_path, "--model.checkpoint", str(untrained), "--model.abstain", "--model.device=cpu"
    )
    assert code == 2
    (told,) = (line for line in bad if "no broker answers" not in line)
    assert told == (
        f"emotion-worker: model.abstain: the checkpoint {untrained} has no thresholds: write them "
        f"with `emotion-train threshold --checkpoint {untrained} --dataset DATASET`, or switch "
        "model.abstain off"
    )
    assert sorted(early) == sorted(bad)


@pytest.mark.slow  # torch
def test_a_certificate_that_cannot_be_used_is_told_though_the_broker_is_dead(tmp_path):
    (tmp_path / "no.pem").write_text("no certificate")
    code, _, bad, _ = check(
        tmp_path, "--kafka.security-protocol=SSL", "--kafka.ssl-cafile", "no.pem",
        "--model.device=cpu",
    )  # fmt: skip
    assert code == 2
    assert any("kafka.ssl_cafile" in line for line in bad)


def test_a_broker_that_listens_and_is_silent_is_not_taken_for_a_dead_one(tmp_path, monkeypatch):
    """It is asked by the client, with the client's patience."""
    from worker import check as checks
    from worker.errors import Transient

    asked = []

    def slow(desk, settings):
        asked.append(settings)
        raise Transient("the cluster does not answer: it is slow")

    monkeypatch.setattr(checks, "checked", slow)
    monkeypatch.setattr(checks, "_device", lambda *_: None)
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    from worker import settings

    with socket.create_server(("127.0.0.1", 0)) as silent:
        servers = f"127.0.0.1:{silent.getsockname()[1]}"
        assert checks.check(settings.load(["--kafka.bootstrap-servers", servers])) == 2
    assert len(asked) == 1


def test_what_nobody_foresaw_on_the_clusters_thread_is_not_swallowed(tmp_path, monkeypatch):
    from worker import check as checks
    from worker import settings

    def broken(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(checks, "_cluster", broken)
    monkeypatch.setattr(checks, "_device", lambda *_: None)
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ZeroDivisionError):
        checks.check(settings.load([]))

"""A work directory belongs to one run, of one version."""

import errno
import json
import os
import resource
import signal

import pytest

from train import resume
from train.errors import Busy, Refused
from train.settings import RunSettings


@pytest.fixture
def claim(tmp_path):
    work = tmp_path / "work"

    def claimed(fingerprint="data", **changes):
        given = {"dataset": "d", "output": tmp_path / "out", "work_dir": work, **changes}
        with resume.claimed(work, RunSettings(**given), fingerprint=fingerprint):
            return work / "run.json"

    return claimed


def test_the_same_run_resumes_whatever_its_output_is_called(claim, tmp_path):
    claim()
    claim(output=tmp_path / "elsewhere", name="other")


def test_epochs_do_not_depend_on_the_temperature_that_is_given_after_them(claim):
    marked = claim()
    before = marked.read_text()
    claim(temperature=1)
    assert marked.read_text() == before
    assert '"temperature"' not in before


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": 9},
        {"fingerprint": "other"},
        {"drop_conflicts": True},
        {"class_weights": "balanced"},
        {"max_length": 128},
    ],
)
def test_another_run_is_told_that_settings_or_data_differ(claim, changes):
    claim()
    with pytest.raises(Refused, match=r"belongs to a run with other settings or data$"):
        claim(**changes)


def test_a_run_of_the_last_version_that_had_the_same_settings_resumes(claim):
    marked = claim()
    marked.write_text(json.dumps({"run": json.loads(marked.read_text())["run"]}))
    claim()


@pytest.mark.parametrize("older", [{}, {"settings": []}, {"settings": ["epochs", "seed"]}])
def test_a_run_of_another_version_is_told_so_and_what_to_do(claim, older):
    """Its settings are others, so that its mark is another, too, though the user gave the same."""
    claim().write_text(json.dumps({"run": "0" * 64, **older}))
    with pytest.raises(Refused) as refused:
        claim()
    line = str(refused.value)
    assert "another version of emotion-train" in line
    assert line.endswith("give another directory")
    assert "\n" not in line


@pytest.mark.parametrize("damage", ["[]", "5", "{"])
def test_a_mark_that_is_damaged_is_told_as_such(claim, damage):
    claim().write_text(damage)
    with pytest.raises(Refused, match=r"run\.json is damaged"):
        claim()


def test_a_mark_that_a_killed_run_left_empty_is_written_again(claim, tmp_path):
    marked = claim()
    marked.write_text("")
    claim()
    assert json.loads(marked.read_text())["run"]
    marked.write_text("")
    (tmp_path / "work" / "notes.txt").touch()
    with pytest.raises(Refused, match="is not empty, and belongs to no run"):
        claim()


def test_what_is_refused_is_left_as_it_was(claim, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes.txt").touch()
    with pytest.raises(Refused, match="is not empty, and belongs to no run"):
        claim()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["notes.txt"]


def test_two_processes_do_not_train_in_one_directory(claim, tmp_path):
    claim()
    settings = RunSettings(dataset="d", output=tmp_path / "out", work_dir=tmp_path / "work")
    with resume.claimed(tmp_path / "work", settings, fingerprint="data"):
        with pytest.raises(Busy) as busy:
            claim()
        with pytest.raises(Busy):  # whose epochs they are is not yet known
            claim(epochs=9)
    line = f"--work-dir {tmp_path / 'work'}: another process trains in it now: try again when"
    assert str(busy.value) == f"{line} it has ended"
    claim()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP])
def test_where_files_have_no_locks_a_run_goes_on_without(claim, monkeypatch, number):
    def refuses(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(resume.fcntl, "flock", refuses)
    assert json.loads(claim().read_text())["run"]


def test_a_full_disk_leaves_no_half_of_a_mark(claim, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        for most in (10, 0):
            resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
            with pytest.raises(Refused, match=r"^--work-dir .*(No space left|File too large)"):
                claim()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert (tmp_path / "work" / "run.json").read_bytes() == b""
    assert json.loads(claim().read_text())["run"]


def epoch(folder, step, state='{"global_step": 8}'):
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "model.safetensors").touch()
    if state is not None:
        (path / "trainer_state.json").write_text(state)
    return path


@pytest.mark.parametrize("torn", [None, "", '{"global_step": 8', "\ufffd"])
def test_a_run_resumes_from_the_last_epoch_that_was_written_whole(tmp_path, torn):
    epoch(tmp_path, 8)
    whole = epoch(tmp_path, 16)
    last = epoch(tmp_path, 104, torn)
    assert resume.last_epoch(tmp_path) == whole
    assert last.exists(), "another process may be writing it"


def test_only_what_the_trainer_has_named_is_an_epoch(tmp_path):
    whole = epoch(tmp_path, 8)
    for name in ("old-104", "best", "99 copy", "\u0661"):
        epoch(tmp_path, name)
    (tmp_path / "checkpoint-200").touch()
    assert resume.last_epoch(tmp_path) == whole


def test_a_checkpoint_that_cannot_be_read_is_not_taken_for_a_torn_one(tmp_path, monkeypatch):
    def fails(self, **_):
        raise OSError(5, "Input/output error", str(self))

    kept = [epoch(tmp_path, step) for step in (8, 16)]
    monkeypatch.setattr(resume.Path, "read_text", fails)
    with pytest.raises(Refused, match=r"Input/output error: .*checkpoint-16"):
        resume.last_epoch(tmp_path)
    assert resume.way_on(tmp_path) == ""
    assert all(path.exists() for path in kept)


def test_epochs_are_in_the_order_of_their_steps(tmp_path):
    assert resume.last_epoch(tmp_path / "none") is None
    assert resume.last_epoch(tmp_path) is None
    epoch(tmp_path, 9)
    last = epoch(tmp_path, 10)
    assert resume.last_epoch(tmp_path) == last


def test_who_interrupts_is_told_of_a_way_on_where_there_is_one(tmp_path):
    assert resume.way_on(None) == ""
    assert resume.way_on(tmp_path) == ""
    epoch(tmp_path, 8, None)
    assert resume.way_on(tmp_path) == ""
    epoch(tmp_path, 16)
    assert resume.way_on(tmp_path) == f"the same command resumes from the last epoch in {tmp_path}"

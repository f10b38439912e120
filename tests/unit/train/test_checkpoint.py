"""A checkpoint appears whole or not at all."""

import errno
import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest

from train import manifest, output
from train.errors import Refused


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_block_that_ends_well_leaves_the_checkpoint_alone(tmp_path):
    with output.staged(tmp_path / "out") as stage:
        (stage / "epochs").mkdir()
        (stage / "checkpoint" / "config.json").write_text("{}")
        assert names(tmp_path) == [stage.name]
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["config.json"]


def test_an_empty_directory_is_taken(tmp_path):
    (tmp_path / "out").mkdir()
    with output.staged(tmp_path / "out") as stage:
        (stage / "checkpoint" / "a").touch()
    assert names(tmp_path / "out") == ["a"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, Refused])
def test_a_block_that_fails_leaves_nothing(tmp_path, error):

    def fail():
        with output.staged(tmp_path / "out") as stage:
            (stage / "checkpoint" / "model.safetensors").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert names(tmp_path) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    with (
        pytest.raises(Refused, match="no space left on the device; nothing was written"),
        output.staged(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names(tmp_path) == []


def test_a_checkpoint_written_meanwhile_is_not_overwritten(tmp_path):
    out = tmp_path / "out"

    def race():
        with output.staged(out) as stage:
            (stage / "checkpoint" / "a").touch()
            out.mkdir()
            (out / "theirs").touch()

    with pytest.raises(Refused, match="another run wrote it"):
        race()
    assert names(out) == ["theirs"]
    assert names(tmp_path) == ["out"]


def test_files_are_readable_as_the_umask_says(tmp_path):
    with output.staged(tmp_path / "out") as stage:
        path = stage / "checkpoint" / "model.safetensors"
        path.touch(mode=0o600)
    mask = os.umask(0)
    os.umask(mask)
    assert (tmp_path / "out" / "model.safetensors").stat().st_mode & 0o777 == 0o666 & ~mask


def test_an_output_that_is_taken_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="is a file"):
        output.refuse_occupied(tmp_path / "file")
    with pytest.raises(Refused, match="not empty"):
        output.refuse_occupied(tmp_path)
    with pytest.raises(Refused, match=r"[Nn]ot a directory|is a file|File exists"):
        output.refuse_occupied(tmp_path / "file" / "out")
    output.refuse_occupied(tmp_path / "new" / "out")


@pytest.mark.parametrize(
    ("content", "end"),
    [
        ({"calibrated": False}, ": it has a checkpoint whose scores are not calibrated"),
        ({"calibrated": False, "settings": {"temperature": 1}}, ""),
        ({"calibrated": True}, ""),
        ({}, ""),
        ({"labels": 3}, ""),
    ],
)
def test_an_output_that_is_taken_says_what_ended_the_run_before_with_a_failure(
    tmp_path, content, end
):
    (tmp_path / "manifest.json").write_text(json.dumps(content))
    with pytest.raises(Refused) as refused:
        output.refuse_occupied(tmp_path)
    line = f"--output {tmp_path}: the directory is not empty{end}"
    assert str(refused.value) == line + (", as its model card says" if end else "")


def test_a_disk_without_room_is_refused_before_training(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=50 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    output.refuse_full(tmp_path / "out", 10 << 20)
    with pytest.raises(Refused, match="about 80 MiB needed, 50 MiB free"):
        output.refuse_full(tmp_path / "out", 20 << 20)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "x"),
        RuntimeError("[enforce fail] PytorchStreamWriter failed writing file"),
        ValueError('I/O error: No space left on device (os error 28)"'),
    ],
)
def test_every_library_s_word_for_a_full_disk_is_understood(error):
    assert output.is_full(error)
    assert not output.is_full(OSError(errno.EACCES, "x"))


def test_the_version_is_a_digest_of_weights_and_tokenizer_only(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "tokenizer.json").write_bytes(b"tokenizer")
    version = manifest.version(tmp_path)
    assert version == hashlib.sha256(b"weightstokenizer").hexdigest()[:12]
    (tmp_path / "config.json").write_bytes(b"{}")
    assert manifest.version(tmp_path) == version


def test_a_checkpoint_without_a_manifest_has_its_defaults(tmp_path):
    facts = manifest.read(tmp_path)
    assert (facts.name, facts.temperature, facts.max_length) == (tmp_path.name, 1, None)


def test_a_manifest_may_have_more_and_fewer_fields(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"temperature": 1.5, "new": 1}))
    assert manifest.read(tmp_path).temperature == 1.5


@pytest.mark.parametrize(
    ("content", "line"),
    [("{", "JSON"), ('{"temperature": 0}', "temperature"), ('{"labels": 3}', "labels")],
)
def test_a_damaged_manifest_is_refused(tmp_path, content, line):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(Refused, match=line):
        manifest.read(tmp_path)


@pytest.mark.parametrize("before", [None, "the last one"])
def test_an_interrupted_result_leaves_what_was_there(tmp_path, monkeypatch, before):
    path = tmp_path / "metrics.json"
    if before:
        path.write_text(before)
    write_text = Path.write_text

    def half(self, text, **how):
        write_text(self, text[: len(text) // 2], **how)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "write_text", half)
    with pytest.raises(KeyboardInterrupt):
        output.write_whole(path, "the new one")
    assert [each.read_text() for each in tmp_path.iterdir()] == ([before] if before else [])


def test_a_result_keeps_mode_and_link(tmp_path):
    path, link = tmp_path / "real", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to(path)
    output.write_whole(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o640)
    output.write_whole(link, "newer")
    assert (path.read_text(), link.is_symlink()) == ("newer", True)


@pytest.mark.parametrize("step", ["touch", "replace"])
def test_a_result_that_can_be_put_into_no_place_is_written_in_its_own(tmp_path, monkeypatch, step):
    """A mounted file, a directory of another user, a read-only one."""

    def refuse(*_, **__):
        raise OSError(16, "Device or resource busy")

    path = tmp_path / "mine"
    path.write_text("old")
    monkeypatch.setattr(Path, step, refuse)
    output.write_whole(path, "new")
    assert [each.read_text() for each in tmp_path.iterdir()] == ["new"]


def test_a_result_with_two_names_keeps_both_and_a_long_name_is_written(tmp_path):
    path, other, long = tmp_path / "one", tmp_path / "two", tmp_path / ("n" * 250)
    path.write_text("old")
    other.hardlink_to(path)
    output.write_whole(path, "new")
    assert other.read_text() == "new"
    output.write_whole(long, "new")
    assert long.read_text() == "new"

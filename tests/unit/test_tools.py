"""The programs that tests need: what is said where one is not there."""

import functools
import json
import stat

import pytest

from tests.tools import programs


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for the programs, and an empty PATH."""
    monkeypatch.setattr(programs, "FOLDER", tmp_path)
    monkeypatch.setattr(programs, "BIN", tmp_path / "bin")
    monkeypatch.setattr(programs, "_WHY", tmp_path / "missing.json")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    return tmp_path


def program(place, name, output):
    place.mkdir(parents=True, exist_ok=True)
    file = place / name
    file.write_text(f"#!/bin/sh\necho '{output}'\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)


def test_a_program_that_is_not_there_skips_its_tests_and_says_which(place):
    with pytest.raises(pytest.skip.Exception, match="there is no helm"):
        programs.require("helm")
    program(programs.BIN, "helm", "v3.22.0")
    programs.use()
    programs.require("helm")


def test_what_is_missing_is_told_with_its_reason(place):
    (place / "missing.json").write_text(json.dumps({"helm": "go: no such host"}))
    assert programs.missing() == {
        "actionlint": "it was not fetched",
        "helm": "go: no such host",
        "promtool": "it was not fetched",
        "prometheus": "it was not fetched",
    }
    program(programs.BIN, "promtool", "promtool, version 2.42.0")
    programs.use()
    assert set(programs.missing()) == {"actionlint", "helm", "prometheus"}


def test_what_cannot_be_fetched_is_noted_and_no_error(place, monkeypatch, capsys):
    def fail():
        raise programs.Unavailable("apt-get: no network")

    monkeypatch.setattr(programs, "_prometheus", fail)
    for name, version in (("actionlint", "v1.7.12"), ("helm", "v3.22.0")):
        monkeypatch.setattr(
            programs, f"_{name}", functools.partial(program, programs.BIN, name, version)
        )
    assert programs.main() == 0
    shown = capsys.readouterr().out.splitlines()
    assert sorted(shown) == [
        f"{tool} is not to be had here, its tests will be skipped: apt-get: no network"
        for tool in ("prometheus", "promtool")
    ]
    assert programs.missing() == dict.fromkeys(("promtool", "prometheus"), "apt-get: no network")


def test_what_is_there_in_the_right_version_is_left_alone(place, monkeypatch):
    asked = []
    monkeypatch.setattr(programs, "_actionlint", lambda: asked.append("actionlint"))
    monkeypatch.setattr(programs, "_helm", lambda: asked.append("helm"))
    monkeypatch.setattr(programs, "_prometheus", lambda: asked.append("prometheus"))
    for tool in ("promtool", "prometheus"):
        program(programs.BIN, tool, f"{tool}, version 2.42.0")
    program(programs.BIN, "actionlint", "v1.7.12")
    program(programs.BIN, "helm", "v4.0.1")
    assert programs.fetch() == {}
    assert asked == ["helm"], "another major version is not what the tests are written for"


def test_a_command_that_fails_is_told_by_its_last_line(place):
    command = ["/bin/sh", "-c", "echo first; echo 'the cause ' >&2; exit 3"]
    with pytest.raises(programs.Unavailable, match=r"^sh: the cause$"):
        programs._run(command)


def test_of_the_go_builds_one_that_fails_does_not_keep_the_next_from_its_turn(place, monkeypatch):
    order = []

    def fail():
        order.append("actionlint")
        raise programs.Unavailable("go: no network")

    monkeypatch.setattr(programs, "_actionlint", fail)
    monkeypatch.setattr(programs, "_helm", lambda: order.append("helm"))
    monkeypatch.setattr(programs, "_prometheus", lambda: None)
    assert programs.fetch() == {"actionlint": "go: no network"}
    assert order == ["actionlint", "helm"]


@pytest.mark.parametrize(
    ("version", "used"),
    [("go1.26.8", True), ("go2.0", True), ("go1.24.13", False), ("devel", False)],
)
def test_a_go_that_is_too_old_for_the_modules_counts_as_none(place, version, used):
    assert programs._own_go() is None
    program(programs.BIN, "go", f"go version {version} linux/amd64")
    programs.use()
    assert (programs._own_go() is not None) is used

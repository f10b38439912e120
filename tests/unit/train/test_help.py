"""`--help` as it stands on terminals of several widths."""

import re

import pytest

from train.__main__ import main
from train.settings import COMMANDS


def printed(capsys, monkeypatch, width, *arguments):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(arguments) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("width", [40, 60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_no_word_of_the_help_is_broken(capsys, monkeypatch, width, command):
    text = printed(capsys, monkeypatch, width, command, "--help")
    words = set(text.split())
    for field in COMMANDS[command].model_fields.values():
        assert set(field.description.split()) <= words
    if command != "predict":
        assert "dair-ai/emotion)" in words


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_fits_the_terminal(capsys, monkeypatch, width, command):
    text = printed(capsys, monkeypatch, width, command, "--help")
    assert max(map(len, text.splitlines())) <= width


def test_the_commands_are_told_on_80_columns_with_every_exit_code(capsys, monkeypatch):
    for words in (["--help"], ["-h"], ["help"]):
        text = printed(capsys, monkeypatch, 80, *words)
        assert max(map(len, text.splitlines())) <= 80
        assert re.findall(r"^  (\w+)  +\w", text, re.MULTILINE) == list(COMMANDS)
        assert {"0", "1", "2", "130", "143"} <= set(re.findall(r"\b\d+\b", text))


def test_the_version_is_told(capsys, monkeypatch):
    assert re.fullmatch(r"emotion-train \d+\.\S+\n", printed(capsys, monkeypatch, 80, "--version"))

"""`--recipe`: sets of settings, each of which an option or a variable overrides."""

import os
from pathlib import Path

import pytest

from train.cli import parse
from train.errors import Refused
from train.recipes import RECIPES
from train.settings import RunSettings


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    for name in os.environ:
        if name.startswith("TRAIN_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # which has no .env
    return tmp_path


def read(*words):
    if "best" in words:
        words = (*words, "--teacher", "t")
    return parse(RunSettings, ["--output", "o", *words], command="run")[0]


def test_without_one_a_run_has_the_defaults_and_says_which_recipe_that_is():
    assert read() == read("--recipe", "balanced")
    assert read().recipe == "balanced"
    assert RECIPES["balanced"] == {}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_changes_what_it_names_and_nothing_else(name):
    found, plain = read("--recipe", name).model_dump(), read().model_dump()
    changed = {field for field in found if found[field] != plain[field]}
    assert changed - {"recipe", "teacher"} == set(RECIPES[name])
    assert {field: found[field] for field in RECIPES[name]} == RECIPES[name]


def test_every_place_overrides_a_recipe(elsewhere, monkeypatch):
    assert read("--recipe", "best", "--epochs", "1").epochs == 1
    assert read("--epochs", "1", "--recipe", "best").epochs == 1
    (elsewhere / ".env").write_text("TRAIN_EPOCHS=7")
    assert read("--recipe", "best").epochs == 7
    monkeypatch.setenv("TRAIN_EPOCHS", "8")
    assert read("--recipe", "best").epochs == 8
    monkeypatch.setenv("TRAIN_RECIPE", "fast")
    assert (read().recipe, read().epochs) == ("fast", 8)


def test_a_value_of_a_recipe_is_checked_as_the_users_are():
    with pytest.raises(Refused, match="--epochs: "):
        read("--recipe", "best", "--epochs", "0")


@pytest.mark.parametrize("name", ["quick", "", "Best"])
def test_a_recipe_that_there_is_not_is_one_line_that_names_those_that_there_are(name):
    with pytest.raises(Refused) as refused:
        read("--recipe", name)
    (line,) = str(refused.value).splitlines()
    assert line.startswith("--recipe: ")
    for known in RECIPES:
        assert known in line


def test_from_python_too():
    found = RunSettings(output=Path("o"), recipe="fast", _env_file=None)
    assert found.epochs == RECIPES["fast"]["epochs"]

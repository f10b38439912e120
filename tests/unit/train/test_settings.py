"""The command line and the environment."""

import re

import pytest

from train.cli import parse
from train.errors import Refused
from train.labels import mapping
from train.settings import COMMANDS, EvaluateSettings, PredictSettings, RunSettings


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("TRAIN_OUTPUT", "TRAIN_DATASET", "TRAIN_EPOCHS", "TRAIN_SEED"):
        monkeypatch.delenv(name, raising=False)


def run(*arguments: str) -> RunSettings:
    return parse(RunSettings, arguments, command="run")[0]


def test_the_fixed_options_of_run_are_accepted():
    settings = run(
        *("--dataset", "d", "--base-model", "b", "--output", "o", "--epochs", "2", "--seed", "7")
    )
    assert (settings.dataset, settings.base_model, str(settings.output)) == ("d", "b", "o")
    assert (settings.epochs, settings.seed) == (2, 7)


def test_the_fixed_options_of_evaluate_are_accepted():
    settings, _ = parse(
        EvaluateSettings,
        [
            *("--checkpoint", "c", "--dataset", "f.csv", "--split", "test"),
            *("--json", "m.json", "--predictions", "p.jsonl"),
        ],
        command="evaluate",
    )
    assert str(settings.json_file) == "m.json"
    assert str(settings.predictions_file) == "p.jsonl"
    assert settings.split == "test"


@pytest.mark.parametrize("text", ["a, b", "[1]", '{"a": 1}', '"quoted", he said', "null", "", "1"])
def test_a_sentence_reaches_predict_unchanged(text):
    settings, texts = parse(
        PredictSettings, ["--checkpoint", "c", "--json", text, "b"], command="predict", texts=True
    )
    assert texts == (text, "b")
    assert settings.as_json


def test_the_environment_the_env_file_and_the_command_line_count_in_this_order(
    monkeypatch, tmp_path
):
    (tmp_path / ".env").write_text("TRAIN_SEED=1\nTRAIN_EPOCHS=4\nWORKER_BATCH__MAX_WAIT=1\n")
    monkeypatch.setenv("TRAIN_SEED", "2")
    assert run("--output", "o").seed == 2
    assert run("--output", "o").epochs == 4
    assert run("--output", "o", "--seed", "3").seed == 3


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--epochs", "0"], "--epochs: '0' is not a number above 0"),
        (["--temperature", "0"], "--temperature: '0' is not a number from 0.25 to 10"),
        (["--seed", "x"], "--seed: 'x' is not a whole number from 0"),
        (["--precision", "int3"], "--precision: 'int3' is not one of auto, "),
        (["--class-weights", "sqrt"], "--class-weights: 'sqrt' is not one of none, balanced"),
        (["--max-length", "7"], "--max-length: '7' is not a whole number from 8 to 8192"),
        (["--max-length", "auto"], "--max-length: 'auto' is not a whole number from 8 to 8192"),
        (["--epoch", "3"], "--epoch: there is no such option; did you mean --epochs?"),
        (["--dataset"], "--dataset: a value is missing: a text"),
        (["--dataset="], "--dataset: '' is not a text of at least 1 character"),
    ],
)
def test_a_wrong_option_is_refused_in_one_line(arguments, line):
    with pytest.raises(Refused) as refused:
        run("--output", "o", *arguments)
    assert str(refused.value).startswith(line)
    assert len(str(refused.value).splitlines()) == 1


def test_every_wrong_option_gets_a_line_of_its_own():
    with pytest.raises(Refused) as refused:
        run("--epochs", "-1", "--seed", "-1")
    assert [line.split(":")[0] for line in str(refused.value).splitlines()] == [
        "--output",
        "--epochs",
        "--seed",
    ]


def test_a_misspelt_variable_is_refused_with_the_name_it_resembles(monkeypatch):
    monkeypatch.setenv("TRAIN_EPOHS", "3")
    with pytest.raises(Refused, match=r"TRAIN_EPOHS: there is .*; did you mean TRAIN_EPOCHS\?"):
        run("--output", "o")


def test_a_variable_of_another_command_is_not_refused(monkeypatch):
    monkeypatch.setenv("TRAIN_PREDICTIONS_FILE", "p")
    assert str(run("--output", "o").output) == "o"


def test_every_setting_has_a_line_of_help():
    for settings in COMMANDS.values():
        for name, field in settings.model_fields.items():
            assert field.description, name


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ("", {}),
        ("0=negative, 4=positive", {"0": "negative", "4": "positive"}),
        ("a=b=c", {"a": "b=c"}),
        ('{"1": "good, really", "2": "bad"}', {"1": "good, really", "2": "bad"}),
    ],
)
def test_names_of_labels_are_pairs_or_json(given, names):
    settings = run("--output", "o", "--labels", given)
    assert mapping(settings.labels) == names


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("negative", "--labels: 'negative' is not VALUE=NAME"),
        ("0=", "--labels: '0' needs a name"),
        ("=joy", "--labels: '' needs a name"),
        ("0=a,0=b", "--labels: '0' has two names"),
        ("{0: 1}", "--labels: is not JSON"),
        ('{"0": 1}', "--labels: '0' needs a name that is a text"),
    ],
)
def test_names_of_labels_that_cannot_be_read_are_refused(given, line):
    with pytest.raises(Refused, match=re.escape(line)):
        mapping(given)

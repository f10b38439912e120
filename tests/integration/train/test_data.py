"""What a run makes of a dataset before it trains: a split, rows left out, weights, a length."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.support import models, tiny
from tests.support.families import SERVED, family
from train import manifest
from train.__main__ import main

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

LONG, RARE, CONFLICTS = 3, 10, 6


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A base model, and a dataset with nothing but `train`."""
    folder = tmp_path_factory.mktemp("data")
    shutil.copytree(models.tiny_models(tmp_path_factory) / "base", folder / "base")
    rows = list(dict(tiny.sentences(300)).items())
    rare = [row for row in rows if row[1] == "surprise"]
    rows = [row for row in rows if row not in rare[RARE:]]
    rows += [(f"{text} {'so ' * 70}", label) for text, label in rows[:LONG]]
    rows += [(text, "fear") for text, label in rows if label == "joy"][:CONFLICTS]
    (folder / "data").mkdir()
    (folder / "data" / "train.jsonl").write_text(
        "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    )
    return folder


def train(folder: Path, *options: str, output: str) -> int:
    return main(
        [
            *("run", "--dataset", str(folder / "data"), "--base-model", str(folder / "base")),
            *("--temperature", "1"),
            *("--output", str(folder / output), "--device", "cpu", "--precision", "float32"),
            *("--batch-size", "16", "--learning-rate", "0.01", "--epochs", "1", *options),
        ]
    )


def validation_loss(printed: str) -> float:
    return float(re.search(r"epoch 1: validation loss ([\d.]+)", printed)[1])


def test_a_split_is_made_conflicts_are_left_out_and_rare_labels_weigh_more(place, capsys):
    count = len((place / "data" / "train.jsonl").read_text().splitlines())
    kept = count - 2 * CONFLICTS
    assert train(place, "--drop-conflicts", "--class-weights", "balanced", output="out") == 0
    printed = capsys.readouterr()
    facts = manifest.read(place / "out")
    taken = facts.dataset.rows["validation"]
    for line in (
        f"--drop-conflicts: {2 * CONFLICTS} rows of train left out, the {CONFLICTS} texts with",
        f"no split validation: {taken} of the {kept} rows of train are taken for it (stratified, ",
        f"max length {tiny.POSITIONS} tokens, by the lengths of train; ",
        "class weights: ",
    ):
        assert line in printed.out, line
    assert "label" not in printed.err
    assert facts.dataset.validation_made
    assert facts.dataset.rows == {"train": kept - taken, "validation": taken}
    assert kept / 10 - len(tiny.LABELS) <= taken <= kept / 10 + 1
    assert (facts.settings["drop_conflicts"], facts.settings["class_weights"]) == (True, "balanced")
    assert facts.settings["max_length"] == facts.max_length == tiny.POSITIONS
    assert set(facts.metrics) == {"validation"}
    assert all(row["rows"] for row in facts.metrics["validation"]["labels"].values())
    assert "validation taken from train" in (place / "out" / "report" / "README.md").read_text()

    # The same rows without the weights: another loss, and so another model.
    assert train(place, "--drop-conflicts", output="plain") == 0
    plain = manifest.read(place / "plain")
    assert plain.dataset.fingerprint == facts.dataset.fingerprint
    assert validation_loss(capsys.readouterr().out) != validation_loss(printed.out)
    assert plain.version != facts.version


def test_conflicts_that_are_kept_are_a_warning(place, capsys):
    assert train(place, "--max-length", "24", output="kept") == 0
    printed = capsys.readouterr()
    # None of them was drawn for validation, nor was one of the long texts.
    assert (
        f"emotion-train: warning: train has {CONFLICTS} texts with more than one label, in"
        f" {2 * CONFLICTS} rows; most often fear and joy ({CONFLICTS} texts), such as "
    ) in printed.err
    assert re.search(rf"max length 24 tokens; {LONG} of \d+ texts truncated", printed.out)
    assert manifest.read(place / "kept").max_length == 24


@pytest.mark.parametrize("kind", ["bart", "t5"])
def test_labels_weigh_in_a_model_that_finds_the_end_of_a_text_by_a_token(place, tmp_path, kind):
    """Its loss is not its own any more: it gets no labels."""
    (tmp_path / "data").symlink_to(place / "data")
    family(tmp_path / "base", kind, spread=None, **SERVED[kind])
    options = ("--class-weights", "balanced", "--max-length", "32")
    assert train(tmp_path, *options, output="weighted") == 0


def test_a_label_with_one_text_is_refused_before_a_model_is_loaded(place, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "base").symlink_to(place / "base")
    rows = [("so happy", "joy"), ("so glad", "joy"), ("so rude", "anger"), ("So  rude", "anger")]
    (tmp_path / "data" / "train.jsonl").write_text(
        "".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in rows)
    )
    assert train(tmp_path, output="out") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "has no split validation, and too few texts to take one from train" in line
    assert line.endswith("too few of anger")
    assert not (tmp_path / "out").exists()

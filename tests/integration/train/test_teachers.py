"""`--teacher`: a model learns from the scores of others, which are computed once."""

import json
import shutil

import numpy as np
import pytest

from tests.support import models, tiny
from train import manifest
from train.__main__ import main

pytestmark = pytest.mark.heavy


@pytest.fixture
def place(tmp_path, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("base", "data", "trained"):
        shutil.copytree(models.tiny_models(tmp_path_factory) / name, tmp_path / name)
    return tmp_path


def run(*options, output="out"):
    words = ["--dataset", "data", "--base-model", "base", "--output", output, "--device", "cpu"]
    words += ["--precision", "float32", "--learning-rate", "0.01", "--batch-size", "16"]
    return main(["run", *words, "--temperature", "1", *options])


def with_labels_reversed(folder):
    """The same classifier, whose labels stand in the other order."""
    from safetensors.torch import load_file, save_file

    path = folder / "config.json"
    config = json.loads(path.read_text())
    names = list(reversed(config["id2label"].values()))
    config["id2label"] = dict(enumerate(names))
    config["label2id"] = {name: i for i, name in enumerate(names)}
    path.write_text(json.dumps(config))
    tensors = load_file(folder / "model.safetensors")
    for name in ("classifier.weight", "classifier.bias"):
        tensors[name] = tensors[name].flip(0).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "manifest.json").unlink()


def test_a_model_learns_from_the_teacher_alone_whose_labels_stand_in_another_order(place):
    with_labels_reversed(place / "trained")
    options = ("--teacher", "trained", "--teacher-share", "1", "--teacher-temperature", "0.5")
    assert run(*options, "--epochs", "6") == 0
    assert manifest.read(place / "out").metrics["validation"]["accuracy"] > 0.6


def test_texts_without_labels_are_learned_and_what_was_asked_is_kept(place, capsys):
    rows = [json.dumps({"text": text}) for text, _ in tiny.sentences(60, seed=9)]
    (place / "more.jsonl").write_text("\n".join(rows))
    options = ("--teacher", "trained,trained", "--unlabelled", "more.jsonl", "--outliers",
               "more.jsonl", "--epochs", "1", "--work-dir", "work")  # fmt: skip
    assert run(*options) == 0
    assert "--unlabelled: 60 texts are learned as taught" in capsys.readouterr().out
    (kept,) = (place / "work").glob("teacher-*.npy")
    assert np.load(kept).shape == (240 + 60, 6)
    facts = manifest.read(place / "out")
    assert facts.dataset.rows == {
        "train": 240, "validation": 120, "test": 120, "outliers": 60, "unlabelled": 60,
    }  # fmt: skip
    assert facts.settings["teacher"] == "trained,trained"
    before = kept.stat().st_mtime_ns
    assert run(*options, output="again") == 0
    assert kept.stat().st_mtime_ns == before
    assert "asking the teacher" not in capsys.readouterr().out
    assert manifest.read(place / "again").version == facts.version
    (place / "other").mkdir()
    copied = place / "other" / kept.name
    shutil.copyfile(kept, copied)
    before = copied.stat().st_mtime_ns
    assert run(*options[:-1], "other", "--seed", "7", output="others") == 0
    assert copied.stat().st_mtime_ns == before
    assert list((place / "other").glob("teacher-*")) == [copied]
    with_labels_reversed(place / "trained")
    assert run(*options, output="third") == 2
    assert "belongs to a run with other settings or data" in capsys.readouterr().err


def test_texts_are_mixed_from_those_of_train_and_the_teacher_says_what_they_are(place, capsys):
    options = ("--teacher", "trained", "--recipe", "best", "--epochs", "1", "--work-dir", "work")
    assert run(*options, "--mixed", "2") == 0
    assert (
        "--mixed: 480 texts are mixed from train and learned as taught" in capsys.readouterr().out
    )
    (kept,) = (place / "work").glob("teacher-*.npy")
    assert np.load(kept).shape == (240 + 480, 6)
    facts = manifest.read(place / "out")
    assert facts.dataset.rows["mixed"] == 480
    assert (facts.settings["mixed"], facts.settings["teacher_share"]) == (2, 0.9)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--teacher", "no"], "--teacher no: there is no directory no"),
        (["--teacher", "data"], "--teacher data: there is no config.json in it"),
        (["--teacher", "bare"], "--teacher bare: there is no tokenizer.json in it"),
        (["--unlabelled", "x.jsonl"], "--unlabelled: needs --teacher"),
        (["--mixed", "1"], "--mixed: needs --teacher"),
        (["--recipe", "best"], "--recipe: needs --teacher"),
        (["--teacher", "trained", "--labels", "joy=glee"], "--teacher trained: has the labels"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_in_one_line(place, capsys, options, line):
    (place / "x.jsonl").write_text('{"text": "a"}')
    (place / "bare").mkdir()
    (place / "bare" / "config.json").write_text("{}")
    assert run(*options) == 2
    errors = [each for each in capsys.readouterr().err.splitlines() if "warning" not in each]
    assert len(errors) == 1
    assert line in errors[0]
    assert not (place / "out").exists()

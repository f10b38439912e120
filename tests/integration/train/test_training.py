"""A whole training on a tiny model, and what it leaves behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from tests.support import models, tiny
from tests.support.families import SERVED, family
from tests.support.lazy import Lazy
from train import manifest
from train.__main__ import main

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

torch, transformers = Lazy("torch"), Lazy("transformers")
safetensors = Lazy("safetensors.torch")

ROOT = Path(__file__).resolve().parents[3]
NOTEBOOK = ("My first child is born!", "My father died today", "Go and clean up your room")
LONG = "so happy " * 200


def train(
    folder: Path, *options: str, output: str = "out", data: str = "data", fits: bool = False
) -> int:
    """Its exit code. After so little training on so few sentences no temperature may be the best
    one: only a run that `fits` looks for it."""
    return main(
        [
            *("run", "--dataset", str(folder / data), "--base-model", str(folder / "base")),
            *("--output", str(folder / output), "--device", "cpu", "--precision", "float32"),
            *("--batch-size", "16", "--learning-rate", "0.01", *options),
            *(() if fits else ("--temperature", "1")),
        ]
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    for name in ("base", "data"):
        shutil.copytree(models.tiny_models(tmp_path_factory) / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    return models.tiny_models(tmp_path_factory) / "trained"


def listed(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_is_what_the_contract_says(trained):
    assert listed(trained) == [
        *("config.json", "manifest.json", "model.safetensors", "report"),
        *("tokenizer.json", "tokenizer_config.json"),
    ]
    config = json.loads((trained / "config.json").read_text())
    assert config["id2label"] == {str(i): label for i, label in enumerate(tiny.LABELS)}
    assert config["label2id"] == {label: i for i, label in enumerate(tiny.LABELS)}
    assert config["problem_type"] == "single_label_classification"
    tokenizer = Tokenizer.from_file(str(trained / "tokenizer.json"))
    assert tokenizer.padding is None
    assert tokenizer.truncation["max_length"] == tiny.POSITIONS


def test_the_manifest_names_where_the_model_comes_from(trained):
    facts = json.loads((trained / "manifest.json").read_text())
    assert facts["name"] == "tiny-emotions"
    assert facts["version"] == manifest.version(trained)
    assert facts["labels"] == list(tiny.LABELS)
    assert facts["max_length"] == tiny.POSITIONS
    assert facts["dataset"]["rows"] == {"train": 240, "validation": 120, "test": 120}
    assert sum(facts["label_distribution"].values()) == pytest.approx(1)
    assert (facts["temperature"], facts["calibrated"]) == (0.5, False)
    assert set(facts["metrics"]) == {"validation", "test"}
    assert facts["files"] == manifest.file_digests(trained)
    assert facts["settings"]["learning_rate"] == 0.01
    # A checkpoint travels, and does not name the directories of the user who made it.
    assert str(trained.parent) not in "".join(
        path.read_text() for path in trained.rglob("*") if path.suffix in {".json", ".md"}
    )


def test_the_model_has_learned(trained):
    facts = json.loads((trained / "manifest.json").read_text())
    assert facts["metrics"]["test"]["accuracy"] > 0.8


def test_plain_transformers_gives_the_labels_and_scores_that_predict_gives(trained, capsys):
    texts = [*(text for text, _ in tiny.sentences(60, seed=5)), *NOTEBOOK]
    assert main(["predict", "--checkpoint", str(trained), "--json", *texts]) == 0
    ours = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    plain = transformers.pipeline("text-classification", model=str(trained), top_k=None)(texts)
    temperature = manifest.read(trained).temperature
    for text, mine, theirs in zip(texts, ours, plain, strict=True):
        assert mine["text"] == text
        assert mine["label"] == theirs[0]["label"]
        assert mine["score"] == max(mine["scores"].values())
        cooled = {answer["label"]: answer["score"] ** (1 / temperature) for answer in theirs}
        expected = {label: score / sum(cooled.values()) for label, score in cooled.items()}
        assert mine["scores"] == pytest.approx(expected, abs=1e-4)


def test_the_report_has_every_picture_and_the_card_shows_them(trained):
    report = trained / "report"
    pictures = ["confusion.png", "curves.png", "reliability.png"]
    assert listed(report) == ["README.md", *pictures[:2], "mistakes.jsonl", *pictures[2:]]
    card = (report / "README.md").read_text()
    for picture in pictures:
        assert f"({picture})" in card
        assert (report / picture).read_bytes().startswith(b"\x89PNG")
    assert "On the test split" in card


def test_evaluate_repeats_the_figures_of_the_manifest(trained, place, capsys, tmp_path):
    arguments = ["evaluate", "--checkpoint", str(trained), "--dataset", str(place / "data")]
    files = ["--json", str(tmp_path / "m.json"), "--predictions", str(tmp_path / "p.jsonl")]
    assert main([*arguments, *files, "--report", str(tmp_path / "report")]) == 0
    assert "test, 120 rows" in capsys.readouterr().out
    figures = json.loads((tmp_path / "m.json").read_text())
    expected = manifest.read(trained).metrics["test"]
    for name in ("accuracy", "macro_f1", "ece"):
        assert figures[name] == pytest.approx(expected[name])
    assert (figures["rows"], list(figures["labels"])) == (120, list(tiny.LABELS))
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [(row["text"], row["target"]) for row in rows] == tiny.sentences(120, seed=2)
    right = sum(row["label"] == row["target"] for row in rows)
    assert right / 120 == pytest.approx(figures["accuracy"])
    assert listed(tmp_path / "report") == ["confusion.png", "mistakes.jsonl", "reliability.png"]


def test_a_file_without_labels_gets_predictions_and_no_metrics(trained, capsys, tmp_path):
    (tmp_path / "f.csv").write_text(f"text\nso happy\n{LONG}\n")
    arguments = ["evaluate", "--checkpoint", str(trained), "--dataset", str(tmp_path / "f.csv")]
    assert main([*arguments, "--predictions", str(tmp_path / "p.jsonl")]) == 0
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"text", "label", "score"}] * 2
    assert main([*arguments, "--json", str(tmp_path / "m.json")]) == 2
    assert "no metrics" in capsys.readouterr().err


def test_a_run_prints_what_the_reference_notebook_shows(place, capsys):
    assert train(place, "--epochs", "1", output="shown") == 0
    printed = capsys.readouterr().out
    for part in (
        "Dataset",
        "sadness",
        "tokens  [CLS]",
        "step 15/15",
        "validation loss",
        "best epoch 1 by macro F1 on validation",
        "temperature",
        "test: 120 rows",
        "precision  recall",
        "Most confident mistakes",
        "saved",
    ):
        assert part in printed, part


@pytest.mark.parametrize("kind", ["xlnet", "t5", "bart"])
def test_a_model_of_another_kind_is_trained_and_the_worker_gives_its_scores(
    place, tmp_path, kind, capsys
):
    """One that pads on the left, and two that also return what their encoder made."""
    from train import classify
    from train.machine import Machine
    from worker.model.load import load

    shutil.copytree(place / "data", tmp_path / "data")
    family(tmp_path / "base", kind, spread=None, **SERVED[kind])
    assert train(tmp_path, "--epochs", "1", "--max-length", "32") == 0
    printed = capsys.readouterr().out
    assert "it has a head of its own" in printed
    assert ("texts are padded on the left" in printed) == (kind == "xlnet")
    texts = [text for text, _ in tiny.sentences(20, seed=3)]
    expected = classify.load(
        tmp_path / "out", on=Machine(device="cpu", name="CPU", precision="float32")
    ).scores(texts)
    worker = load(path=tmp_path / "out", device="cpu", dtype="float32", threads=1)
    found = worker.run([ids for ids, _ in worker.tokenize(texts)])
    assert found == pytest.approx(expected, abs=1e-5)


def test_string_labels_and_no_test_split(place, capsys, tmp_path):
    (tmp_path / "base").symlink_to(place / "base")
    tiny.dataset(tmp_path / "data", splits=("train", "validation"), names=False)
    assert train(tmp_path, "--epochs", "0.5", "--max-length", "24") == 0
    assert "there is no test split with labels: these are the metrics on validation" in (
        capsys.readouterr().out
    )
    facts = manifest.read(tmp_path / "out")
    assert facts.labels == tuple(sorted(tiny.LABELS))
    assert facts.max_length == 24


def test_one_seed_gives_one_model(place):
    for output in ("once", "again"):
        assert train(place, "--epochs", "1", "--seed", "3", output=output) == 0
    assert manifest.version(place / "once") == manifest.version(place / "again")


def measured(folder: Path, checkpoint: str, *options: str) -> dict:
    file = folder / f"{checkpoint}.json"
    arguments = ["--checkpoint", str(folder / checkpoint), "--json", str(file), *options]
    assert main(["evaluate", *arguments]) == 0
    return json.loads(file.read_text())


def test_the_temperature_is_fitted_and_the_error_on_validation_cross_fitted(place, capsys):
    folder = tiny.dataset(place / "noisy", splits=("train", "validation"), rows=240)
    # One of eight is wrong: the best temperature is far from its bounds.
    lines = (folder / "validation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows[::8]:
        row["label"] = (row["label"] + 1) % len(tiny.LABELS)
    (folder / "validation.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert train(place, "--epochs", "6", data="noisy", output="fitted", fits=True) == 0
    printed = capsys.readouterr()
    facts = manifest.read(place / "fitted")
    assert 0.3 < facts.temperature < 5
    assert facts.calibrated
    assert f"temperature {facts.temperature:.4f}, fitted on validation" in printed.out
    figures = facts.metrics["validation"]
    assert figures["ece_cross_fitted"]
    assert figures["ece_interval"][0] <= figures["ece"] <= figures["ece_interval"][1]
    # What evaluate measures is the published scores.
    published = measured(place, "fitted", "--dataset", str(folder), "--split", "validation")
    assert not published["ece_cross_fitted"]
    assert published["ece"] != figures["ece"]
    for name in ("accuracy", "accuracy_interval", "macro_f1_interval", "ece_uncalibrated"):
        assert published[name] == pytest.approx(figures[name])
    card = (place / "fitted" / "report" / "README.md").read_text()
    for text in (printed.out, card):
        assert "expected calibration error, cross-fitted" in text
        assert f"{figures['ece']:.4f}" in text
        assert "{:.4f} to {:.4f}".format(*figures["ece_interval"]) in text
    assert f"| {facts.temperature:.4f}, fitted on validation |" in card


def test_a_temperature_at_its_bound_fails_with_the_checkpoint_saved(place, capsys):
    work = ("--epochs", "6", "--work-dir", str(place / "easy-work"))
    assert train(place, *work, output="easy", fits=True) == 1
    printed = capsys.readouterr()
    why = (
        "the temperature would be 0.25, its lower bound: validation (120 rows) is labelled without"
        " a mistake, so it is too small or too easy"
    )
    assert printed.err.splitlines()[-1] == (
        f"emotion-train: the scores are not calibrated: {why}: give a larger validation split, or"
        " pass --temperature 1 to accept uncalibrated scores; the checkpoint is saved"
    )
    assert f"saved {place / 'easy'}" in printed.out
    assert f"temperature 1.0000, not calibrated: {why}" in printed.out
    facts = manifest.read(place / "easy")
    assert (facts.temperature, facts.calibrated) == (1, False)
    assert facts.files == manifest.file_digests(place / "easy")
    assert listed(place / "easy" / "report") == [
        *("README.md", "confusion.png", "curves.png", "mistakes.jsonl", "reliability.png"),
    ]
    card = (place / "easy" / "report" / "README.md").read_text()
    assert f"| 1.0000, not calibrated: {why} |" in card
    figures = measured(place, "easy", "--dataset", str(place / "data"))
    assert figures["ece"] == figures["ece_uncalibrated"]
    # Started again by a Job, it does not train, and says what the matter is.
    assert train(place, *work, output="easy", fits=True) == 2
    assert capsys.readouterr().err == (
        f"emotion-train: --output {place / 'easy'}: the directory is not empty: it has a checkpoint"
        " whose scores are not calibrated, as its model card says\n"
    )
    assert train(place, *work, output="accepted") == 0
    printed = capsys.readouterr()
    assert "resuming from checkpoint-90" in printed.out
    assert "step " not in printed.out
    assert "temperature 1.0000, as given; nothing was fitted" in printed.out
    assert "not calibrated" not in printed.err
    assert manifest.version(place / "accepted") == facts.version


@pytest.mark.parametrize("more", [(), ("--freeze-layers", "1")])
def test_a_killed_run_resumes_from_its_last_epoch(place, tmp_path, capsys, more):
    work = tmp_path / "work"
    options = ("--epochs", "2", *more, "--work-dir", str(work))
    first, second, third = (str(tmp_path / name) for name in ("first", "second", "third"))
    assert train(place, *options, output=first) == 0
    # As if the kill had come in the second epoch.
    shutil.rmtree(max(work.glob("checkpoint-*"), key=lambda path: int(path.name[11:])))
    assert train(place, *options, output=second) == 0
    assert "resuming from checkpoint-15" in capsys.readouterr().out
    assert manifest.version(Path(first)) == manifest.version(Path(second))
    assert train(place, "--epochs", "3", "--work-dir", str(work), output=third) == 2
    assert "other settings or data" in capsys.readouterr().err


def test_a_cpu_trains_with_the_cheaper_dropout(place, monkeypatch):
    from train import dropout

    trains = []
    forward = dropout.Dropout.forward

    def watched(self, values):
        trains.append(self.training)
        return forward(self, values)

    monkeypatch.setattr(dropout.Dropout, "forward", watched)
    assert train(place, "--epochs", "1", output="cheaper") == 0
    assert True in trains


def test_a_normalizer_is_part_of_the_checkpoint(place):
    from transformers import AutoTokenizer

    from train import classify
    from train.machine import Machine

    assert train(place, "--epochs", "1", "--normalizer", "tweets", output="tweets") == 0
    saved = place / "tweets"
    facts = manifest.read(saved)
    assert facts.normalizer == "tweets-1"
    assert facts.settings["normalizer"] == "tweets"
    assert "| normalizer | tweets-1 |" in (saved / "report" / "README.md").read_text()
    ours = Tokenizer.from_file(str(saved / "tokenizer.json"))
    theirs = AutoTokenizer.from_pretrained(str(saved))
    model = classify.load(saved, on=Machine(device="cpu", name="", precision="float32"))
    tidy, typed = "i feel glad", "@mia_84 i feel #glaaaad https://t.co/x7Qp2"
    assert ours.encode(typed).ids == ours.encode(tidy).ids
    assert theirs(typed)["input_ids"] == ours.encode(tidy).ids
    assert set(theirs(typed)) == {"input_ids", "token_type_ids", "attention_mask"}
    assert model.takes_types
    assert model.logits([typed]).tolist() == model.logits([tidy]).tolist()


def test_frozen_layers_keep_their_weights_and_the_checkpoint_is_whole(place, capsys):
    options = ("--epochs", "8", "--freeze-layers", "1")
    assert train(place, *options, output="frozen") == 0
    printed = capsys.readouterr().out
    assert "lower layers frozen: 1" in printed
    assert "outputs of the frozen layers for" in printed
    base = safetensors.load_file(place / "base" / "model.safetensors")
    saved = safetensors.load_file(place / "frozen" / "model.safetensors")
    lower = [name for name in base if name.startswith(("embeddings.", "encoder.layer.0."))]
    assert len(lower) == 21
    for name in lower:
        assert torch.equal(base[name], saved[f"bert.{name}"]), name
    upper = "encoder.layer.1.output.dense.weight"
    assert not torch.equal(base[upper], saved[f"bert.{upper}"])
    facts = json.loads((place / "frozen" / "manifest.json").read_text())
    assert facts["settings"]["freeze_layers"] == 1
    # The saved files give what the cut model gave, and more than a guess at six labels.
    measured = facts["metrics"]["validation"]["accuracy"]
    assert f"accuracy {measured:.4f}" in printed
    assert measured > 0.3


def test_more_frozen_layers_than_there_are_leave_nothing(place, capsys):
    before = listed(place)
    assert train(place, "--freeze-layers", "3", output="too-many") == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "warning: " not in line)
    assert line == f"emotion-train: --freeze-layers 3: base model '{place / 'base'}' has 2 layers"
    assert listed(place) == before


def test_no_space_while_training_is_one_line_and_leaves_nothing(place, capsys, monkeypatch):
    def full(*_args, **_options):
        raise OSError(28, os.strerror(28))

    before = listed(place)
    monkeypatch.setattr(transformers.Trainer, "save_model", full)
    assert train(place, "--epochs", "1", output="full") == 2
    assert "no space left on the device" in capsys.readouterr().err
    assert listed(place) == before


@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "ended by SIGTERM")],
)
def test_an_interrupted_run_says_so_and_leaves_nothing(place, number, code, line):
    before = listed(place)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "train", "run", "--dataset", str(place / "data")),
            *("--base-model", str(place / "base"), "--output", str(place / "stopped")),
            *("--epochs", "1000", "--device", "cpu"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"},
    )
    try:
        # By then epochs are being saved, so there is something to clear up.
        assert any("epoch 1:" in line for line in process.stdout)
        process.send_signal(number)
        _, errors = process.communicate(timeout=120)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == code
    assert errors.splitlines()[-1] == f"emotion-train: {line}"
    assert "Traceback" not in errors
    assert listed(place) == before


def test_the_checkpoint_is_kept_before_pictures_are_drawn_and_whatever_they_do(
    place, capsys, monkeypatch
):
    def fails(*_):
        assert (place / "undrawn" / "manifest.json").is_file()
        raise MemoryError

    monkeypatch.setattr("train.plots.confusion", fails)
    assert train(place, "--epochs", "1", output="undrawn") == 0
    printed = capsys.readouterr()
    assert "1 epoch of batches of 16" in printed.out
    assert "confusion.png could not be drawn: MemoryError" in printed.err
    assert listed(place / "undrawn" / "report") == [
        *("README.md", "curves.png", "mistakes.jsonl", "reliability.png"),
    ]

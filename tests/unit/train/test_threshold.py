"""`emotion-train threshold`, on a tiny checkpoint whose answers are known."""

import json
import re
import shutil

import pytest

from tests.support import models, tiny
from tests.support.lazy import Lazy
from train import manifest
from train.__main__ import main

classify = Lazy("train.classify")  # imports torch
machine = Lazy("train.machine")

pytestmark = pytest.mark.heavy
WRONG = 40
"""Rows of 400 that have another label than the checkpoint's: those with its lowest scores."""


@pytest.fixture
def place(tmp_path, tmp_path_factory, monkeypatch):
    """A checkpoint, rows on which its sure answers are right, and others outside."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(models.untrained(tmp_path_factory), tmp_path / "c")
    texts = [text for text, _ in tiny.sentences(400, seed=5)]
    on = machine.choose("cpu", "float32")
    scores = classify.load(tmp_path / "c", on=on).scores(texts)
    answers, order = scores.argmax(axis=1), scores.max(axis=1).argsort()
    for row in order[:WRONG]:
        answers[row] = (answers[row] + 1) % len(tiny.LABELS)
    rows = [
        json.dumps({"text": text, "label": tiny.LABELS[answer]})
        for text, answer in zip(texts, answers, strict=True)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "o.csv").write_text("text\nzz qq\nthe the the\n", encoding="utf-8")
    return tmp_path


def test_thresholds_are_printed_and_written_and_predict_tells_them(place, capsys):
    (place / "c" / "manifest.json").write_text('{"temperature": 1.5, "more": [1]}')
    words = ("--checkpoint", "c", "--dataset", "rows.jsonl", "--precision", "0.97")
    assert main(["threshold", *words, "--outside", "o.csv"]) == 0
    printed = capsys.readouterr().out
    assert re.search("coverage +precision +least score +most energy +--outside abstained", printed)
    assert "o.csv: abstains on" in printed
    facts = json.loads((place / "c" / "manifest.json").read_text())
    assert (facts["temperature"], facts["more"]) == (1.5, [1])
    entry = manifest.read(place / "c").abstain
    assert entry.precision >= 0.95
    assert 0.8 < entry.coverage < 0.96  # 90 % are right, and the wrong ones have low scores
    assert (entry.split, entry.rows) == ("rows.jsonl", 400)

    texts = [json.loads(line)["text"] for line in (place / "rows.jsonl").read_text().splitlines()]
    main(["predict", "--checkpoint", "c", "--json", *texts])
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    because = [line.get("abstained_because") for line in lines]
    assert 1 - sum(map(bool, because)) / 400 == pytest.approx(entry.coverage, abs=0.03)
    for line, why in zip(lines, because, strict=True):
        assert ("abstained" in line) == bool(why)
        if why != "out_of_domain":
            assert (round(line["score"], 6) < entry.score) == (why == "low_score")
    assert set(because) == {None, "low_score", "out_of_domain"}
    main(["predict", "--checkpoint", "c", texts[because.index("low_score")]])
    assert "low_score" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--precision", "0.999999"], "no thresholds make 100.0% of the answers right (of"),
        (["--dataset", "few.jsonl"], "few.jsonl: 3 rows; thresholds need 100: give a larger split"),
        (["--dataset", "o.csv"], "o.csv: has no labels (column 'label'), and thresholds are"),
        (["--outside", "no.csv"], "no.csv: no such file"),
        (["--outside", "rows.txt"], "rows.txt: a file must be jsonl, csv, tsv or parquet"),
        (["--precision", "98"], "--precision: '98' is not a number"),
    ],
)
def test_what_a_user_can_mend_is_one_line_and_the_manifest_is_as_it_was(place, capsys, words, line):
    rows = (place / "rows.jsonl").read_text().splitlines()
    (place / "few.jsonl").write_text("\n".join(rows[:3]))
    flipped = [json.loads(row) for row in rows]
    for number in range(0, 400, 7):  # wrong answers whatever their score
        flipped[number]["label"] = tiny.LABELS[number % 6]
    (place / "rows.jsonl").write_text("\n".join(map(json.dumps, flipped)))
    assert main(["threshold", "--checkpoint", "c", "--dataset", "rows.jsonl", *words]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert line in said
    assert not (place / "c" / "manifest.json").exists()

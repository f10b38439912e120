"""What is trained on beside a dataset: `--augment` and `--outliers`."""

import json
from pathlib import Path

import pytest

from train import added
from train.dataset import Columns, Corpus, Split
from train.errors import Refused
from train.settings import RunSettings

LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def corpus(labels=LABELS):
    return Corpus(
        name="d",
        labels=labels,
        labels_made_up=False,
        splits={
            "train": Split(name="train", texts=("a", "b"), targets=(0, 1)),
            "validation": Split(name="validation", texts=("Hot tea",), targets=(1,)),
        },
    )


def written(name, *rows):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def with_added(of=None, **options):
    settings = RunSettings(output=Path("o"), _env_file=None, **options)
    return added.with_added(of or corpus(), settings, columns=Columns())


def test_nothing_is_added_unless_it_is_asked_for():
    found = with_added()
    assert found == corpus()
    assert added.training_rows(found) == (("a", "b"), (0, 1))


def test_labels_of_a_file_are_those_of_the_dataset_whatever_their_order():
    file = written("f.jsonl", {"text": "c", "label": "surprise"}, {"text": "d", "label": "joy"})
    found = with_added(augment=file)
    assert added.training_rows(found) == (("a", "b", "c", "d"), (0, 1, 5, 1))
    assert found.splits == corpus().splits  # nothing is measured on them
    assert found.fingerprint() != corpus().fingerprint()


def test_texts_of_no_label_stand_behind_the_others_and_do_not_count_as_a_label():
    labelled = written("f.jsonl", {"text": "c", "label": "fear"})
    none = written("n.jsonl", {"text": "x", "label": "joy"}, {"text": "y"})
    texts, targets = added.training_rows(with_added(augment=labelled, outliers=none))
    assert texts == ("a", "b", "c", "x", "y")
    assert targets == (0, 1, 4, None, None)
    assert added.counts_of(targets, labels=6) == (1, 1, 0, 0, 1, 0)


def test_a_name_that_is_given_to_a_label_holds_for_the_file_too():
    settings = RunSettings(output=Path("o"), _env_file=None, augment="f.jsonl")
    written("f.jsonl", {"text": "c", "label": 4})
    found = added.with_added(corpus(), settings, columns=Columns(names={"4": "joy"}))
    assert found.added["augment"].targets == (1,)


def test_texts_that_the_dataset_has_are_told():
    file = written("n.jsonl", {"text": "hot  TEA"}, {"text": "y"}, {"text": "B"})
    found = with_added(outliers=file)
    assert found.notes == ("--outliers: 3 texts of no label are trained on",)
    trained, measured = added.doubts(found)
    assert trained.startswith("--outliers: 1 row of train with a text that it has too: they are")
    assert measured.startswith("--outliers: 1 row of validation with a text that it has too: the")


def test_the_packaged_texts_are_those_of_this_project():
    found = with_added(augment="packaged", outliers="packaged")
    assert {name: len(split) for name, split in found.added.items()} == {
        "augment": 5_250,
        "outliers": 1_250,
    }
    assert added.counts_of(found.added["augment"].targets, labels=6) == (875,) * 6


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"augment": "f.jsonl"}, "row 1 has the label 'sad'; the dataset has sadness, joy,"),
        ({"augment": "i.jsonl"}, "--augment i.jsonl: row 1 has the label '1'; the dataset has"),
        ({"augment": "n.jsonl"}, "--augment n.jsonl: has no labels; texts of no label are for"),
        ({"outliers": "e.jsonl"}, "e.jsonl, row 2: the text is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(options, line):
    written("f.jsonl", {"text": "c", "label": "sad"})
    written("i.jsonl", {"text": "c", "label": 1}, {"text": "c", "label": 0})
    written("n.jsonl", {"text": "c"})
    written("e.jsonl", {"text": "c"}, {"text": " "})
    with pytest.raises(Refused) as caught:
        with_added(**options)
    assert line in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_the_packaged_sentences_need_their_labels():
    with pytest.raises(
        Refused, match=r"augment packaged: row 1 has the label .*; the dataset has up, down"
    ):
        with_added(corpus(("up", "down")), augment="packaged")


@pytest.mark.parametrize("option", ["augment", "outliers"])
@pytest.mark.parametrize("name", ["no.csv", "x" * 300, "~nobody-here/a.csv"])
def test_a_file_that_is_not_there_is_refused_before_anything_is_read(option, name):
    settings = RunSettings(output=Path("o"), _env_file=None, **{option: name})
    with pytest.raises(Refused, match=f"--{option} {name}: no such file"):
        added.refuse_missing(settings)

"""Datasets, good and bad, as they lie on disk."""

import json

import pytest

from tests.support import tiny
from train.dataset import Columns, load_for_evaluation, load_for_training
from train.errors import Refused

COLUMNS = Columns()
ROW = '{"text": "so happy", "label": "joy"}\n{"text": "so rude", "label": "anger"}\n'


def write(path, **files):
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        data = content if isinstance(content, bytes) else content.encode()
        (path / name.replace("__", ".")).write_bytes(data)
    return path


def train(path):
    return load_for_training(str(path), columns=COLUMNS)


def test_a_readme_names_the_integer_labels(tmp_path):
    corpus = train(tiny.dataset(tmp_path / "d"))
    assert corpus.labels == tiny.LABELS
    assert {name: len(split) for name, split in corpus.splits.items()} == {
        "train": 96,
        "validation": 48,
        "test": 48,
    }
    assert corpus.counts("train") == (16,) * 6
    text, label = tiny.sentences(1, seed=0)[0]
    assert corpus.splits["train"].texts[0] == text
    assert corpus.labels[corpus.splits["train"].targets[0]] == label


def test_string_labels_are_named_in_sorted_order_in_every_split(tmp_path):
    corpus = train(tiny.dataset(tmp_path / "d", names=False))
    assert corpus.labels == tuple(sorted(tiny.LABELS))
    assert not corpus.labels_made_up
    _, label = tiny.sentences(1, seed=1)[0]
    assert corpus.labels[corpus.splits["validation"].targets[0]] == label


def test_nameless_integers_become_label_0_and_so_on(tmp_path):
    rows = '{"text": "a", "label": 2}\n{"text": "b", "label": 0}\n'
    corpus = train(write(tmp_path, train__jsonl=rows, validation__jsonl=rows))
    assert corpus.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert corpus.labels_made_up


def test_the_fingerprint_is_that_of_the_rows_and_not_of_the_place(tmp_path):
    first = train(tiny.dataset(tmp_path / "a"))
    assert first.fingerprint() == train(tiny.dataset(tmp_path / "b")).fingerprint()
    other = train(tiny.dataset(tmp_path / "c", rows=102))
    assert first.fingerprint() != other.fingerprint()


def test_csv_and_parquet_read_like_jsonl(tmp_path):
    import pandas as pd

    frame = pd.DataFrame([json.loads(line) for line in ROW.splitlines()])
    corpora = []
    for suffix in ("csv", "parquet"):
        folder = tmp_path / suffix
        folder.mkdir()
        for split in ("train", "validation"):
            path = folder / f"{split}.{suffix}"
            frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path)
        corpora.append(train(folder))
    corpora.append(train(write(tmp_path / "j", train__jsonl=ROW, validation__jsonl=ROW)))
    assert len({corpus.fingerprint() for corpus in corpora}) == 1


def test_a_csv_tweet_that_says_null_is_a_text(tmp_path):
    rows = "text,label\nnull,joy\nNA,anger\n"
    corpus = train(write(tmp_path, train__csv=rows, validation__csv=rows))
    assert corpus.splits["train"].texts == ("null", "NA")


def test_a_test_split_without_labels_is_kept_for_predictions_only(tmp_path):
    hidden = '{"text": "a", "label": -1}\n'
    named = tiny.dataset(tmp_path / "d")
    (named / "test.jsonl").write_text(hidden)
    assert train(named).splits["test"].targets is None


BAD = {
    "no data": ({}, "doesn't contain any data files"),
    "no validation": ({"train__jsonl": ROW}, "has no split validation; it has train"),
    "empty file": ({"train__jsonl": "", "validation__jsonl": ROW}, "train.jsonl: is empty"),
    "empty split": (
        {"train__csv": "text,label\na,joy\nb,anger\n", "validation__csv": "text,label\n"},
        "a split has no rows",
    ),
    "missing column": (
        {"train__jsonl": ROW.replace("text", "txt"), "validation__jsonl": ROW.replace("text", "t")},
        "need the same columns; one has t, label, txt",
    ),
    "missing everywhere": (
        {"train__csv": "a,label\nx,joy\n", "validation__csv": "a,label\nx,joy\n"},
        "train: has no column 'text'; it has a, label (choose one with --text-column)",
    ),
    "label outside the names": (
        {
            "README__md": tiny.readme(["train", "validation"]),
            "train__jsonl": '{"text": "a", "label": 6}\n',
            "validation__jsonl": '{"text": "a", "label": 1}\n',
        },
        "train, row 1: label 6 is not between 0 and 5",
    ),
    "unknown in validation": (
        {"train__jsonl": ROW, "validation__jsonl": '{"text": "x", "label": "love"}\n'},
        "validation, row 1: label 'love' is not one of anger, joy",
    ),
    "one label": (
        {"train__csv": "text,label\na,joy\n", "validation__csv": "text,label\na,joy\n"},
        "has only one label (joy)",
    ),
    "empty text": (
        {"train__jsonl": ROW + '{"text": "  ", "label": "joy"}\n', "validation__jsonl": ROW},
        "train, row 3: the text is empty",
    ),
    "null text": (
        {"train__jsonl": ROW, "validation__jsonl": ROW + '{"text": null, "label": "joy"}\n'},
        "validation, row 3: the text is missing",
    ),
    "null label": (
        {"train__jsonl": ROW + '{"text": "a", "label": null}\n', "validation__jsonl": ROW},
        "train, row 3: expected one label, found nothing",
    ),
    "several labels": (
        {
            "train__jsonl": '{"text": "a", "label": [1, 2]}\n',
            "validation__jsonl": '{"text": "a", "label": [1]}\n',
        },
        "train, row 1: expected one label, found a list",
    ),
    "broken json": (
        {"train__jsonl": ROW + '{"text":\n', "validation__jsonl": ROW},
        "JSON parse error",
    ),
    "not parquet": ({"train__parquet": "no", "validation__parquet": "no"}, "Parquet"),
    "not utf-8": (
        {"train__jsonl": b'{"text": "\xff", "label": "joy"}\n' * 2, "validation__jsonl": ROW},
        "not UTF-8",
    ),
    "mixed formats": ({"train__csv": "text,label\na,b\n", "validation__jsonl": ROW}, "format"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_directory_is_refused_in_one_line(tmp_path, name):
    files, line = BAD[name]
    with pytest.raises(Refused) as refused:
        train(write(tmp_path / "d", **files))
    assert line in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1


def test_a_directory_that_is_not_there_is_no_hub_name(tmp_path):
    with pytest.raises(Refused, match="no such directory"):
        train(tmp_path / "nowhere")


def evaluate(path, *, split=None, labels=("anger", "joy")):
    return load_for_evaluation(str(path), split=split, columns=COLUMNS, labels=labels)


def test_evaluation_takes_test_else_validation_else_what_is_named(tmp_path):
    with_test = tiny.dataset(tmp_path / "a")
    without = tiny.dataset(tmp_path / "b", splits=("train", "validation"))
    assert evaluate(with_test, labels=tiny.LABELS).name == "test"
    assert evaluate(without, labels=tiny.LABELS).name == "validation"
    assert len(evaluate(without, split="train", labels=tiny.LABELS)) == 96
    with pytest.raises(Refused, match="has no split test; it has train, validation"):
        evaluate(without, split="test", labels=tiny.LABELS)


def test_names_of_the_dataset_find_their_place_among_the_labels_of_the_checkpoint(tmp_path):
    turned = tuple(reversed(tiny.LABELS))
    split = evaluate(tiny.dataset(tmp_path / "d"), labels=turned)
    _, label = tiny.sentences(1, seed=2)[0]
    assert turned[split.targets[0]] == label


def test_integers_in_a_file_index_the_labels_of_the_checkpoint(tmp_path):
    (tmp_path / "f.jsonl").write_text('{"text": "a", "label": 1}\n{"text": "b", "label": 0}\n')
    assert evaluate(tmp_path / "f.jsonl").targets == (1, 0)


def test_a_file_without_labels_has_no_targets(tmp_path):
    (tmp_path / "f.csv").write_text("text\nhello\n")
    assert evaluate(tmp_path / "f.csv").targets is None


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("f.txt", "hello", "must be jsonl, csv or parquet"),
        ("f.jsonl", "", "f.jsonl: is empty"),
        ("f.jsonl", '{"text": "a", "label": 2}\n', "row 1: label 2 is not between 0 and 1"),
        ("f.jsonl", '{"text": "a", "label": "fear"}\n', "label 'fear' is not one of anger, joy"),
    ],
)
def test_a_bad_file_is_refused(tmp_path, name, content, line):
    (tmp_path / name).write_text(content)
    with pytest.raises(Refused) as refused:
        evaluate(tmp_path / name)
    assert line in str(refused.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(Refused, match="no such file"):
        evaluate(tmp_path / "f.jsonl")

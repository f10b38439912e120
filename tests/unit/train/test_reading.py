"""What is said of the files of a dataset, and what it warns of."""

import json

from tests.support import tiny
from train import reading
from train.dataset import Columns, load_for_training

ROWS = "".join(json.dumps({"text": f"t {i}", "label": "ab"[i % 2]}) + "\n" for i in range(4))


def read(path, **files):
    path.mkdir(exist_ok=True)
    for name, content in files.items():
        (path / name.replace("__", ".")).write_text(content)
    return load_for_training(str(path), columns=Columns())


def doubts(corpus):
    splits = list(corpus.splits.values())
    return [*reading.doubts_of_labels(corpus), *reading.doubts(splits)]


def test_every_file_is_named_with_its_rows(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.jsonl").write_text(ROWS)
    (tmp_path / "data" / "dev.jsonl").write_text(ROWS[: ROWS.index("\n") + 1])
    corpus = load_for_training(str(tmp_path), columns=Columns())
    assert reading.files(corpus.splits.values()) == [
        ("train", "data/train.jsonl", 4),
        ("validation", "data/dev.jsonl", 1),
    ]
    assert doubts(corpus) == []


def test_a_copy_beside_the_file_is_doubted(tmp_path):
    (tmp_path / "train (1).jsonl").write_text(ROWS)
    corpus = read(tmp_path, train__jsonl=ROWS, validation__jsonl=ROWS.replace("t ", "v "))
    assert len(corpus.splits["train"]) == 8
    assert doubts(corpus) == [
        "train.jsonl (train) is a copy of train (1).jsonl (train): its rows count twice",
        "train is read from 2 files, train (1).jsonl, train.jsonl: is each a part of it?",
    ]


def test_an_older_version_beside_the_file_is_doubted(tmp_path):
    (tmp_path / "train-old.jsonl").write_text(ROWS.replace("t ", "o "))
    corpus = read(tmp_path, train__jsonl=ROWS, validation__jsonl=ROWS.replace("t ", "v "))
    assert doubts(corpus) == [
        "train is read from 2 files, train-old.jsonl, train.jsonl: is each a part of it?"
    ]


def test_a_test_split_that_is_the_training_split_is_doubted(tmp_path):
    corpus = read(
        tmp_path, train__jsonl=ROWS, validation__jsonl=ROWS.replace("t ", "v "), test__jsonl=ROWS
    )
    assert doubts(corpus) == [
        "test.jsonl (test) is a copy of train.jsonl (train): its rows count twice"
    ]


def test_numbered_parts_are_not_doubted(tmp_path):
    for part in range(3):
        text = ROWS.replace("t ", f"part {part} ")
        (tmp_path / f"train-0000{part}-of-00003.jsonl").write_text(text)
    corpus = read(tmp_path, validation__jsonl=ROWS)
    assert len(corpus.splits["train"]) == 12
    assert doubts(corpus) == []


def test_texts_with_line_breaks_are_doubted_with_their_lines(tmp_path):
    rows = 'text,label\n"fine",a\n"opens here,a\nswallowed,b\nand closed here",b\nx,b\n'
    corpus = read(tmp_path, train__csv=rows, validation__csv="text,label\nx,a\n")
    assert len(corpus.splits["train"]) == 3
    (line,) = doubts(corpus)
    assert line.startswith(
        "train.csv: 1 text with line breaks, the longest in row 2 (lines 3 to 5)"
    )


def test_labels_without_names_without_rows_and_alike_are_doubted(tmp_path):
    numbers = read(
        tmp_path / "n", train__csv="text,label\na,0\nb,4\n", validation__csv="text,label\na,0\n"
    )
    (line,) = doubts(numbers)
    assert line.startswith("the dataset has no label names, so they are 0, 4: name them with")
    cases = ROWS.replace('"b"', '"A"')
    corpus = read(tmp_path / "c", train__jsonl=cases, validation__jsonl=cases[:30])
    assert doubts(corpus) == [
        "labels A, a differ in upper and lower case only, and are as many labels"
    ]
    path = tiny.dataset(tmp_path / "d", splits=("train", "validation"))
    lines = (path / "train.jsonl").read_text().splitlines(keepends=True)
    (path / "train.jsonl").write_text("".join(line for line in lines if '"label": 5' not in line))
    missing = load_for_training(str(path), columns=Columns())
    assert doubts(missing) == ["train has no row with the label surprise: no text will get it"]

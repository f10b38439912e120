"""The split `validation` that is taken from `train`."""

import random
import re
from collections import Counter

import pytest

from train import copies, holdout
from train.dataset import Columns, Corpus, Split, load_for_training
from train.errors import Refused

LABELS = ("anger", "joy", "love")


def corpus(rows, **others):
    return Corpus(
        name="d",
        labels=LABELS,
        labels_made_up=False,
        splits={
            "train": Split(
                name="train",
                texts=tuple(text for text, _ in rows),
                targets=tuple(label for _, label in rows),
            ),
            **others,
        },
    )


def many(*counts):
    """As many rows of each label, each with a text of its own, in mixed order."""
    rows = [(f"{label} {n}", label) for label, count in enumerate(counts) for n in range(count)]
    random.Random(1).shuffle(rows)
    return rows


def sides(made):
    return [
        list(zip(made.splits[name].texts, made.splits[name].targets, strict=True))
        for name in ("train", "validation")
    ]


def test_a_tenth_of_each_label_is_taken_and_no_row_is_lost():
    rows = many(600, 300, 100)
    made = holdout.with_validation(corpus(rows), seed=42)
    assert made.counts("validation") == (60, 30, 10)
    assert made.counts("train") == (540, 270, 90)
    train, validation = sides(made)
    assert sorted(train + validation) == sorted(rows)
    # Either side is in the order of the rows.
    assert train == [row for row in rows if row not in set(validation)]
    assert validation == [row for row in rows if row in set(validation)]


def test_it_is_told_and_marked_and_the_test_split_stays():
    test = Split(name="test", texts=("x",), targets=(0,))
    made = holdout.with_validation(corpus(many(600, 300, 100), test=test), seed=7)
    (note,) = made.notes
    assert note == (
        "no split validation: 100 of the 1,000 rows of train are taken for it (stratified, seed 7)"
    )
    assert made.validation_made
    assert list(made.splits) == ["train", "validation", "test"]
    assert made.splits["validation"].name == "validation"
    assert made.splits["test"] is test


def test_one_seed_takes_the_same_rows_and_another_takes_others():
    of = corpus(many(60, 30, 10))
    one, again, other = (holdout.with_validation(of, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.fingerprint() != other.fingerprint()


def test_each_label_is_on_both_sides_however_few_rows_it_has():
    made = holdout.with_validation(corpus(many(95, 3, 2)), seed=42)
    assert made.counts("validation") == (9, 1, 1)
    assert made.counts("train") == (86, 2, 1)


@pytest.mark.parametrize("seed", range(20))
def test_all_copies_of_a_text_are_on_one_side(seed):
    source = random.Random(seed)
    rows = many(60, 30, 10)
    rows += [(f" {text.upper()} ", source.randrange(3)) for text, _ in source.sample(rows, 40)]
    source.shuffle(rows)
    made = holdout.with_validation(corpus(rows), seed=seed)
    assert copies.find(made).shared == {}
    assert all(made.counts("train"))
    assert all(made.counts("validation"))
    assert len(made.splits["validation"]) <= len(rows) // 10


def test_a_text_of_many_rows_is_not_taken_for_a_few():
    made = holdout.with_validation(corpus([("again", 0)] * 50 + many(50, 50)), seed=42)
    assert "again" not in made.splits["validation"].texts
    assert made.counts("validation") == (10, 5, 0)


def test_of_two_texts_of_a_label_one_is_taken_though_it_has_more_rows_than_its_share():
    made = holdout.with_validation(corpus([("a", 0)] * 9 + [("b", 0)] * 8 + many(0, 20)), seed=42)
    assert Counter(made.splits["validation"].texts)["b"] == 8


def test_never_more_than_ten_thousand_are_taken(monkeypatch):
    monkeypatch.setattr(holdout, "MOST", 20)
    made = holdout.with_validation(corpus(many(600, 300, 100)), seed=42)
    assert made.counts("validation") == (12, 6, 2)
    made = holdout.with_validation(corpus(many(9_990, 9, 2)), seed=42)
    assert made.counts("validation") == (19, 1, 1)


@pytest.mark.parametrize(
    ("rows", "few"),
    [
        (many(20, 20, 1), "love"),
        (many(1, 20, 1), "anger, love"),
        ([*many(20, 20), ("a", 2), ("A ", 2)], "love"),
        # Both texts of love are those of a label that is rarer still.
        ([*many(20), ("a", 1), ("a", 2), ("b", 1), ("b", 2), ("c", 2)], "love"),
    ],
)
def test_a_label_with_fewer_than_two_texts_is_refused_with_what_to_do(rows, few):
    with pytest.raises(Refused) as refused:
        holdout.with_validation(corpus(rows), seed=42)
    assert str(refused.value) == (
        "d: has no split validation, and too few texts to take one from train: add two different"
        f" texts of each label, or a split validation; too few of {few}"
    )


def test_a_label_that_train_does_not_have_needs_no_texts():
    assert holdout.with_validation(corpus(many(20, 20)), seed=42).counts("validation") == (2, 2, 0)


def test_the_files_of_train_are_still_named_and_the_other_splits_that_are_not_read(tmp_path):
    rows = "".join(f'{{"text": "t {n}", "label": "{"ab"[n % 2]}"}}\n' for n in range(40))
    for name in ("train", "odd"):
        (tmp_path / f"{name}.jsonl").write_text(rows)
    parts = "".join(f"  - split: {name}\n    path: {name}.jsonl\n" for name in ("train", "odd"))
    (tmp_path / "README.md").write_text(
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{parts}---\n"
    )
    read = load_for_training(str(tmp_path), columns=Columns())
    assert list(read.splits) == ["train"]
    made = holdout.with_validation(read, seed=42)
    assert [part.file for part in made.splits["train"].parts] == ["train.jsonl"]
    assert made.splits["validation"].parts == ()
    assert made.notes[0] == "splits that are not read: odd"
    assert re.match(r"no split validation: 4 of the 40 rows", made.notes[1])

"""Texts that occur more than once: what counts as one, what is said of them, what is left out."""

import io

import pytest
from rich.console import Console

from train import copies, summary
from train.dataset import Corpus, Split
from train.errors import Refused
from train.printer import Printer

LABELS = ("anger", "joy", "love")
ANGER, JOY, LOVE = range(3)


def split(name, *rows):
    return Split(
        name=name,
        texts=tuple(text for text, _ in rows),
        targets=tuple(label for _, label in rows),
    )


def corpus(*train, **others):
    return Corpus(
        name="d",
        labels=LABELS,
        labels_made_up=False,
        splits={
            "train": split("train", *train),
            **{name: split(name, *rows) for name, rows in others.items()},
        },
    )


def described(of, capsys):
    """What is printed below the tables, and the warnings."""
    console = Console(file=io.StringIO(), width=200)
    summary.describe_dataset(of, Printer(console=console))
    printed = console.file.getvalue().splitlines()
    end = next(at for at, line in enumerate(printed) if line.split()[:1] == ["rows"])
    warnings = capsys.readouterr().err.splitlines()
    return printed[end + 1 :], [line.removeprefix("emotion-train: warning: ") for line in warnings]


@pytest.mark.parametrize("other", ["so happy", "  so \t happy\n", "SO Happy", "so\u00a0happy"])
def test_white_space_and_case_make_no_other_text(other):
    assert copies.rows_by_text(["so happy", "b", other]) == {"so happy": [0, 2], "b": [1]}


@pytest.mark.parametrize("other", ["so happy!", "sohappy", "so hàppy"])
def test_anything_else_makes_another_text(other):
    assert len(copies.rows_by_text(["so happy", other])) == 2


def test_nothing_is_said_where_nothing_occurs_twice(capsys):
    of = corpus(("a", ANGER), ("b", JOY), ("c", LOVE), validation=[("d", JOY)], test=[("e", JOY)])
    assert copies.find(of) == copies.Copies(texts=0, rows=0, conflicts=None, shared={})
    assert described(of, capsys) == ([], [])


def test_a_text_that_train_has_twice_is_counted(capsys):
    of = corpus(("a", ANGER), ("A ", ANGER), ("b", JOY), ("a", ANGER), ("c", LOVE), ("B", JOY))
    assert described(of, capsys) == (["train has 2 texts more than once, in 5 rows"], [])


def test_texts_with_several_labels_are_told_with_the_two_that_most_of_them_have(capsys):
    of = corpus(
        *[("a", ANGER), ("a", JOY), ("b", JOY), ("b", LOVE), ("b", JOY), ("c", LOVE), ("c", JOY)],
        *[("d", JOY), ("d", JOY), ("e", ANGER)],
    )
    found = copies.find(of).conflicts
    assert found == copies.Conflicts(
        texts=3, rows=frozenset(range(7)), pair=(JOY, LOVE), pair_texts=2, example="b"
    )
    printed, warnings = described(of, capsys)
    assert printed == ["train has 4 texts more than once, in 9 rows"]
    (warning,) = warnings
    assert warning == (
        "train has 3 texts with more than one label, in 7 rows; most often joy and love"
        ' (2 texts), such as "b": --drop-conflicts leaves them out'
    )


def test_an_example_is_short_and_in_one_line(capsys):
    text = "\x1b[31mso\nhappy " + "very " * 90
    _, (warning,) = described(corpus((text, JOY), (text, LOVE), ("a", ANGER)), capsys)
    assert warning.isprintable()
    assert len(warning) < 250


def test_a_split_that_shares_texts_with_train_is_told_with_the_labels_that_differ(capsys):
    of = corpus(
        *[("a", ANGER), ("b", JOY), ("c", LOVE)],
        validation=[("A", JOY), ("b", JOY), ("new", JOY), ("b", LOVE)],
        test=[("c", LOVE)],
    )
    assert copies.find(of).shared == {
        "validation": copies.Shared(rows=3, relabelled=2),
        "test": copies.Shared(rows=1, relabelled=0),
    }
    said = "with a text that train has too"
    assert described(of, capsys)[1] == [
        f"{what}: the metrics on {split} are not of new texts alone"
        for what, split in (
            (f"3 rows of validation {said}, 2 of them with another label", "validation"),
            (f"1 row of test {said}", "test"),
        )
    ]


def test_a_split_without_labels_shares_texts_too():
    of = corpus(("a", ANGER), ("b", JOY))
    hidden = Split(name="test", texts=("a", "z"), targets=None)
    found = copies.find(Corpus(name="d", labels=LABELS, labels_made_up=False,
                               splits={**of.splits, "test": hidden}))  # fmt: skip
    assert found.shared == {"test": copies.Shared(rows=1, relabelled=0)}


def test_conflicts_are_left_out_whole_and_copies_with_one_label_are_kept(capsys):
    of = corpus(
        *[("a", ANGER), ("b", JOY), ("B", JOY), ("A", LOVE), ("c", LOVE)], validation=[("a", JOY)]
    )
    left = copies.without_conflicts(of)
    assert left.splits["train"].texts == ("b", "B", "c")
    assert left.splits["train"].targets == (JOY, JOY, LOVE)
    assert left.splits["validation"] == of.splits["validation"]
    assert left.fingerprint() != of.fingerprint()
    assert described(left, capsys)[0] == [
        "--drop-conflicts: 2 rows of train left out, the 1 text with more than one label",
        "train has 1 text more than once, in 2 rows",
    ]


def test_who_drops_conflicts_where_there_are_none_is_told_so():
    of = corpus(("a", ANGER), ("b", JOY))
    left = copies.without_conflicts(of)
    assert left.splits == of.splits
    assert left.notes == ("--drop-conflicts: no text of train has more than one label",)


@pytest.mark.parametrize("rest", [[], [("b", JOY)]])
def test_conflicts_whose_loss_leaves_one_label_are_refused_in_one_line(rest):
    of = corpus(("a", ANGER), ("a", JOY), *rest)
    with pytest.raises(Refused, match=r"^--drop-conflicts: [01] rows? of ") as refused:
        copies.without_conflicts(of)
    assert "\n" not in str(refused.value)

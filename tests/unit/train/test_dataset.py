"""Datasets, good and bad, as they lie on disk."""

import json
import re

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


def test_a_dataset_may_have_no_validation_and_a_split_that_is_not_read_is_named(tmp_path):
    path = tiny.dataset(tmp_path / "d", splits=("train", "extra", "test"))
    corpus = train(path)
    assert list(corpus.splits) == ["train", "test"]
    assert corpus.notes == ("splits that are not read: extra",)
    assert not corpus.validation_made


def test_a_part_of_a_split_keeps_the_order_that_is_given(tmp_path):
    split = train(tiny.dataset(tmp_path / "d")).splits["train"]
    part = split.only([5, 2])
    assert part.texts == (split.texts[5], split.texts[2])
    assert part.targets == (split.targets[5], split.targets[2])
    assert (part.name, part.parts) == (split.name, split.parts)


def labelled(*labels):
    """Lines of jsonl, one for each label."""
    return "".join(
        json.dumps({"text": f"text {row}", "label": label}) + "\n"
        for row, label in enumerate(labels)
    )


def test_nameless_integers_become_label_0_and_so_on(tmp_path):
    rows = labelled(2, 0, 1)
    corpus = train(write(tmp_path, train__jsonl=rows, validation__jsonl=rows))
    assert corpus.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    assert corpus.labels_made_up


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ((4, 0, 4), ("0", "4")),
        ((1, 5, 3, 2, 4), ("1", "2", "3", "4", "5")),
        ((1, -1, 0), ("-1", "0", "1")),
        ((True, False), ("false", "true")),
        ((1.0, 0.0), ("LABEL_0", "LABEL_1")),
        ((1.5, 0.5, 2.0), ("0.5", "1.5", "2")),
        ((2**70, 7), ("7", str(2**70))),
        ((10**15, 3), ("3", str(10**15))),
        (("10", "9", "2"), ("2", "9", "10")),
        ((" joy", "joy ", "anger"), ("anger", "joy")),
    ],
)
def test_the_distinct_values_are_the_labels(tmp_path, labels, names):
    rows = labelled(*labels)
    corpus = train(write(tmp_path, train__jsonl=rows, validation__jsonl=rows))
    assert corpus.labels == names
    assert all(corpus.counts("train"))


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("4", "0"), ("0", "4")),
        (("-1", "1", "0"), ("-1", "0", "1")),
        (("1.0", "0.0"), ("LABEL_0", "LABEL_1")),
        (("True", "False"), ("False", "True")),
        (("0", "1"), ("LABEL_0", "LABEL_1")),
        (("0", "joy"), ("0", "joy")),
    ],
)
def test_the_distinct_values_of_csv_are_the_labels(tmp_path, labels, names):
    rows = "text,label\n" + "".join(f"so,{label}\n" for label in labels)
    corpus = train(write(tmp_path, train__csv=rows, validation__csv=rows))
    assert corpus.labels == names


def test_names_are_given_to_values_and_two_values_may_have_one(tmp_path):
    rows = labelled(0, 2, 4)
    path = write(tmp_path, train__jsonl=rows, validation__jsonl=rows)
    names = {"0": "negative", "2": "negative", "4": "positive"}
    corpus = load_for_training(str(path), columns=Columns(names=names))
    assert corpus.labels == ("negative", "positive")
    assert corpus.splits["train"].targets == (0, 0, 1)
    assert not corpus.labels_made_up
    with pytest.raises(Refused, match="no row has the label '5'; there are 0, 2, 4"):
        load_for_training(str(path), columns=Columns(names={"5": "positive"}))


def test_a_test_split_of_minus_ones_has_labels_where_minus_one_is_a_class(tmp_path):
    rows = labelled(-1, 0, 1)
    path = write(tmp_path, train__jsonl=rows, validation__jsonl=rows, test__jsonl=labelled(-1, -1))
    assert train(path).splits["test"].targets == (0, 0)


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


HEADLESS = (
    ': its first line is taken for the names of the columns: "i feel sad", "0"; if that is a row'
)
BOTH = "has no columns 'text' and 'label'; it has"


@pytest.mark.parametrize(
    ("file", "content", "line"),
    [
        ("csv", "i feel sad,0\nso happy,1\n", HEADLESS),
        ("csv", "i feel sad;0\nso happy;1\n", HEADLESS),
        ("csv", "i feel sad,0\n", HEADLESS),  # nothing is left of it but a header
        ("tsv", "i feel sad\t0\nso happy\t1\n", HEADLESS),
        (
            "csv",
            "i feel sad, really;0\nhappy;1\n",
            'the header 2 fields ("i feel sad", "really;0")',
        ),
        ("csv", f'"sad {"very " * 40}\nso",0\nb,1\n', ' ...", "0"; if that is a row'),
        (
            "csv",
            "Text,Label\na,0\nb,1\n",
            f"{BOTH} Text, Label (--text-column Text --label-column L",
        ),
        ("csv", "id,TEXT,label\n1,a,0\n2,b,1\n", "it has id, TEXT, label (--text-column TEXT)"),
        (
            "jsonl",
            '{"text ": "a", "label": 1}\n',
            """it has "text ", label (--text-column 'text ')""",
        ),
        (
            "jsonl",
            '{"tweet": "a", "sentiment": 1}\n',
            f"{BOTH} tweet, sentiment (choose with --text-",
        ),
        ("jsonl", '{"a\\nb": "a", "label": 1}\n', 'it has "a\\nb", label (choose one with --text-'),
    ],
)
def test_columns_that_are_not_there_are_told_with_those_that_are(tmp_path, file, content, line):
    write(tmp_path, **{f"train__{file}": content, f"validation__{file}": content})
    with pytest.raises(Refused) as refused:
        train(tmp_path)
    with pytest.raises(Refused) as unmeasured:
        load_for_evaluation(
            str(tmp_path / f"train.{file}"), split=None, columns=COLUMNS, labels=("0", "1")
        )
    for each in (refused, unmeasured):
        assert line in str(each.value)
        assert "\n" not in str(each.value)


def test_a_header_with_white_space_and_several_marks_of_unicode_is_read(tmp_path):
    rows = "\ufeff\ufeff text , label\na,joy\nb,anger\n"
    corpus = train(write(tmp_path, train__csv=rows, validation__csv=rows))
    assert corpus.splits["train"].texts == ("a", "b")


@pytest.mark.parametrize(
    ("content", "notes"),
    [
        (
            '{"text": "a", "tag": 1}\n',
            ("f.jsonl: has no column 'label'; it has text, tag (choose one with --label-column)",),
        ),
        ('{"text": "a"}\n', ()),
    ],
)
def test_evaluation_says_where_labels_may_be(tmp_path, content, notes):
    write(tmp_path, f__jsonl=content)
    split = load_for_evaluation(
        str(tmp_path / "f.jsonl"), split=None, columns=COLUMNS, labels=("joy",)
    )
    assert split.targets is None
    assert split.notes == notes


BAD = {
    "no data": ({}, "doesn't contain any data files"),
    "no train": ({"validation__jsonl": ROW}, "has no split train; it has validation"),
    "empty file": ({"train__jsonl": "", "validation__jsonl": ROW}, "train.jsonl: is empty"),
    "empty split": (
        {"train__csv": "text,label\na,joy\nb,anger\n", "validation__csv": "text,label\n"},
        "validation: has no rows",
    ),
    "missing column": (
        {"train__jsonl": ROW, "validation__jsonl": ROW.replace("text", "t")},
        "validation: has no column 'text'; it has t, label (choose one with --text-column)",
    ),
    "blank label in jsonl": (
        {"train__jsonl": labelled(1, "", 0), "validation__jsonl": labelled(1)},
        "train, row 2: the label is blank",
    ),
    "blank labels in csv": (
        {
            "train__csv": "text,label\na,0\nb,\nc,1\nd, \n",
            "validation__csv": "text,label\na,0\n",
        },
        "train, row 2: the label is blank (2 of 4 rows have none)",
    ),
    "blank label in validation": (
        {"train__jsonl": ROW, "validation__jsonl": labelled("joy", " ")},
        "validation, row 2: the label is blank",
    ),
    "one integer label": (
        {"train__jsonl": labelled(1, 1), "validation__jsonl": labelled(1)},
        "has only one label (1) in train",
    ),
    "one of the named labels": (
        {
            "README__md": tiny.readme(["train", "validation"]),
            "train__jsonl": labelled(1, 1),
            "validation__jsonl": labelled(1, 2),
        },
        "has only one label (joy) in train",
    ),
    "texts and numbers": (
        {"train__jsonl": labelled("joy", 3), "validation__jsonl": ROW},
        "some labels are strings and some are numbers (rows 1 and 2)",
    ),
    "identifiers": (
        {"train__jsonl": labelled(*range(10**6, 10**6 + 300)), "validation__jsonl": ROW},
        "column 'label' has 300 different values in 300 rows, so it holds no classes",
    ),
    "half a character": (
        {"train__jsonl": labelled("joy", "\ud800"), "validation__jsonl": ROW},
        "train, row 2: the label is not valid Unicode",
    ),
    "a label of two lines": (
        {"train__jsonl": labelled("joy", "a\nb"), "validation__jsonl": ROW},
        "train, row 2: the label contains a line break",
    ),
    "unclosed quote": (
        {
            "train__csv": 'text,label\nfine,joy\n"no end,joy\nnext,anger\nlast,joy\n',
            "validation__csv": "text,label\na,joy\n",
        },
        "train.csv, lines 3 to 5: a quote that opens a field is not closed",
    ),
    "unclosed quote before a quoted text": (
        {
            "train__csv": 'text,label\n"no end,joy\nnext,anger\n"one, two",joy\n',
            "validation__csv": "text,label\na,joy\n",
        },
        "train.csv, lines 2 to 4: text follows a closing quote",
    ),
    "a comma in a text": (
        {
            "train__csv": "text,label\noh, well,joy\nno,anger\n",
            "validation__csv": "text,label\na,joy\n",
        },
        "train.csv, line 2: has 3 fields and the header 2 fields (text, label), separated by co",
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
        ("f.txt", "hello", "must be jsonl, csv, tsv or parquet"),
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


TWEETS = '{0}text{1}label\n"a{1} b"{1}joy\nNA{1}anger\n'


@pytest.mark.parametrize(("suffix", "separator"), [("tsv", "\t"), ("csv", ";"), ("csv", "|")])
@pytest.mark.parametrize("folder", ["", "data"])
def test_other_separators_and_folders_read_alike(tmp_path, suffix, separator, folder):
    rows = TWEETS.format("\ufeff", separator)
    write(tmp_path / "d")
    write(tmp_path / "d" / folder, **{f"{s}__{suffix}": rows for s in ("train", "validation")})
    corpus = train(tmp_path / "d")
    assert corpus.labels == ("anger", "joy")
    assert corpus.splits["train"].texts == (f"a{separator} b", "NA")
    (file,) = (tmp_path / "d" / folder).glob("train.*")
    assert evaluate(file).texts == (f"a{separator} b", "NA")


def test_quotes_of_a_file_of_tabs_may_be_part_of_its_texts(tmp_path):
    rows = 'text\tlabel\n"never closed\tjoy\nthen\tanger\nends here"\tjoy\n'
    (tmp_path / "f.tsv").write_text(rows)
    split = evaluate(tmp_path / "f.tsv")
    assert split.texts == ('"never closed', "then", 'ends here"')
    assert split.targets == (1, 0, 1)


def test_texts_of_csv_are_texts_also_where_they_are_numbers(tmp_path):
    (tmp_path / "f.csv").write_text("text,label\n123,joy\n1.50,anger\ntrue,joy\n")
    assert evaluate(tmp_path / "f.csv").texts == ("123", "1.50", "true")


def test_an_empty_file_in_a_folder_is_refused_as_one_beside_the_readme(tmp_path):
    write(tmp_path / "d")
    write(tmp_path / "d" / "data", train__jsonl=ROW, validation__jsonl="")
    with pytest.raises(Refused, match=r"validation\.jsonl: is empty"):
        train(tmp_path / "d")


def test_one_of_several_configurations_is_chosen(tmp_path):
    parts = "".join(
        f"- config_name: {name}\n  data_files:\n"
        f"  - split: train\n    path: {name}.jsonl\n"
        f"  - split: validation\n    path: {name}.jsonl\n"
        for name in ("short", "long")
    )
    path = write(
        tmp_path / "d",
        README__md=f"---\nconfigs:\n{parts}---\n",
        short__jsonl=ROW,
        long__jsonl=ROW + labelled("fear"),
    )
    corpus = load_for_training(str(path), columns=Columns(config="long"))
    assert corpus.labels == ("anger", "fear", "joy")
    with pytest.raises(Refused, match="choose one of its configs with --dataset-config: short, lo"):
        train(path)
    with pytest.raises(Refused, match="choose one of its configs with --dataset-config: short, lo"):
        load_for_training(str(path), columns=Columns(config="medium"))


@pytest.mark.parametrize(
    ("answers", "targets"),
    [(("ANGER", "Joy"), (1, 0)), (("LABEL_0", "LABEL_1"), (0, 1)), (("x", "joy", "anger"), (1, 2))],
)
def test_named_data_find_the_labels_of_a_checkpoint(tmp_path, answers, targets):
    path = write(
        tmp_path / "d",
        README__md=tiny.readme(["test"], labels=("joy", "anger")),
        test__jsonl=labelled(0, 1),
    )
    assert evaluate(path, labels=answers).targets == targets


def test_what_no_label_of_the_checkpoint_resembles_is_named_by_hand(tmp_path):
    (tmp_path / "f.jsonl").write_text(labelled("happy", "angry"))
    with pytest.raises(Refused, match=r"label 'happy' is not one of LABEL_0, LABEL_1; .* happy=LA"):
        evaluate(tmp_path / "f.jsonl", labels=("LABEL_0", "LABEL_1"))
    split = load_for_evaluation(
        str(tmp_path / "f.jsonl"),
        split=None,
        columns=Columns(names={"happy": "LABEL_1", "angry": "LABEL_0"}),
        labels=("LABEL_0", "LABEL_1"),
    )
    assert split.targets == (1, 0)


def test_a_name_that_the_checkpoint_has_not_is_refused(tmp_path):
    (tmp_path / "f.jsonl").write_text(labelled("happy"))
    with pytest.raises(Refused, match="happy=joyous: the checkpoint has no label 'joyous'; it has"):
        load_for_evaluation(
            str(tmp_path / "f.jsonl"),
            split=None,
            columns=Columns(names={"happy": "joyous"}),
            labels=("anger", "joy"),
        )


def test_numbers_are_the_labels_of_a_checkpoint_that_was_trained_on_numbers(tmp_path):
    (tmp_path / "f.jsonl").write_text(labelled(4, 0))
    assert evaluate(tmp_path / "f.jsonl", labels=("0", "4")).targets == (1, 0)
    (tmp_path / "g.jsonl").write_text(labelled(True, False))
    assert evaluate(tmp_path / "g.jsonl", labels=("False", "True")).targets == (1, 0)


RECORDS = "text,label\ni feel happy,joy\ni feel sad,sadness\n"


def test_lines_of_csv_may_end_in_carriage_returns_alone(tmp_path):
    for name in ("train", "validation"):
        (tmp_path / f"{name}.csv").write_bytes(RECORDS.replace("\n", "\r").encode())
    corpus = load_for_training(str(tmp_path), columns=Columns())
    assert list(corpus.splits["train"].texts) == ["i feel happy", "i feel sad"]
    assert corpus.labels == ("joy", "sadness")


@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("train.csv", RECORDS.encode("utf-16"), "is UTF-16: save it as UTF-8"),
        ("train.csv", RECORDS.encode("utf-16-le"), "is UTF-16: save it as UTF-8"),
        ("train.csv", RECORDS.encode("utf-16-be"), "is UTF-16: save it as UTF-8"),
        ("train.tsv", RECORDS.replace(",", "\t").encode("utf-16"), "is UTF-16"),
        ("train.jsonl", b"\xff\xfe{\x00}\x00\n\x00", "is UTF-16: save it as UTF-8"),
        ("train.csv", b"text,label,label\na,x,y\nb,y,x\n", "has two columns 'label'"),
        ("train.csv", b"text, text,label\na,b,x\nb,a,y\n", "has two columns 'text'"),
        (
            "train.jsonl",
            b'{"text": "a", "label": "x", "label": "y"}\n',
            "line 1: JSON parse error: 'label' is given twice in one object",
        ),
    ],
    ids=["16", "16-le", "16-be", "16-tsv", "16-jsonl", "columns", "stripped", "keys"],
)  # fmt: skip
def test_a_file_that_can_be_read_in_two_ways_is_refused(tmp_path, name, content, line):
    (tmp_path / name).write_bytes(content)
    (tmp_path / name.replace("train", "validation")).write_bytes(content)
    with pytest.raises(Refused, match=re.escape(line)):
        load_for_training(str(tmp_path), columns=Columns())


def test_two_columns_of_one_name_that_nobody_asks_for_do_no_harm(tmp_path):
    for name in ("train", "validation"):
        (tmp_path / f"{name}.csv").write_text("text,label,,\na,x,1,2\nb,y,3,4\n")
    assert load_for_training(str(tmp_path), columns=Columns()).labels == ("x", "y")


def test_of_several_files_one_without_rows_is_named(tmp_path):
    rows = "text,label\n" + "".join(f"t{n},{n % 2}\n" for n in range(4))
    for name, content in {"train-1": "\n\n", "train-2": rows, "validation": rows}.items():
        (tmp_path / f"{name}.csv").write_text(content)
    with pytest.raises(Refused, match=r"train, .*train-1\.csv: has no rows"):
        load_for_training(str(tmp_path), columns=COLUMNS)


def test_a_column_that_cannot_be_typed_and_one_of_two_alike_is_not_advised(tmp_path):
    path = tmp_path / "rows.jsonl"
    for row in ({"text\n": "a", "label": "0"}, {"Text": "a", "TEXT": "b", "label": "0"}):
        path.write_text(json.dumps(row) + "\n")
        with pytest.raises(Refused) as refused:
            evaluate(path, labels=("0", "1"))
        line = str(refused.value)
        assert "--text-column" in line
        assert "--text-column T" not in line
        assert line.isprintable()

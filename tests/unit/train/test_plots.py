"""Pictures: any number of labels in any script, within bounds, and never at the price of a run."""

import random
import struct
import subprocess
import sys

import pytest

from tests.support.lazy import Lazy
from tests.tools.tables import ROOT

pytestmark = pytest.mark.heavy

plots = Lazy("train.plots")
fonts = Lazy("train.fonts")


def size(path):
    """Width and height of a PNG, in pixels."""
    return struct.unpack(">II", path.read_bytes()[16:24])


def counts(labels):
    source = random.Random(0)
    return [[source.randint(0, 5) for _ in labels] for _ in labels]


@pytest.mark.parametrize(
    "labels",
    [
        ("$", "joy"),
        ("$5 to $10", "cost_$_{x"),
        ("$\\frac$", "\\undefined"),
        ("a^b", "100%"),
    ],
)
def test_labels_are_drawn_as_they_are_written_and_never_as_formulas(tmp_path, labels, monkeypatch):
    drawn = []
    monkeypatch.setattr("train.plots._save", lambda figure, _: drawn.append(figure))
    plots.confusion(counts(labels), labels, tmp_path / "c.png")
    (axes,) = drawn[0].axes
    ticks = [*axes.get_xticklabels(), *axes.get_yticklabels()]
    assert [tick.get_text() for tick in ticks] == [*labels, *labels]
    assert not any(tick.get_parse_math() or tick.get_usetex() for tick in ticks)


def test_a_picture_of_many_labels_has_bounded_size_and_parts(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("train.plots._save", lambda figure, _: drawn.append(figure))
    for many in (77, 150, 600):
        labels = [f"label {i}" for i in range(many)]
        plots.confusion(counts(labels), labels, tmp_path / "c.png")
    for figure in drawn:
        axes = figure.axes[0]
        assert max(figure.get_size_inches()) <= 20
        assert len(axes.texts) == 0  # 5,929 to 360,000 texts took minutes and gigabytes
        assert len(axes.get_xticks()) <= 170
    assert len(drawn) == 3


def test_counts_stand_in_the_cells_of_a_picture_of_few_labels(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("train.plots._save", lambda figure, _: drawn.append(figure))
    plots.confusion([[3, 0], [1, 2]], ("no", "yes"), tmp_path / "c.png")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["3", "0", "1", "2"]


def test_long_labels_do_not_widen_the_picture(tmp_path):
    plots.confusion(counts("ab"), ("a" * 500, "b " * 200), tmp_path / "c.png")
    assert max(size(tmp_path / "c.png")) < 1500


SCRIPTS = ("喜び", "فرح", "радость", "שמחה", "हर्ष", "😀", "ความสุข", "joy")


def test_labels_in_other_scripts_print_nothing_on_standard_error(tmp_path):
    script = (
        "import sys, pathlib; from train import plots; labels = sys.argv[2:];"
        "plots.confusion([[1] * len(labels)] * len(labels), labels, pathlib.Path(sys.argv[1]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "c.png"), *SCRIPTS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert min(size(tmp_path / "c.png")) > 300


def test_a_font_that_has_the_characters_is_found_among_the_installed_ones():
    from matplotlib import font_manager

    # Comes with matplotlib, as DejaVu Sans does, and has characters that DejaVu Sans lacks.
    other = set(font_manager.get_font(font_manager.findfont("STIXGeneral")).get_charmap())
    first = set(font_manager.get_font(font_manager.findfont(fonts.FIRST)).get_charmap())
    text = chr(min(other - first))
    found = fonts.families([text])
    assert found[0] == fonts.FIRST
    assert fonts.drawable(text, found)
    assert not fonts.drawable(text, [fonts.FIRST])


def test_a_label_that_no_font_has_is_drawn_as_its_place(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("train.plots._save", lambda figure, _: drawn.append(figure))
    labels = ("joy", "\U000e0fff")  # no font has a character that is not assigned
    plots.confusion(counts(labels), labels, tmp_path / "c.png")
    ticks = drawn[0].axes[0].get_xticklabels()
    assert [tick.get_text() for tick in ticks] == ["joy", "#2"]
    assert fonts.undrawable(labels) == (labels[1],)


def result():
    import numpy as np

    from train import metrics, report
    from train.dataset import Split

    logits, targets = np.array([[3.0, 0.0], [0.0, 2.0]]), (0, 1)
    split = Split(name="test", texts=("a", "b"), targets=targets)
    figures = metrics.measure(logits, targets, labels=("x", "y"), temperature=1.0)
    return report.measured(split, logits, figures, labels=("x", "y"), temperature=1.0)


def test_a_picture_that_fails_is_a_warning_and_the_others_are_drawn(tmp_path, capsys, monkeypatch):
    from train import report

    def fails(*_):
        raise MemoryError

    monkeypatch.setattr("train.plots.confusion", fails)
    report.draw_pictures(tmp_path, result())
    assert [path.name for path in tmp_path.iterdir()] == ["reliability.png"]
    assert capsys.readouterr().err == (
        "emotion-train: warning: confusion.png could not be drawn: MemoryError\n"
    )


def test_no_half_of_a_picture_is_left_by_an_interrupt(tmp_path, monkeypatch):
    from train import report

    def interrupted(_before, _after, path):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("train.plots.reliability", interrupted)
    with pytest.raises(KeyboardInterrupt):
        report.draw_pictures(tmp_path, result())
    assert [path.name for path in tmp_path.iterdir()] == ["confusion.png"]

"""What a person reads on a terminal of any width, and what a log gets."""

import io
import re

import pytest
from rich.console import Console

from train.printer import Printer, counted

LABELS = ("card_payment_fee_charged", "pending_top_up", "lost_or_stolen_phone")
ROWS = [(label, 0.5, 0.25, 1 / 3, 1200) for label in LABELS]
MISTAKES = [(3, 0.9, LABELS[0], LABELS[1], "they charged me twice and nobody answers the phone")]


def printed(width, what, *, live=True):
    console = Console(
        width=width, force_terminal=live, no_color=True, highlight=False, file=io.StringIO()
    )
    what(Printer(console=console))
    return re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())


@pytest.mark.parametrize("width", [30, 40, 52, 60, 64, 70, 80, 100, 120])
@pytest.mark.parametrize("live", [True, False])
def test_no_word_of_a_table_is_broken(width, live):
    for columns, rows in (
        (("label", "precision", "recall", "F1", "rows"), ROWS),
        (("row", "score", "answer", "target", "text"), MISTAKES),
    ):
        text = printed(width, lambda to: to.table(columns, rows), live=live)  # noqa: B023 - at once
        words = {
            word for row in rows for cell in row if isinstance(cell, str) for word in cell.split()
        }
        assert (words | set(columns)) <= set(text.split())
        assert max(len(line) for line in text.splitlines()) <= width


def test_a_long_address_in_a_text_is_broken_rather_than_the_table():
    text = printed(60, lambda to: to.table(("row", "text"), [(1, "see https://" + "a" * 80)]))
    assert text.split()[:2] == ["row", "text"]
    assert max(len(line) for line in text.splitlines()) <= 60


def test_a_line_is_folded_between_words_on_a_terminal_and_not_in_a_log():
    line = "22.6 M parameters, cpu (AMD EPYC), bfloat16, learning rate 0.0001"
    assert printed(30, lambda to: to.line(line)).split() == line.split()
    assert printed(30, lambda to: to.line(line), live=False) == line + "\n"


def test_what_is_going_on_is_said_before_it_is_done():
    def work(to):
        with to.busy("loading the libraries"):
            seen.append(to.console.file.getvalue())

    seen = []
    printed(80, work, live=False)
    assert seen == ["loading the libraries\n"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(1, "1 epoch"), (1.0, "1 epoch"), (3.0, "3 epochs"), (0.5, "0.5 epochs"), (0, "0 epochs")],
)
def test_one_is_singular(count, text):
    assert counted(count, "epoch") == text


def test_large_numbers_have_commas():
    assert counted(12345, "row") == "12,345 rows"


def test_a_dumb_terminal_is_told_what_is_done():
    console = Console(force_terminal=True, file=io.StringIO(), _environ={"TERM": "dumb"})
    with Printer(console=console).busy("loading torch"):
        assert console.file.getvalue() == "loading torch\n"

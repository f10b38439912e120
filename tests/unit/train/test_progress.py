"""The progress of a training, on terminals of several widths and kinds."""

import io
from types import SimpleNamespace

import pytest
from rich.console import Console

from tests.support.lazy import Lazy
from train.printer import Printer

pytestmark = pytest.mark.heavy
progress = Lazy("train.progress")  # imports transformers

STEPS = 1_600


def shown(width, *, term="xterm-256color", live=True):
    """What is printed of a training of `STEPS` steps, half of which are done."""
    console = Console(
        width=width,
        force_terminal=live,
        no_color=True,
        highlight=False,
        file=io.StringIO(),
        _environ={"TERM": term},
    )
    report = progress.ProgressReport(printer=Printer(console=console), batch_size=32)
    state = SimpleNamespace(global_step=0, max_steps=STEPS, epoch=0.0)
    report.on_train_begin(None, state, None)
    report.on_log(None, state, None, {"loss": 1.5})
    state.global_step, state.epoch = STEPS // 2, 12.5
    report.on_step_end(None, state, None)
    report.close()
    return console.file.getvalue()


@pytest.mark.parametrize("width", [36, 40, 50, 60, 71, 72, 80, 120])
def test_steps_and_time_left_are_on_every_terminal(width):
    text = shown(width)
    assert " 800/1600 " in text
    assert ":--" in text  # the time left, not known so far
    assert "epoch 12.50" in text


@pytest.mark.parametrize("live", [True, False])
def test_a_dumb_terminal_gets_lines_as_a_log_does(live):
    """Such as an editor's: nothing can move there, and nothing at all was printed."""
    text = shown(80, term="dumb", live=live)
    assert text.startswith("step 800/1600  epoch 12.50  loss 1.5000  ")
    assert "\x1b" not in text

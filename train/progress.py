"""The progress of a training: a moving bar on a terminal, a line now and then in a log."""

import time
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from transformers import TrainerCallback

from train.printer import Printer

NARROW, NARROWER = 72, 50
"""Columns of a terminal below which there is no bar beside the figures, and no loss: rich would cut
off what is right of them, or the figures themselves."""

LINES = 20
"""Lines of progress in the log of a run. Twice as many say little more; none looks like a hang."""


class ProgressReport(TrainerCallback):  # type: ignore[misc]  # untyped
    """Prints the progress at the Trainer's events. Owned by the main thread.

    `close` it also when the training is interrupted.

    Args:
        printer: Prints the lines; its terminal shows the bar.
        batch_size: Texts in one training step.
    """

    def __init__(self, *, printer: Printer, batch_size: int) -> None:
        self._printer = printer
        self._batch_size = batch_size
        self._loss: float | None = None
        self._began = 0.0
        self._first_step = 0
        self._bar: Progress | None = None
        width = printer.console.width if printer.live else NARROW
        self._narrow, self._narrower = width < NARROW, width < NARROWER

    def on_train_begin(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        self._began = time.monotonic()
        self._first_step = state.global_step  # not 0 where a run resumes
        if self._printer.live:
            said, count = TextColumn("{task.description}"), MofNCompleteColumn()
            left = TimeRemainingColumn()
            columns: list[ProgressColumn] = (
                [count, left, said] if self._narrow else [said, BarColumn(), count, left]
            )
            self._bar = Progress(
                *columns,
                console=self._printer.console,
                transient=True,
            )
            self._bar.start()
            self._bar.add_task("training", total=state.max_steps, completed=state.global_step)

    def on_log(
        self, _args: Any, _state: Any, _control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        self._loss = (logs or {}).get("loss", self._loss)

    def on_step_end(self, _args: Any, state: Any, _control: Any, **_: Any) -> None:
        step, steps = state.global_step, state.max_steps
        text = self._text(state)
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], completed=step, description=text)
        elif step == steps or step * LINES // steps > (step - 1) * LINES // steps:
            self._printer.line(f"step {step}/{steps}  {text}")

    def on_evaluate(
        self,
        _args: Any,
        state: Any,
        _control: Any,
        metrics: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        if metrics is not None and "eval_macro_f1" in metrics:
            self._printer.line(
                f"epoch {state.epoch:g}: validation loss {metrics['eval_loss']:.4f}, "
                f"accuracy {metrics['eval_accuracy']:.4f}, "
                f"macro F1 {metrics['eval_macro_f1']:.4f}"
            )

    def close(self) -> None:
        """Removes the bar."""
        if self._bar is not None:
            self._bar.stop()

    def _text(self, state: Any) -> str:
        seconds = max(1e-9, time.monotonic() - self._began)
        rate = (state.global_step - self._first_step) * self._batch_size / seconds
        loss = "" if self._loss is None or self._narrower else f"  loss {self._loss:.4f}"
        speed = "" if self._narrow else f"  {rate:.0f} samples/s"
        return f"epoch {state.epoch:.2f}{loss}{speed}"

"""`emotion-train predict`: sentences from arguments or standard input."""

import json
import sys
from collections.abc import Sequence
from typing import BinaryIO

from train import classify, recipe
from train.dataset import check_text
from train.errors import Refused
from train.settings import PredictSettings
from train.show import Show


def predict(settings: PredictSettings, texts: Sequence[str], show: Show) -> None:
    """A table, or a JSON line a text, in the order of the texts.

    Raises:
        Refused: There is no text, a text is empty, or the checkpoint is not usable.
    """
    given = checked(texts, source="text") if texts else lines(sys.stdin.buffer)
    on = recipe.machine(settings.device, settings.precision)
    classifier = classify.load(settings.checkpoint, on=on)
    scores = classifier.scores(given)
    answers = scores.argmax(axis=1)
    if settings.as_json:
        for text, row, answer in zip(given, scores, answers, strict=True):
            # Not through `show`: programs read this, and a terminal's width must not fold it.
            line = {
                "text": text,
                "label": classifier.labels[answer],
                "score": float(row[answer]),
                "scores": dict(zip(classifier.labels, map(float, row), strict=True)),
            }
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        return
    show.table(
        ("label", "score", "text"),
        [
            (classifier.labels[answer], float(row[answer]), text)
            for text, row, answer in zip(given, scores, answers, strict=True)
        ],
    )


def lines(source: BinaryIO) -> tuple[str, ...]:
    """The lines of a UTF-8 stream, one text each.

    Raises:
        Refused: There is none, or one is empty or no UTF-8: an answer a line would be lost.
    """
    try:
        texts = source.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise Refused(f"standard input is not UTF-8 (at byte {error.start})") from error
    if not texts:
        raise Refused("no text: give sentences as arguments, or lines on standard input")
    return checked(texts, source="standard input, line")


def checked(texts: Sequence[str], *, source: str) -> tuple[str, ...]:
    return tuple(check_text(text, at=f"{source} {i}") for i, text in enumerate(texts, start=1))

"""`emotion-train predict`: labels texts from the command line or from standard input."""

import json
import sys
from collections.abc import Sequence
from typing import BinaryIO

from train import classify, machine
from train.calibrate import probabilities
from train.dataset import check_text
from train.errors import Refused
from train.printer import Printer
from train.settings import PredictSettings


def predict(settings: PredictSettings, texts: Sequence[str], printer: Printer) -> None:
    """Prints the answers in the order of the texts: a table, or one JSON line per text.

    Args:
        settings: The user's.
        texts: Those of the command line; without any, the lines of standard input.
        printer: Prints the table.

    Raises:
        Refused: There is no text, a text is empty, or the checkpoint cannot be used.
    """
    given = checked(texts, source="text") if texts else lines(sys.stdin.buffer)
    on = machine.choose(settings.device, settings.precision)
    classifier = classify.load(settings.checkpoint, on=on)
    logits = classifier.logits(given)
    scores = probabilities(logits, classifier.facts.temperature)
    answers = scores.argmax(axis=1)
    abstained = classifier.abstained(logits)
    because = ["" if abstained is None else abstained.reason(row) for row in range(len(given))]
    if settings.as_json:
        for text, row, answer, why in zip(given, scores, answers, because, strict=True):
            # Not by the printer: programs read this, and a terminal's width must not fold it.
            line: dict[str, object] = {
                "text": text,
                "label": classifier.labels[answer],
                "score": float(row[answer]),
                "scores": dict(zip(classifier.labels, map(float, row), strict=True)),
            }
            if why:
                line |= {"abstained": True, "abstained_because": why}
            sys.stdout.write(json.dumps(line, ensure_ascii=False) + "\n")
        return
    printer.table(
        ("label", "score", *(["abstained"] if any(because) else []), "text"),
        [
            (classifier.labels[answer], float(row[answer]), *([why] if any(because) else []), text)
            for text, row, answer, why in zip(given, scores, answers, because, strict=True)
        ],
    )


def lines(source: BinaryIO) -> tuple[str, ...]:
    """Reads a UTF-8 stream, one text per line.

    Raises:
        Refused: There is no line, or one is empty or no UTF-8: each line gets an answer.
    """
    try:
        texts = source.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise Refused(f"standard input is not UTF-8 (at byte {error.start})") from error
    if not texts:
        raise Refused("there is no text: give texts as arguments, or lines on standard input")
    return checked(texts, source="standard input, line")


def checked(texts: Sequence[str], *, source: str) -> tuple[str, ...]:
    """The texts, each of which can be labelled.

    Args:
        texts: As the user gave them.
        source: Where they are from, for the message.

    Raises:
        Refused: A text is empty, or cannot be written as UTF-8.
    """
    return tuple(check_text(text, at=f"{source} {i}") for i, text in enumerate(texts, start=1))

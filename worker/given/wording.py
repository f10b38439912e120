"""The words for a wrong setting: what was given, what is wanted, which name was probably meant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic.fields import FieldInfo

LONGEST_SHOWN = 60
"""Characters of a value that a line repeats. A token or key pasted in a path's place has more."""
LONGEST_PATH_SHOWN = 200
"""The same of a path, which is often long."""
CLOSE = 0.75
"""Similarity (0 to 1) from which a name counts as a misspelling: two letters that changed places in
a word of nine reach it, two words that share half their letters do not."""
MOST_SUGGESTIONS = 3
"""Names that a line suggests at most; where more fit, it suggests none."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Says in `Annotated` what a setting takes, where its type does not: `a number of seconds`."""

    noun: str


SECONDS = Wanted("a number of seconds")
BYTES = Wanted("a whole number of bytes")
NO_SUCH = "there is no such setting"

_NOUNS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    SecretStr: "a text",
    Path: "a path",
}
"""What a setting takes, by its type."""


def wanted(field: FieldInfo) -> str:
    """What the setting takes: `a whole number from 1 to 65536`, `one of json, text`."""
    kind, notes = _bare(field.annotation, list(field.metadata))
    named = next((note.noun for note in notes if isinstance(note, Wanted)), None)
    if named is None and get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    bounds = {
        name: getattr(note, name)
        for note in notes
        for name in ("ge", "gt", "le", "lt", "min_length", "max_length")
        if getattr(note, name, None) is not None
    }
    noun = named or _NOUNS.get(kind, "a value of its kind")
    return noun + (_length(bounds) if kind is str and named is None else _range(bounds, kind))


def is_secret(path: Sequence[str], field: FieldInfo | None) -> bool:
    """Whether the value of a setting must not be repeated."""
    typed = field is not None and _bare(field.annotation, [])[0] is SecretStr
    return typed or any("password" in part for part in path)


def shown(value: Any, *, secret: bool, path: bool = False) -> str:
    """A value as a line may repeat it.

    Args:
        value: What was given.
        secret: Whether it must not be repeated.
        path: Whether it is meant as a path, which is often long.
    """
    if secret:
        return "the value (not shown)"
    if value is None:
        return "nothing"
    if isinstance(value, dict | list):
        return "a JSON object" if isinstance(value, dict) else "a JSON array"
    # What stands before an @ may be a password.
    text = re.sub(r"[^,/\s]*@", "***@", str(value))
    most = LONGEST_PATH_SHOWN if path else LONGEST_SHOWN
    if len(text) > most or "\n" in text:
        return f"a text of {len(text)} characters"
    return repr(text if isinstance(value, str) else value)


def refused(problem: Any, field: FieldInfo | None, *, secret: bool) -> str:
    """What is wrong with a value, without the setting's name.

    Args:
        problem: One of pydantic's `ValidationError.errors()`.
        field: The setting; None where there is none of that name.
        secret: Whether the value must not be repeated.
    """
    if problem["type"] == "extra_forbidden" or field is None:
        return NO_SUCH
    kind, _ = _bare(field.annotation, [])
    keys = any(word in str(problem["loc"][-1:]) for word in ("token", "key"))
    value = shown(problem["input"], secret=secret, path=kind is Path and not keys)
    if problem["type"] == "value_error":
        return f"{value} {problem['ctx']['error']}"
    return f"{value} is not {wanted(field)}"


def meant(name: str, known: Sequence[str], *, prefix: str = "") -> str:
    """`; did you mean NAME?`, or nothing where no known name is like it.

    A last part that several groups have (`topic`) brings all of them: a guess among them could
    make a worker read the wrong topic.

    Args:
        name: As the user wrote it.
        known: All names, written in the same form.
        prefix: What all of them start with, and what is therefore not compared.
    """
    plain = {_plain(each.removeprefix(prefix)): each for each in known}
    asked = _plain(name.upper().removeprefix(prefix) if prefix else name)
    if not asked:
        return ""
    close = get_close_matches(asked, plain, n=1, cutoff=CLOSE)
    last = [key for key in plain if key.endswith(f"_{asked}")]
    whole = [key for key in plain if not any(each.startswith(f"{key}_") for each in plain)]
    first = [key for key in whole if asked.startswith(f"{key}_")]
    found = close if asked in plain else last or close or first[-1:]
    if not found or len(found) > MOST_SUGGESTIONS:
        return ""
    return f"; did you mean {listed([plain[key] for key in found])}?"


def listed(names: Sequence[str], word: str = "or") -> str:
    """`a`, `a or b`, `a, b or c`."""
    *others, last = names
    return f"{', '.join(others)} {word} {last}" if others else last


def _plain(name: str) -> str:
    """A name in the form in which options and variables are equal: `batch_max_wait`."""
    return re.sub(r"[-_.]+", "_", name.lower()).strip("_")


def _bare(annotation: Any, notes: list[Any]) -> tuple[Any, list[Any]]:
    """The type inside `Annotated`, `| None` and `tuple[..., ...]`, and all the notes on the way."""
    if get_origin(annotation) is Annotated:
        inner, *more = get_args(annotation)
        return _bare(inner, [*more, *notes])
    parts = [part for part in get_args(annotation) if part not in (type(None), ...)]
    if get_origin(annotation) is not Literal and len(parts) == 1:
        return _bare(parts[0], notes)
    return annotation, notes


def _range(bounds: dict[str, Any], kind: Any) -> str:
    low, above = bounds.get("ge"), bounds.get("gt")
    high, below = bounds.get("le"), bounds.get("lt")
    if kind is int and below is not None:
        high, below = below - 1, None
    if low is not None and high is not None:
        return f" from {_number(low)} to {_number(high)}"
    start = f" from {_number(low)} up" if low is not None else ""
    start = f" above {_number(above)}" if above is not None else start
    if below is not None:
        return f"{start.removesuffix(' up')}{' and' if start else ''} below {_number(below)}"
    if high is not None:
        return f"{start} and at most {_number(high)}" if start else f" of at most {_number(high)}"
    return start


def _length(bounds: dict[str, Any]) -> str:
    if "max_length" in bounds:
        return f" of at most {bounds['max_length']} characters"
    return " of at least 1 character" if "min_length" in bounds else ""


def _number(number: float) -> str:
    return str(number) if isinstance(number, int) else f"{number:g}"

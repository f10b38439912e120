"""A value inside a JSON text, spelled as it is there: 1.10 stays 1.10, and so does 2 to the 64th.

Pure. The parsers turn numbers into Python's and forget how they were written, so the value is
located in the text and cut out. The text around it is skipped, not parsed: that takes about as long
as the first parse.
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

import orjson

_SPACE = r"[ \t\n\r]*+"
_STRING = r'"(?:[^"\\]++|\\.)*+"'
_SCALAR = r'[^ \t\n\r",\[\]{}]++'


def _container(levels: int) -> str:
    inner = f"|{_container(levels - 1)}" if levels else ""
    return rf'[\[{{](?:[^"\[\]{{}}]++|{_STRING}{inner})*+[\]}}]'


_VALUE = rf"(?:{_STRING}|{_SCALAR}|{_container(4)})"
_SKIPPED = re.compile(_VALUE)
"""A value that nests five levels deep at most. All is possessive: the time grows with the length of
the text, whatever it holds."""
_NAME = re.compile(rf"{_SPACE}({_STRING}){_SPACE}:{_SPACE}")
_COMMA = re.compile(rf"{_SPACE},?")
_CLOSED = re.compile(rf"{_SPACE}\}}{_SPACE},?")


@cache
def _others(name: str) -> re.Pattern[str]:
    """Members of another name, as many as follow one another; none whose name has an escape."""
    key = rf'"(?!{re.escape(name)}")[^"\\]*+"'
    return re.compile(rf"(?:{_SPACE}{key}{_SPACE}:{_SPACE}{_VALUE}{_SPACE},)*+")


_scan = json.JSONDecoder(parse_int=str, parse_float=str).raw_decode
"""The value at an index of a text, and where it ends. It is written in C. Numbers stay text: Python
makes no integer of more than 4,300 digits, and a record may have one."""


def cut_out(text: str, path: list[str]) -> str:
    """The JSON of the value at a path, as it stands in the text.

    Args:
        text: A valid JSON object.
        path: Names that lead through objects to a value that is there. Of a name that occurs twice
            the last occurrence counts, as for the parsers.

    Raises:
        RecursionError: It nests too deep for the standard library's parser.
    """
    begin, end = _located(text, path)
    return text[begin:end]


def compact(raw: str, value: Any) -> orjson.Fragment:
    """A JSON value without white space, its numbers as they are spelled.

    Args:
        raw: The value's JSON.
        value: What orjson or the standard library has made of it.

    Raises:
        RecursionError: It nests too deep for the standard library's parser.
        orjson.JSONEncodeError: It nests too deep for orjson, or has a lone surrogate.
    """
    if not isinstance(value, dict | list | str):
        return orjson.Fragment(raw)
    try:
        plain = orjson.dumps(value)
        if plain == raw.encode():
            return orjson.Fragment(plain)
    except (orjson.JSONEncodeError, UnicodeEncodeError):
        pass  # an integer over 64 bits is none for orjson; all else is raised again below
    numbers = orjson.Fragment
    return orjson.Fragment(orjson.dumps(json.loads(raw, parse_int=numbers, parse_float=numbers)))


def _located(text: str, path: list[str]) -> tuple[int, int]:
    """Where the value at a path begins and ends.

    One pass, however many names the path has: an object on the way is entered where it begins, and
    left where it ends. Of the values on such ways the last in the text is the one.
    """
    found = (0, len(text))
    level = 0
    at = text.index("{") + 1
    while level >= 0:
        name = path[level]
        at = _end(_others(name), text, at)
        member = _NAME.match(text, at)
        if member is None:
            at = _end(_CLOSED, text, at)
            level -= 1
            continue
        at = begin = member.end()
        ours = _is(member[1], name)
        on_the_way = ours and level + 1 < len(path)
        if on_the_way and text[begin] == "{":
            level += 1
            at += 1
            continue
        skipped = _SKIPPED.match(text, begin)
        at = _scan(text, begin)[1] if skipped is None else skipped.end()
        if ours and not on_the_way:
            found = (begin, at)
        at = _end(_COMMA, text, at)
    return found


def _is(key: str, name: str) -> bool:
    return key == f'"{name}"' or ("\\" in key and bool(json.loads(key) == name))


def _end(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return at if match is None else match.end()

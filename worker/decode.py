"""Record bytes to a Document, or a Rejection with its reason.

Pure. orjson parses; what it refuses is parsed again by the standard library, which distinguishes
more reasons and accepts a lone surrogate outside the text.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Literal, NoReturn

import orjson

from worker.errors import Rejected
from worker.framing import PREFIXES, readings
from worker.records import Document, Record, Rejection, Tombstone
from worker.spelled import compact, cut_out

_ABSENT = object()
_NO_JSON = ("invalid_utf8", "invalid_json")
_FIELD = re.compile(r"\\([.\\])|(\.)|(.)", re.DOTALL)
_SPELLED = (float, dict, list)
"""Kinds of an id that have numbers whose spelling is kept."""
_MOST_DIGITS = 1_000
"""Of an integer that Python parses; it refuses more than 4,300, and takes quadratic time."""


class Decoder:
    """Turns records into documents by the wire contract.

    Args:
        format: `json` for an object with a text field, `text` for the value itself.
        text_field: Path of the text in the object, as `path_of` reads it.
        id_field: Path of the value to copy to the output.
        max_bytes: Larger values are rejected without being parsed.
    """

    def __init__(
        self,
        *,
        format: Literal["json", "text"],  # noqa: A002 - the setting's name
        text_field: str,
        id_field: str,
        max_bytes: int,
    ) -> None:
        self._json = format == "json"
        self._text_field = text_field
        self._text_path = path_of(text_field)
        self._id_path = path_of(id_field)
        self._max_bytes = max_bytes

    def decode(self, record: Record) -> Document | Tombstone | Rejection:
        """The document of one record, or why there is none. Raises for no content of a record."""
        if record.value is None:
            return Tombstone(record)
        try:
            if len(record.value) > self._max_bytes:
                raise Rejected(
                    "input_too_large",
                    f"{len(record.value)} bytes, input.max_bytes is {self._max_bytes}",
                )
            text, identity = self._parse(record.value)
            if not text.strip():
                raise Rejected("empty_text", "the text is empty or only white space")
        except Rejected as rejected:
            return Rejection(record, rejected.reason, rejected.message)
        return Document(record, text, identity)

    def _parse(self, value: bytes) -> tuple[str, Any]:
        if not self._json:
            return _utf8(value), None
        if value.startswith(PREFIXES):
            value, data = _behind(value)
        else:
            data = _object(value)
        text = _find(data, self._text_path)
        if text is _ABSENT:
            raise Rejected("missing_text", f"there is no field {self._text_field!r}")
        if not isinstance(text, str):
            raise Rejected("text_not_string", f"the text is {_kind(text)}, not a string")
        if not text.isascii() and _has_surrogate(text):
            raise Rejected("invalid_unicode", "the text has a lone surrogate")
        identity = _find(data, self._id_path)
        if identity is _ABSENT:
            return text, None
        if isinstance(identity, str):
            if not identity.isascii() and _has_surrogate(identity):
                raise Rejected("invalid_unicode", "the id has a lone surrogate")
        elif isinstance(identity, _SPELLED) or _is_odd(identity):
            identity = self._exact(value, identity)
        return text, identity

    def _exact(self, value: bytes, identity: Any) -> orjson.Fragment:
        """The id's JSON with its numbers spelled as in the record: 1.10, or over 64 bits."""
        try:
            return compact(cut_out(value.decode(), self._id_path), identity)
        except (RecursionError, orjson.JSONEncodeError) as error:
            if "surrogate" in str(error) or "UTF-8" in str(error):
                raise Rejected("invalid_unicode", "the id has a lone surrogate") from error
            raise Rejected("nested_too_deep", "the id is nested too deep") from error
        except ValueError as error:  # nothing of a record may end the worker
            raise Rejected("invalid_json", "the id cannot be read") from error


def path_of(field: str) -> list[str]:
    r"""Names from the outermost object inwards: a dot parts them, `\.` is a dot in a name."""
    names = [""]
    for escaped, dot, other in _FIELD.findall(field):
        if dot:
            names.append("")
        else:
            names[-1] += escaped or other
    return names


def _find(data: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(data, dict):
            return _ABSENT
        data = data.get(name, _ABSENT)
    return data


def _utf8(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Rejected(
            "invalid_utf8", f"byte {error.start} is not UTF-8: {error.reason}"
        ) from error


def _object(value: bytes) -> dict[str, Any]:
    try:
        data = orjson.loads(value)
    except orjson.JSONDecodeError:
        data = _second_look(value)
    if not isinstance(data, dict):
        raise Rejected("not_an_object", f"the JSON value is {_kind(data)}, not an object")
    return data


def _second_look(value: bytes) -> Any:
    text = _utf8(value)
    try:
        return json.loads(text, parse_constant=_no_constant, parse_int=_any_integer)
    except RecursionError as error:
        raise Rejected("nested_too_deep", "the JSON is nested too deep") from error
    except json.JSONDecodeError as error:
        raise Rejected("invalid_json", f"{error.msg} at character {error.pos}") from error


def _behind(value: bytes) -> tuple[bytes, dict[str, Any]]:
    """The object behind a schema registry's prefix, and its bytes.

    Where there is none, the reason says so of the reading that is JSON. Avro and Protobuf are as
    likely as JSON there: of them the message gives the prefix.
    """
    refusal = None
    for body, prefix in readings(value):
        try:
            return body, _object(body)
        except Rejected as rejected:
            if prefix is None:
                raise
            if rejected.reason not in _NO_JSON and refusal is None:
                # Not the exception itself: with its traceback it would be a cycle, which holds the
                # record until Python looks for cycles.
                refusal = rejected.reason, rejected.message
    if refusal is not None:
        raise Rejected(*refusal)
    raise Rejected(
        "invalid_json",
        f"the value has a schema registry's prefix, {prefix}, and no JSON behind it: Avro or "
        "Protobuf, perhaps, which the worker does not read",
    )


def _any_integer(spelling: str) -> int | float:
    """An integer; of one beyond Python's limit of digits, that it is a number."""
    return int(spelling) if len(spelling) <= _MOST_DIGITS else math.inf


def _no_constant(name: str) -> NoReturn:
    raise Rejected("invalid_json", f"{name} is not JSON")


def _has_surrogate(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_odd(value: object) -> bool:
    """Whether it is an integer that orjson may not write as it was: over 64 bits, or perhaps -0."""
    return type(value) is int and (value == 0 or not -(2**63) <= value < 2**64)


def _kind(value: object) -> str:
    names = {dict: "an object", list: "an array", str: "a string", bool: "a boolean"}
    return "null" if value is None else names.get(type(value), "a number")

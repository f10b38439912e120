"""JSON Schema of the messages, for those who read and write the topics."""

from __future__ import annotations

from typing import Any

from worker.errors import REASONS
from worker.records import ABSTAIN_REASONS

_TEXT = {"type": "string"}
_PROBABILITY = {"type": "number", "minimum": 0, "maximum": 1}


def messages() -> dict[str, Any]:
    """Schemas of the input value, the output value and the dead letter's headers."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "emotion-stream messages, with the default field names",
        "$defs": {"input": _input(), "output": _output(), "dead_letter_headers": _headers()},
        "oneOf": [{"$ref": "#/$defs/input"}, {"$ref": "#/$defs/output"}],
    }


def _input() -> dict[str, Any]:
    return {
        "title": "Input value (input.format=json)",
        "description": "A null value is a tombstone and is forwarded as one.",
        "type": "object",
        "required": ["text"],
        "properties": {
            "text": {**_TEXT, "pattern": r"\S", "description": "at input.text_field"},
            "id": {"description": "at input.id_field; any JSON value, echoed as it is"},
        },
    }


def _output() -> dict[str, Any]:
    return {
        "title": "Output value",
        "type": "object",
        "required": ["id", "label", "score", "scores", "model", "source"],
        "additionalProperties": False,
        "properties": {
            "id": {"description": "the input's id; null where it had none"},
            "label": {**_TEXT, "description": "the label with the highest score"},
            "score": _PROBABILITY,
            "scores": {
                "type": "object",
                "minProperties": 2,
                "additionalProperties": _PROBABILITY,
                "description": "every label's probability; they add up to 1 within rounding",
            },
            "model": {
                "type": "object",
                "required": ["name", "version"],
                "additionalProperties": False,
                "properties": {"name": _TEXT, "version": _TEXT},
            },
            "source": {
                "type": "object",
                "required": ["topic", "partition", "offset"],
                "additionalProperties": False,
                "properties": {
                    "topic": _TEXT,
                    "partition": {"type": "integer", "minimum": 0},
                    "offset": {"type": "integer", "minimum": 0},
                    "timestamp": {
                        "type": "integer",
                        "description": "event time in ms, where the broker refused it",
                    },
                },
            },
            "abstained": {
                "const": True,
                "description": "the label is not to be relied on; absent where it is",
            },
            "abstained_because": {
                "enum": list(ABSTAIN_REASONS),
                "description": "why: the best score is low, or the text is unlike the training's",
            },
        },
        "dependentRequired": {
            "abstained": ["abstained_because"],
            "abstained_because": ["abstained"],
        },
    }


def _headers() -> dict[str, Any]:
    integer = {"type": "string", "pattern": r"^-?\d+$"}
    return {
        "title": "Headers that a dead letter adds behind the original ones, as UTF-8",
        "type": "object",
        "required": [
            "dlq.reason", "dlq.message", "dlq.topic", "dlq.partition", "dlq.offset",
            "dlq.timestamp",
        ],
        "properties": {
            "dlq.reason": {"enum": list(REASONS)},
            "dlq.message": _TEXT,
            "dlq.topic": _TEXT,
            "dlq.partition": integer,
            "dlq.offset": integer,
            "dlq.timestamp": {**integer, "description": "the original, in ms"},
            "dlq.truncated": {
                **integer,
                "description": "the value's original size in bytes, where only its beginning fits",
            },
        },
    }  # fmt: skip

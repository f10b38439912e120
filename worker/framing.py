"""What schema registries put before a value: the JSON behind it, or a word on what is there.

    Confluent   00, a schema id of 4 bytes
    Apicurio    00, a schema id of 8 bytes
    AWS Glue    03, 00 for no compression, a schema version id of 16 bytes

Pure. JSON begins with no such byte, so nothing that is JSON is taken for a prefix.
"""

from __future__ import annotations

from typing import NamedTuple

PREFIXES = (b"\0", b"\3")
"""What every prefix begins with."""

_JSON_BEGINS = frozenset(b' \t\r\n{["tfn-0123456789')
_CONFLUENT, _APICURIO, _GLUE = 5, 9, 18  # bytes of each prefix


class Framed(NamedTuple):
    """A value without its prefix."""

    body: bytes
    prefix: str | None
    """Whose prefix it had; None for none."""


def readings(value: bytes) -> list[Framed]:
    """What a value may be without a schema registry's prefix; itself where it has none.

    Two for a value that may have Confluent's prefix as well as Apicurio's: any byte of Apicurio's
    id may be one that JSON begins with. Only what follows shows which of them it is.
    """
    if len(value) <= _CONFLUENT or not value.startswith(PREFIXES):
        return [Framed(value, None)]
    if value[0] == 3:  # noqa: PLR2004 - Glue's version of its format
        compressed = value[1:2] != b"\0"
        return [Framed(value[_GLUE:], "AWS Glue's" + (" (compressed)" if compressed else ""))]
    names = {
        _CONFLUENT: f"Confluent's (schema {int.from_bytes(value[1:_CONFLUENT])})",
        _APICURIO: f"Apicurio's (schema {int.from_bytes(value[1:_APICURIO])})",
    }
    likely = [at for at in names if value[at : at + 1] and value[at] in _JSON_BEGINS]
    likely = likely or [_CONFLUENT]
    prefix = " or ".join(names[at] for at in likely)
    return [Framed(value[at:], prefix) for at in likely]

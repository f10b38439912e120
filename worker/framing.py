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


class Framed(NamedTuple):
    """A value without its prefix."""

    body: bytes
    prefix: str | None
    """Whose prefix it had; None for none."""


def unframed(value: bytes) -> Framed:
    """A value without a schema registry's prefix; unchanged where it has none."""
    if len(value) <= 5 or not value.startswith(PREFIXES):  # noqa: PLR2004 - the shortest prefix
        return Framed(value, None)
    if value[0] == 3:  # noqa: PLR2004 - Glue's version of its format
        compressed = value[1:2] != b"\0"
        return Framed(value[18:], "AWS Glue's" + (" (compressed)" if compressed else ""))
    if len(value) > 9 and value[5] not in _JSON_BEGINS and value[9] in _JSON_BEGINS:  # noqa: PLR2004
        return Framed(value[9:], f"Apicurio's (schema {int.from_bytes(value[1:9])})")
    return Framed(value[5:], f"Confluent's (schema {int.from_bytes(value[1:5])})")

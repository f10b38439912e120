"""Micro-batches: nothing lost, nothing doubled, within the budget, none passed over for long."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes import encoded
from worker.batch import RECOVERY_SECONDS, RECOVERY_STEPS, Batcher, ElasticBudget
from worker.layout import Layout
from worker.records import MicroBatch
from worker.waiting import ANYHOW, PADDED, Budget

BUDGET = Budget(max_records=4, max_tokens=40, max_wait=0.5)
lengths = st.lists(st.integers(1, 60), min_size=1, max_size=60)


def batcher_with(*token_counts, budget=BUDGET, now=0.0):
    batcher = Batcher(budget=budget)
    batcher.add([encoded(offset, tokens=count) for offset, count in enumerate(token_counts)], now)
    return batcher


def taken(batch):
    return [item.document.record.offset for item in batch.items]


def drain(batcher):
    batches = []
    while len(batcher):
        batches.append(batcher.take("drain"))
    return batches


def test_similar_lengths_run_together():
    batches = drain(batcher_with(10, 2, 10, 2, 10, 2, 2))
    assert [sorted(taken(batch)) for batch in batches] == [[0, 1, 2, 4], [3, 5, 6]]
    assert all(BUDGET.tokens(batch) <= 40 for batch in batches)


def test_the_oldest_is_in_the_next_batch():
    batcher = batcher_with(30, 1, 1, 1, 1)
    assert 0 in taken(batcher.take("idle"))


def test_a_document_beyond_the_budget_runs_alone():
    assert taken(batcher_with(100, 100).take("full")) == [0]


def test_an_idle_model_gets_what_there_is():
    assert batcher_with(3).due(0.0, idle=True) == "idle"


def test_a_busy_model_waits_for_mates_until_max_wait():
    batcher = batcher_with(3, now=1.0)
    assert batcher.due(1.4, idle=False) is None
    assert batcher.wait(1.4) == pytest.approx(0.1)
    assert batcher.due(1.5, idle=False) == "age"


def test_full_by_count_and_full_by_tokens():
    assert batcher_with(1, 1, 1, 1).due(0.0, idle=False) == "full"
    assert batcher_with(39).due(0.0, idle=False) is None
    assert batcher_with(39, 1).due(0.0, idle=False) == "full"


def test_draining_takes_what_is_left():
    assert batcher_with(1).due(0.0, idle=False, draining=True) == "drain"


def test_nothing_is_due_when_nothing_waits():
    batcher = batcher_with()
    assert batcher.due(9.0, idle=True) is None
    assert batcher.wait(9.0) is None
    with pytest.raises(LookupError):
        batcher.take("idle")


def test_discarded_documents_are_never_handed_out():
    batcher = batcher_with(1, 2, 3, 4)
    assert batcher.discard(lambda item: item.document.record.offset % 2 == 0) == 2
    assert len(batcher) == 2
    assert sorted(offset for batch in drain(batcher) for offset in taken(batch)) == [1, 3]
    assert batcher.due(9.0, idle=True) is None


@given(lengths)
def test_every_document_is_handed_out_once(token_counts):
    batches = drain(batcher_with(*token_counts))
    assert sorted(o for batch in batches for o in taken(batch)) == list(range(len(token_counts)))


PACKED = replace(BUDGET, layout=Layout(packed=True))


def test_packed_documents_are_taken_as_they_came():
    batches = drain(batcher_with(30, 2, 7, 2, 36, 5, 1, budget=PACKED))
    assert [taken(batch) for batch in batches] == [[0, 1, 2], [3, 4], [5, 6]]


def test_a_packed_batch_holds_no_more_documents_than_it_may():
    batches = drain(batcher_with(*[1] * 9, budget=PACKED))
    assert [taken(batch) for batch in batches] == [[0, 1, 2, 3], [4, 5, 6, 7], [8]]


def test_packed_documents_that_were_discarded_are_passed_over():
    batcher = batcher_with(5, 6, 5, 6, budget=PACKED)
    assert batcher.discard(lambda item: item.document.record.offset in (0, 3)) == 2
    assert [taken(batch) for batch in drain(batcher)] == [[1, 2]]
    assert not len(batcher)


@given(lengths)
def test_packed_batches_keep_the_order_and_the_budget(token_counts):
    batches = drain(batcher_with(*token_counts, budget=PACKED))
    assert [o for batch in batches for o in taken(batch)] == list(range(len(token_counts)))
    for batch in batches:
        assert len(batch.items) <= PACKED.max_records
        assert PACKED.tokens(batch) <= PACKED.max_tokens or len(batch.items) == 1


def test_lengths_that_are_rounded_count_as_such():
    budget = replace(BUDGET, layout=Layout(multiple=8))
    batches = drain(batcher_with(9, 9, 9, budget=budget))  # 16 tokens each
    assert [taken(batch) for batch in batches] == [[0, 1], [2]]
    assert [budget.tokens(batch) for batch in batches] == [32, 16]


@given(lengths)
def test_no_batch_is_over_budget(token_counts):
    for batch in drain(batcher_with(*token_counts)):
        assert len(batch.items) <= BUDGET.max_records
        assert BUDGET.tokens(batch) <= BUDGET.max_tokens or len(batch.items) == 1


@given(lengths, st.data())
def test_none_waits_for_more_batches_than_there_were_documents_before_it(token_counts, data):
    batcher = Batcher(budget=BUDGET)
    arrived, waited = [], {}
    for offset, count in enumerate(token_counts):
        batcher.add([encoded(offset, tokens=count)], float(offset))
        arrived.append(offset)
        waited[offset] = len(batcher) - 1
        if data.draw(st.booleans()):
            oldest = min(o for o in arrived if o in waited)
            gone = taken(batcher.take("full"))
            assert oldest in gone
            for o in gone:
                del waited[o]
            waited = {o: batches - 1 for o, batches in waited.items()}
            assert all(batches >= 0 for batches in waited.values())


@given(lengths)
def test_of_one_length_the_oldest_go_first(token_counts):
    seen = {}
    for batch in drain(batcher_with(*token_counts)):
        for item in batch.items:
            offset = item.document.record.offset
            assert offset > seen.get(len(item.tokens), -1)
            seen[len(item.tokens)] = offset


@given(lengths, st.integers(1, 8), st.integers(1, 2_000))
def test_neighbours_in_length_join_the_oldest(token_counts, most_records, most_tokens):
    """None that is left beside them would have fitted and needed little padding."""
    batcher = batcher_with(*token_counts, budget=Budget(most_records, most_tokens, 0.5))
    while len(batcher):
        waiting = sorted(
            length for length, queue in batcher._waiting._queues.items() for _ in queue
        )
        took = sorted(len(item.tokens) for item in batcher.take("full").items)
        # A run of the sorted lengths, and at its ends perhaps not all of a length.
        assert all(took.count(n) == waiting.count(n) for n in set(took) - {took[0], took[-1]})
        rows, real, longest = len(took), sum(took), took[-1]
        assert rows == 1 or rows * longest <= max(PADDED * real, most_tokens / ANYHOW)
        below = [n for n in waiting if n < took[0]][-1:]
        above = [n for n in waiting if n > longest][:1]
        for length in below + above:
            padded = (rows + 1) * max(length, longest)
            fits = rows < most_records and padded <= most_tokens
            assert not (fits and padded <= max(PADDED * (real + length), most_tokens // ANYHOW))


def test_a_text_that_would_pad_all_others_runs_by_itself():
    budget = Budget(max_records=256, max_tokens=2_048, max_wait=0.5)
    batches = drain(batcher_with(*[20] * 30, 120, *[20] * 30, budget=budget))
    assert [len(batch.items) for batch in batches] == [60, 1]


def test_a_few_short_texts_run_together_whatever_their_lengths():
    budget = Budget(max_records=256, max_tokens=2_048, max_wait=0.5)
    assert len(drain(batcher_with(3, 12, 7, budget=budget))) == 1


@given(lengths)
def test_the_token_count_is_right_after_anything(token_counts):
    batcher = batcher_with(*token_counts)
    batcher.discard(lambda item: item.document.record.offset % 3 == 0)
    if len(batcher):
        batcher.take("full")
    waiting = [item for queue in batcher._waiting._queues.values() for _, item in queue]
    assert (len(batcher), batcher._waiting.tokens) == (
        len(waiting),
        sum(len(item.tokens) for item in waiting),
    )
    assert batcher._waiting._lengths == sorted({len(item.tokens) for item in waiting})


# What may be in a batch when memory is short -----------------------------------------------

FULL = Budget(max_records=64, max_tokens=1_000, max_wait=0.5)


def batch_of(rows, tokens):
    return MicroBatch(tuple(encoded(n, tokens=tokens) for n in range(rows)), "full")


def elastic(*, failures):
    budget = ElasticBudget(FULL)
    for _ in range(failures):
        budget.ran(batch_of(1, 1), out_of_memory=True, at=0.0)
    return budget


def test_out_of_memory_halves_records_and_tokens():
    budget = ElasticBudget(FULL)
    assert budget.ran(batch_of(10, 100), out_of_memory=True, at=5.0)
    assert budget.now == Budget(max_records=32, max_tokens=500, max_wait=0.5)


@pytest.mark.parametrize(("rows", "tokens"), [(33, 1), (6, 100)])
def test_a_batch_staged_before_the_halving_halves_nothing_more(rows, tokens):
    budget = elastic(failures=1)
    assert not budget.ran(batch_of(rows, tokens), out_of_memory=True, at=0.0)
    assert budget.now.max_records == 32
    assert budget.ran(batch_of(5, 100), out_of_memory=True, at=0.0)
    assert budget.now.max_records == 16


def test_a_text_larger_than_the_budget_that_fails_alone_halves_it():
    budget = elastic(failures=4)
    assert budget.ran(batch_of(1, 900), out_of_memory=True, at=0.0)


@pytest.mark.parametrize("failures", [10, 1_000])
def test_the_least_budget_takes_one_text_and_the_way_back_is_no_longer_for_more_failures(failures):
    budget = elastic(failures=failures)
    assert (budget.now.max_records, budget.now.max_tokens) == (1, 1)
    batcher = Batcher(budget=budget.now)
    batcher.add([encoded(1, tokens=512), encoded(2, tokens=3)], 0.0)
    assert len(batcher.take("full").items) == 1
    for step in range(1, RECOVERY_STEPS + 1):
        assert budget.ran(batch_of(1, 1), out_of_memory=False, at=step * RECOVERY_SECONDS)
    assert budget.now == FULL


def test_however_many_batches_succeed_the_budget_grows_by_a_step_in_its_time():
    budget = elastic(failures=1)
    grew = [
        budget.ran(batch_of(1, 1), out_of_memory=False, at=n * RECOVERY_SECONDS / 100)
        for n in range(250)
    ]
    assert grew.count(True) == 2
    assert budget.now.max_records == 40


def test_a_failure_on_the_way_back_halves_what_was_reached_and_starts_the_wait_again():
    budget = elastic(failures=1)
    budget.ran(batch_of(1, 1), out_of_memory=False, at=RECOVERY_SECONDS)
    budget.ran(batch_of(1, 1), out_of_memory=True, at=1.5 * RECOVERY_SECONDS)
    assert budget.now.max_records == 18
    assert not budget.ran(batch_of(1, 1), out_of_memory=False, at=2.4 * RECOVERY_SECONDS)
    assert budget.ran(batch_of(1, 1), out_of_memory=False, at=2.5 * RECOVERY_SECONDS)


@given(
    records=st.integers(1, 5_000),
    tokens=st.integers(1, 100_000),
    events=st.lists(st.tuples(st.booleans(), st.integers(0, 30))),
)
def test_the_budget_stays_between_one_text_and_all_and_always_comes_back(records, tokens, events):
    full = Budget(max_records=records, max_tokens=tokens, max_wait=0.0)
    budget = ElasticBudget(full)
    now = 0.0
    for out_of_memory, pause in events:
        now += pause
        before = budget.now
        changed = budget.ran(batch_of(1, 1), out_of_memory=out_of_memory, at=now)
        assert changed == (budget.now != before)
        assert 1 <= budget.now.max_records <= records
        assert 1 <= budget.now.max_tokens <= tokens
    for step in range(1, RECOVERY_STEPS + 1):
        budget.ran(batch_of(1, 1), out_of_memory=False, at=now + step * RECOVERY_SECONDS)
    assert budget.now == full

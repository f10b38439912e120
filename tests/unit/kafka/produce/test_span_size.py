"""How much the next span may hold: by bytes, after late ones, and while a refused one is sought."""

from worker.kafka.produce.span_size import LATE_SECONDS, SOON_SECONDS, SpanSize


def test_a_span_holds_what_fits_and_one_output_at_least():
    size = SpanSize(most=100)
    assert size.take([40, 40, 40]) == 2
    assert size.take([200, 1]) == 1
    assert size.take([]) == 0


def test_a_late_span_halves_the_next_and_one_in_time_doubles_it_again():
    size = SpanSize(most=100)
    size.failed(seconds=LATE_SECONDS + 1)
    assert size.take([10] * 20) == 5
    size.committed(5, seconds=LATE_SECONDS + 1, excess=LATE_SECONDS + 1)
    assert size.take([10] * 20) == 2
    for _ in range(5):
        size.committed(2, seconds=SOON_SECONDS / 2, excess=SOON_SECONDS / 2)
    assert size.take([10] * 20) == 10


def test_a_span_whose_commit_takes_as_long_is_not_too_large_nor_are_larger_ones_tried():
    """Brokers answer late; or a quota holds the commit back, too."""
    size = SpanSize(most=100)
    size.failed(seconds=LATE_SECONDS + 1)
    for _ in range(3):
        size.committed(5, seconds=2 * LATE_SECONDS, excess=0.0)
        assert size.take([10] * 20) == 5


def test_a_span_that_fails_at_once_stays_as_large():
    size = SpanSize(most=100)
    size.failed(seconds=0.1)
    assert size.take([10] * 20) == 10


def test_the_size_never_falls_below_one_output():
    size = SpanSize(most=100)
    for _ in range(50):
        size.failed(seconds=60)
    assert size.take([10, 10]) == 1


def test_a_refused_output_is_found_in_log2_spans():
    for wanted in range(1_000):
        size, at, spans = SpanSize(), 0, 0
        size.refused_among(1_000)
        while True:
            taken = size.take([1] * (1_000 - at))
            spans += 1
            if at <= wanted < at + taken:
                if taken == 1:
                    break
                size.refused_among(taken)
            else:
                size.committed(taken, seconds=0, excess=0)
                at += taken
        assert (at, spans <= 11) == (wanted, True)


def test_a_search_without_a_find_ends():
    size = SpanSize()
    size.refused_among(3)
    for _ in range(3):
        size.committed(size.take([1] * 9), seconds=0, excess=0)
    assert size.take([1] * 9) == 9


def test_after_a_find_spans_grow_from_one_output():
    size = SpanSize()
    size.refused_among(3)
    size.committed(size.take([1] * 9), seconds=0, excess=0)
    assert size.take([1] * 9) == 1
    size.found()
    grown = []
    for _ in range(5):
        grown.append(size.take([1] * 20))
        size.committed(grown[-1], seconds=0, excess=0)
    assert grown == [1, 2, 4, 8, 16]
    for _ in range(9):
        size.committed(1, seconds=0, excess=0)
    assert size.take([1] * 99_999) == 99_999


def test_a_find_without_a_search_makes_no_span_smaller():
    size = SpanSize()
    size.found()
    assert size.take([1] * 9) == 9

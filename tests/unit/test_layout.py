"""For how many tokens a model computes, by how a batch's rows stand."""

import pytest

from worker.layout import Layout

PADDED, IN_EIGHTS = Layout(), Layout(multiple=8, longest=20)


@pytest.mark.parametrize(
    ("layout", "lengths", "tokens"),
    [
        (PADDED, [3, 5, 8], 24),
        (IN_EIGHTS, [3, 5, 8], 24),
        (IN_EIGHTS, [3, 5, 9], 48),
        (IN_EIGHTS, [17], 20),  # not beyond what the model takes
        (IN_EIGHTS, [21], 21),
        (Layout(packed=True), [3, 5, 9], 17),
    ],
)
def test_tokens_of_a_batch(layout, lengths, tokens):
    assert layout.tokens(lengths) == tokens

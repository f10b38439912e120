"""Where the temperature of a checkpoint comes from, and what is said where there is none."""

import numpy as np
import pytest

from train.calibrate import HIGHEST, LOWEST
from train.settings import RunSettings
from train.temperature import calibrated

EVERY = [0, 1, 2] * 4
LOGITS = np.eye(3)[EVERY] * 5.0
NEXT = [1, 2, 0] * 4


def test_it_is_fitted_where_there_is_a_best_one():
    found = calibrated(LOGITS, [*EVERY[:10], 0, 1], given=None)
    assert found.fitted
    assert LOWEST < found.temperature < HIGHEST
    assert found.origin == "fitted on validation"
    assert found.why_not == found.advice == ""


def test_the_users_is_taken_whatever_would_be_fitted():
    for targets in (EVERY, NEXT):
        found = calibrated(LOGITS, targets, given=1.5)
        assert (found.temperature, found.fitted, found.why_not) == (1.5, False, "")
        assert found.origin == "as given; nothing was fitted"


@pytest.mark.parametrize(
    ("logits", "targets", "why_not", "advice"),
    [
        (
            LOGITS, EVERY,
            ("0.25, its lower bound: validation (12 rows) is labelled without a mistake, so it is"
            " too small or too easy"),
            "give a larger validation split",
        ),
        (
            LOGITS / 100, [*EVERY[:11], 0],
            ("0.25, its lower bound: 91.7% of validation (12 rows) is labelled right, by scores far"
            " too low for it"),
            "train for more --epochs",
        ),
        (
            LOGITS, NEXT,
            ("10, its upper bound: 0.0% of validation (12 rows) is labelled right, no more than by"
            " chance"),
            "look at the labels and at --learning-rate",
        ),
        (
            LOGITS * 100, [*EVERY[:6], *NEXT[6:]],
            ("10, its upper bound: 50.0% of validation (12 rows) is labelled right, by scores far"
            " too high for it"),
            "train for fewer --epochs or at a lower --learning-rate",
        ),
        (
            LOGITS[:1], [0],
            ("0.25, its lower bound: validation (1 row) is labelled without a mistake, so it is too"
            " small or too easy"),
            "give a larger validation split",
        ),
    ],
)  # fmt: skip
def test_at_a_bound_it_is_one_and_says_why(logits, targets, why_not, advice):
    found = calibrated(logits, targets, given=None)
    assert (found.temperature, found.fitted) == (1, False)
    assert found.why_not == f"the temperature would be {why_not}"
    assert found.advice == advice
    assert found.origin == f"not calibrated: {found.why_not}"


def test_the_bounds_of_the_setting_are_those_of_the_fit():
    (low,) = [each.ge for each in bounds() if hasattr(each, "ge")]
    (high,) = [each.le for each in bounds() if hasattr(each, "le")]
    assert (low, high) == (LOWEST, HIGHEST)
    assert f"from {LOWEST:g} to {HIGHEST:g}:" in RunSettings.model_fields["temperature"].description


def bounds():
    return RunSettings.model_fields["temperature"].metadata

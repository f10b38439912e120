"""The temperature of a checkpoint: fitted on validation, given by the user, or none, and why."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.calibrate import LOWEST, Floats, Targets, at_bound, fit_temperature
from train.printer import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The temperature of the published scores, and where it comes from."""

    temperature: float
    fitted: bool
    """Whether it was fitted on validation."""
    why_not: str = ""
    """Why it could not be fitted, a clause; empty where it was, or where the user gave it."""
    advice: str = ""
    """What helps, a clause; empty as `why_not`."""

    @property
    def origin(self) -> str:
        """Where the temperature comes from, as it stands behind it in print and model card."""
        if self.why_not:
            return f"not calibrated: {self.why_not}"
        return "fitted on validation" if self.fitted else "as given; nothing was fitted"


def calibrated(logits: Floats, targets: Targets, *, given: float | None) -> Calibration:
    """The temperature that the user gave; else the fitted one; else 1, and why none can be fitted.

    Args:
        logits: Of validation: float64, shape (texts, labels).
        targets: The right column of each text.
        given: That of the user; None: it is fitted.

    Raises:
        ValueError: A logit is infinite or not a number, and none was given.
    """
    if given is not None:
        return Calibration(temperature=given, fitted=False)
    found = fit_temperature(logits, targets)
    if not at_bound(found):
        return Calibration(temperature=found, fitted=True)
    why_not, advice = _reason(found, logits.argmax(axis=1) == np.asarray(targets), targets)
    return Calibration(temperature=1.0, fitted=False, why_not=why_not, advice=advice)


def _reason(bound: float, right: NDArray[np.bool_], targets: Targets) -> tuple[str, str]:
    which = "lower" if bound == LOWEST else "upper"
    rows, share = counted(len(right), "row"), float(right.mean())
    if bound == LOWEST and right.all():
        what = f"validation ({rows}) is labelled without a mistake, so it is too small or too easy"
        advice = "give a larger validation split"
    elif bound == LOWEST:
        what = f"{share:.1%} of validation ({rows}) is labelled right, by scores far too low for it"
        advice = "train for more --epochs"
    elif right.sum() <= np.bincount(np.asarray(targets)).max():
        what = f"{share:.1%} of validation ({rows}) is labelled right, no more than by chance"
        advice = "look at the labels and at --learning-rate"
    else:
        what = (
            f"{share:.1%} of validation ({rows}) is labelled right, by scores far too high for it"
        )
        advice = "train for fewer --epochs or at a lower --learning-rate"
    return f"the temperature would be {bound:g}, its {which} bound: {what}", advice

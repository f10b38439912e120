"""Failures that the user can mend, each in one line."""

from collections.abc import Callable


class Refused(Exception):
    """A setting or an input is wrong: one line on standard error, exit code 2.

    The message names what is wrong and, where there is one, the way out.
    """


class Busy(Exception):
    """Another process has what this one needs: one line on standard error, exit code 1.

    No refusal: nothing that was given is wrong, and the same command may work later.
    """


class Uncalibrated(Exception):
    """The checkpoint is saved, but its scores are not calibrated: one line, exit code 1."""


def refuse_together(*checks: Callable[[], object]) -> None:
    """Runs every check, also after one that refused.

    Raises:
        Refused: With the lines of all the checks that refused, in their order.
    """
    lines = []
    for check in checks:
        try:
            check()
        except Refused as refusal:
            lines.append(str(refusal))
    if lines:
        raise Refused("\n".join(lines))

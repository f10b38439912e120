"""Failures that a user can mend, and their one line."""

from collections.abc import Callable


class Refused(Exception):
    """Wrong settings or input: one clear line for standard error, exit code 2.

    The message names the thing at fault and, where there is one, the way out.
    """


def refuse_together(*checks: Callable[[], object]) -> None:
    """Run every check, also after one that refused.

    Raises:
        Refused: With the lines of all that refused, in their order.
    """
    lines = []
    for check in checks:
        try:
            check()
        except Refused as refusal:
            lines.append(str(refusal))
    if lines:
        raise Refused("\n".join(lines))

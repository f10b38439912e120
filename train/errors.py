"""Failures that a user can mend, and their one line."""


class Refused(Exception):
    """Wrong settings or input: one clear line for standard error, exit code 2.

    The message names the thing at fault and, where there is one, the way out.
    """


def first_line(error: BaseException) -> str:
    """What a library's error says, without its paragraphs of advice."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line), type(error).__name__)

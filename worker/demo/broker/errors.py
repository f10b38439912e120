"""Why the embedded broker cannot run, and the part of its log that says so."""

LOG_LINES = 15
"""Of the log in an error: the cause, without the stack below it."""


class BrokerError(RuntimeError):
    """The embedded broker cannot run; the message says what is missing or went wrong."""


def log_end(log: bytes) -> str:
    """The last lines of a log, without Java's stack traces."""
    lines = log.decode(errors="replace").splitlines()
    return "\n".join([line for line in lines if not line.startswith("\t")][-LOG_LINES:])

"""Texts by which a model is tried when it is loaded."""

SAMPLES = (
    "i feel so happy that you are here",
    "My father died today",
    "Go and clean up your room",
    "what on earth was that noise in the middle of the night, i am still shaking",
    "ok",
    "she said it would be fine and then it was not fine at all " * 6,
    "I ❤️ this song, haven't slept, don't care #monday",
    "nothing to report",
)
"""Texts of many lengths: by them precisions and kernels are compared (`tuning.py`), and texts alone
with texts in a batch (`mates.py`)."""

"""The recipes of `--recipe`: named sets of settings, each of which its own option overrides."""

from collections.abc import Mapping
from typing import Literal

Recipe = Literal["fast", "balanced", "best"]

RECIPES: Mapping[str, Mapping[str, float]] = {
    "fast": {"epochs": 2.0},
    "balanced": {},
    "best": {"mixed": 1, "teacher_share": 0.9},
}
"""What each has other than the settings' defaults."""

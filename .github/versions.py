"""Checks that everything which a release publishes has the version of its tag, and prints it.

    python3 .github/versions.py v1.2.3

It needs the standard library alone: a runner of the release workflow has nothing else installed.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_CHART = "deploy/helm/emotion-worker/Chart.yaml"


def versions(root: Path) -> dict[str, str]:
    """Each place that states the version, and what it states."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    chart = (root / _CHART).read_text(encoding="utf-8")
    changes = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    return {
        "pyproject.toml, version": project["version"],
        f"{_CHART}, version": _first(r"^version: *\"?([^\s\"]+)", chart),
        f"{_CHART}, appVersion": _first(r"^appVersion: *\"?([^\s\"]+)", chart),
        "CHANGELOG.md, newest release": _first(r"^## \[(\d[^\]]*)\] - \d{4}-\d\d-\d\d$", changes),
    }


def _first(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else "(none)"


def main(arguments: list[str]) -> int:
    """The exit code: 0 where all agree, 1 where they do not, 2 without a tag."""
    if len(arguments) != 1:
        print("usage: python3 .github/versions.py TAG", file=sys.stderr)
        return 2
    tag = arguments[0]
    wrong = {place: found for place, found in versions(ROOT).items() if f"v{found}" != tag}
    for place, found in wrong.items():
        print(f"the tag is {tag}, but {place}: {found}", file=sys.stderr)
    if wrong:
        return 1
    print(tag.removeprefix("v"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

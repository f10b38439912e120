"""The dashboard's file as the tests read it: its panels, and its expressions without variables."""

import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "deploy" / "helm" / "emotion-worker" / "files" / "dashboard.json"


def board():
    return json.loads(FILE.read_text())


def rows():
    """The panels of each row, by its title."""
    found = {}
    for panel in board()["panels"]:
        if panel["type"] == "row":
            members = found.setdefault(panel["title"], [])
        else:
            members.append(panel)
    return found


def panels():
    return [panel for members in rows().values() for panel in members]


def notes():
    """The annotations."""
    return board()["annotations"]["list"]


def expressions():
    """Every expression as it stands there, with who asks it."""
    asked = [(panel["title"], query["expr"]) for panel in panels() for query in panel["targets"]]
    return asked + [(note["name"], note["expr"]) for note in notes()]


def filled(expr, *, interval="1m", span="1h", job="emotion-worker"):
    """As Grafana sends it where everything is chosen."""
    values = {
        "$__rate_interval": interval, "$__range": span, "$job": job,
        "$namespace": ".*", "$release": ".*", "$instance": ".*", "$topic": ".*",
    }  # fmt: skip
    for name, value in values.items():
        expr = expr.replace(name, value)
    assert not re.search(r"\$[a-z_{]", expr), expr
    return expr

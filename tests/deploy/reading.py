"""What is deployed, as text and as values."""

import os
import re
from pathlib import Path

from worker.settings import Settings, load

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "deploy" / "docker"
CHART = ROOT / "deploy" / "helm" / "emotion-worker"


def settings_of(monkeypatch, variables):
    """The settings of just this environment; refused where a name is none."""
    monkeypatch.chdir("/")  # no .env
    for name in [name for name in os.environ if name.startswith("WORKER_")]:
        monkeypatch.delenv(name)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    settings = load([])
    assert isinstance(settings, Settings)
    return settings


def dockerfile_lines():
    """One instruction a line."""
    text = re.sub(r"^\s*#.*\n", "", (DOCKER / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\s*\\\n\s*", " ", text)
    return [line for line in joined.splitlines() if line]


def dockerfile_stages():
    """The lines of each stage, in order, without those of the stage that it starts from."""
    stages = {}
    for line in dockerfile_lines():
        if line.startswith("FROM "):
            current = stages.setdefault(line.split(" AS ")[1], [])
        if stages:
            current.append(line)
    return stages

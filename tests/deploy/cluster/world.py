"""What every scenario has at hand: a namespace, a Kafka, the images, and a record of what held."""

import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.deploy.cluster.kube import Cluster, is_ready
from tests.deploy.cluster.traffic import Traffic
from tests.support.kafka_helpers import wait_until
from worker.demo.broker import EmbeddedKafka

CLAIM = "models"
"""Claim of the volume that all scenarios share."""
CHECKPOINT = "checkpoint"
"""Folder in the volume: made by the training Job, read by workers."""
DATA = Path(__file__).resolve().parents[3] / "train" / "data"


class SkipScenario(Exception):
    """Cannot be shown on this cluster; the message says why."""


@dataclass(kw_only=True)
class World:
    cluster: Cluster
    directory: Path
    bootstrap: str
    broker: EmbeddedKafka | None
    """None where the Kafka is the user's own."""
    images: Mapping[str, str]
    """Of `worker` and `trainer`."""
    pull_policy: str
    base_model: str
    """As the training Job sees it: a hub name, or a folder."""
    base_folder: Path | None
    """Where it lies on this machine, to be copied; None for one of the hub."""
    texts: Sequence[str]
    lag: int
    """Messages that KEDA finds at once."""
    chart_before: Path | None
    """Folder of the chart that an upgrade comes from."""
    extra: Mapping[str, Any]
    """Values for every release: pull secrets, node selectors, tolerations."""
    failed: list[str] = field(default_factory=list)
    passed: int = 0
    _begin: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self._begin:7.1f} s  {text}", flush=True)

    def check(self, claim: str, holds: object, detail: object = "") -> None:
        """One line of the record."""
        told = f"{claim}: {detail}" if detail != "" else claim
        self.say(f"{'ok    ' if holds else 'FAIL  '}{told}")
        if holds:
            self.passed += 1
        else:
            self.failed.append(told)

    @property
    def volume(self) -> dict[str, Any]:
        return {"persistentVolumeClaim": {"claimName": CLAIM}}

    def image(self, name: str) -> dict[str, str]:
        """Of `worker` or `trainer`, as the chart has it."""
        repository, _, tag = self.images[name].rpartition(":")
        return {"repository": repository, "tag": tag, "pullPolicy": self.pull_policy}

    def traffic(self, release: str, partitions: int = 6) -> Traffic:
        return Traffic(self.bootstrap, release, self.texts, partitions)

    def values(self, traffic: Traffic, **settings: Mapping[str, Any]) -> dict[str, Any]:
        """Of a release on the CPU that serves this traffic; small enough for two on a laptop."""
        every = {name: dict(group) for name, group in traffic.settings.items()}
        every["kafka"]["bootstrap_servers"] = self.bootstrap
        every["model"] = {"threads": 1}
        for name, group in settings.items():
            every[name] = {**every.get(name, {}), **group}
        return {
            "image": self.image("worker"),
            "gpu": {"enabled": False},
            "settings": every,
            "checkpoint": {"persistentVolumeClaim": {"claimName": CLAIM, "subPath": CHECKPOINT}},
            "resources": {
                "requests": {"cpu": "250m", "memory": "1Gi"},
                "limits": {"memory": "3Gi"},
            },
            **self.extra,
        }

    def wait_ready(self, release: str, count: int, timeout: float = 300.0) -> float:
        """Seconds until so many workers are ready, and there are no others."""
        begin = time.monotonic()

        def ready() -> bool:
            pods = self.cluster.pods(release)
            return len(pods) == count and all(map(is_ready, pods))

        wait_until(ready, timeout, f"{release}: {count} ready", every=1.0)
        return time.monotonic() - begin

    def metric(self, pod: str, name: str) -> float:
        """A worker's own figure, over all its labels; through the API server."""
        path = f"/api/v1/namespaces/{self.cluster.namespace}/pods/{pod}:8000/proxy/metrics"
        lines = self.cluster.kubectl("get", "--raw", path).splitlines()
        return sum(
            float(line.rpartition(" ")[2])
            for line in lines
            if line.startswith((f"{name}{{", f"{name} "))
        )


def texts_of(path: Path) -> list[str]:
    """The texts of a jsonl file, in an order of their own."""
    texts = [json.loads(line)["text"] for line in path.read_text().splitlines()]
    random.Random(7).shuffle(texts)
    return texts

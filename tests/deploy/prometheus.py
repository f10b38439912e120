"""A Prometheus of the test's own, with the real rules, and what it is asked over HTTP."""

import json
import math
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import yaml

from tests.support.kafka_helpers import wait_until
from tests.support.worker_process import free_port


class Prometheus:
    """Debian's. Targets are told by a file: it is built without the discovery of Kubernetes.

    Args:
        directory: For its data and its log.
        rules: The rule file.
        every: Seconds between scrapes, and between evaluations.
        relabel: What is made of the targets' labels.
    """

    def __init__(self, directory, rules, *, every=1, relabel=()):
        self.port = free_port()
        self._directory = directory
        self._targets = directory / "targets.json"
        self.config = directory / "prometheus.yml"
        found = {"files": [str(self._targets)], "refresh_interval": "5s"}
        job = {
            "job_name": "emotion-worker",
            "file_sd_configs": [found],
            "relabel_configs": list(relabel),
        }
        self.config.write_text(
            yaml.safe_dump({
                "global": {"scrape_interval": f"{every}s", "evaluation_interval": f"{every}s"},
                "rule_files": [str(rules)],
                "scrape_configs": [job],
            })
        )  # fmt: skip
        self._process = None

    def start(self):
        command = [
            "prometheus", f"--config.file={self.config}",
            f"--storage.tsdb.path={self._directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}", "--log.level=warn",
        ]  # fmt: skip
        with (self._directory / "prometheus.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(self._ready, 60, "Prometheus is ready")
        return self

    def stop(self):
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)

    def watch(self, **workers):
        """Scrapes these ports from now on, and no others, under the names of pods."""
        self.tell(
            {
                "targets": [f"127.0.0.1:{port}"],
                "labels": {"namespace": "test", "release": "observed", "instance": name},
            }
            for name, port in workers.items()
        )

    def tell(self, targets):
        """Scrapes these from now on, and no others; in the form of a target file."""
        new = self._targets.with_suffix(".new")
        new.write_text(json.dumps(list(targets)))
        new.rename(self._targets)

    def value(self, expr):
        """The only series' value now; None where there is none."""
        found = self.now(expr)
        assert len(found) <= 1, found
        return found[0][1] if found else None

    def now(self, expr):
        """Series and their values."""
        found = self._ask("query", query=expr)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found]

    def over_time(self, expr, start, end, step=1):
        """Series, and their points: pairs of time and a finite value."""
        found = self._ask("query_range", query=expr, start=start, end=end, step=step)["result"]
        return [
            (
                each["metric"],
                [(at, float(v)) for at, v in each["values"] if math.isfinite(float(v))],
            )
            for each in found
        ]

    def rules(self):
        """Every rule, as Prometheus tells of it."""
        return [rule for group in self._ask("rules")["groups"] for rule in group["rules"]]

    def firing(self, release):
        """Names of the alerts that fire for a release, or for none in particular."""
        return {
            each["labels"]["alertname"]
            for each in self._ask("alerts")["alerts"]
            if each["state"] == "firing" and each["labels"].get("release", release) == release
        }

    def metrics(self):
        """Names of all that was ever scraped or recorded."""
        return set(self._ask("label/__name__/values"))

    def _ready(self):
        assert self._process.poll() is None, (self._directory / "prometheus.log").read_text()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def _ask(self, what, **arguments):
        url = f"http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(arguments)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{arguments}: {error.read().decode()}") from error

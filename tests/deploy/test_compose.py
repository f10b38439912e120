"""The compose files, read as text: valid, confined, in step with the worker."""

import itertools
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

from tests.deploy.reading import CHART, ROOT, dockerfile_stages, settings_of
from tests.support.fakes import record
from worker.decode import Decoder
from worker.demo.broker import KAFKA_VERSION

COMPOSE = ROOT / "deploy" / "compose"
SCHEMA = Path(__file__).parent / "schemas" / "compose-spec.json"
COMPOSE_FILES = ("compose.yaml", "compose.gpu.yaml")
FOR_EVER = {"kafka", "tweets", "worker", "prometheus", "grafana"}


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_a_file_is_valid_by_the_specification(name):
    # Variables are strings to the schema, as they are to Compose before it puts values in.
    jsonschema.validate(compose(name), json.loads(SCHEMA.read_text()))


def test_the_specification_refuses_what_is_misspelt():
    wrong = {"services": {"worker": {"image": "a", "read_onyl": True}}}
    with pytest.raises(jsonschema.ValidationError, match="read_onyl"):
        jsonschema.validate(wrong, json.loads(SCHEMA.read_text()))


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_ports_are_open_to_this_machine_only(name):
    for service in services(name).values():
        assert "network_mode" not in service
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_mounted_and_built_paths_exist(name):
    for service in services(name).values():
        build = service.get("build")
        if build:
            assert (COMPOSE / build["context"] / build["dockerfile"]).is_file()
            assert build["target"] in dockerfile_stages()
        for source, _, _ in mounts(service):
            if source.startswith(("/", ".")):
                assert (COMPOSE / source).exists(), source
            else:  # the checkpoint's variable, or a volume that is named below
                assert source[:1] == "$" or source in compose(name)["volumes"]


def test_files_of_this_repository_are_mounted_for_reading_only():
    for name, service in services("compose.yaml").items():
        for source, target, mode in mounts(service):
            assert mode == "ro" or source in compose("compose.yaml")["volumes"], (name, target)


def test_the_checkpoint_is_mounted_where_the_worker_looks_and_cannot_be_changed():
    worker = services("compose.yaml")["worker"]
    (mount,) = worker["volumes"]
    assert mount["source"] == "${CHECKPOINT:-../../checkpoint}"
    assert mount["read_only"] is True
    assert mount["bind"] == {"create_host_path": False}
    assert mount["target"] == worker["environment"]["WORKER_MODEL__CHECKPOINT"]


@pytest.mark.parametrize("name", COMPOSE_FILES)
def test_the_worker_takes_its_environment(name, monkeypatch):
    base = services("compose.yaml")["worker"]["environment"]
    settings_of(monkeypatch, {**base, **services(name)["worker"]["environment"]})


def test_the_worker_uses_what_compose_makes(monkeypatch):
    settings = composed(monkeypatch)
    parts = services("compose.yaml")
    made = re.findall(r"^topic ([\w.]+)", parts["topic-init"]["command"][0], re.MULTILINE)
    assert {settings.input.topic, settings.output.topic, settings.dlq.topic} == set(made)
    listeners = parts["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert f"INTERNAL://{settings.kafka.bootstrap_servers}," in listeners
    (port,) = parts["worker"]["ports"]
    assert port.endswith(f":{settings.http.port}")
    probe = "".join(parts["worker"]["healthcheck"]["test"])
    assert f'"127.0.0.1", {settings.http.port}' in probe
    assert '"/readyz"' in probe
    assert "curl" not in probe


def test_the_source_writes_what_the_worker_reads(monkeypatch):
    settings = composed(monkeypatch)
    tweets = services("compose.yaml")["tweets"]
    assert f"--topic {settings.input.topic} " in tweets["command"][0]
    assert f"--bootstrap-server {settings.kafka.bootstrap_servers} " in tweets["command"][0]
    ((folder, target, _),) = mounts(tweets)
    (name,) = re.findall(rf"shuf {target}/([\w.]+)", tweets["command"][0])
    lines = (COMPOSE / folder / name).read_bytes().splitlines()
    assert len(lines) > 500
    decoder = Decoder(
        format=settings.input.format,
        text_field=settings.input.text_field,
        id_field=settings.input.id_field,
        max_bytes=settings.input.max_bytes,
    )
    assert all(decoder.decode(record(value=line)).text for line in lines)


def test_the_source_goes_on_for_ever_in_another_order_each_time(tmp_path):
    if shutil.which("shuf") is None or shutil.which("bash") is None:
        pytest.skip("needs bash and shuf, as the image has them")
    (script,) = services("compose.yaml")["tweets"]["command"]
    (tmp_path / "train.jsonl").write_text("one\ntwo\nthree\n")
    script = script.replace("$$", "$").replace("/data/", f"{tmp_path}/")
    script = re.sub(r"/opt/kafka/bin/\S+", "head -n 600 #", script)
    done = subprocess.run(
        ["bash", "-eu", "-c", script], env={**os.environ, "TWEETS_PER_SECOND": "1000000"},
        capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    rounds = {tuple(lines[start : start + 3]) for start in range(0, 600, 3)}
    assert rounds == set(itertools.permutations(("one", "two", "three")))


def test_a_worker_may_drain_before_it_is_killed(monkeypatch):
    grace = services("compose.yaml")["worker"]["stop_grace_period"]
    assert float(grace.removesuffix("s")) > composed(monkeypatch).drain.deadline


@pytest.mark.parametrize("name", sorted(FOR_EVER | {"topic-init"}))
def test_a_service_is_confined(name):
    service = services("compose.yaml")[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "user" not in service  # the image's own
    # Apache Kafka's image writes its configuration into its own folders when it starts.
    assert name == "kafka" or service["read_only"] is True


def test_the_worker_writes_to_tmp_only():
    assert services("compose.yaml")["worker"]["tmpfs"] == ["/tmp"]


def test_what_runs_for_ever_is_started_again():
    parts = services("compose.yaml")
    assert set(parts) == FOR_EVER | {"topic-init"}
    assert {parts[name]["restart"] for name in FOR_EVER} <= {"unless-stopped", "on-failure"}
    assert parts["topic-init"]["restart"] == "no"


def test_compose_starts_in_order_and_never_makes_topics_by_itself():
    parts = services("compose.yaml")
    assert parts["topic-init"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    wanted = {"topic-init": {"condition": "service_completed_successfully"}}
    assert wanted.items() <= parts["worker"]["depends_on"].items()
    assert wanted.items() <= parts["tweets"]["depends_on"].items()
    assert parts["kafka"]["environment"]["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    images = {parts[name]["image"] for name in ("kafka", "topic-init", "tweets")}
    assert images == {f"apache/kafka:{KAFKA_VERSION}"}


def test_the_gpu_overlay_reserves_one_gpu(monkeypatch):
    worker = services("compose.gpu.yaml")["worker"]
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]}
    assert settings_of(monkeypatch, worker["environment"]).model.device == "cuda"


def test_prometheus_scrapes_the_worker_under_the_name_that_the_rules_know(monkeypatch):
    (job, _) = prometheus()["scrape_configs"]
    assert job["job_name"] == "emotion-worker"
    assert job["static_configs"] == [{"targets": [f"worker:{composed(monkeypatch).http.port}"]}]


def test_prometheus_reads_the_rules_of_the_chart_where_they_are_mounted():
    service = services("compose.yaml")["prometheus"]
    targets = {target: source for source, target, _ in mounts(service)}
    (rules,) = prometheus()["rule_files"]
    assert (COMPOSE / targets[rules]).resolve() == CHART / "files" / "rules.yaml"
    (config,) = [
        word.partition("=")[2] for word in service["command"] if word.startswith("--config.file=")
    ]
    assert (COMPOSE / targets[config]).resolve() == COMPOSE / "prometheus.yaml"


@pytest.mark.tool("promtool")
def test_promtool_takes_the_configuration(tmp_path):
    config = prometheus() | {"rule_files": [str(CHART / "files" / "rules.yaml")]}
    (tmp_path / "prometheus.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yaml"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_grafana_finds_its_datasource_and_its_dashboard():
    grafana = services("compose.yaml")["grafana"]
    targets = {target: source for source, target, _ in mounts(grafana)}
    (datasource,) = provisioned(targets, "datasources")["datasources"]
    assert (datasource["type"], datasource["isDefault"]) == ("prometheus", True)
    port = re.search(r":(\d+)$", services("compose.yaml")["prometheus"]["ports"][0])[1]
    assert datasource["url"] == f"http://prometheus:{port}"
    assert datasource["jsonData"]["timeInterval"] == prometheus()["global"]["scrape_interval"]
    (provider,) = provisioned(targets, "dashboards")["providers"]
    (dashboard,) = [target for target in targets if target.startswith(provider["options"]["path"])]
    assert (COMPOSE / targets[dashboard]).resolve() == CHART / "files" / "dashboard.json"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == dashboard


def test_grafana_has_the_version_whose_schema_the_dashboard_is_checked_against():
    pinned = re.search(r"grafana-foundation-sdk==\d+!(\S+)", (ROOT / "constraints.txt").read_text())
    assert services("compose.yaml")["grafana"]["image"] == f"grafana/grafana:{pinned[1]}"


def compose(name):
    return yaml.safe_load((COMPOSE / name).read_text())


def services(name):
    return compose(name)["services"]


def composed(monkeypatch):
    return settings_of(monkeypatch, services("compose.yaml")["worker"]["environment"])


def prometheus():
    return yaml.safe_load((COMPOSE / "prometheus.yaml").read_text())


def provisioned(targets, kind):
    (source,) = [
        source
        for target, source in targets.items()
        if target.startswith(f"/etc/grafana/provisioning/{kind}/")
    ]
    return yaml.safe_load((COMPOSE / source).read_text())


def mounts(service):
    """Source, target and mode of each."""
    for mount in service.get("volumes", []):
        if isinstance(mount, dict):
            yield mount["source"], mount["target"], "ro" if mount.get("read_only") else "rw"
        else:
            source, target, mode = [*mount.split(":"), "rw"][:3]
            yield source, target, mode

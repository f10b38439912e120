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
from worker.demo import trainer as demo_trainer
from worker.demo.broker import KAFKA_VERSION

COMPOSE = ROOT / "deploy" / "compose"
SCHEMA = Path(__file__).parent / "schemas" / "compose-spec.json"
COMPOSE_FILES = ("compose.yaml", "compose.gpu.yaml")
FOR_EVER = {"kafka", "tweets", "worker", "prometheus", "grafana"}
ONCE = {"topic-init", "trainer"}
CHECKPOINT = "${CHECKPOINT:-checkpoint}"
"""A directory of the user's, or the volume that the trainer fills."""


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
        build = service.get("build", {})
        if "context" in build:  # in an overlay it is that of the file below
            assert (COMPOSE / build["context"] / build["dockerfile"]).is_file()
        if build:
            assert build["target"] in dockerfile_stages()
        for source, _, _ in mounts(service):
            if source.startswith(("/", ".")):
                assert (COMPOSE / source).exists(), source
            else:  # the checkpoint's variable, or a volume that is named below
                assert source[:1] == "$" or source in compose(name)["volumes"]


def test_files_of_this_repository_are_mounted_for_reading_only():
    for name, service in services("compose.yaml").items():
        for source, target, mode in mounts(service):
            if source == CHECKPOINT:
                continue
            assert mode == "ro" or source in compose("compose.yaml")["volumes"], (name, target)


def test_the_checkpoint_is_mounted_where_the_worker_looks_and_cannot_be_changed():
    worker = services("compose.yaml")["worker"]
    (mount,) = mounts(worker)
    assert mount == (CHECKPOINT, worker["environment"]["WORKER_MODEL__CHECKPOINT"], "ro")


def test_from_nothing_a_checkpoint_is_trained_where_the_worker_looks_for_one():
    trainer, worker = (services("compose.yaml")[name] for name in ("trainer", "worker"))
    assert "checkpoint" in compose("compose.yaml")["volumes"]
    (mount,) = mounts(trainer)
    assert mount == (CHECKPOINT, "/checkpoint", "rw${CHECKPOINT:+,ro}")  # the user's is not changed
    assert [mount[:2]] == [mount[:2] for mount in mounts(worker)]
    assert worker["depends_on"]["trainer"] == {"condition": "service_completed_successfully"}
    assert (trainer["build"]["target"], worker["build"]["target"]) == ("trainer-demo", "cpu")
    (script,) = trainer["command"]
    assert set(demo_trainer.RECIPE) <= set(script.split())
    assert f"--name {demo_trainer.NAME} " in script
    # In the image the sentences lie in the program's own package.
    assert "--dataset /opt/app/train/data " in script
    assert (demo_trainer.sentences_folder() / "train.jsonl").is_file()


# What stands for emotion-train: tells its options, and writes as it does, or fails half-way.
_TRAINER = """#!/bin/sh -eu
echo "$*" >> "$PLACE/runs"
for option; do
  case $option in */.new/*) output=$option ;; esac
done
mkdir -p "$output/report"
echo weights > "$output/model.safetensors"
echo curves > "$output/report/curves.png"
[ ! -e "$PLACE/fails" ] || exit 1
echo {} > "$output/config.json"
"""


@pytest.fixture
def train(tmp_path):
    """Runs the trainer's script on a folder: exit code, what it printed, number of trainings."""
    (script,) = services("compose.yaml")["trainer"]["command"]
    place = tmp_path / "checkpoint"
    place.mkdir()
    script = script.replace("$$", "$").replace("/checkpoint", str(place))
    program = tmp_path / "emotion-train"
    program.write_text(_TRAINER)
    program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    def run(checkpoint=""):
        done = subprocess.run(
            ["sh", "-euc", script],
            env={"PATH": path, "PLACE": str(tmp_path), "CHECKPOINT": checkpoint},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        runs = tmp_path / "runs"
        times = len(runs.read_text().splitlines()) if runs.exists() else 0
        return done.returncode, done.stdout + done.stderr, times

    return run


TRAINED = ["config.json", "model.safetensors", "report", "report/curves.png"]


def found(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_trainer_puts_a_checkpoint_into_the_empty_volume_and_trains_no_second_time(
    train, tmp_path
):
    assert train() == (0, "", 1)
    assert found(tmp_path / "checkpoint") == TRAINED
    assert train() == (0, "a checkpoint is there: nothing to train\n", 1)
    assert found(tmp_path / "checkpoint") == TRAINED


@pytest.mark.parametrize(
    "left", [".new/model/model.safetensors", "model.safetensors", "report/curves.png", ".new/x"]
)
def test_what_a_trainer_that_was_killed_has_left_is_trained_anew(train, tmp_path, left):
    (tmp_path / "checkpoint" / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "checkpoint" / left).write_text("half")
    assert train() == (0, "", 1)
    assert found(tmp_path / "checkpoint") == TRAINED
    assert (tmp_path / "checkpoint" / "model.safetensors").read_text() == "weights\n"


def test_a_training_that_fails_leaves_no_checkpoint_and_the_next_one_may_succeed(train, tmp_path):
    (tmp_path / "fails").touch()
    assert train()[0] == 1
    assert not (tmp_path / "checkpoint" / "config.json").exists()
    (tmp_path / "fails").unlink()
    assert train()[::2] == (0, 2)
    assert found(tmp_path / "checkpoint") == TRAINED


def test_a_checkpoint_of_the_users_own_is_used_and_an_empty_directory_refused(train, tmp_path):
    code, told, times = train("/models/mine")
    assert (code, times) == (2, 0)
    assert told == "CHECKPOINT=/models/mine: no config.json there, so it is no checkpoint\n"
    (tmp_path / "checkpoint" / "weights.txt").touch()
    assert train("/models/mine")[0] == 2
    assert found(tmp_path / "checkpoint") == ["weights.txt"]  # nothing of the user's is deleted
    (tmp_path / "checkpoint" / "config.json").touch()
    assert train("/models/mine") == (0, "a checkpoint is there: nothing to train\n", 0)


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


@pytest.mark.parametrize("name", sorted(FOR_EVER | ONCE))
def test_a_service_is_confined(name):
    service = services("compose.yaml")[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "user" not in service  # the image's own
    # Apache Kafka's image writes its configuration into its own folders when it starts.
    assert name == "kafka" or service["read_only"] is True


def test_worker_and_trainer_write_to_tmp_only():
    for name in ("worker", "trainer"):
        assert services("compose.yaml")[name]["tmpfs"] == ["/tmp"]


def test_what_runs_for_ever_is_started_again():
    parts = services("compose.yaml")
    assert set(parts) == FOR_EVER | ONCE
    assert {parts[name]["restart"] for name in FOR_EVER} <= {"unless-stopped", "on-failure"}
    assert {parts[name]["restart"] for name in ONCE} == {"no"}


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
    assert worker["build"]["target"] == "worker"
    assert worker["image"] != services("compose.yaml")["worker"]["image"]
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
            source, target, mode = re.fullmatch(
                r"(\$\{.*?\}|[^:]+):([^:]+)(?::(.+))?", mount
            ).groups()
            yield source, target, mode or "rw"

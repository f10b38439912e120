"""What stands around the pods: budget, network, watching, scaling, topics, user, training."""

import itertools
import json
import re
import subprocess

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.deploy.chart_objects import (
    EVERY_SET,
    check_schema,
    config,
    made,
    manifests,
    mount_of,
    needs_helm,
    of_kind,
    values_of,
    worker_pod,
    workload,
)
from tests.deploy.chart_values import GROUP, KEDA, MINIMAL, VARIANTS, merged
from tests.tools.chart_schema import CHART, NAME, ROOT
from train.cli import parse
from train.settings import RunSettings
from worker.connect import identity
from worker.kafka.cluster import topics
from worker.settings import KafkaSettings, Settings

# ---- Around it --------------------------------------------------------------------------------


def test_operators_kinds_are_off_by_default():
    kinds = {thing["kind"] for thing in manifests("minimal")}
    assert kinds == {"ConfigMap", "Deployment", "ServiceAccount"}


@pytest.mark.parametrize("name", EVERY_SET)
def test_a_drain_of_nodes_takes_one_pod_at_a_time_where_there_may_be_more(name):
    found = manifests(name)
    most = workload(found)["spec"].get("replicas")
    for scaled in of_kind(found, "ScaledObject"):
        most = scaled["spec"]["maxReplicaCount"]
    budgets = of_kind(found, "PodDisruptionBudget")
    assert len(budgets) == (most > 1)
    for budget in budgets:
        assert budget["spec"]["maxUnavailable"] == 1
        assert budget["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_network_is_shut_but_for_what_is_named():
    (policy,) = of_kind(manifests("production-gpu"), "NetworkPolicy")
    spec = policy["spec"]
    assert spec["policyTypes"] == ["Ingress", "Egress"]
    assert spec["podSelector"]["matchExpressions"][0]["values"] == ["worker", "check"]
    (scrape,) = spec["ingress"]
    assert scrape["ports"] == [{"port": 8000, "protocol": "TCP"}]
    names, kafka = spec["egress"]
    assert {(each["port"], each["protocol"]) for each in names["ports"]} == {
        (53, "UDP"),
        (53, "TCP"),
        (5353, "UDP"),  # where OpenShift's pods of DNS listen
        (5353, "TCP"),
    }
    assert kafka["ports"] == [{"port": 9093, "protocol": "TCP"}]
    assert kafka["to"] == [{"podSelector": {"matchLabels": {"strimzi.io/name": "streams-kafka"}}}]


def test_without_peers_nobody_comes_in_and_the_checkpoint_is_reached():
    (policy,) = of_kind(manifests("plain-password"), "NetworkPolicy")
    assert policy["spec"]["ingress"] == []
    _, kafka, download = policy["spec"]["egress"]
    assert kafka == {"ports": [{"port": 9092, "protocol": "TCP"}]}
    assert download == {"ports": [{"port": 8443, "protocol": "TCP"}]}
    (policy,) = of_kind(manifests("client-certificate"), "NetworkPolicy")
    assert policy["spec"]["egress"][-1] == {"ports": [{"port": 443}]}


@needs_helm
def test_a_checkpoint_is_reached_at_the_port_of_https():
    values = merged(values_of("cpu"), {"networkPolicy": {"enabled": True}})
    (policy,) = of_kind(made(values), "NetworkPolicy")
    assert policy["spec"]["egress"][-1] == {"ports": [{"port": 443, "protocol": "TCP"}]}


def test_a_scrape_has_the_identity_that_rules_and_dashboard_go_by():
    (monitor,) = of_kind(manifests("production-gpu"), "PodMonitor")
    assert monitor["spec"]["jobLabel"] == "app.kubernetes.io/name"  # always emotion-worker
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert (endpoint["port"], endpoint["path"]) == ("http", "/metrics")
    pending, *named = endpoint["relabelings"]
    assert (pending["regex"], pending["action"]) == ("Pending", "drop")
    assert pending["sourceLabels"] == ["__meta_kubernetes_pod_phase"]
    assert {each["targetLabel"]: each["sourceLabels"] for each in named} == {
        "instance": ["__meta_kubernetes_pod_name"],
        "release": ["__meta_kubernetes_pod_label_app_kubernetes_io_instance"],
    }
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"


def test_rules_are_those_of_the_file():
    rule, _ = of_kind(manifests("production-gpu"), "PrometheusRule")
    ours = our_rules()
    for group in rule["spec"]["groups"]:
        for each in group["rules"]:
            assert "alert" not in each or each["labels"].pop("team") == "nlp"
    assert rule["spec"]["groups"] == ours
    assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"


# ---- Presence and lag, release by release -----------------------------------------------------


def said_by(things):
    """What a release says to the rules of all: the records of its own PrometheusRule."""
    (rule,) = (
        thing
        for thing in of_kind(things, "PrometheusRule")
        if thing["metadata"]["name"].endswith("-release")
    )
    check_schema(rule)
    (group,) = rule["spec"]["groups"]
    return {each["record"]: each for each in group["rules"]}


@needs_helm
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"replicaCount": 3}, 3),
        ({"replicaCount": 0}, 0),  # stopped on purpose
        (merged(KEDA, {"keda": {"minReplicas": 2}}), 2),
        (merged(KEDA, {"keda": {"minReplicas": 0}, "replicaCount": 3}), 0),
    ],
)
def test_a_release_says_how_many_workers_there_have_to_be(values, expected):
    found = made(merged(MINIMAL, {"podMonitor": {"enabled": True}}, values))
    said = said_by(found)["group:worker_replicas:expected"]
    assert said["expr"] == f"vector({expected})"
    assert said["labels"] == {"job": NAME, "namespace": "default", "release": NAME}


@needs_helm
def test_each_release_speaks_for_itself_also_where_another_one_has_the_rules():
    values = merged(MINIMAL, GROUP, {"podMonitor": {"enabled": True, "labels": {"release": "kps"}}})
    for release, namespace in (("a", "prod"), ("b", "prod"), ("a", "stage")):
        found = made(values, release=release, namespace=namespace)
        (rule,) = of_kind(found, "PrometheusRule")
        assert rule["metadata"]["labels"]["release"] == "kps"  # by which Prometheus selects it
        for said in said_by(found).values():
            assert said["labels"] == {"job": NAME, "namespace": namespace, "release": release}


def test_one_that_may_be_scaled_to_none_leaves_the_rules_of_the_others_as_they_are():
    rule, _ = of_kind(manifests("token"), "PrometheusRule")
    assert [group["name"] for group in rule["spec"]["groups"]] == [
        group["name"] for group in our_rules()
    ]
    assert said_by(manifests("token"))["group:worker_replicas:expected"]["expr"] == "vector(0)"


def test_the_lag_is_told_by_kafka_or_keda_and_not_by_the_worker():
    said = said_by(manifests("production-gpu"))["group:worker_lag_records:outside"]
    lag = 'kafka_consumergroup_lag{consumergroup="emotion-worker", topic="tweets"}'
    assert lag in said["expr"]
    for label in ("namespace", "exported_namespace"):
        keda = f'keda_scaler_metrics_value{{{label}="kafka", scaledObject="emotion-worker"}}'
        assert keda in said["expr"]
    assert "worker_" not in said["expr"].replace("emotion-worker", "")


@needs_helm
@pytest.mark.tool("promtool")
def test_what_a_release_says_is_promql(tmp_path):
    release = {"enabled": True, "kafkaExporterMatchers": 'namespace="kafka", cluster=~"a|b"'}
    awkward = {
        "settings": {"kafka": {"group_id": 'a "b" NAMESPACE'}, "input": {"topic": "x_y.TOPIC"}},
        "prometheusRule": {"enabled": True, "release": release},
    }
    for thing in of_kind(made(merged(MINIMAL, awkward)), "PrometheusRule"):
        file = tmp_path / "rules.yaml"
        file.write_text(yaml.safe_dump(thing["spec"]))
        done = subprocess.run(
            ["promtool", "check", "rules", "--lint=all", "--lint-fatal", str(file)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    asked = said_by([thing])["group:worker_lag_records:outside"]["expr"]
    assert 'consumergroup="a \\"b\\" NAMESPACE"' in asked
    assert 'topic="x_y.TOPIC", namespace="kafka", cluster=~"a|b"}' in asked


@needs_helm
def test_a_release_may_be_silent():
    values = {"podMonitor": {"enabled": True}, "prometheusRule": {"release": {"enabled": False}}}
    assert not of_kind(made(merged(MINIMAL, values)), "PrometheusRule")


# ---- Alerts, one by one -----------------------------------------------------------------------


def alerts_of(values):
    """The alerts that the chart makes of prometheusRule."""
    found = made(merged(MINIMAL, {"prometheusRule": {"enabled": True} | values}))
    rule, _ = of_kind(found, "PrometheusRule")
    return [each for group in rule["spec"]["groups"] for each in group["rules"] if "alert" in each]


@needs_helm
def test_labels_for_routing_overwrite_no_severity():
    before = [each["labels"] for each in alerts_of({})]
    after = [
        each["labels"]
        for each in alerts_of({"alertLabels": {"severity": "none", "job": "x", "team": "nlp"}})
    ]
    assert after == [labels | {"job": labels.get("job", "x"), "team": "nlp"} for labels in before]


@needs_helm
def test_one_alert_may_be_off_and_the_others_stay():
    before = [each["alert"] for each in alerts_of({})]
    off = "EmotionWorkerTargetDown"
    after = [each["alert"] for each in alerts_of({"alerts": {off: {"enabled": False}}})]
    assert before.count(off) == 3
    assert after == [name for name in before if name != off]


def thresholds():
    text = (CHART / "templates" / "_rules.tpl").read_text()
    return dict(re.findall(r'^(EmotionWorker\w+): "(.+)"$', text, re.MULTILINE))


def test_a_threshold_stands_once_in_each_rule_that_has_it():
    """Once for each window of a budget."""
    assert len(thresholds()) == 12
    for name, compared in thresholds().items():
        rules = [each for group in our_rules() for each in group["rules"]]
        for rule in (each for each in rules if each.get("alert") == name):
            times = 2 if name.endswith("BudgetBurn") else 1
            found = re.findall(rf"{re.escape(compared)}(?![.\d])", rule["expr"])
            assert len(found) == times, rule


@needs_helm
@pytest.mark.tool("promtool")
def test_another_threshold_takes_the_place_of_the_alert_s_own(tmp_path):
    changes = {name: {"threshold": 1.25} for name in thresholds()}
    changes |= {"EmotionWorkerMixedModels": {"severity": "info", "for": "2h"}}
    for before, after in zip(alerts_of({}), alerts_of({"alerts": changes}), strict=True):
        name = before["alert"]
        compared = thresholds().get(name, "nothing")
        now = re.sub(r"[\d.]+$", "1.25", compared)
        assert after["expr"] == before["expr"].replace(compared, now)
        assert (after["expr"] == before["expr"]) == (name not in thresholds())
        if name == "EmotionWorkerMixedModels":
            assert (after["labels"]["severity"], after["for"]) == ("info", "2h")
        else:
            assert (after["labels"], after["for"]) == (before["labels"], before["for"])


def test_runbooks_may_be_elsewhere():
    published = yaml.safe_load((CHART / "values.yaml").read_text())["prometheusRule"]
    assert set(runbooks(our_rules())) == {published["runbookBaseUrl"]}
    rule, _ = of_kind(manifests("token"), "PrometheusRule")
    assert set(runbooks(rule["spec"]["groups"])) == {"https://wiki.example.com/runbooks"}


def test_the_dashboard_is_that_of_the_file():
    (dashboard,) = (
        thing
        for thing in of_kind(manifests("production-gpu"), "ConfigMap")
        if "grafana_dashboard" in thing["metadata"]["labels"]
    )
    ours = json.loads((CHART / "files" / "dashboard.json").read_text())
    assert json.loads(dashboard["data"]["emotion-worker.json"]) == ours
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert len(json.dumps(dashboard)) < 262_144  # what `kubectl apply` keeps of an object in it
    (elsewhere,) = (
        thing
        for thing in of_kind(manifests("client-certificate"), "ConfigMap")
        if "grafana_dashboard" in thing["metadata"]["labels"]
    )
    assert elsewhere["metadata"]["namespace"] == "monitoring"


# ---- Scaling ----------------------------------------------------------------------------------


@needs_helm
@pytest.mark.parametrize(
    ("start", "policy"),
    [("earliest", "earliest"), ("latest", "latest"), ("2026-11-22T10:00:00Z", "earliest")],
)
def test_keda_counts_the_lag_of_a_new_group_from_where_it_begins(start, policy):
    found = made(
        merged(
            MINIMAL,
            {
                "keda": {"enabled": True, "recordsPerSecond": 100, "partitions": 8},
                "settings": {"input": {"start": start}},
            },
        )
    )
    (scaled,) = of_kind(found, "ScaledObject")
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["metadata"]["offsetResetPolicy"] == policy
    assert config(found)["WORKER_INPUT__START"] == start


def test_keda_scales_on_the_lag_of_the_group():
    found = manifests("production-gpu")
    (scaled,) = of_kind(found, "ScaledObject")
    spec, said = scaled["spec"], config(found)
    assert spec["scaleTargetRef"] == {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "name": workload(found)["metadata"]["name"],
    }
    (trigger,) = spec["triggers"]
    assert trigger["type"] == "kafka"
    assert trigger["metadata"] == {
        "bootstrapServers": said["WORKER_KAFKA__BOOTSTRAP_SERVERS"],
        "consumerGroup": said["WORKER_KAFKA__GROUP_ID"],
        "topic": said["WORKER_INPUT__TOPIC"],
        "lagThreshold": "120000",  # 2,000 records/s of a pod * 60 s
        "offsetResetPolicy": "earliest",  # as worker/kafka/consume/start.py begins
        "excludePersistentLag": "false",
        "tls": "enable",
        "sasl": "scram_sha512",
    }
    (topic, *_) = of_kind(found, "KafkaTopic")
    assert spec["maxReplicaCount"] <= topic["spec"]["partitions"]
    assert spec["fallback"] == {
        "failureThreshold": 3,
        "replicas": 2,
        "behavior": "currentReplicasIfHigher",
    }
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    up, down = (behavior[each]["stabilizationWindowSeconds"] for each in ("scaleUp", "scaleDown"))
    assert up < down


def test_keda_logs_in_by_the_same_secrets():
    found = manifests("production-gpu")
    (scaled,) = of_kind(found, "ScaledObject")
    (login,) = of_kind(found, "TriggerAuthentication")
    (trigger,) = scaled["spec"]["triggers"]
    assert trigger["authenticationRef"] == {"name": login["metadata"]["name"]}
    (username,) = login["spec"]["configMapTargetRef"]
    assert username.pop("parameter") == "username"
    (shown,) = (thing for thing in of_kind(found, "ConfigMap") if username["key"] in thing["data"])
    assert shown["metadata"]["name"] == username["name"]
    assert references(login) == {
        "password": ("emotion-worker", "password"),
        "ca": ("streams-cluster-ca-cert", "ca.crt"),
    }
    mounted = {
        (source["secret"]["name"], item["key"])
        for volume in worker_pod(found)["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        for item in source["secret"]["items"]
    }
    assert mounted == set(references(login).values())


@pytest.mark.parametrize(
    ("name", "asked", "kept"),
    [
        (
            "client-certificate",
            {"tls": "enable"},
            {
                "cert": ("user", "user.crt"),
                "key": ("user", "user.key"),
                "keyPassword": ("user", "user.password"),
            },
        ),
        ("plain-password", {"sasl": "plaintext"}, {"password": ("login", "password")}),
        ("token", {"sasl": "oauthbearer", "tls": "enable"}, None),
    ],
)
def test_keda_reaches_brokers_as_the_worker_does(name, asked, kept):
    found = manifests(name)
    (trigger,) = of_kind(found, "ScaledObject")[0]["spec"]["triggers"]
    said = trigger["metadata"]
    assert {key: said[key] for key in ("tls", "sasl") if key in said} == asked
    assert said["lagThreshold"] == "750"  # 12.5 * 60
    logins = of_kind(found, "TriggerAuthentication")
    if kept is None:
        assert not logins
        assert trigger["authenticationRef"] == {"name": "of-our-own"}
        assert of_kind(found, "ScaledObject")[0]["spec"]["minReplicaCount"] == 0
        assert of_kind(found, "ScaledObject")[0]["spec"]["fallback"]["replicas"] == 1
    else:
        assert references(logins[0]) == kept


# ---- Strimzi ----------------------------------------------------------------------------------


def test_objects_of_strimzi_are_of_the_version_that_strimzi_1_has():
    """Strimzi 1.0 removed v1beta2: such objects are `no matches for kind` there."""
    found = of_kind(manifests("production-gpu"), "KafkaTopic", "KafkaUser")
    assert len(found) == 4
    assert {thing["apiVersion"] for thing in found} == {"kafka.strimzi.io/v1"}


def test_the_schemas_are_those_of_strimzi_1():
    for kind in ("KafkaTopic", "KafkaUser"):
        text = (ROOT / "tests" / "deploy" / "crds" / f"{kind}.json").read_text()
        assert f"{kind} of Strimzi 1." in text
        assert json.loads(text)["properties"]["apiVersion"]["enum"] == ["kafka.strimzi.io/v1"]


@pytest.mark.parametrize("version", ["v1beta2", "v1beta1", "v1alpha1"])
def test_strimzi_1_would_refuse_an_older_version(version):
    for thing in of_kind(manifests("production-gpu"), "KafkaTopic", "KafkaUser"):
        schema = json.loads(
            (ROOT / "tests" / "deploy" / "crds" / f"{thing['kind']}.json").read_text()
        )
        old = thing | {"apiVersion": f"kafka.strimzi.io/{version}"}
        assert not Draft202012Validator(schema).is_valid(old)


def test_a_strimzi_before_0_49_can_be_asked_for_its_own_version():
    (user,) = of_kind(manifests("client-certificate"), "KafkaUser")
    assert user["apiVersion"] == "kafka.strimzi.io/v1beta2"


def test_the_three_topics_are_made_and_outlive_the_release():
    found = manifests("production-gpu")
    said = config(found)
    made = {thing["spec"]["topicName"]: thing for thing in of_kind(found, "KafkaTopic")}
    assert set(made) == {said[f"WORKER_{role}__TOPIC"] for role in ("INPUT", "OUTPUT", "DLQ")}
    for topic in made.values():
        assert topic["metadata"]["annotations"] == {
            "helm.sh/resource-policy": "keep",
            # Prune: it is no longer in the manifests. Delete: the application itself goes.
            "argocd.argoproj.io/sync-options": "Prune=false,Delete=false",
            "kustomize.toolkit.fluxcd.io/prune": "disabled",
            "kapp.k14s.io/delete-strategy": "orphan",
        }
        assert topic["metadata"]["labels"]["strimzi.io/cluster"] == "streams"
        assert topic["spec"]["replicas"] == 3
        assert topic["spec"]["config"]["min.insync.replicas"] == 2
    letters = made[said["WORKER_DLQ__TOPIC"]]["spec"]["config"]
    assert letters["cleanup.policy"] == "delete"
    assert letters["max.message.bytes"] > 1_048_588


@needs_helm
def test_a_topic_may_have_letters_that_a_name_in_kubernetes_may_not():
    values = merged(VARIANTS["one-identity"], {"settings": {"input": {"topic": "Raw_Tweets"}}})
    topic = of_kind(made(values), "KafkaTopic")[0]
    assert (topic["metadata"]["name"], topic["spec"]["topicName"]) == ("raw-tweets", "Raw_Tweets")


@needs_helm
@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
@pytest.mark.parametrize("redrive", [False, True])
@pytest.mark.parametrize("configs", [False, True])
def test_the_user_may_do_what_a_worker_needs_and_no_more(guarantee, redrive, configs):
    found = made(user_values(guarantee, redrive=redrive, describeConfigs=configs))
    said = config(found)
    names = {role: said[f"WORKER_{role.upper()}__TOPIC"] for role in topics._NEEDS}
    wanted = {("group", said["WORKER_KAFKA__GROUP_ID"], "literal", "Read")}
    needs = [topics._NEEDS, *([topics._REDRIVE_NEEDS] if redrive else [])]
    for role, operations in itertools.chain(*(need.items() for need in needs)):
        wanted |= {("topic", names[role], "literal", operation) for operation in operations}
    if configs:
        wanted |= {("topic", name, "literal", "DescribeConfigs") for name in names.values()}
    if guarantee == "exactly_once":
        wanted |= {("transactionalId", "emotion-worker-emotion-worker-", "prefix", "Write")}
    if redrive:
        own = f"{names['dlq']}-redrive"
        wanted |= {
            ("group", own, "literal", "Read"),
            ("transactionalId", own, "literal", "Write"),
        }
    assert permissions(found) == wanted


@needs_helm
def test_the_user_may_write_the_transactions_of_every_replica():
    found = made(user_values("exactly_once"))
    (allowed,) = (each for each in permissions(found) if each[0] == "transactionalId")
    for replica in (0, 11):
        pod = f"{workload(found)['metadata']['name']}-{replica}"
        kafka = KafkaSettings(group_id=config(found)["WORKER_KAFKA__GROUP_ID"], replica_id=pod)
        assert identity(Settings.model_construct(kafka=kafka)).startswith(allowed[1])
    alone = merged(user_values("exactly_once"), {"settings": {"kafka": {"replica_id": "me"}}})
    assert ("transactionalId", "emotion-worker-me", "literal", "Write") in permissions(made(alone))


def test_the_operators_may_watch_another_namespace():
    (user,) = of_kind(manifests("client-certificate"), "KafkaUser")
    assert user["metadata"]["namespace"] == "kafka"
    assert user["spec"]["authentication"] == {"type": "tls"}


# ---- Training ---------------------------------------------------------------------------------


def test_training_tries_again_what_may_work_and_not_what_is_wrong():
    (job,) = of_kind(manifests("training"), "Job")
    refused, evicted = job["spec"]["podFailurePolicy"]["rules"]
    spec = job["spec"]["template"]["spec"]
    assert refused == {
        "action": "FailJob",
        "onExitCodes": {
            "containerName": spec["containers"][0]["name"],
            "operator": "In",
            "values": [2],
        },
    }
    assert evicted == {
        "action": "Ignore",
        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
    }
    assert spec["restartPolicy"] == "Never"  # a podFailurePolicy needs it
    assert "ttlSecondsAfterFinished" not in job["spec"]
    assert spec["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == 1


@pytest.mark.parametrize("name", ["training", "trained-on-one-node"])
def test_the_trainer_takes_what_the_job_gives_it(name, monkeypatch):
    (job,) = of_kind(manifests(name), "Job")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["run"]
    monkeypatch.chdir("/")
    for variable in container["env"]:
        monkeypatch.setenv(variable["name"], variable["value"])
    settings, _ = parse(RunSettings, [], command="run")
    mounts = {each["mountPath"]: each for each in container["volumeMounts"]}
    assert str(settings.output.parent) in mounts
    assert settings.work_dir.parent == settings.output.parent  # on the volume, not in the output
    assert mounts["/data"]["readOnly"] is True
    if name == "training":
        assert settings.dataset.startswith("/data/")
        assert (settings.device, settings.epochs) == ("cuda", 3)
        assert (
            mount_of(worker_pod(manifests(name)), "checkpoint")["subPath"] == settings.output.name
        )
    else:
        assert (settings.device, settings.seed) == ("cpu", 4_000_000_000)
        assert settings.learning_rate == 0.00002
        assert job["spec"]["activeDeadlineSeconds"] == 2_000_000


@needs_helm
def test_another_specification_is_another_job_and_the_same_one_is_not():
    def job_of(*more):
        values = merged(VARIANTS["trained-on-one-node"], *more)
        return of_kind(made(values), "Job")[0]["metadata"]["name"]

    name = job_of()
    assert re.fullmatch("emotion-worker-train-[0-9a-f]{8}", name)
    assert job_of({"replicaCount": 3, "settings": {"batch": {"max_wait": 1}}}) == name
    assert job_of({"training": {"settings": {"epochs": 4}}}) != name
    assert job_of({"training": {"image": {"tag": "v2"}}}) != name


@needs_helm
def test_a_claim_that_is_read_and_written_is_one_volume_of_the_job():
    """Two volumes of one claim, one of them read-only: the kubelet mounts one and waits on."""
    values = merged(
        MINIMAL,
        {
            "training": {
                "enabled": True,
                "image": {"repository": "emotion-trainer"},
                "data": {"persistentVolumeClaim": {"claimName": "models", "subPath": "in"}},
                "output": {"persistentVolumeClaim": {"claimName": "models"}},
            }
        },
    )
    spec = of_kind(made(values), "Job")[0]["spec"]["template"]["spec"]
    claims = [each["name"] for each in spec["volumes"] if "persistentVolumeClaim" in each]
    assert claims == ["output"]
    mounts = {each["mountPath"]: each for each in spec["containers"][0]["volumeMounts"]}
    assert mounts["/data"] == {
        "name": "output", "mountPath": "/data", "readOnly": True, "subPath": "in",
    }  # fmt: skip
    assert mounts["/output"] == {"name": "output", "mountPath": "/output"}


def our_rules():
    return yaml.safe_load((CHART / "files" / "rules.yaml").read_text())["groups"]


def runbooks(groups):
    """The addresses in the alerts, without the headings."""
    alerts = [each for group in groups for each in group["rules"] if "alert" in each]
    return [each["annotations"]["runbook_url"].partition("#")[0] for each in alerts]


def references(login):
    """Where a TriggerAuthentication takes each parameter from."""
    refs = login["spec"]["secretTargetRef"]
    return {each["parameter"]: (each["name"], each["key"]) for each in refs}


def user_values(guarantee, **user):
    kafka = {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_username": NAME,
    }
    return merged(
        MINIMAL,
        {
            "settings": {"kafka": kafka, "delivery": {"guarantee": guarantee}},
            "credentials": {"saslPassword": {"secretName": NAME}},
            "strimzi": {"cluster": "streams", "user": {"enabled": True, **user}},
        },
    )


def permissions(things):
    """What a KafkaUser may do: (kind, name, pattern, operation)."""
    (user,) = of_kind(things, "KafkaUser")
    assert user["spec"]["authorization"]["type"] == "simple"
    return {
        (*(rule["resource"][each] for each in ("type", "name", "patternType")), operation)
        for rule in user["spec"]["authorization"]["acls"]
        for operation in rule["operations"]
    }

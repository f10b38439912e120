"""Values that the chart refuses, and what it says of them."""

import pytest

from tests.deploy.chart_objects import made, needs_helm
from tests.deploy.chart_values import KEDA, MINIMAL, VARIANTS, merged
from tests.tools.chart_schema import NAME, helm
from worker.settings import BreakerSettings, KafkaSettings

pytestmark = needs_helm

NO_CHECKPOINT = {"persistentVolumeClaim": {"claimName": ""}}
KAFKA = KafkaSettings()
SASL = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512", "sasl_username": "u"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        # What the schema says.
        ({"replicas": 2}, "additional properties 'replicas' not allowed"),
        ({"replicaCount": -1}, "at '/replicaCount': minimum: got -1, want 0"),
        ({"image": {"digest": "abc"}}, "at '/image/digest': 'abc' does not match"),
        ({"image": {"repository": "emotion-worker:v1"}}, "at '/image/repository': 'emotion-worker"),
        ({"image": {"pullPolicy": "always"}}, "at '/image/pullPolicy': value must be one of"),
        ({"gpu": {"count": 0}}, "at '/gpu/count': minimum: got 0, want 1"),
        ({"gpu": {"count": 2}}, "gpu.count: 2; a worker uses one GPU and the others would be idle"),
        ({"gpu": {"count": 2, "enabled": False}}, "gpu.count: 2; a worker uses one GPU"),
        ({"gpu": {"resource": ""}}, "gpu.resource: empty, so nothing gives the pod a GPU"),
        (
            {"gpu": {"enabled": False}, "resourceClaims": [{"name": "a"}]},
            "resourceClaims: gpu.enabled=false has no use for them",
        ),
        ({"extraContainers": [{"name": "worker"}]}, "worker is the chart's own"),
        ({"extraInitContainers": [{"image": "a"}]}, "missing property 'name'"),
        ({"gpu": {"resource": "gpu"}}, "at '/gpu/resource': 'gpu' does not match"),
        ({"scratch": {"tmpSize": "1 GB"}}, "at '/scratch/tmpSize': '1 GB' does not match"),
        ({"checkpoint": {"persistentVolumeClaim": None}}, "missing property 'persistentVolume"),
        ({"fullnameOverride": "a" * 45}, "at '/fullnameOverride': "),
        ({"settings": {"model": {"device": "cuda"}}}, "properties 'device' not allowed"),
        ({"settings": {"model": {"checkpoint": "/x"}}}, "properties 'checkpoint' not allowed"),
        ({"settings": {"kafka": {"sasl_password": "x"}}}, "'sasl_password' not allowed"),
        ({"settings": {"input": {"topics": "x"}}}, "properties 'topics' not allowed"),
        ({"settings": {"input": {"topic": None}}}, "missing property 'topic'"),
        ({"settings": {"input": {"topic": "a b"}}}, "at '/settings/input/topic': 'a b' does not"),
        ({"settings": {"batch": {"max_records": 0}}}, "minimum: got 0, want 1"),
        ({"settings": {"batch": {"max_records": "64"}}}, "got string, want null or integer"),
        ({"settings": {"http": {"port": 0}}}, "at '/settings/http/port': minimum: got 0, want 1"),
        ({"settings": {"delivery": {"guarantee": "once"}}}, "value must be one of 'at_least_once"),
        ({"settings": {"sink": {}}}, "properties 'sink' not allowed"),
        ({"training": {"settings": {"output": "/x"}}}, "properties 'output' not allowed"),
        ({"training": {"settings": {"epochs": 0}}}, "exclusiveMinimum: got 0, want 0"),
        # What is asked for.
        ({"image": {"repository": ""}}, "image.repository: not set"),
        ({"settings": {"kafka": {"bootstrap_servers": ""}}}, "kafka.bootstrap_servers: not set"),
        ({"checkpoint": NO_CHECKPOINT}, "exactly one of persistentVolumeClaim.claimName, image"),
        ({"checkpoint": NO_CHECKPOINT}, "given: none"),
        (
            {"checkpoint": {"image": {"reference": "a"}, "hostPath": {"path": "/b"}}},
            "given: persistentVolumeClaim.claimName, image.reference, hostPath.path",
        ),
        (
            {"checkpoint": NO_CHECKPOINT | {"download": {"url": "https://a.example.com/b.tar.gz"}}},
            "checkpoint.download.sha256: not set",
        ),
        (
            {"checkpoint": NO_CHECKPOINT | {"download": {"url": "http://a.example.com/b.tar.gz"}}},
            "at '/checkpoint/download/url': 'http://a.example.com/b.tar.gz' does not match",
        ),
        # What does not fit.
        (
            {"terminationGracePeriodSeconds": 34},
            "34 would kill a worker that drains; settings.drain.deadline (25) and 10 s more are",
        ),
        (
            {"settings": {"drain": {"deadline": 36}}},
            "terminationGracePeriodSeconds: 45 would kill a worker that drains",
        ),
        (
            {
                "replicaCount": 2,
                "settings": {
                    "kafka": {"replica_id": "a"},
                    "delivery": {"guarantee": "exactly_once"},
                },
            },
            "settings.kafka.replica_id: 2 replicas cannot share one identity",
        ),
        (
            merged(KEDA, {"settings": {"kafka": {"replica_id": "a"}}}),
            "settings.kafka.replica_id: 4 replicas cannot share one identity",
        ),
        (
            {"extraEnv": [{"name": "WORKER_INPUT__TOPIC", "value": "x"}]},
            "extraEnv: WORKER_INPUT__TOPIC is a setting",
        ),
        (
            {"training": {"extraEnv": [{"name": "TRAIN_SEED", "value": "1"}]}},
            "extraEnv: TRAIN_SEED is a setting",
        ),
        (
            {"extraEnv": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}]},
            "extraEnv: NVIDIA_VISIBLE_DEVICES would give the pod GPUs",
        ),
        ({"podLabels": {"app.kubernetes.io/name": "x"}}, "app.kubernetes.io/name is the chart's"),
        ({"commonLabels": {"helm.sh/chart": "x"}}, "helm.sh/chart is the chart's own"),
        (
            {"settings": {"output": {"topic": "tweets"}}},
            "must be three topics, got tweets, tweets, tweets.dlq",
        ),
        (
            {"settings": {"kafka": {"heartbeat_interval": KAFKA.session_timeout / 3 + 0.01}}},
            "heartbeat_interval: must be at most a third of session_timeout",
        ),
        (
            {"settings": {"breaker": {"minimum": BreakerSettings().window + 1}}},
            "settings.breaker.minimum: must be at most window",
        ),
        (
            {"settings": {"http": {"host": "127.0.0.1"}}},
            "settings.http.host: nobody outside the pod reaches 127.0.0.1",
        ),
        # Logins and certificates.
        (
            {"settings": {"kafka": {"security_protocol": "SASL_SSL"}}},
            "settings.kafka.sasl_mechanism: not set; security_protocol SASL_SSL needs it",
        ),
        ({"settings": {"kafka": SASL}}, "credentials.saslPassword.secretName: not set"),
        (
            {
                "settings": {"kafka": SASL | {"sasl_username": None}},
                "credentials": {"saslPassword": {"secretName": "s"}},
            },
            "settings.kafka.sasl_username: not set",
        ),
        (
            {"credentials": {"saslPassword": {"secretName": "s"}}},
            "PLAINTEXT has no use for sasl_mechanism, sasl_username, credentials.saslPassword",
        ),
        (
            {"credentials": {"ca": {"secretName": "s"}}},
            "PLAINTEXT has no use for credentials.ca, credentials.client",
        ),
        (
            {"settings": {"kafka": SASL | {"sasl_mechanism": "OAUTHBEARER"}}},
            "credentials.saslToken: OAUTHBEARER needs exactly one of secretName, serviceAccount.a",
        ),
        (
            {"settings": {"kafka": SASL | {"sasl_mechanism": "OAUTHBEARER"}}},
            "OAUTHBEARER has no use for sasl_username",
        ),
        (
            {"settings": {"kafka": SASL}, "credentials": {"saslToken": {"secretName": "s"}}},
            "credentials.saslToken: SCRAM-SHA-512 has no use for it",
        ),
        (
            {
                "settings": {"kafka": {"security_protocol": "SSL"}},
                "credentials": {"clientKeyPassword": {"secretName": "s"}},
            },
            "credentials.clientKeyPassword: needs credentials.client",
        ),
        # Other parts.
        (
            {
                "settings": {"kafka": {"bootstrap_servers": "a:9092, b:9094"}},
                "networkPolicy": {"enabled": True},
            },
            "networkPolicy.kafkaPorts: lacks 9094, the port of b:9094",
        ),
        ({"keda": {"enabled": True}}, "keda.recordsPerSecond: not set"),
        ({"keda": {"enabled": True}}, "keda.partitions: not set"),
        (merged(KEDA, {"keda": {"maxReplicas": 5}}), "keda.maxReplicas: 5 pods for 4 partitions"),
        (
            merged(KEDA, {"processes": 2, "keda": {"maxReplicas": 3}}),
            "keda.maxReplicas: 3 pods of 2 processes for 4 partitions",
        ),
        (merged(KEDA, {"keda": {"minReplicas": 5}}), "keda.minReplicas: 5 is more than maxR"),
        (
            merged(KEDA, {"strimzi": {"cluster": "c", "topics": {"enabled": True}}}),
            "keda.partitions: strimzi.topics.input.partitions says it",
        ),
        (
            {
                "keda": {"enabled": True, "recordsPerSecond": 1, "maxReplicas": 7},
                "strimzi": {
                    "cluster": "c",
                    "topics": {"enabled": True, "input": {"partitions": 6}},
                },
            },
            "keda.maxReplicas: 7 pods for 6 partitions",
        ),
        (
            merged(VARIANTS["token"], {"keda": {"triggerAuthentication": ""}}),
            "keda.triggerAuthentication: not set; OAUTHBEARER",
        ),
        ({"strimzi": {"topics": {"enabled": True}}}, "strimzi.cluster: not set"),
        (
            {
                "strimzi": {
                    "cluster": "c",
                    "topics": {
                        "enabled": True,
                        "dlq": {"config": {"cleanup.policy": "compact,delete"}},
                    },
                }
            },
            "strimzi.topics.dlq.config: a compacted topic",
        ),
        (
            {"strimzi": {"cluster": "c", "user": {"enabled": True}}},
            "needs settings.kafka.sasl_mechanism SCRAM-SHA-512 and sasl_username emotion-worker",
        ),
        (
            {"strimzi": {"cluster": "c", "user": {"enabled": True, "authentication": "tls"}}},
            "strimzi.user: tls needs credentials.client",
        ),
        (
            {"prometheusRule": {"alerts": {"Stalled": {"enabled": False}}}},
            "prometheusRule.alerts: there is no alert Stalled; there are EmotionWorkerAbstained",
        ),
        (
            {"prometheusRule": {"alerts": {"EmotionWorkerBreakerOpen": {"threshold": 1}}}},
            "prometheusRule.alerts.EmotionWorkerBreakerOpen.threshold: this alert has none; ",
        ),
        (
            {"prometheusRule": {"alerts": {"EmotionWorkerStalled": {"severity": "page"}}}},
            "value must be one of 'critical', 'warning', 'info'",
        ),
        ({"training": {"enabled": True}}, "training.image.repository: not set"),
        ({"training": {"enabled": True}}, "training.output: exactly one of persistentVolumeClaim"),
        (
            merged(
                VARIANTS["trained-on-one-node"],
                {"training": {"data": {"persistentVolumeClaim": {"claimName": "c"}}}},
            ),
            "training.data: at most one of",
        ),
    ],
)
def test_wrong_values_are_refused(wrong, message):
    assert message in refusal(merged(MINIMAL, wrong))


def test_what_just_fits_is_not_refused():
    fits = {
        "terminationGracePeriodSeconds": 35,
        "settings": {
            "kafka": {"session_timeout": KAFKA.heartbeat_interval * 3, "replica_id": "alone"},
            "breaker": {"window": BreakerSettings().minimum},
            "http": {"host": "::"},
        },
        "keda": {"enabled": False, "partitions": 1},
    }
    assert made(merged(MINIMAL, fits))


def test_everything_that_is_wrong_is_told_at_once():
    wrong = {"image": {"repository": ""}, "terminationGracePeriodSeconds": 1}
    told = refusal(merged(MINIMAL, wrong, {"checkpoint": NO_CHECKPOINT}))
    for line in ("image.repository: ", "terminationGracePeriodSeconds: ", "checkpoint: "):
        assert f"\n{line}" in told


def test_a_kubernetes_that_lacks_what_is_used_is_refused():
    done = helm("template", NAME, ".", values=MINIMAL, kubernetes="1.30")
    assert "requires kubeVersion: >=1.31.0-0" in done.stderr


def refusal(values):
    """What helm says of values that it refuses."""
    done = helm("template", NAME, ".", values=values)
    assert done.returncode != 0, "not refused"
    return done.stderr

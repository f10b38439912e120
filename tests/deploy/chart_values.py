"""Values that the chart is tried with beside its examples: what the examples leave out."""

import copy

MINIMAL = {
    "image": {"repository": "registry.example.com/emotion-worker"},
    "checkpoint": {"persistentVolumeClaim": {"claimName": "checkpoints"}},
    "settings": {"kafka": {"bootstrap_servers": "kafka:9092"}},
}


def merged(*layers):
    """Values over values, as Helm lays them: only mappings are merged."""
    made = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, dict) and isinstance(made.get(key), dict)
            made[key] = merged(made[key], value) if both else copy.deepcopy(value)
    return made


# What a release of another name than the chart's needs where there is no cluster to ask.
GROUP = {"settings": {"kafka": {"group_id": "emotion-worker"}}}
KEDA = {"keda": {"enabled": True, "recordsPerSecond": 12.5, "partitions": 4}}

VARIANTS = {
    "on-one-node": merged(
        MINIMAL,
        {
            "checkpoint": {
                "persistentVolumeClaim": {"claimName": ""},
                "hostPath": {"path": "/srv/checkpoint"},
            },
            "gpu": {"enabled": False},
            "resources": {"requests": {"cpu": "1500m"}, "limits": {"cpu": "3"}},
            "settings": {
                "kafka": {"fetch_max_bytes": 33_554_432, "session_timeout": 30},
                "batch": {"max_wait": 0.00001, "max_records": 64},
                "breaker": {"threshold": 1},
                "log": {"level": "debug"},
            },
            "fullnameOverride": "tweets",
            "commonLabels": {"team": "nlp"},
            "podLabels": {"tier": "stream"},
            "podAnnotations": {"sidecar.istio.io/inject": "false"},
            "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
            "extraVolumes": [{"name": "more", "configMap": {"name": "more"}}],
            "extraVolumeMounts": [{"name": "more", "mountPath": "/more"}],
            "nodeSelector": {"disk": "ssd"},
            "tolerations": [{"key": "spot", "operator": "Exists"}],
            "serviceAccount": {"name": "nlp", "annotations": {"cloud/role": "reader"}},
        },
    ),
    "token": merged(
        MINIMAL,
        KEDA,
        {
            "settings": {
                "kafka": {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
            },
            "credentials": {"saslToken": {"secretName": "token"}, "ca": {"secretName": "ca"}},
            "keda": {"minReplicas": 0, "triggerAuthentication": "of-our-own"},
            "prometheusRule": {
                "enabled": True,
                "runbookBaseUrl": "https://wiki.example.com/runbooks",
            },
            "serviceAccount": {"create": False},
        },
    ),
    "client-certificate": merged(
        MINIMAL,
        KEDA,
        {
            "settings": {"kafka": {"security_protocol": "SSL"}},
            "credentials": {
                "client": {"secretName": "user"},
                "clientKeyPassword": {"secretName": "user", "key": "user.password"},
            },
            "strimzi": {
                "apiVersion": "kafka.strimzi.io/v1beta2",
                "cluster": "streams",
                "namespace": "kafka",
                "user": {"enabled": True, "authentication": "tls"},
            },
            "networkPolicy": {"enabled": True, "extraEgress": [{"ports": [{"port": 443}]}]},
            "dashboard": {"enabled": True, "namespace": "monitoring"},
        },
    ),
    "plain-password": merged(
        MINIMAL,
        KEDA,
        {
            "settings": {
                "kafka": {
                    "security_protocol": "SASL_PLAINTEXT",
                    "sasl_mechanism": "PLAIN",
                    "sasl_username": "worker",
                }
            },
            "credentials": {"saslPassword": {"secretName": "login"}},
            "checkpoint": {
                "persistentVolumeClaim": {"claimName": ""},
                "download": {
                    "url": "https://artifacts.example.com:8443/a.tar.gz?a=b&c=d",
                    "sha256": "ab" * 32,
                    "caSecret": {"name": "authorities"},
                },
            },
            "networkPolicy": {"enabled": True},
        },
    ),
    "one-identity": merged(
        MINIMAL,
        {
            "settings": {
                "kafka": {"replica_id": "the-one"},
                "delivery": {"guarantee": "exactly_once"},
            },
            "podMonitor": {"enabled": True},
            "strimzi": {"cluster": "streams", "topics": {"enabled": True}},
        },
    ),
    "open": merged(
        MINIMAL,
        {
            "replicaCount": 3,
            "gpu": {"resource": ""},
            "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one-gpu"}],
            "settings": {
                "kafka": {"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}
            },
            "credentials": {
                "saslToken": {"serviceAccount": {"audience": "kafka"}},
                "ca": {"secretName": "ca"},
            },
            "strategy": {"type": "Recreate"},
            "workloadAnnotations": {"reloader.stakater.com/auto": "true"},
            "schedulerName": "volcano",
            "envFrom": [{"secretRef": {"name": "proxy", "optional": True}}],
            "extraContainers": [{"name": "proxy", "image": "registry.example.com/proxy:1"}],
            "extraInitContainers": [
                {"name": "late", "image": "registry.example.com/a:1", "restartPolicy": "Always"}
            ],
            "podMonitor": {
                "enabled": True,
                "relabelings": [{"targetLabel": "cluster", "replacement": "blue"}],
                "metricRelabelings": [
                    {"sourceLabels": ["__name__"], "regex": "worker_x.*", "action": "drop"}
                ],
            },
        },
    ),
    "trained-on-one-node": merged(
        MINIMAL,
        {
            "training": {
                "enabled": True,
                "image": {"repository": "emotion-trainer", "tag": "dev"},
                "gpu": False,
                "settings": {"learning_rate": 0.00002, "seed": 4_000_000_000, "name": "e"},
                "data": {"hostPath": {"path": "/srv/data"}},
                "output": {"hostPath": {"path": "/srv/out"}},
                "activeDeadlineSeconds": 2_000_000,
                "extraEnv": [{"name": "HF_ENDPOINT", "value": "https://hub.example.com"}],
            },
        },
    ),
}

# All that can be on at once, for the values that count only where something is on.
EVERYTHING = {
    "replicaCount": 2,
    "checkpoint": {"persistentVolumeClaim": {"subPath": "v1"}},
    "settings": {
        "kafka": {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_username": "emotion-worker",
        }
    },
    "credentials": {
        "ca": {"secretName": "ca"},
        "client": {"secretName": "client"},
        "clientKeyPassword": {"secretName": "client"},
        "saslPassword": {"secretName": "user"},
    },
    "networkPolicy": {"enabled": True},
    "podMonitor": {"enabled": True},
    "prometheusRule": {"enabled": True},
    "dashboard": {"enabled": True},
    "keda": {"enabled": True, "recordsPerSecond": 2},
    "strimzi": {"cluster": "c", "topics": {"enabled": True}, "user": {"enabled": True}},
    "training": {
        "enabled": True,
        "image": {"repository": "emotion-trainer"},
        "data": {"persistentVolumeClaim": {"claimName": "data"}},
        "output": {"persistentVolumeClaim": {"claimName": "out"}},
    },
}

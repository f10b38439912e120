"""Settings: from where they come, in which order, and what is said of wrong ones."""

import os
import re
import socket
import subprocess
import sys

import pytest
from pydantic import BaseModel

from tests.conftest import ROOT
from worker import settings
from worker.errors import Refused

PASSWORD = "hunter2-is-secret"


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Neither this shell's variables nor the checkout's .env."""
    for name in [name for name in os.environ if name.upper().startswith("WORKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def problems(monkeypatch):
    """The lines with which these variables and options are refused."""

    def ask(variables=None, *args):
        for name, value in (variables or {}).items():
            monkeypatch.setenv(name, value)
        with pytest.raises(Refused) as caught:
            settings.load(list(args))
        return str(caught.value).splitlines()

    return ask


def leaves(group=settings.Settings, path=()):
    for name, field in group.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield from leaves(annotation, (*path, name))
        else:
            yield (*path, name), field


def test_without_anything_set_the_documented_defaults_hold():
    chosen = settings.load([])
    assert (chosen.input.topic, chosen.output.topic, chosen.dlq.topic) == (
        *("tweets", "emotions"),
        "tweets.dlq",
    )
    assert (chosen.input.format, chosen.input.text_field, chosen.input.id_field) == (
        *("json", "text"),
        "id",
    )
    assert (chosen.model.device, chosen.model.dtype) == ("auto", "auto")
    assert chosen.delivery.guarantee == "at_least_once"
    assert chosen.drain.deadline == 25
    assert chosen.kafka.bootstrap_servers == "localhost:9092"


@pytest.mark.parametrize(
    ("variable", "value", "line"),
    [
        ("WORKER_NOPE", "1", "WORKER_NOPE: there is no such setting"),
        ("WORKER_TOPIC", "x", "WORKER_TOPIC: there is no such setting"),
        ("WORKER_BTACH__MAX_WAIT", "1", "WORKER_BTACH__MAX_WAIT: there is no such setting"),
        ("WORKER_", "1", "WORKER_: there is no such setting"),
        ("WORKER_KAFKA__NOPE", "1", "WORKER_KAFKA__NOPE: there is no such setting"),
        ("WORKER_INPUT__TOPICS", "a", "WORKER_INPUT__TOPICS: there is no such setting"),
        ("WORKER_BREAKER__THRESHOLD", "0", "WORKER_BREAKER__THRESHOLD: '0' is not "),
        ("WORKER_BREAKER__WINDOW", "100", "WORKER_BREAKER__MINIMUM: 200 is more than WORKER_"),
        ("WORKER_MODEL__DEADLINE", "0", "WORKER_MODEL__DEADLINE: '0' is not "),
        ("WORKER_BATCH__MAX_RECORDS", "0", "WORKER_BATCH__MAX_RECORDS: '0' is not "),
        ("WORKER_BATCH__MAX_RECORDS", "many", "WORKER_BATCH__MAX_RECORDS: 'many' is not "),
        ("WORKER_BATCH__MAX_RECORDS", "1.5", "WORKER_BATCH__MAX_RECORDS: '1.5' is not "),
        ("WORKER_BATCH__MAX_TOKENS", "", "WORKER_BATCH__MAX_TOKENS: '' is not "),
        ("WORKER_BATCH__MAX_WAIT", "-0.1", "WORKER_BATCH__MAX_WAIT: '-0.1' is not "),
        ("WORKER_BATCH__MAX_WAIT", "inf", "WORKER_BATCH__MAX_WAIT: 'inf' is not "),
        ("WORKER_BATCH__MAX_WAIT", "nan", "WORKER_BATCH__MAX_WAIT: 'nan' is not "),
        ("WORKER_BATCH__IN_FLIGHT_BYTES", "5", "WORKER_BATCH__IN_FLIGHT_BYTES: '5' is not "),
        ("WORKER_DRAIN__DEADLINE", "0", "WORKER_DRAIN__DEADLINE: '0' is not "),
        ("WORKER_HTTP__PORT", "65536", "WORKER_HTTP__PORT: '65536' is not "),
        ("WORKER_HTTP__PORT", "-1", "WORKER_HTTP__PORT: '-1' is not "),
        ("WORKER_HTTP__HOST", "", "WORKER_HTTP__HOST: '' is not "),
        ("WORKER_INPUT__TOPIC", "a b", "WORKER_INPUT__TOPIC: 'a b' is not "),
        ("WORKER_INPUT__TOPIC", "", "WORKER_INPUT__TOPIC: '' is not "),
        ("WORKER_INPUT__TOPIC", "x" * 250, "WORKER_INPUT__TOPIC: a text of 250 characters is not"),
        ("WORKER_INPUT__FORMAT", "avro", "WORKER_INPUT__FORMAT: 'avro' is not "),
        ("WORKER_INPUT__MAX_BYTES", "0", "WORKER_INPUT__MAX_BYTES: '0' is not "),
        ("WORKER_MODEL__DEVICE", "gpu", "WORKER_MODEL__DEVICE: 'gpu' is not "),
        ("WORKER_MODEL__DEVICE", "cuda:", "WORKER_MODEL__DEVICE: 'cuda:' is not "),
        ("WORKER_MODEL__DTYPE", "int8", "WORKER_MODEL__DTYPE: 'int8' is not "),
        ("WORKER_MODEL__THREADS", "0", "WORKER_MODEL__THREADS: '0' is not "),
        ("WORKER_LOG__LEVEL", "loud", "WORKER_LOG__LEVEL: 'loud' is not "),
        ("WORKER_LOG__FORMAT", "xml", "WORKER_LOG__FORMAT: 'xml' is not "),
        ("WORKER_KAFKA__SESSION_TIMEOUT", "5", "WORKER_KAFKA__SESSION_TIMEOUT: '5' is not "),
        ("WORKER_KAFKA__HEARTBEAT_INTERVAL", "4", "WORKER_KAFKA__HEARTBEAT_INTERVAL: 4 is more"),
        ("WORKER_KAFKA__COMPRESSION", "rar", "WORKER_KAFKA__COMPRESSION: 'rar' is not "),
        ("WORKER_KAFKA__GROUP_ID", "", "WORKER_KAFKA__GROUP_ID: '' is not "),
        (
            "WORKER_KAFKA__SECURITY_PROTOCOL",
            "TLS",
            "WORKER_KAFKA__SECURITY_PROTOCOL: 'TLS' is not ",
        ),
        ("WORKER_HTTP", "5", "WORKER_HTTP: the value (not shown) is not a JSON object"),
    ],
)
def test_a_wrong_variable_is_refused_by_one_line_that_names_it(problems, variable, value, line):
    lines = problems({variable: value})
    assert len(lines) == 1
    assert lines[0].startswith(line)


def kafka(**settings):
    return {f"WORKER_KAFKA__{name.upper()}": value for name, value in settings.items()}


SCRAM = {"security_protocol": "SASL_SSL", "sasl_mechanism": "SCRAM-SHA-512"}


@pytest.mark.parametrize(
    ("chosen", "line"),
    [
        ({"security_protocol": "SASL_SSL"}, "security_protocol: SASL_SSL needs sasl_mechanism"),
        ({"sasl_username": "me"}, "sasl_username: is of no use with security_protocol PLAINTEXT"),
        (
            {"sasl_mechanism": "PLAIN"},
            "sasl_mechanism: is of no use with security_protocol PLAINTEXT",
        ),
        (
            {"security_protocol": "SSL", "sasl_password": PASSWORD},
            "sasl_password: is of no use with security_protocol SSL",
        ),
        (SCRAM, "sasl_mechanism: SCRAM-SHA-512 needs sasl_username and sasl_password"),
        (
            {**SCRAM, "sasl_mechanism": "PLAIN", "sasl_username": "me"},
            "sasl_mechanism: PLAIN needs sasl_password",
        ),
        (
            {**SCRAM, "sasl_username": "me", "sasl_password": ""},
            "sasl_mechanism: SCRAM-SHA-512 needs sasl_password",
        ),
        (
            {**SCRAM, "sasl_username": "a=b", "sasl_password": PASSWORD},
            "sasl_username: the Kafka client cannot send , or = with SCRAM",
        ),
        (
            {**SCRAM, "sasl_mechanism": "OAUTHBEARER"},
            "sasl_mechanism: OAUTHBEARER needs sasl_token_file",
        ),
        (
            {**SCRAM, "sasl_mechanism": "OAUTHBEARER", "sasl_password": PASSWORD},
            (
                "sasl_password: is of no use with sasl_mechanism OAUTHBEARER\n"
                "sasl_mechanism: OAUTHBEARER needs sasl_token_file"
            ),
        ),
        (
            {**SCRAM, "sasl_token_file": "file"},
            (
                "sasl_token_file: is of no use with sasl_mechanism SCRAM-SHA-512\n"
                "sasl_mechanism: SCRAM-SHA-512 needs sasl_username and sasl_password"
            ),
        ),
        ({"ssl_cafile": "file"}, "ssl_cafile: is of no use with security_protocol PLAINTEXT"),
        (
            {"security_protocol": "SSL", "ssl_certfile": "file"},
            "ssl_certfile: needs ssl_keyfile",
        ),
        (
            {"security_protocol": "SSL", "ssl_keyfile": "file"},
            "ssl_keyfile: needs ssl_certfile",
        ),
        (
            {"security_protocol": "SSL", "ssl_key_password": PASSWORD},
            "ssl_key_password: needs ssl_keyfile",
        ),
    ],
)
def test_security_that_is_not_whole_is_refused_in_one_line(problems, tmp_path, chosen, line):
    (tmp_path / "file").touch()
    named = re.sub(
        r"\b(sasl|ssl|security)_[a-z_]+", lambda found: f"WORKER_KAFKA__{found[0].upper()}", line
    )
    assert problems(kafka(**chosen)) == named.splitlines()


@pytest.mark.parametrize("name", ["sasl_token_file", "ssl_cafile", "ssl_certfile", "ssl_keyfile"])
@pytest.mark.parametrize(
    ("given", "why"), [("absent", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read_is_refused(problems, name, given, why):
    (line,) = problems(kafka(security_protocol="SSL", **{name: given}))
    assert line == f"WORKER_KAFKA__{name.upper()}: {given!r} cannot be read: {why}"


@pytest.mark.parametrize(
    "chosen",
    [
        {"security_protocol": "SSL"},
        {"security_protocol": "SSL", "ssl_cafile": "f", "ssl_certfile": "f", "ssl_keyfile": "f"},
        {**SCRAM, "sasl_username": "me", "sasl_password": PASSWORD},
        {**SCRAM, "sasl_mechanism": "OAUTHBEARER", "sasl_token_file": "f"},
        {**SCRAM, "security_protocol": "SASL_PLAINTEXT", "sasl_username": "me",
         "sasl_password": PASSWORD},
    ],
)  # fmt: skip
def test_security_that_is_whole_is_taken(monkeypatch, tmp_path, chosen):
    (tmp_path / "f").touch()
    for name, value in kafka(**chosen).items():
        monkeypatch.setenv(name, value)
    taken = settings.load([]).kafka
    assert taken.security_protocol == chosen["security_protocol"]
    assert PASSWORD not in f"{taken} {taken!r} {taken.model_dump_json()}"


@pytest.mark.parametrize(
    "variables",
    [
        {"WORKER_OUTPUT__TOPIC": "tweets"},
        {"WORKER_DLQ__TOPIC": "tweets"},
        {"WORKER_DLQ__TOPIC": "emotions"},
        {"WORKER_INPUT__TOPIC": "emotions"},
    ],
)
def test_a_worker_that_would_read_what_it_writes_is_refused(problems, variables):
    (line,) = problems(variables)
    assert "three topics" in line
    assert next(iter(variables.values())) in line


def test_every_problem_has_its_own_line(problems):
    lines = problems(
        {
            "WORKER_NOPE": "1",
            "WORKER_KAFKA__NOPE": "1",
            "WORKER_BATCH__MAX_RECORDS": "many",
            "WORKER_HTTP__PORT": "99999",
            "WORKER_DELIVERY__GUARANTEE": "at_most_once",
        }
    )
    assert sorted(line.split(":")[0] for line in lines) == [
        "WORKER_BATCH__MAX_RECORDS",
        "WORKER_DELIVERY__GUARANTEE",
        "WORKER_HTTP__PORT",
        "WORKER_KAFKA__NOPE",
        "WORKER_NOPE",
    ]


def test_the_line_tells_what_was_given(problems):
    assert problems({"WORKER_HTTP__PORT": "99999"})[0].startswith("WORKER_HTTP__PORT: '99999' is")


@pytest.mark.parametrize(
    "args",
    [
        ["--nope", "1"],
        ["--batch.max-rec", "5"],  # no abbreviations: they break when a setting is added
        ["--batch.max-records"],
        ["stray"],
        ["--input.format", "avro"],
        ["--batch.max-records=0"],
    ],
)
def test_a_wrong_option_is_refused_in_one_line(problems, args):
    (line,) = problems({}, *args)
    assert args[0].partition("=")[0].lstrip("-").split(".")[0] in line.lower()


@pytest.mark.parametrize(
    ("variables", "args"),
    [
        ({"WORKER_KAFKA__SASL_PASSWORD": PASSWORD}, []),
        ({"WORKER_KAFKA__SASL_PASSWORD": PASSWORD, "WORKER_KAFKA__SESSION_TIMEOUT": "0"}, []),
        ({"WORKER_KAFKA__SASL_PASSWD": PASSWORD}, []),
        ({"WORKER_KAFKA__SASL_PASSWORD__VALUE": PASSWORD}, []),
        ({"WORKER_KAFKA": f'{{"sasl_password": "{PASSWORD}"'}, []),
        ({"WORKER_KAFKA": f'{{"sasl_password": ["{PASSWORD}"]}}'}, []),
        ({"WORKER_KAFKA": '{"sasl_password": 20261729}'}, []),
        ({"WORKER_KAFKA": f'"{PASSWORD}"'}, []),
        ({}, ["--kafka.sasl-password", PASSWORD]),
        ({}, ["--kafka.sasl-password", "correct", PASSWORD]),
        ({}, ["kafka.sasl-password", PASSWORD]),
        ({}, [f"kafka.sasl-password={PASSWORD}"]),
        ({}, [f"kafka.sasl-pasword={PASSWORD}"]),
        ({}, ["--kafka.sasl-pasword", f"x -{PASSWORD}"]),
        ({}, ["--kafka.sasl-pasword", PASSWORD, "--nope", "1"]),
    ],
)
def test_a_secret_is_never_shown(problems, variables, args):
    shown = "\n".join(problems(variables, *args))
    assert PASSWORD not in shown
    assert "20261729" not in shown


@pytest.mark.parametrize(
    "given",
    ["", ",", "broker:port", "127.0.0.1:", "[::1", "kafka..svc:9092", "a:1,,b:1", "a:0", "a:65536",
     "http://a:1", "a b:1", f"{'a' * 64}:1"],
)  # fmt: skip
def test_what_is_no_address_is_refused(problems, given):
    (line,) = problems({"WORKER_KAFKA__BOOTSTRAP_SERVERS": given})
    assert line.startswith("WORKER_KAFKA__BOOTSTRAP_SERVERS: ")
    assert "is no host:port" in line


@pytest.mark.parametrize(
    "given",
    ["broker", "broker:9092", "a:1, b:2", "10.0.0.1:9092", "[::1]:9092", "[2001:db8::1]",
     "k-0.k_headless.ns.svc.cluster.local.:9092"],
)  # fmt: skip
def test_addresses_are_taken(given):
    args = ["--kafka.bootstrap-servers", given]
    assert settings.load(args).kafka.bootstrap_servers == given


def test_a_secret_is_not_in_the_settings_text():
    kafka = settings.KafkaSettings.model_construct(
        sasl_password=settings.SecretStr(PASSWORD), security_protocol="PLAINTEXT"
    )
    assert PASSWORD not in f"{kafka} {kafka!r} {kafka.model_dump()} {kafka.model_dump_json()}"


def test_the_command_line_beats_the_environment_which_beats_the_env_file(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text(
        "WORKER_BATCH__MAX_RECORDS=16\nWORKER_BATCH__MAX_TOKENS=16\nWORKER_BATCH__MAX_WAIT=16\n"
    )
    monkeypatch.setenv("WORKER_BATCH__MAX_RECORDS", "32")
    monkeypatch.setenv("WORKER_BATCH__MAX_TOKENS", "32")
    batch = settings.load(["--batch.max-records", "64"]).batch
    assert (batch.max_records, batch.max_tokens, batch.max_wait) == (64, 32, 16)
    assert batch.in_flight_bytes == settings.BatchSettings().in_flight_bytes


def test_the_env_file_may_hold_other_programs_variables(tmp_path):
    (tmp_path / ".env").write_text(
        "DATABASE_URL=postgres://x\nCOLUMNS=80\nexport TRAIN_EPOCHS=3\n# a comment\n"
        "WORKER_KAFKA__GROUP_ID='from the file'\n"
    )
    assert settings.load([]).kafka.group_id == "from the file"


@pytest.mark.parametrize("name", ["WORKER_NOPE", "WORKER_KAFKA__NOPE"])
def test_a_misspelt_name_in_the_env_file_is_refused(problems, tmp_path, name):
    (tmp_path / ".env").write_text(f"{name}=1\n")
    assert problems() == [f".env: {name}: there is no such setting"]


def test_an_env_file_that_is_no_text_is_refused(problems, tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfeWORKER_HTTP__PORT=1\n")
    (line,) = problems()
    assert ".env" in line


def test_a_group_may_be_given_as_json(monkeypatch):
    monkeypatch.setenv("WORKER_HTTP", '{"port": 1234}')
    assert settings.load([]).http.port == 1234
    assert settings.load([]).http.host == settings.HttpSettings().host


@pytest.mark.parametrize("text", ["123", "null", "true", '{"a": 1}', "a,b", " x "])
def test_a_text_that_looks_like_something_else_stays_a_text(monkeypatch, text):
    monkeypatch.setenv("WORKER_KAFKA__GROUP_ID", text)
    assert settings.load([]).kafka.group_id == text
    assert settings.load(["--kafka.group-id", text]).kafka.group_id == text


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:13"])
def test_devices_are_named_as_torch_names_them(monkeypatch, device):
    monkeypatch.setenv("WORKER_MODEL__DEVICE", device)
    assert settings.load([]).model.device == device


def test_settings_cannot_be_changed_afterwards():
    chosen = settings.load([])
    with pytest.raises(ValueError, match="frozen"):
        chosen.http.port = 1
    with pytest.raises(ValueError, match="frozen"):
        chosen.http = settings.HttpSettings()


def test_every_setting_tells_what_it_does():
    assert len(list(leaves())) > 30
    undocumented = [path for path, field in leaves() if not field.description]
    assert undocumented == []


def test_help_lists_every_setting_as_an_option(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stopped:
        settings.load(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    for path, _ in leaves():
        assert f"--{'.'.join(path).replace('_', '-')} " in shown


@pytest.fixture
def secrets(tmp_path):
    """Loads the settings in a process of its own with these secret files, and these variables."""
    folder = tmp_path / "secrets"

    def ask(files, **variables):
        if files is not None:
            folder.mkdir()
            for name, text in files.items():
                (folder / name).write_text(text)
        program = (
            "from worker import settings, errors\n"
            "try:\n"
            "    kafka = settings.load([]).kafka\n"
            "    print(kafka.group_id, kafka.replica_id)\n"
            "except errors.Refused as refused:\n"
            "    print('REFUSED', refused)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(ROOT), "WORKER_SECRETS_DIR": str(folder)}
            | variables,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    return ask


def test_a_secret_file_is_read_by_its_variables_name(secrets):
    files = {"WORKER_KAFKA__GROUP_ID": "from-file\n", "WORKER_KAFKA__REPLICA_ID": "file-replica"}
    assert secrets(files, WORKER_KAFKA__REPLICA_ID="mine") == "from-file mine"


def test_a_secret_file_may_hold_a_whole_group_as_json(secrets):
    assert secrets({"WORKER_KAFKA": '{"group_id": "g", "replica_id": "r"}'}) == "g r"


def test_a_secret_mounted_by_kubernetes_is_read(secrets, tmp_path):
    # It mounts links, to a folder of the version that is in force, beside that folder.
    folder = tmp_path / "secrets"
    version = folder / "..2026_11_22_18_00_00.1"
    version.mkdir(parents=True)
    (version / "WORKER_KAFKA__GROUP_ID").write_text("mounted\n")
    (folder / "..data").symlink_to(version.name)
    (folder / "WORKER_KAFKA__GROUP_ID").symlink_to("..data/WORKER_KAFKA__GROUP_ID")
    assert secrets(None, WORKER_KAFKA__REPLICA_ID="r") == "mounted r"


def test_a_misspelt_secret_file_is_refused(secrets):
    shown = secrets({"WORKER_KAFKA__SASL_PASSWROD": PASSWORD})
    assert shown.startswith("REFUSED")
    assert "WORKER_KAFKA__SASL_PASSWROD" in shown
    assert PASSWORD not in shown


def test_a_secrets_directory_that_is_not_there_is_refused(secrets):
    shown = secrets(None)
    assert shown.startswith("REFUSED")
    assert "secrets" in shown


@pytest.mark.parametrize(
    ("variables", "static"),
    [
        ({}, False),
        ({"WORKER_KAFKA__GROUP_ID": "g"}, False),  # the host name is not everyone's own
        ({"WORKER_KAFKA__REPLICA_ID": "worker-0"}, True),
        ({"WORKER_DELIVERY__GUARANTEE": "exactly_once"}, True),
    ],
)
def test_members_are_static_where_their_identity_is_known_to_be_their_own(
    monkeypatch, variables, static
):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    chosen = settings.load([])
    assert chosen.static_member is static
    assert chosen.replica == variables.get("WORKER_KAFKA__REPLICA_ID", socket.gethostname())

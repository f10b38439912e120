"""What each wrong setting says: one line, the name as the user wrote it, no word of pydantic's."""

# ruff: noqa: E501 - lines stand here as they are printed

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from tests.conftest import ROOT
from train.__main__ import main as train_main
from train.cli import parse
from train.errors import Refused as TrainRefused
from train.settings import COMMANDS, RunSettings
from worker import settings
from worker.__main__ import main as worker_main
from worker.demo import setup
from worker.demo.options import DemoSettings
from worker.demo.options import load as load_demo
from worker.errors import Refused
from worker.given.directory import trouble
from worker.given.wording import is_secret
from worker.model import checkpoint
from worker.redrive.options import RedriveSettings
from worker.redrive.options import load as load_redrive

PASSWORD = "hunter2-is-secret"
LEAKS = re.compile(
    r"Input should|Value error|pydantic|\w\[|<class|Annotated|type=|SecretStr|PosixPath|\{\w*\}"
    r"|\(default: (?:\(\)|None|null|False|)\)"
)


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    """Neither this shell's variables nor the checkout's .env."""
    for name in [name for name in os.environ if name.upper().startswith(("WORKER_", "TRAIN_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def load_train(command, words):
    return parse(COMMANDS[command], words, command=command, texts=command == "predict")


LOADERS = {
    "emotion-worker run": settings.load,
    "emotion-worker check": lambda words: settings.load(words, command="check"),
    "emotion-worker redrive": load_redrive,
    "emotion-worker demo": load_demo,
    "emotion-train run": lambda words: load_train("run", words),
    "emotion-train evaluate": lambda words: load_train("evaluate", words),
    "emotion-train threshold": lambda words: load_train("threshold", words),
    "emotion-train predict": lambda words: load_train("predict", words),
}
KINDS = {
    "emotion-worker run": settings.Settings,
    "emotion-worker redrive": RedriveSettings,
    "emotion-worker demo": DemoSettings,
    **{f"emotion-train {command}": kind for command, kind in COMMANDS.items()},
}


def said(command, *words):
    """The lines with which a command refuses these words, and what surrounds it."""
    with pytest.raises((Refused, TrainRefused)) as caught:
        LOADERS[command](list(words))
    return str(caught.value).splitlines()


WORKER = "emotion-worker run"
TRAIN = "emotion-train run"

# Variables, command and words -> the lines, in their order.
CASES = [
    # names
    ({"WORKER_KAFKA__BOOTSTRAP_SERVER": "a:1"}, WORKER, "",
     ["WORKER_KAFKA__BOOTSTRAP_SERVER: there is no such setting; did you mean WORKER_KAFKA__BOOTSTRAP_SERVERS?"]),
    ({"WORKER_KAFAK__GROUP_ID": "g"}, WORKER, "",
     ["WORKER_KAFAK__GROUP_ID: there is no such setting; did you mean WORKER_KAFKA__GROUP_ID?"]),
    ({"WORKER_BATCH_MAX_RECORDS": "8"}, WORKER, "",
     ["WORKER_BATCH_MAX_RECORDS: there is no such setting; did you mean WORKER_BATCH__MAX_RECORDS?"]),
    ({"WORKER_MAX_RECORDS": "8"}, WORKER, "",
     ["WORKER_MAX_RECORDS: there is no such setting; did you mean WORKER_BATCH__MAX_RECORDS?"]),
    ({"WORKER_TOPIC": "t"}, WORKER, "",
     ["WORKER_TOPIC: there is no such setting; did you mean WORKER_DLQ__TOPIC, WORKER_INPUT__TOPIC or WORKER_OUTPUT__TOPIC?"]),
    ({"WORKER_HTTP__PORT__NUMBER": "1"}, WORKER, "",
     ["WORKER_HTTP__PORT__NUMBER: there is no such setting; did you mean WORKER_HTTP__PORT?"]),
    ({"WORKER_NOPE": "1"}, WORKER, "", ["WORKER_NOPE: there is no such setting"]),
    ({"worker_htpp__port": "1"}, WORKER, "",
     ["worker_htpp__port: there is no such setting; did you mean WORKER_HTTP__PORT?"]),
    ({}, WORKER, "--batch.max-record 5",
     ["--batch.max-record: there is no such option; did you mean --batch.max-records?"]),
    ({}, WORKER, "--kafka-group-id=g",
     ["--kafka-group-id: there is no such option; did you mean --kafka.group-id?"]),
    ({}, WORKER, "--kafka.group_id g",
     ["--kafka.group_id: there is no such option; did you mean --kafka.group-id?"]),
    ({}, WORKER, "--checkpoint dir",
     ["--checkpoint: there is no such option; did you mean --model.checkpoint?"]),
    ({}, WORKER, "--WORKER_HTTP__PORT 1", ["--WORKER_HTTP__PORT: there is no such option"]),
    ({}, WORKER, "http.port=1", ["http.port: an option starts with --; did you mean --http.port?"]),
    ({}, WORKER, "tweets", ["'tweets': belongs to no option: is a value not quoted?"]),
    ({}, "emotion-worker redrive", "--dry-rn",
     ["--dry-rn: there is no such option; did you mean --dry-run?"]),
    ({}, "emotion-worker demo", "--message 9",
     ["--message: there is no such option; did you mean --messages?"]),
    ({}, WORKER, "-- --http.port 1",
     ["--: ends the options, and nothing stands after them: leave it out"]),
    ({"WORKER_KAFKA": '{"": 1, "bootstrap_servers": null}'}, WORKER, "",
     ["WORKER_KAFKA: bootstrap_servers: nothing is not a text", "WORKER_KAFKA: '': there is no such setting"]),
    ({}, TRAIN, "--output out --work-dir out/epochs",
     ["--work-dir: lies in --output; give another directory"]),
    ({"TRAIN_WORK_DIR": "./out"}, TRAIN, "--output out",
     ["TRAIN_WORK_DIR: lies in --output; give another directory"]),
    # types and ranges
    ({}, WORKER, "--batch.max-wait -inf",
     ["--batch.max-wait: '-inf' is not a number of seconds from 0 to 60"]),
    ({}, "emotion-worker redrive", "--since -2h",
     ["--since: '-2h' is not a time like 2026-11-22T10:00:00Z, 2026-11-22 10:00 (UTC without a zone) or 2h (ago)"]),
    ({"WORKER_KAFKA__MAX_POLL_INTERVAL": "3000000"}, WORKER, "",
     ["WORKER_KAFKA__MAX_POLL_INTERVAL: '3000000' is not a number of seconds from 10 to 604800"]),
    ({}, WORKER, "--model.device cuda:01",
     ["--model.device: 'cuda:01' is not one of auto, cpu, cuda, cuda:N"]),
    ({}, WORKER, "--model.device cuda:\uff11",
     ["--model.device: 'cuda:\uff11' is not one of auto, cpu, cuda, cuda:N"]),
    ({}, "emotion-worker demo", "--bootstrap-servers kafka://x",
     ["--bootstrap-servers: 'kafka://x' is no host:port"]),
    ({"WORKER_BATCH": "[" * 100_000}, WORKER, "",
     ["WORKER_BATCH: the value (not shown) is not a JSON object; its settings can be given one by one"]),
    # what two groups and all of them together say
    ({}, WORKER, "--input.topic t --output.topic t --breaker.minimum 2000",
     ["--breaker.minimum: 2000 is more than --breaker.window (1000)",
      "--input.topic and --output.topic: name one topic, 't'; there must be three topics"]),
    ({"WORKER_BATCH__MAX_RECORDS": "many"}, WORKER, "",
     ["WORKER_BATCH__MAX_RECORDS: 'many' is not a whole number from 1 to 65536"]),
    ({"WORKER_BATCH__MAX_WAIT": "61"}, WORKER, "",
     ["WORKER_BATCH__MAX_WAIT: '61' is not a number of seconds from 0 to 60"]),
    ({"WORKER_KAFKA__OUTAGE_LIMIT": "10m"}, WORKER, "",
     ["WORKER_KAFKA__OUTAGE_LIMIT: '10m' is not a number of seconds from 1 up"]),
    ({"WORKER_BREAKER__THRESHOLD": "0"}, WORKER, "",
     ["WORKER_BREAKER__THRESHOLD: '0' is not a number above 0 and at most 1"]),
    ({"WORKER_INPUT__MAX_BYTES": "1MB"}, WORKER, "",
     ["WORKER_INPUT__MAX_BYTES: '1MB' is not a whole number of bytes from 1 to 67108864"]),
    ({"WORKER_INPUT__FORMAT": "avro"}, WORKER, "",
     ["WORKER_INPUT__FORMAT: 'avro' is not one of json, text"]),
    ({"WORKER_MODEL__DEVICE": "gpu"}, WORKER, "",
     ["WORKER_MODEL__DEVICE: 'gpu' is not one of auto, cpu, cuda, cuda:N"]),
    ({"WORKER_KAFKA__GROUP_ID": ""}, WORKER, "",
     ["WORKER_KAFKA__GROUP_ID: '' is not a text of at least 1 character"]),
    ({"WORKER_INPUT__TOPIC": "my tweets"}, WORKER, "",
     ["WORKER_INPUT__TOPIC: 'my tweets' is not a topic's name (1 to 249 of a-z, A-Z, 0-9, ., _ and -)"]),
    ({"WORKER_KAFKA__BOOTSTRAP_SERVERS": "http://a:1"}, WORKER, "",
     ["WORKER_KAFKA__BOOTSTRAP_SERVERS: 'http://a:1' is no host:port"]),
    ({"WORKER_KAFKA__BOOTSTRAP_SERVERS": "a:1,b:x"}, WORKER, "",
     ["WORKER_KAFKA__BOOTSTRAP_SERVERS: 'a:1,b:x' has 'b:x', which is no host:port"]),
    ({}, WORKER, "--http.port 70000", ["--http.port: '70000' is not a whole number from 0 to 65535"]),
    ({"WORKER_HTTP__PORT": "1"}, WORKER, "--http.port -1",
     ["--http.port: '-1' is not a whole number from 0 to 65535"]),
    ({}, WORKER, "--batch.max-tokens --http.port 1",
     ["--batch.max-tokens: a value is missing: a whole number from 1 to 16777216"]),
    ({}, "emotion-worker redrive", "--since yesterday",
     ["--since: 'yesterday' is not a time like 2026-11-22T10:00:00Z, 2026-11-22 10:00 (UTC without a zone) or 2h (ago)"]),
    ({}, "emotion-worker redrive", "--reason bad_luck --max 0",
     ["--reason: 'bad_luck' is not one of invalid_utf8, invalid_json, not_an_object, nested_too_deep, missing_text, text_not_string, invalid_unicode, empty_text, input_too_large, model_failed, output_too_large, output_refused",
      "--max: '0' is not a whole number from 1 up"]),
    ({}, "emotion-worker redrive", "--dry-run=no",
     ["--dry-run: takes no value; leave it out for the opposite"]),
    ({}, "emotion-worker demo", "--rate fast",
     ["--rate: 'fast' is not a number above 0 and at most 1000000"]),
    # whole groups
    ({"WORKER_HTTP": "8000"}, WORKER, "",
     ["WORKER_HTTP: the value (not shown) is not a JSON object; its settings can be given one by one"]),
    ({"WORKER_HTTP": '{"prot": 1}'}, WORKER, "",
     ["WORKER_HTTP: prot: there is no such setting; did you mean port?"]),
    ({"WORKER_HTTP": '{"port": "x"}'}, WORKER, "",
     ["WORKER_HTTP: port: 'x' is not a whole number from 0 to 65535"]),
    # combinations
    ({"WORKER_OUTPUT__TOPIC": "tweets"}, WORKER, "",
     ["WORKER_INPUT__TOPIC and WORKER_OUTPUT__TOPIC: name one topic, 'tweets'; there must be three topics"]),
    ({"WORKER_OUTPUT__TOPIC": "t"}, WORKER, "--dlq.topic t",
     ["WORKER_OUTPUT__TOPIC and --dlq.topic: name one topic, 't'; there must be three topics"]),
    ({"WORKER_KAFKA__SESSION_TIMEOUT": "6"}, WORKER, "",
     ["WORKER_KAFKA__HEARTBEAT_INTERVAL: 3 is more than a third of WORKER_KAFKA__SESSION_TIMEOUT (6)"]),
    ({}, WORKER, "--breaker.minimum 5000",
     ["--breaker.minimum: 5000 is more than --breaker.window (1000)"]),
    ({"WORKER_KAFKA__SECURITY_PROTOCOL": "SASL_SSL", "WORKER_KAFKA__SASL_MECHANISM": "PLAIN"},
     WORKER, "",
     ["WORKER_KAFKA__SASL_MECHANISM: PLAIN needs WORKER_KAFKA__SASL_USERNAME and WORKER_KAFKA__SASL_PASSWORD"]),
    ({"WORKER_KAFKA__SASL_USERNAME": "me"}, WORKER, "",
     ["WORKER_KAFKA__SASL_USERNAME: is of no use with WORKER_KAFKA__SECURITY_PROTOCOL PLAINTEXT"]),
    ({}, WORKER, "--kafka.security-protocol SSL --kafka.ssl-certfile /dev/null",
     ["--kafka.ssl-certfile: needs --kafka.ssl-keyfile"]),
    ({}, "emotion-worker redrive", "--since 1h --until 2h",
     ["--since: must be before --until: nothing is between them"]),
    # files
    ({"WORKER_KAFKA__SSL_CAFILE": "ca.pem"}, WORKER, "--kafka.security-protocol SSL",
     ["WORKER_KAFKA__SSL_CAFILE: 'ca.pem' cannot be read: No such file or directory"]),
    ({"WORKER_SECRETS_DIR": "nowhere"}, WORKER, "",
     ["WORKER_SECRETS_DIR: 'nowhere' cannot be read as a directory: No such file or directory"]),
    ({"WORKER_SECRETS_DIR": "/dev/null"}, WORKER, "",
     ["WORKER_SECRETS_DIR: '/dev/null' cannot be read as a directory: Not a directory"]),
    # all in one go
    ({"WORKER_NOPE": "1", "WORKER_HTTP__PORT": "x"}, WORKER, "--nope 1 --batch.max-wait -3",
     ["WORKER_NOPE: there is no such setting",
      "--nope: there is no such option",
      "--batch.max-wait: '-3' is not a number of seconds from 0 to 60",
      "WORKER_HTTP__PORT: 'x' is not a whole number from 0 to 65535"]),
    ({"WORKER_OUTPUT__TOPIC": "tweets", "WORKER_HTTP__PORT": "x"}, WORKER, "",
     ["WORKER_HTTP__PORT: 'x' is not a whole number from 0 to 65535",
      "WORKER_INPUT__TOPIC and WORKER_OUTPUT__TOPIC: name one topic, 'tweets'; there must be three topics"]),
    # emotion-train
    ({}, TRAIN, "", ["--output: is required: a path (or TRAIN_OUTPUT)"]),
    ({}, TRAIN, "--output o --epochs abc",
     ["--epochs: 'abc' is not a number above 0 and at most 1000"]),
    ({"TRAIN_EPOCHS": "0"}, TRAIN, "--output o",
     ["TRAIN_EPOCHS: '0' is not a number above 0 and at most 1000"]),
    ({"TRAIN_EPOCH": "3"}, TRAIN, "--output o",
     ["TRAIN_EPOCH: there is no such setting; did you mean TRAIN_EPOCHS?"]),
    ({}, TRAIN, "--output o --base_model b",
     ["--base_model: there is no such option; did you mean --base-model?"]),
    ({}, TRAIN, "--output o --precision int3 --seed -1",
     ["--seed: '-1' is not a whole number from 0 to 4294967295",
      "--precision: 'int3' is not one of auto, float32, bfloat16, float16"]),
    ({}, TRAIN, "--output o leftover", ["'leftover': belongs to no option: is a value not quoted?"]),
    ({"TRAIN_EPOCH": "3", "TRAIN_SEED": "x"}, TRAIN, "--epochs abc --outptu o",
     ["TRAIN_EPOCH: there is no such setting; did you mean TRAIN_EPOCHS?",
      "--outptu: there is no such option; did you mean --output?",
      "--output: is required: a path (or TRAIN_OUTPUT)",
      "--epochs: 'abc' is not a number above 0 and at most 1000",
      "TRAIN_SEED: 'x' is not a whole number from 0 to 4294967295"]),
    ({"TRAIN_AS_JSON": "maybe"}, "emotion-train predict", "--checkpoint c happy",
     ["TRAIN_AS_JSON: 'maybe' is not true or false"]),
    ({}, "emotion-train predict", "--checkpont c happy",
     ["--checkpont: there is no such option; did you mean --checkpoint?",
      "--checkpoint: is required: a path (or TRAIN_CHECKPOINT)"]),
    ({}, "emotion-train evaluate", "--checkpoint c --json --predictions p",
     ["--json: a value is missing: a path"]),
]  # fmt: skip


@pytest.mark.parametrize(("variables", "command", "words", "lines"), CASES)
def test_a_wrong_setting_says(monkeypatch, variables, command, words, lines):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert said(command, *words.split()) == lines


# The name of the file and what is in it -> the line; `{}` is the folder of secrets.
FILES = [
    (".env", "WORKER_KAFAK__GROUP_ID=g",
     ".env: WORKER_KAFAK__GROUP_ID: there is no such setting; did you mean WORKER_KAFKA__GROUP_ID?"),
    (".env", "WORKER_HTTP__PORT=x",
     ".env: WORKER_HTTP__PORT: 'x' is not a whole number from 0 to 65535"),
    (".env", b"WORKER_HTTP__HOST=\xff", ".env: is not UTF-8 (at byte 18)"),
    (".env", None, ".env: is a directory; a file of NAME=value lines is read"),
    ("WORKER_KAFKA__SASL_PASSWROD", PASSWORD,
     "{}/WORKER_KAFKA__SASL_PASSWROD: there is no such setting; did you mean WORKER_KAFKA__SASL_PASSWORD?"),
    ("kafka__sasl_password", PASSWORD,
     "{}/kafka__sasl_password: there is no such setting; did you mean WORKER_KAFKA__SASL_PASSWORD?"),
    ("worker_kafka__session_timeout", PASSWORD,
     "{}/worker_kafka__session_timeout: the value (not shown) is not a number of seconds from 6 to 300"),
    ("WORKER_KAFKA", PASSWORD,
     "{}/WORKER_KAFKA: the value (not shown) is not a JSON object; its settings can be given one by one"),
    ("WORKER_KAFKA__SASL_PASSWORD", b"\xff",
     "WORKER_SECRETS_DIR: {}/WORKER_KAFKA__SASL_PASSWORD is not UTF-8 (at byte 0)"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "line"), FILES)
def test_a_wrong_file_says(monkeypatch, tmp_path, name, content, line):
    folder = tmp_path if name == ".env" else tmp_path / "secrets"
    folder.mkdir(exist_ok=True)
    if content is None:
        (folder / name).mkdir()
    else:
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    if name != ".env":
        monkeypatch.setenv("WORKER_SECRETS_DIR", str(folder))
    assert said(WORKER) == [line.format(folder)]


def test_a_broken_env_file_does_not_hide_the_rest(monkeypatch, tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff")
    monkeypatch.setenv("WORKER_HTTP__PORT", "x")
    assert said(WORKER, "--nope") == [
        ".env: is not UTF-8 (at byte 0)",
        "--nope: there is no such option",
        "WORKER_HTTP__PORT: 'x' is not a whole number from 0 to 65535",
    ]


UNREADABLE = (
    "cannot be read: it takes NAME=value; a value that begins with a quote ends with the same"
)


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        ('WORKER_INPUT__TOPIC="orders\nWORKER_HTTP__PORT=x\n',
         [f".env: line 1 {UNREADABLE}", ".env: WORKER_HTTP__PORT: 'x' is not a whole number from 0 to 65535"]),
        ("\n\n# topics\nWORKER_INPUT__TOPIC: orders\n", [f".env: line 4 {UNREADABLE}"]),
        ("set WORKER_INPUT__TOPIC=orders", [f".env: line 1 {UNREADABLE}"]),
        ("A=1\n\nWORKER_INPUT__TOPIC='orders", [f".env: line 3 {UNREADABLE}"]),
        ("WORKER_NOPE", [".env: WORKER_NOPE: a value is missing (line 1)", ".env: WORKER_NOPE: there is no such setting"]),
        ("WORKER_INPUT__TOPIC\n", [".env: WORKER_INPUT__TOPIC: a value is missing (line 1)"]),
        ("WORKER_SECRETS_DIR=/run/secrets\n",
         [".env: WORKER_SECRETS_DIR: is read from the environment alone: set it there"]),
        ("worker_http__port=x", [".env: worker_http__port: 'x' is not a whole number from 0 to 65535"]),
    ],
)  # fmt: skip
def test_no_line_of_the_env_file_is_passed_over(tmp_path, content, lines):
    (tmp_path / ".env").write_text(content)
    assert said(WORKER) == lines


def test_lines_of_the_env_file_that_mean_something_elsewhere_are_none_of_ours(tmp_path):
    (tmp_path / ".env").write_text("OTHER\nexport WORKER_HTTP__PORT='81'  # of the probes\n\n")
    assert settings.load([]).http.port == 81


@pytest.mark.parametrize(
    ("line", "password"),
    [
        ("WORKER_KAFKA__SASL_PASSWORD='pa${HOME}ss'", "pa${HOME}ss"),
        ("WORKER_KAFKA__SASL_PASSWORD = '${NOT_SET:-x}' # it", "${NOT_SET:-x}"),
        ("export worker_kafka__sasl_password='$${HOME}'", "$${HOME}"),
        ("'WORKER_KAFKA__SASL_PASSWORD'='${HOME}'", "${HOME}"),
        (r"WORKER_KAFKA__SASL_PASSWORD='it\'s ${HOME}'", "it's ${HOME}"),
        ("WORKER_KAFKA__SASL_PASSWORD='a'\nWORKER_KAFKA__SASL_PASSWORD=${HOME}", "/home"),
        ("WORKER_KAFKA__SASL_PASSWORD=${HOME}\nWORKER_KAFKA__SASL_PASSWORD='${HOME}'", "${HOME}"),
        ('WORKER_KAFKA__SASL_PASSWORD="pa${HOME}ss"', "pa/homess"),
        ("WORKER_KAFKA__SASL_PASSWORD=pa${HOME}ss", "pa/homess"),
    ],
)
def test_a_value_in_single_quotes_is_meant_as_it_is(monkeypatch, tmp_path, line, password):
    monkeypatch.setenv("HOME", "/home")
    (tmp_path / ".env").write_text(
        f"{line}\nWORKER_KAFKA__SECURITY_PROTOCOL=SASL_SSL\nWORKER_KAFKA__SASL_MECHANISM=PLAIN\n"
        "WORKER_KAFKA__SASL_USERNAME=u\n"
    )
    assert settings.load([]).kafka.sasl_password.get_secret_value() == password


@pytest.mark.parametrize(("kind", "line"), [
    ("pipe", ".env: is a pipe; a file of NAME=value lines is read"),
    ("dangling", ".env: cannot be read: No such file or directory"),
])  # fmt: skip
def test_an_env_file_that_is_no_file_is_neither_waited_for_nor_passed_over(tmp_path, kind, line):
    path = tmp_path / ".env"
    path.symlink_to("nothing") if kind == "dangling" else os.mkfifo(path)
    assert said(WORKER) == [line]


@pytest.mark.parametrize(("name", "value", "line"), [
    ("worker_secrets_dir", "/nowhere",
     "worker_secrets_dir: '/nowhere' cannot be read as a directory: No such file or directory"),
    ("WORKER_SECRETS_DIR", "~nobody-of-that-name/x",
     "WORKER_SECRETS_DIR: '~nobody-of-that-name/x': there is no such user"),
])  # fmt: skip
def test_the_directory_of_secrets_is_not_passed_over(monkeypatch, name, value, line):
    monkeypatch.setenv(name, value)
    assert said(WORKER) == [line]


def test_a_pipe_is_no_file_of_a_key(tmp_path):
    os.mkfifo(tmp_path / "ca")
    lines = said(WORKER, "--kafka.security-protocol=SSL", "--kafka.ssl-cafile=ca")
    assert lines == ["--kafka.ssl-cafile: 'ca' is a pipe, which can be read only once: give a file"]


def test_what_begins_with_a_dash_is_a_value_after_an_option_that_takes_one():
    chosen = load_train("predict", ["--checkpoint", "x", "-so happy", "--device", "cpu", "b"])
    assert chosen[1] == ("-so happy", "b")
    assert settings.load(["--kafka.group-id", "-g"]).kafka.group_id == "-g"


@pytest.mark.parametrize(
    ("main", "word", "line"),
    [
        (worker_main, "rnu", "emotion-worker: there is no command 'rnu'; did you mean run?"),
        (
            worker_main,
            "--hlep",
            "emotion-worker: there is no command '--hlep'; did you mean --help?",
        ),
        (
            train_main,
            "evalute",
            "emotion-train: there is no command 'evalute'; did you mean evaluate?",
        ),
        (
            train_main,
            "x",
            "emotion-train: there is no command 'x'; there are run, evaluate, threshold, predict",
        ),
    ],
)
def test_a_command_that_there_is_not(capsys, main, word, line):
    assert main([word]) == 2
    assert capsys.readouterr().err.splitlines() == [line]


def leaves(kind, path=()):
    for name, field in kind.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from leaves(inner, (*path, name))
        else:
            yield (*path, name), field


@pytest.mark.parametrize("command", KINDS)
@pytest.mark.parametrize("value", ["", "\x00?", "-1e99", "nan", "x" * 300, "no-such-thing", "[1]"])
def test_what_every_setting_is_given_is_taken_or_refused_by_one_plain_line(command, value):
    options = {
        f"--{'.'.join(path)}".replace("_", "-"): field for path, field in leaves(KINDS[command])
    }
    lines = said(command, *(f"{option}={value}" for option in options))
    begins = [line.partition(": ")[0] for line in lines]
    refused = [name for names in begins for name in re.split(", | and ", names)]
    assert len(refused) == len(set(refused))
    assert set(refused) <= options.keys()
    for line in lines:
        assert not LEAKS.search(line)
        assert line.isprintable()
        assert len(line) < 350
    for option, field in options.items():
        # Not every text is wrong for the others: it can be a name, a path or a password.
        if re.search(r"int|float|Literal|datetime|bool", str(field.annotation)):
            assert option in refused


@pytest.mark.parametrize("command", [WORKER, TRAIN])
def test_every_variable_is_named_as_such(monkeypatch, command):
    prefix = {WORKER: "WORKER_", TRAIN: "TRAIN_"}[command]
    names = {f"{prefix}{'__'.join(path)}".upper() for path, _ in leaves(KINDS[command])}
    for name in names:
        monkeypatch.setenv(name, "")
    lines = said(command)
    assert len(lines) > len(names) / 2
    assert {line.partition(": ")[0] for line in lines} <= names


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({}, ["--kafka.sasl-password", f"-{PASSWORD}"]),
        ({}, ["--kafka.sasl-password", f"--{PASSWORD}"]),
        ({}, ["--kafka.sasl-pasword", "x", PASSWORD]),
        ({}, ["kafka.sasl-pasword", PASSWORD]),
        ({}, [f"--kafka.sasl-pasword {PASSWORD}"]),
        ({}, [f"--kafka.sasl-pasword:{PASSWORD}"]),
        ({}, ["--kafka.sasl-paswd", "x", "--http.port", "x", PASSWORD]),
        ({}, ["--kafka", f'{{"sasl_password": ["{PASSWORD}"]}}']),
        ({}, ["--kafka", PASSWORD]),
        ({}, ["--kafka.bootstrap-servers", f"me:{PASSWORD}@:x"]),
        ({}, ["--kafka.sasl-token-file", PASSWORD * 6]),
        ({}, ["--kafka.ssl-keyfile", f"-----BEGIN PRIVATE KEY-----\n{PASSWORD}"]),
        ({}, ["--kafka.sasl-pasword", f"--{PASSWORD}"]),
        ({}, [f"--kafka.sasl-password{PASSWORD}"]),
        ({}, ["--kafka.bootstrap-servers", f"me:{PASSWORD}@host:9092"]),
        ({}, ["--kafka.bootstrap-servers", f"{PASSWORD}@host:9092"]),
        ({"WORKER_KAFKA__SASL_PASSWORD__X": PASSWORD}, []),
        ({"WORKER_SASL_PASSWORD": PASSWORD}, []),
    ],
)
def test_a_secret_is_never_shown(monkeypatch, variables, words):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    shown = "\n".join(said(WORKER, *words))
    assert PASSWORD not in shown
    assert shown


@pytest.mark.parametrize("command", LOADERS)
def test_help_shows_no_type_of_python(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as stopped:
        LOADERS[command](["--help"])
    shown = capsys.readouterr().out
    assert stopped.value.code == 0
    assert shown.startswith(f"usage: {command} [OPTION VALUE ...]")
    assert not LEAKS.findall(shown)
    assert not re.search(r"(?m)^  --\S+ .*\b(str|int|float|Path|bool|datetime)\b(  |$)", shown)


CHECKPOINTS = [
    ("bhadresh-savani/bert-base-uncased-emotion", [],
     "there is no directory bhadresh-savani/bert-base-uncased-emotion: make one with emotion-train run --output; or, if bhadresh-savani/bert-base-uncased-emotion is a model on the hub, which is never asked from here, fetch it with `hf download bhadresh-savani/bert-base-uncased-emotion --local-dir DIR` and give DIR"),
    ("bert-base-uncased", [],
     "there is no directory bert-base-uncased: make one with emotion-train run --output; or, if bert-base-uncased is a model on the hub, which is never asked from here, fetch it with `hf download bert-base-uncased --local-dir DIR` and give DIR"),
    ("checkpoint", [], "there is no directory checkpoint: make one with emotion-train run --output"),
    ("models/emotoin", ["models/emotion/config.json"],
     "there is no directory models/emotoin: make one with emotion-train run --output; did you mean models/emotion?"),
    ("model/config.json", ["model/config.json"],
     "model/config.json is a file, and a checkpoint is a directory: give model"),
    ("notes.txt", ["notes.txt"], "notes.txt is a file, and a checkpoint is a directory"),
    ("empty", ["empty/"], "empty is empty: there is no config.json in it"),
    ("runs", ["runs/one/config.json", "runs/log.txt"],
     "runs has no config.json, its folders have: give runs/one"),
    ("cache", ["cache/snapshots/3f2a/config.json", "cache/refs/main"],
     "cache has no config.json, its folders have: give cache/snapshots/3f2a"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "files", "line"), CHECKPOINTS)
def test_a_path_that_is_no_checkpoint_says(tmp_path, given, files, line):
    for file in files:
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if file.endswith("/") else path.touch()
    assert trouble(Path(given)) == line
    with pytest.raises(Refused) as caught:
        checkpoint.read(Path(given))
    assert str(caught.value) == f"model.checkpoint: {line}"
    with pytest.raises(Refused, match="--checkpoint: "):
        setup.require(load_demo(["--checkpoint", given]))


def test_a_directory_with_a_config_is_looked_into(tmp_path):
    (tmp_path / "config.json").touch()
    assert trouble(tmp_path) is None


@pytest.mark.slow
def test_paths_of_a_training_run_are_refused_at_once(capsys, tmp_path):
    for folder in ("data", "base", "out"):
        (tmp_path / folder).mkdir()
    (tmp_path / "out" / "theirs").touch()
    words = ["--dataset", "./dtaa", "--base-model", "./bass", "--output", "out"]
    assert train_main(["run", *words]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "emotion-train: --output out: the directory is not empty",
        "emotion-train: dataset ./dtaa: no such directory; did you mean data?",
        "emotion-train: base model ./bass: no such directory; did you mean base?",
    ]


def test_the_command_prints_each_line_and_ends_with_2(tmp_path):
    done = subprocess.run(
        [Path(sys.executable).with_name("emotion-worker"), "redrive", "--dry-rn", "--max=0"],
        env=os.environ | {"WORKER_HTTP__PORT": "x"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "emotion-worker: --dry-rn: there is no such option; did you mean --dry-run?",
        "emotion-worker: WORKER_HTTP__PORT: 'x' is not a whole number from 0 to 65535",
        "emotion-worker: --max: '0' is not a whole number from 1 up",
    ]


def test_worker_and_trainer_read_and_word_settings_by_the_same_code():
    worker, train = (ROOT / package / "given" for package in ("worker", "train"))
    assert train.is_symlink(), "train/given is worker/given: a copy would drift"
    assert train.resolve() == worker.resolve()


@pytest.mark.parametrize("words", ["--seed x", "--seed", "--sed 1", "--precision int3", "stray"])
def test_worker_and_trainer_say_the_same_of_the_same_mistake(words):
    """Whatever the way by which the two copies are kept equal."""
    from train.given import places as trainers
    from worker.given import places as workers

    lines = []
    for places in (workers, trainers):
        with pytest.raises(ValueError, match=r"\w") as caught:
            places.read(RunSettings, ["--output=o", *words.split()], prog="p")
        lines.append(str(caught.value))
    assert lines[0] == lines[1]


def test_the_secrets_are_typed_as_such():
    secret = [path for path, field in leaves(settings.Settings) if is_secret(path, field)]
    assert secret == [("kafka", "sasl_password"), ("kafka", "ssl_key_password")]

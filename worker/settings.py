"""Every setting of the worker, in one frozen tree: this file is the manual.

A setting is read, in this order of precedence, from the command line
(`--batch.max-records 64`), the environment (`WORKER_BATCH__MAX_RECORDS=64`), a `.env` file
in the working directory, and files in `secrets_dir`. Times are in seconds, sizes in bytes.
Unknown names and out-of-range values are refused at start, with one line for each.
"""

from __future__ import annotations

import contextlib
import math
import re
import socket
from collections import Counter
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self, TypeVar

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    model_validator,
)
from pydantic_settings import SettingsConfigDict

from worker.errors import Refused
from worker.given import places
from worker.given.base import Given
from worker.given.places import Wrong, together
from worker.given.wording import BYTES, SECONDS, Wanted, listed, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

PREFIX = "WORKER_"
SECRETS_DIR = f"{PREFIX}SECRETS_DIR"
"""Variable with the directory of secret files, each named like the variable that it replaces."""
Name = Annotated[
    str,
    MinLen(1),
    Field(pattern=r"^[a-zA-Z0-9._-]{1,249}$"),
    Wanted("a topic's name (1 to 249 of a-z, A-Z, 0-9, ., _ and -)"),
]
Count = Annotated[int, Ge(1)]


def _readable(path: Path) -> Path:
    """The path of a file that can be read: checked at start, not at the first connection."""
    try:
        if path.is_fifo():  # reading it here would consume it, and block on an empty one
            raise ValueError("is a pipe, which can be read only once: give a file")
        with path.open("rb") as file:
            file.read(1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from error
    return path


_HOST = r"(\[[0-9A-Fa-f:.]+\]|[^\s.:/,@\[\]]{1,63}(\.[^\s.:/,@\[\]]{1,63})*\.?)"
_PORTS = range(1, 65_536)
_ADDRESS = re.compile(_HOST + r"(:(?P<port>[0-9]{1,5}))?")


def _addresses(given: str) -> str:
    """`host`, `host:port` or `[address]:port`, several with commas."""
    servers = [server.strip() for server in given.split(",")]
    for server in servers:
        found = _ADDRESS.fullmatch(server)
        if found is None or int(found["port"] or 1) not in _PORTS:
            part = f"has {shown(server, secret=False)}, which " if servers[1:] else ""
            raise ValueError(f"{part}is no host:port")
    return given


Servers = Annotated[str, AfterValidator(_addresses)]
ReadableFile = Annotated[Path, AfterValidator(_readable), Wanted("a file that can be read")]


def _start(given: str) -> str:
    """`earliest`, `latest`, or a time, with its zone: without, it is another one elsewhere."""
    with contextlib.suppress(ValueError):
        if given in ("earliest", "latest") or datetime.fromisoformat(given).tzinfo is not None:
            return given
    raise ValueError("is none of earliest, latest and a time with its zone (2026-11-22T10:00:00Z)")


_MOST_BUCKETS = 50


def bounds(given: str) -> tuple[float, ...]:
    """Numbers with commas between them."""
    return tuple(float(each) for each in given.split(","))


def _buckets(given: str) -> str:
    """Upper bounds of a histogram's buckets; Prometheus stores a series for each."""
    with contextlib.suppress(ValueError):
        found = bounds(given)
        rising = all(low < high for low, high in pairwise((0.0, *found)))
        if rising and math.isfinite(found[-1]) and len(found) <= _MOST_BUCKETS:
            return given
    raise ValueError(f"is not up to {_MOST_BUCKETS} rising numbers of seconds, with commas")


_TOPICS = ("input", "output", "dlq")

S = TypeVar("S", bound="Settings")


class Group(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False
    )


class KafkaSettings(Group):
    bootstrap_servers: Servers = "localhost:9092"
    """Brokers for the first connection: `host:port`, several separated by commas."""
    group_id: Annotated[str, MinLen(1)] = "emotion-worker"
    """Consumer group. Replicas with the same group share the input's partitions."""
    replica_id: Annotated[str, MinLen(1)] | None = None
    """Identity of this replica, unique in the group: its static member id, and the end of its
    transactional id. Default: the host name, which in a StatefulSet is the pod name; with
    `at_least_once` a replica without it is a dynamic member, and can share a host with others."""
    client_rack: Annotated[str, MinLen(1)] | None = None
    """Rack, or zone, of this replica: brokers that choose by rack (`replica.selector.class`) let it
    read from a replica there. It writes to the leaders all the same."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    """Protocol of the brokers: `SSL` is TLS, `SASL_PLAINTEXT` a login, `SASL_SSL` both."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    """How to log in. `PLAIN` and `OAUTHBEARER` send the secret itself: use them with `SASL_SSL`."""
    sasl_username: str | None = None
    """User name for `PLAIN` and `SCRAM`."""
    sasl_password: SecretStr | None = None
    """Password for `PLAIN` and `SCRAM`; best from a file in `WORKER_SECRETS_DIR`."""
    sasl_token_file: ReadableFile | None = None
    """File with the token for `OAUTHBEARER`, read again at each connection: renew it in time."""
    ssl_cafile: ReadableFile | None = None
    """PEM file with the certificate authorities to trust. Default: the system's."""
    ssl_certfile: ReadableFile | None = None
    """PEM file with this client's certificate and its chain, for brokers that ask for one."""
    ssl_keyfile: ReadableFile | None = None
    """PEM file with the private key of this client's certificate."""
    ssl_key_password: SecretStr | None = None
    """Password of the private key, if it is encrypted."""
    session_timeout: Annotated[float, Ge(6), Le(300), SECONDS] = 10.0
    """A replica that sends no heartbeat for this time counts as dead, and its partitions move."""
    heartbeat_interval: Annotated[float, Ge(0.5), Le(60), SECONDS] = 3.0
    """Time between heartbeats; at most a third of the session timeout."""
    assignment: Literal["cooperative-sticky", "range", "roundrobin", "sticky"] = (
        "cooperative-sticky"
    )
    """Strategy that assigns partitions to replicas; the same for the whole group. All but
    `cooperative-sticky` revoke every partition of every replica in each rebalance."""
    max_poll_interval: Annotated[float, Ge(10), Le(604_800), SECONDS] = 300.0
    """Longest time between two polls; a replica that exceeds it leaves the group."""
    metadata_max_age: Annotated[float, Ge(1), Le(3600), SECONDS] = 30.0
    """Time after which the Kafka clients refresh metadata: how soon added partitions are read."""
    fetch_max_bytes: Annotated[int, Ge(65_536), Le(268_435_456), BYTES] = 16_777_216
    """Most bytes of one fetch from one broker: bounds what waits in the client's memory, where
    batches that a producer has compressed are still compressed."""
    commit_interval: Annotated[float, Ge(0.01), Le(60), SECONDS] = 0.1
    """Shortest time between two commits: what settles after a pause is committed at once. A crash
    repeats records in flight or settled since the last commit."""
    delivery_timeout: Annotated[float, Ge(5), Le(600), SECONDS] = 120.0
    """Longest wait for an output's acknowledgement; then a new producer sends the output again."""
    outage_limit: Annotated[float, Ge(1), SECONDS] = 600.0
    """The worker exits with 1 if for this time no broker answers, or outputs wait and none is
    acknowledged. At start it waits for a broker without limit."""
    hanging_after: Annotated[float, Ge(1), Le(604_800), SECONDS] = 900.0
    """An open transaction that blocks readers for this time is logged and counted as hanging. At
    least the longest transaction timeout of any producer: brokers allow 15 minutes by default
    (`transaction.max.timeout.ms`)."""
    compression: Literal["none", "gzip", "lz4", "snappy", "zstd"] = "lz4"
    """Compression of the batches that are produced."""

    @model_validator(mode="after")
    def _go_together(self) -> Self:
        together([*self._timing(), *self._login(), *self._encryption()])
        return self

    def _timing(self) -> Iterator[str]:
        if self.heartbeat_interval * 3 > self.session_timeout:
            yield (
                f"{{heartbeat_interval}}: {self.heartbeat_interval:g} is more than a third of "
                f"{{session_timeout}} ({self.session_timeout:g})"
            )

    def _login(self) -> Iterator[str]:
        protocol, mechanism = self.security_protocol, self.sasl_mechanism
        if not protocol.startswith("SASL_"):
            yield from self._idle(f"{{security_protocol}} {protocol}", "sasl_")
        elif mechanism is None:
            yield f"{{security_protocol}}: {protocol} needs {{sasl_mechanism}}"
        elif mechanism == "OAUTHBEARER":
            yield from self._idle(f"{{sasl_mechanism}} {mechanism}", "sasl_username", "sasl_pass")
            yield from self._missing(f"{{sasl_mechanism}}: {mechanism}", "sasl_token_file")
        else:
            yield from self._idle(f"{{sasl_mechanism}} {mechanism}", "sasl_token_file")
            yield from self._missing(
                f"{{sasl_mechanism}}: {mechanism}", "sasl_username", "sasl_password"
            )
            if mechanism != "PLAIN" and {",", "="} & set(self.sasl_username or ""):
                yield "{sasl_username}: the Kafka client cannot send , or = with SCRAM"

    def _encryption(self) -> Iterator[str]:
        if not self.security_protocol.endswith("SSL"):
            yield from self._idle(f"{{security_protocol}} {self.security_protocol}", "ssl_")
            return
        if self.ssl_certfile is not None:
            yield from self._missing("{ssl_certfile}:", "ssl_keyfile")
        if self.ssl_keyfile is not None:
            yield from self._missing("{ssl_keyfile}:", "ssl_certfile")
        if self.ssl_key_password is not None:
            yield from self._missing("{ssl_key_password}:", "ssl_keyfile")

    def _idle(self, because: str, *prefixes: str) -> Iterator[str]:
        for name in type(self).model_fields:
            if name.startswith(prefixes) and getattr(self, name) is not None:
                yield f"{{{name}}}: is of no use with {because}"

    def _missing(self, because: str, *names: str) -> Iterator[str]:
        missing = [f"{{{name}}}" for name in names if not getattr(self, name)]
        if missing:
            yield f"{because} needs {listed(missing, 'and')}"


class InputSettings(Group):
    topic: Name = "tweets"
    """Topic whose records are labelled. It must exist."""
    format: Literal["json", "text"] = "json"
    """`json`: an object with a text field; `text`: the value is the text, in UTF-8."""
    text_field: Annotated[str, MinLen(1)] = "text"
    """Path of the text in the object, with dots for nesting (`data.text`); a dot in a field's name
    is written `\\.`."""
    id_field: Annotated[str, MinLen(1)] = "id"
    """Path of the value that is copied to the output as `id`, written likewise; null where it is
    absent."""
    start: Annotated[str, AfterValidator(_start)] = "earliest"
    """Where a group begins in a partition for which it has committed nothing: `earliest`, its first
    record; `latest`, its end; or a time with its zone (`2026-11-22T10:00:00Z`), the first record of
    that time or later. A partition that is added while a worker runs is read from its first, unless
    another worker starts and gets it before that one has seen it (30 s)."""
    max_bytes: Annotated[int, Ge(1), Le(67_108_864), BYTES] = 262_144
    """Largest value that is parsed. Larger ones become dead letters (`input_too_large`)."""


class OutputSettings(Group):
    topic: Name = "emotions"
    """Topic of the labels. It must exist; the worker never creates it."""
    partition: Literal["key", "input"] = "key"
    """Partition of a label: `key`, the one that Kafka's default partitioner gives the record's key;
    `input`, the one with the number of the record's own partition, whatever partitioner its
    producer has. `input` needs at least as many partitions as the input topic."""


class DlqSettings(Group):
    topic: Name = "tweets.dlq"
    """Topic of the dead letters. It must exist and not be compacted."""


class ModelSettings(Group):
    checkpoint: Path = Path("checkpoint")
    """Directory that `emotion-train run` wrote, or any single-label Hugging Face classifier."""
    device: Annotated[
        str,
        Field(pattern=r"^(auto|cpu|cuda|cuda:(0|[1-9][0-9]{0,2}))$"),
        Wanted("one of auto, cpu, cuda, cuda:N"),
    ] = "auto"
    """Device to run on: `auto`, `cuda`, `cuda:N` or `cpu`. `auto` picks CUDA if there is a GPU,
    else the CPU; `cuda` without a GPU is refused."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision. `auto` picks on a GPU float16 throughout where the scores bear it, else bfloat16
    (on older GPUs float16) for matrix products alone; on a CPU that has it bfloat16 for these;
    float32 otherwise."""
    rows: Literal["auto", "packed", "padded"] = "auto"
    """How the texts of a batch stand in memory: `packed`, end to end; `padded`, all as long as the
    longest. `auto` packs them where the model can be run so, gives the same scores, and is not
    slower; `packed` is refused where it cannot or does not."""
    abstain: bool = False
    """Whether the output says where the worker does not know (`abstained`): the best score is
    below, or the text's energy above, what `emotion-train threshold` wrote to the checkpoint. A
    checkpoint without these thresholds is refused."""
    threads: Annotated[int, Ge(1), Le(1024)] | None = None
    """Threads of the model on a CPU. Default: one for each CPU that the process may use, shared by
    the `processes`."""
    deadline: Annotated[float, Ge(1), Le(3600), SECONDS] = 60.0
    """Longest call of the model; then the process exits with 1. Set several times the slowest
    batch: one long text takes a large model seconds on a slow CPU core."""
    load_deadline: Annotated[float, Ge(1), Le(86_400), SECONDS] = 600.0
    """Longest loading of the model, warm-up included; then the process exits with 1."""


class BatchSettings(Group):
    max_records: Annotated[int, Ge(1), Le(65_536)] | None = None
    """Most records in a micro-batch. Default: an eighth of the tokens that are measured; where
    `max_tokens` is set 256 on a CPU, 4096 on a GPU."""
    max_tokens: Annotated[int, Ge(1), Le(16_777_216)] | None = None
    """Most tokens, padding included, in a micro-batch. Default: measured at the start, the fewest
    whose rate is within 3 % of the best; `emotion-worker check --calibrate` shows it."""
    max_seconds: Annotated[float, Gt(0), Le(60), SECONDS] = 0.25
    """Longest time of a micro-batch of tweets where `max_tokens` is measured."""
    max_wait: Annotated[float, Ge(0), Le(60), SECONDS] = 0.05
    """Longest wait for more records to batch while the model is busy; an idle model never waits."""
    in_flight: Count | None = None
    """Most records that are read and not yet settled. Default: 8 micro-batches, at least 512."""
    in_flight_bytes: Annotated[int, Ge(1_048_576), BYTES] = 67_108_864
    """Bytes of keys, values and headers (128 more for each header), read and not yet settled, at
    which reading pauses: at most one record beyond."""


class BreakerSettings(Group):
    threshold: Annotated[float, Gt(0), Le(1)] = 0.5
    """Share of dead letters among the last records above which reading pauses; at 1 it never
    does."""
    window: Annotated[int, Ge(1), Le(1_000_000)] = 1_000
    """Number of last records over which the share of dead letters is measured."""
    minimum: Annotated[int, Ge(1), Le(1_000_000)] = 200
    """Number of records that are needed before reading may pause; at most the window."""

    @model_validator(mode="after")
    def _can_open(self) -> Self:
        if self.minimum > self.window:
            together([f"{{minimum}}: {self.minimum} is more than {{window}} ({self.window})"])
        return self


class DeliverySettings(Group):
    guarantee: Literal["at_least_once", "exactly_once"] = "at_least_once"
    """`at_least_once`: a crash may repeat a few labels. `exactly_once`: outputs and offsets are
    committed in transactions; readers of the outputs must use `read_committed`."""
    transaction_interval: Annotated[float, Ge(0), Le(5), SECONDS] = 0.1
    """Time from one transaction's begin to the next one's while more records are in flight. Outputs
    that come after a pause are committed at once, and so is a transaction that is full."""


class DrainSettings(Group):
    deadline: Annotated[float, Ge(1), Le(3600), SECONDS] = 25.0
    """Longest time from SIGTERM to the end of the process; if it is missed, the exit code is 1."""


class HttpSettings(Group):
    host: Annotated[str, MinLen(1)] = "0.0.0.0"  # noqa: S104 - a pod is scraped from outside; one address may be set
    """Address on which /metrics, /livez and /readyz are served; `::` is all of IPv6 and IPv4."""
    port: Annotated[int, Ge(0), Le(65_535)] = 8000
    """Port of the HTTP server; 0 takes a free one and logs it."""


class MetricsSettings(Group):
    processing_buckets: Annotated[str, AfterValidator(_buckets)] = (
        "0.001,0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10,30,60"
    )
    """Buckets of `worker_processing_latency_seconds`: rising upper bounds, with commas. Its alert
    needs some bounds around its limit."""
    record_buckets: Annotated[str, AfterValidator(_buckets)] = (
        "0.005,0.01,0.05,0.1,0.25,0.5,1,2.5,5,15,60,300,900"
    )
    """Buckets of `worker_record_latency_seconds`: rising upper bounds, with commas."""

    @property
    def processing_bounds(self) -> tuple[float, ...]:
        """`processing_buckets` as numbers, in seconds."""
        return bounds(self.processing_buckets)

    @property
    def record_bounds(self) -> tuple[float, ...]:
        """`record_buckets` as numbers, in seconds."""
        return bounds(self.record_buckets)


class LogSettings(Group):
    format: Literal["json", "console"] = "json"
    """`json` for machines, `console` for people."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged. Texts of records appear at no level above `debug`."""


class Settings(Given):
    """The settings of `emotion-worker`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        env_file=".env",
        env_ignore_empty=False,
        nested_model_default_partial_update=True,
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        cli_implicit_flags="toggle",
        use_attribute_docstrings=True,
    )

    kafka: KafkaSettings = KafkaSettings()
    """The cluster, the group, this replica"""
    input: InputSettings = InputSettings()
    """The input topic and its format"""
    output: OutputSettings = OutputSettings()
    """The topic of labels"""
    dlq: DlqSettings = DlqSettings()
    """The topic of dead letters"""
    model: ModelSettings = ModelSettings()
    """The checkpoint and the device"""
    batch: BatchSettings = BatchSettings()
    """Micro-batches"""
    breaker: BreakerSettings = BreakerSettings()
    """When reading pauses because most of the input is bad"""
    delivery: DeliverySettings = DeliverySettings()
    """The delivery guarantee"""
    drain: DrainSettings = DrainSettings()
    """Shutdown"""
    http: HttpSettings = HttpSettings()
    """Metrics and probes"""
    metrics: MetricsSettings = MetricsSettings()
    """Buckets of histograms"""
    log: LogSettings = LogSettings()
    """Logs"""
    processes: Annotated[int, Ge(1), Le(64)] = 1
    """Worker processes that share the device, each a member of the group. With more than one, `run`
    starts and supervises them, and serves their metrics and probes as one."""

    @property
    def transactional(self) -> bool:
        """Whether offsets are committed in transactions, together with the outputs."""
        return self.delivery.guarantee == "exactly_once"

    @property
    def replica(self) -> str:
        """The identity of this replica."""
        return self.kafka.replica_id or socket.gethostname()

    @property
    def static_member(self) -> bool:
        """Whether this replica keeps its partitions through a restart."""
        return self.transactional or self.kafka.replica_id is not None

    def of_process(self, number: int) -> Self:
        """The settings of one of several processes: an identity and a port of its own.

        Args:
            number: From 1 on.
        """
        identity = f"{self.replica}-{number}" if self.static_member else None
        return self.model_copy(
            update={
                "kafka": self.kafka.model_copy(update={"replica_id": identity}),
                "http": HttpSettings(host="127.0.0.1", port=0),
            }
        )

    @model_validator(mode="after")
    def _topics_differ(self) -> Self:
        topics = {f"{{{name}.topic}}": getattr(self, name).topic for name in _TOPICS}
        shared = [topic for topic, count in Counter(topics.values()).items() if count > 1]
        together(
            [
                f"{listed([name for name in topics if topics[name] == topic], 'and')}: "
                f"name one topic, {topic!r}; there must be three topics"
                for topic in shared
            ]
        )
        return self


def load(args: list[str], *, command: str = "run") -> Settings:
    """Settings from the command line, the environment, `.env` and secret files.

    Args:
        args: Command-line options, without the program and the command.
        command: Name of the command, for `--help`.

    Raises:
        Refused: With one line for each unknown name or bad value.
        SystemExit: Help was asked for, and printed.
    """
    return load_as(Settings, args, command=command)


def load_as(kind: type[S], args: list[str], *, command: str) -> S:
    """Settings for a command with options of its own, which come from the command line only.

    Args:
        kind: The settings with the options.
        args: Command-line options, without the program and the command.
        command: Name of the command, for `--help`.

    Raises:
        Refused: With one line for each unknown name or bad value.
        SystemExit: Help was asked for, and printed.
    """
    try:
        settings, _ = places.read(
            kind, args, prog=f"emotion-worker {command}", variables=(Settings,), folder=SECRETS_DIR
        )
    except Wrong as error:
        raise Refused(str(error)) from error
    return settings

"""The options of `emotion-worker redrive`: times, reasons, and one line for each that is wrong."""

import os
from datetime import UTC, datetime

import pytest

from worker.errors import Refused
from worker.redrive import options
from worker.redrive.decisions import Filter


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.upper().startswith("WORKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def ms(*parts):
    return round(datetime(*parts, tzinfo=UTC).timestamp() * 1_000)


def refusal(*words):
    with pytest.raises(Refused) as caught:
        options.load(list(words))
    return str(caught.value).splitlines()


def test_without_options_all_are_chosen():
    chosen = options.load([])
    assert chosen.chosen == Filter()
    assert (chosen.max, chosen.dry_run) == (None, False)
    assert chosen.group_id == "tweets.dlq-redrive"


def test_reasons_add_up():
    words = ["--reason", "empty_text", "--reason", "model_failed"]
    assert options.load(words).chosen.reasons == {"empty_text", "model_failed"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("2026-11-22T10:00:00Z", ms(2026, 11, 22, 10)),
        ("2026-11-22T10:00:00+02:00", ms(2026, 11, 22, 8)),
        ("2026-11-22T10:00:00.250", ms(2026, 11, 22, 10) + 250),
        ("2026-11-22 10:00", ms(2026, 11, 22, 10)),
        ("2026-11-22", ms(2026, 11, 22)),
    ],
)
def test_a_time_is_iso_8601_and_utc_without_a_zone(given, expected):
    assert options.load(["--since", given]).chosen.since == expected
    assert options.load(["--until", given]).chosen.until == expected


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90s", 90), ("30m", 1_800), ("2h", 7_200), ("1.5h", 5_400), ("7d", 604_800), ("1w", 604_800)],
)
def test_a_time_may_be_so_long_ago(given, seconds):
    since = options.load(["--since", given]).chosen.since
    now = datetime.now(UTC).timestamp() * 1_000
    assert -1 <= now - since - seconds * 1_000 < 60_000


@pytest.mark.parametrize(
    "given", ["yesterday", "2 hours", "h", "10", "2026-13-01", "999999w", "-2h="]
)
def test_another_time_is_refused_with_what_one_looks_like(given):
    (line,) = refusal(f"--since={given}")
    assert line.startswith("--since: ")
    assert "is not a time like 2026-11-22T10:00:00Z" in line


def test_nothing_between_since_and_until_is_refused():
    (line,) = refusal("--since", "1h", "--until", "2h")
    assert line == "--since: must be before --until: nothing is between them"


def test_each_wrong_option_is_one_line():
    lines = refusal("--reason", "bad_luck", "--max", "0", "--input.topic", "no spaces")
    assert [line.partition(":")[0] for line in lines] == [
        "--input.topic", "--reason", "--max",
    ]  # fmt: skip
    assert "invalid_json" in lines[1]


def test_an_unknown_option_is_refused():
    (line,) = refusal("--dry-rn")
    assert line == "--dry-rn: there is no such option; did you mean --dry-run?"


def test_its_own_options_are_no_variables(monkeypatch):
    monkeypatch.setenv("WORKER_DRY_RUN", "1")
    monkeypatch.setenv("WORKER_SINCE", "1h")
    assert refusal() == [
        "WORKER_DRY_RUN: there is no such setting", "WORKER_SINCE: there is no such setting",
    ]  # fmt: skip


def test_a_workers_environment_serves(monkeypatch):
    monkeypatch.setenv("WORKER_MODEL__CHECKPOINT", "/models/one")
    monkeypatch.setenv("WORKER_DLQ__TOPIC", "bad")
    chosen = options.load(["--batch.max-records", "8", "--dry-run"])
    assert chosen.group_id == "bad-redrive"
    assert chosen.dry_run

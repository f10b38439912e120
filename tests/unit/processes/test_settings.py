"""What each of several processes is told."""

import socket

import pytest

from worker import settings
from worker.errors import Refused
from worker.settings import DeliverySettings, KafkaSettings, Settings


@pytest.fixture(autouse=True)
def clean(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def of(number, *, guarantee="at_least_once", replica_id=None):
    whole = Settings.model_construct(
        kafka=KafkaSettings(replica_id=replica_id),
        delivery=DeliverySettings(guarantee=guarantee),
        processes=2,
    )
    return whole.of_process(number)


def test_the_number_comes_from_option_and_variable(monkeypatch):
    assert settings.load([]).processes == 1
    monkeypatch.setenv("WORKER_PROCESSES", "3")
    assert settings.load([]).processes == 3
    assert settings.load(["--processes", "2"]).processes == 2


@pytest.mark.parametrize("wrong", ["0", "65", "two", "1.5"])
def test_a_wrong_number_is_refused_in_one_line(monkeypatch, wrong):
    monkeypatch.setenv("WORKER_PROCESSES", wrong)
    with pytest.raises(Refused) as refused:
        settings.load([])
    (line,) = str(refused.value).splitlines()
    assert "WORKER_PROCESSES" in line
    assert wrong in line


@pytest.mark.parametrize("guarantee", ["at_least_once", "exactly_once"])
def test_with_an_identity_each_process_has_its_own(guarantee):
    children = [of(number, guarantee=guarantee, replica_id="pod") for number in (1, 2)]
    assert [child.kafka.replica_id for child in children] == ["pod-1", "pod-2"]
    assert all(child.static_member for child in children)


def test_in_exactly_once_mode_the_identity_is_the_host_s():
    host = socket.gethostname()
    assert of(2, guarantee="exactly_once").kafka.replica_id == f"{host}-2"


def test_dynamic_members_stay_dynamic():
    child = of(1)
    assert child.kafka.replica_id is None
    assert not child.static_member


def test_a_child_answers_on_the_loopback_only_at_a_free_port():
    child = of(1)
    assert (child.http.host, child.http.port) == ("127.0.0.1", 0)


def test_a_redrive_takes_the_worker_s_environment_as_it_is(monkeypatch):
    from worker.redrive import options

    monkeypatch.setenv("WORKER_PROCESSES", "2")
    options.load([])

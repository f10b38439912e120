"""The cache with which Java starts Kafka sooner: given if it is there, beside no other options."""

import os

import pytest

from tests.tools import java_cache


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(java_cache, "FOLDER", tmp_path)
    monkeypatch.setenv(java_cache.OPTIONS, "")  # so that what `use` sets is undone
    monkeypatch.delenv(java_cache.OPTIONS)
    return tmp_path


def test_it_is_given_where_it_is_there(folder):
    java_cache.use()
    assert java_cache.OPTIONS not in os.environ
    java_cache.cache().touch()
    java_cache.use()
    assert f"-XX:AOTCache={folder}" in os.environ[java_cache.OPTIONS]


def test_options_of_ones_own_stay(folder, monkeypatch):
    java_cache.cache().touch()
    monkeypatch.setenv(java_cache.OPTIONS, "-Xss1m")
    java_cache.use()
    assert os.environ[java_cache.OPTIONS] == "-Xss1m"


def test_where_it_cannot_be_made_the_tests_run_without(monkeypatch, capsys):
    def fails():
        raise java_cache.BrokerError("no Java\nmore")

    monkeypatch.setattr(java_cache, "make", fails)
    assert java_cache.main() == 0
    assert capsys.readouterr().out == (
        "the tests start Apache Kafka without a cache, at half the speed: no Java\n"
    )

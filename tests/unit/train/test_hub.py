"""Hub names without a network: one line, soon."""

import huggingface_hub
import huggingface_hub.constants
import pytest
from huggingface_hub.errors import HFValidationError

from train import hub
from train.errors import Refused


class Api:
    def __init__(self, error=None):
        self.error = error
        self.asked = []

    def dataset_info(self, name, *, timeout):
        self.asked.append((name, timeout))
        if self.error:
            raise self.error

    model_info = dataset_info


@pytest.fixture
def api(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")

    def make(error=None) -> Api:
        api = Api(error)
        monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
        return api

    return make


def test_a_name_that_the_hub_knows_is_asked_for_once_with_a_time_limit(api):
    asked = api()
    hub.look_up("dair-ai/emotion", "dataset")
    assert asked.asked == [("dair-ai/emotion", hub.PROBE_TIMEOUT)]
    assert not huggingface_hub.constants.HF_HUB_OFFLINE


def test_without_a_way_to_the_hub_only_the_cache_is_asked(api):
    api(ConnectionError("no name service"))
    hub.look_up("bert-base-uncased", "model")
    assert huggingface_hub.constants.HF_HUB_OFFLINE


def test_what_is_no_hub_name_is_refused(api):
    api(HFValidationError("bad"))
    with pytest.raises(Refused, match="it cannot be a name on the hub"):
        hub.look_up("no such", "model")


@pytest.mark.parametrize("name", ["./x", "../x", "/x", "~/x"])
def test_what_is_spelled_as_a_path_is_never_looked_up(name):
    assert hub.is_local(name)

"""Which models compute rows with different numbers of end tokens apart."""

from types import SimpleNamespace

import pytest

from worker.given.ends import ends_apart


class Model:
    def __init__(self, **config):
        self.config = SimpleNamespace(**config)

    def forward(self, input_ids):
        return input_ids


@pytest.mark.parametrize(
    ("config", "changed"),
    [
        ({"is_encoder_decoder": True, "eos_token_id": 2, "pad_token_id": 1}, True),
        ({"is_encoder_decoder": True, "eos_token_id": 2, "pad_token_id": 2}, False),
        ({"is_encoder_decoder": False, "eos_token_id": 2, "pad_token_id": 1}, False),
        ({}, False),
    ],
)
def test_only_those_with_a_decoder_that_do_not_pad_with_the_end_token(config, changed):
    model = Model(**config)
    assert ends_apart(model) is model
    assert (type(model) is not Model) == changed
    assert type(model).__name__ == "Model"

"""The average of the weights, and which weights a model has when."""

from types import SimpleNamespace

import pytest

from tests.support.lazy import Lazy

pytestmark = pytest.mark.heavy

torch = Lazy("torch")
average = Lazy("train.average")


def weights(model):
    return model.weight.detach().item()


@pytest.fixture
def model():
    found = torch.nn.Linear(1, 1)
    found.bias.requires_grad = False
    found.weight.data.fill_(0.0)
    return found


def epoch(callback, model, values, *, first):
    """An epoch whose steps give the weight these values; returns what the model had before each."""
    before = []
    callback.on_epoch_begin(None, None, None, model=model)
    for step, value in enumerate(values, start=first):
        before.append(weights(model))
        model.weight.data.fill_(value)
        callback.on_step_end(None, SimpleNamespace(global_step=step), None, model=model)
    callback.on_epoch_end(None, None, None, model=model)
    return before


def begun(callback, model, step=0):
    callback.on_train_begin(None, SimpleNamespace(global_step=step), None, model=model)
    return callback


def expected(values, *, decay, start=0.0, first=1):
    for step, value in enumerate(values, start=first):
        stays = min(decay, (1 + step) / (10 + step))
        start = stays * start + (1 - stays) * value
    return start


def test_an_epoch_ends_with_the_average_and_the_next_goes_on_from_the_last_step(model):
    callback = begun(average.Average(0.3, resumed_from=None), model)
    assert epoch(callback, model, [1, 2, 3], first=1) == [0, 1, 2]
    assert weights(model) == pytest.approx(expected([1, 2, 3], decay=0.3))
    assert epoch(callback, model, [4, 5], first=4) == [3, 4]
    assert weights(model) == pytest.approx(expected([1, 2, 3, 4, 5], decay=0.3))


def test_a_run_that_resumes_is_the_run_that_did_not_stop(model, tmp_path):
    callback = begun(average.Average(0.3, resumed_from=None), model)
    epoch(callback, model, [1, 2, 3], first=1)
    callback.save(str(tmp_path))
    # The model is as the checkpoint has it: with the average.
    callback = begun(average.Average(0.3, resumed_from=tmp_path), model, step=3)
    assert epoch(callback, model, [4, 5], first=4) == [3, 4]
    assert weights(model) == pytest.approx(expected([1, 2, 3, 4, 5], decay=0.3))


def test_the_first_steps_weigh_more_than_the_beginning(model):
    callback = begun(average.Average(0.999, resumed_from=None), model)
    epoch(callback, model, [1.0] * 30, first=1)
    assert weights(model) > 0.9  # 0.03 of it, if 0.999 of the beginning stayed at each step


def test_frozen_weights_are_left_alone(model):
    bias = model.bias.detach().clone()
    callback = begun(average.Average(0.5, resumed_from=None), model)
    epoch(callback, model, [1], first=1)
    assert torch.equal(model.bias.detach(), bias)

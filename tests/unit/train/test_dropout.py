"""Dropout from fewer random numbers drops as torch's does."""

import pytest

from tests.support.lazy import Lazy
from train.machine import Machine

pytestmark = pytest.mark.heavy

torch = Lazy("torch")
dropout = Lazy("train.dropout")

CPU = Machine(device="cpu", name="", precision="float32")


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_share_is_dropped_and_the_mean_stays(share):
    torch.manual_seed(1)
    given = torch.ones(1000, 333, requires_grad=True)
    found = dropout.Dropout(share)(given)
    assert float((found == 0).float().mean()) == pytest.approx(share, abs=0.005)
    assert float(found.mean().detach()) == pytest.approx(1, abs=0.02)
    kept = found[found != 0]
    assert float(kept.min().detach()) == float(kept.max().detach())
    found.sum().backward()
    assert torch.equal(given.grad, found.detach())  # what was dropped learns nothing


def test_each_value_has_its_own_draw():
    torch.manual_seed(1)
    dropped = dropout.Dropout(0.5)(torch.ones(400, 400)) == 0
    for other in (dropped[1:], dropped[:, 1:], dropped[:, 2:], dropped[:, 4:]):
        here = dropped[: other.shape[0], : other.shape[1]]
        assert float((here == other).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_the_seed_decides():
    given = torch.ones(50, 7)
    ours = dropout.Dropout(0.3)
    found = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        found.append(ours(given))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_nothing_and_all(share):
    assert float(dropout.Dropout(share)(torch.ones(3)).sum()) == 3 * (1 - share)


def test_nothing_is_dropped_outside_training():
    given = torch.ones(30)
    assert torch.equal(dropout.Dropout(0.5).eval()(given), given)


@pytest.mark.parametrize("shape", [(0,), (3, 0), (), (1,), (2, 3, 5)])
def test_any_shape_and_type(shape):
    for kind in (torch.float32, torch.bfloat16):
        found = dropout.Dropout(0.5)(torch.ones(shape, dtype=kind))
        assert found.shape == shape
        assert found.dtype == kind


def test_a_model_has_it_for_the_block_and_its_own_afterwards():
    model = torch.nn.Sequential(torch.nn.Dropout(0.1), torch.nn.ModuleList([torch.nn.Dropout(0.2)]))
    before = list(model.modules())

    def fails():
        model.eval()
        with dropout.cheaper_dropout(model, on=CPU):
            found = [one for one in model.modules() if isinstance(one, dropout.Dropout)]
            assert [(one.p, one.training) for one in found] == [(0.1, False), (0.2, False)]
            model.train()
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert list(model.modules()) == before
    assert model[0].training  # the mode is the block's last


def test_one_that_works_in_place_stays_and_one_that_is_there_twice_is_replaced_twice():
    shared = torch.nn.Dropout(0.1)
    model = torch.nn.Sequential(shared, torch.nn.Linear(1, 1), shared, torch.nn.Dropout(0.1, True))
    with dropout.cheaper_dropout(model, on=CPU):
        kinds = [type(one) for one in model]
        ours, theirs = dropout.Dropout, torch.nn.Dropout
        assert kinds == [ours, torch.nn.Linear, ours, theirs]
    assert [model[0], model[2]] == [shared, shared]


def test_a_gpu_keeps_its_own():
    model = torch.nn.Sequential(torch.nn.Dropout(0.1))
    with dropout.cheaper_dropout(model, on=Machine(device="cuda", name="", precision="float32")):
        assert type(model[0]) is torch.nn.Dropout

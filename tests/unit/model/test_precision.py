"""16 bit throughout, or of the products alone: what is tried in which order, and what is taken."""

import numpy as np
import pytest

from tests.support import tiny
from tests.support.families import family
from tests.support.lazy import Lazy
from worker.errors import Refused

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

torch = Lazy("torch")
classifiers, precision = Lazy("worker.model.load"), Lazy("worker.model.precision")
failures = Lazy("worker.model.failures")

TEXTS = [text for text, _ in tiny.sentences(20, seed=9)]


@pytest.mark.parametrize(
    ("asked", "native", "tried"),
    [
        ("auto", True, [("float16", True), ("bfloat16", False)]),
        ("auto", False, [("float16", True), ("float16", False)]),
        ("float16", True, [("float16", True), ("float16", False)]),
        ("bfloat16", True, [("bfloat16", False)]),
        ("float32", True, [("float32", False)]),
    ],
)
def test_on_cuda_float16_throughout_is_tried_first(monkeypatch, asked, native, tried):
    capability = (8, 0) if native else (7, 5)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: capability)
    found = precision.candidates(asked, torch.device("cuda"))
    assert [(one.name, one.throughout) for one in found] == tried


@pytest.mark.parametrize("asked", ["float16", "bfloat16", "float32"])
def test_on_a_cpu_only_products_have_another_precision(asked):
    (found,) = precision.candidates(asked, torch.device("cpu"))
    assert (found.name, found.throughout) == (asked, False)


@pytest.fixture
def throughout(monkeypatch):
    """A CPU is given what a GPU of Ampere or newer is given."""
    usual = precision.candidates

    def candidates(asked, device):
        if asked != "auto":
            return usual(asked, device)
        tried = [(torch.float16, True), (torch.bfloat16, False)]
        return [precision.Precision(*each) for each in tried]

    monkeypatch.setattr("worker.model.precision.candidates", candidates)


def loaded(path, dtype="auto", rows="packed"):
    return classifiers.load(path=path, device="cpu", dtype=dtype, rows=rows)


def scores(model):
    return model.run([ids for ids, _ in model.tokenize(TEXTS)])


@pytest.mark.parametrize("kind", ["bert", "electra", "modernbert"])
def test_all_numbers_but_the_heads_have_16_bit_and_scores_stay_within_the_tolerance(
    tmp_path, throughout, kind
):
    ends = {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    more = {"electra": {"embedding_size": 16}, "modernbert": ends}.get(kind, {})
    path = family(tmp_path / kind, kind, spread=0.1, **more)
    expected = scores(loaded(path, "float32"))
    model = loaded(path)
    assert model.precision == precision.Precision(torch.float16, throughout=True)
    kinds = {name: number.dtype for name, number in model.network.named_parameters()}
    wide = {name for name, kind in kinds.items() if kind == torch.float32}
    assert wide == {
        name for name in kinds if name.startswith(("classifier.weight", "classifier.out"))
    }
    assert len(kinds) > 10
    assert 0 < np.abs(scores(model) - expected).max() < 0.02


def test_a_network_that_leaves_float16s_range_gets_products_of_bfloat16(tmp_path, throughout):
    path = family(tmp_path / "bert", "bert", spread=0.1)
    expected = scores(loaded(path, "float32"))
    grown(path)
    model = loaded(path)
    assert model.precision == precision.Precision(torch.bfloat16)
    assert model.network.embedding.words.dtype == torch.float32
    assert np.isfinite(scores(model)).all()
    assert np.abs(scores(model) - expected).max() < 0.02


def test_a_weight_that_no_sample_text_meets_is_seen(tmp_path, throughout):
    """The embedding of a rare word: its text would become a dead letter."""
    path = family(tmp_path / "bert", "bert", spread=0.1)
    change(path, "bert.embeddings.word_embeddings.weight", lambda one: one[100].fill_(20_000.0))
    assert loaded(path).precision == precision.Precision(torch.bfloat16)


def test_a_number_that_only_sums_may_enlarge_keeps_no_products_from_float16(tmp_path):
    path = family(tmp_path / "bert", "bert", spread=0.1)
    grown(path)
    model = loaded(path, "float32", rows="padded")
    assert not precision.fits_float16(model, throughout=True)
    assert precision.fits_float16(model, throughout=False)


def test_float16_by_name_is_refused_where_the_range_is_left(tmp_path):
    path = family(tmp_path / "bert", "bert", spread=0.1)
    grown(path, 100_000.0)
    with pytest.raises(Refused, match=r"model\.dtype: .*float16.*: set float32 or auto"):
        loaded(path, "float16")


def grown(path, number=10_000.0):
    """A number of the first layer becomes 10,000: throughout too near to float16's largest."""
    layer = "bert.encoder.layer.0"
    change(path, f"{layer}.intermediate.dense.bias", lambda one: one[0].fill_(number))
    change(path, f"{layer}.output.dense.weight", lambda one: one[:, 0].zero_())


def change(path, name, how):
    """Changes a tensor of a checkpoint."""
    import safetensors.torch as files

    weights = files.load_file(path / "model.safetensors")
    how(weights[name])
    files.save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def test_the_float32_numbers_are_given_back(tmp_path, throughout):
    model = loaded(family(tmp_path / "bert", "bert", spread=0.1))
    kinds = [number.dtype for number in model.network.parameters()]
    assert kinds.count(torch.float32) == 1
    products = [m for m in model.network.modules() if hasattr(m, "settle")]
    assert products
    assert all(product._float32 is None for product in products)


def on_cuda(path):
    return classifiers.load(path=path, device="cuda", dtype="auto")


@pytest.mark.gpu
def test_on_cuda_all_numbers_have_16_bit_where_the_scores_bear_it(tmp_path):
    path = family(tmp_path / "bert", "bert", spread=0.1)
    model = on_cuda(path)
    assert model.precision == precision.Precision(torch.float16, throughout=True)
    assert np.abs(scores(model) - scores(loaded(path, "float32"))).max() < 0.02


@pytest.mark.gpu
def test_on_cuda_a_network_that_leaves_the_range_gets_16_bit_products_only(tmp_path):
    path = family(tmp_path / "bert", "bert", spread=0.1)
    grown(path)
    model = on_cuda(path)
    assert not model.precision.throughout
    assert np.abs(scores(model) - scores(loaded(path, "float32"))).max() < 0.02


@pytest.mark.gpu
def test_on_cuda_a_batch_without_memory_fails_alone(tmp_path):
    model = on_cuda(family(tmp_path / "bert", "bert", spread=0.1))
    expected, row = scores(model), model.filler(tiny.POSITIONS - 2)
    room = torch.cuda.memory_reserved() + 64 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
    try:
        with pytest.raises(failures.InferenceError) as caught:
            model.run([row] * 50_000)
        assert caught.value.kind == "oom"
        assert np.abs(scores(model) - expected).max() < 0.01
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)

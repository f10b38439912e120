"""Rows end to end give the scores of padded rows, whatever their batch mates, or are not taken."""

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.support import tiny
from tests.support.families import family
from tests.support.lazy import Lazy
from tests.unit.model.test_encoder import OURS
from worker.errors import Refused
from worker.layout import Layout

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

torch = Lazy("torch")
classifiers, failures = Lazy("worker.model.load"), Lazy("worker.model.failures")
packed, attention = Lazy("worker.model.packed"), Lazy("worker.model.attention")
packing, packed_families = Lazy("worker.model.packing"), Lazy("worker.model.packed_families")
tokenizers = Lazy("worker.model.tokenizer")

LONG = "i feel so happy today and sad and angry and afraid of all of it " * 2
TEXTS = [text for text, _ in tiny.sentences(14, seed=9)] + ["ok", LONG]
CLOSE = 2e-6
BY_TRANSFORMERS = {
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "modernbert": {
        "local_attention": 8,
        "global_attn_every_n_layers": 2,
        "classifier_pooling": "cls",
        "cls_token_id": 2,
        "sep_token_id": 3,
        "bos_token_id": 2,
        "eos_token_id": 3,
    },
    # Of a form that is not built here.
    "bert": {"hidden_act": "gelu_new"},
    "roberta": {"hidden_act": "gelu_new", "pad_token_id": 1, "type_vocab_size": 1},
    "distilbert": {"hidden_dim": 48, "activation": "gelu_new"},
}
REFUSED = {
    "mpnet": {"pad_token_id": 1},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "xlnet": {"d_inner": 48, "d_head": 8},
}


def loaded(path, rows, dtype="float32", **options):
    return classifiers.load(path=path, device="cpu", dtype=dtype, rows=rows, **options)


def rows_of(model):
    found = [ids for ids, _ in model.tokenize(TEXTS)]
    assert len({len(row) for row in found}) > 4
    return found


def assert_packs_are_right(path):
    ours, rows = loaded(path, "packed"), rows_of(padded := loaded(path, "padded"))
    assert (ours.layout.packed, padded.layout.packed) == (True, False)
    expected = padded.run(rows)
    assert expected.std(axis=0).max() > 0.03, "the texts' scores hardly differ"
    assert np.abs(ours.run(rows) - expected).max() < CLOSE
    assert np.abs(ours.run(rows[::-1])[::-1] - expected).max() < CLOSE
    alone = np.concatenate([ours.run([row]) for row in rows])
    assert np.abs(alone - expected).max() < CLOSE


@pytest.mark.parametrize("kind", OURS)
def test_the_networks_built_here_give_packed_rows_the_scores_of_padded_ones(tmp_path, kind):
    assert_packs_are_right(family(tmp_path / kind, kind, **OURS[kind]))


@pytest.mark.parametrize("kind", BY_TRANSFORMERS)
def test_so_do_those_that_transformers_builds(tmp_path, kind):
    assert_packs_are_right(family(tmp_path / kind, kind, **BY_TRANSFORMERS[kind]))


def test_a_local_window_that_is_forgotten_is_found_when_a_model_is_loaded(tmp_path, monkeypatch):
    """ModernBERT's local layers look four tokens to each side here; texts are longer."""
    path = family(tmp_path / "m", "modernbert", **BY_TRANSFORMERS["modernbert"])
    attend = packed_families._attend
    monkeypatch.setattr(
        "worker.model.packed_families._attend",
        lambda *given, **options: attend(*given, **options | {"sliding_window": None}),
    )
    with pytest.raises(Refused, match="packed rows have other scores"):
        loaded(path, "packed")


@pytest.mark.parametrize("kind", REFUSED)
def test_families_that_would_mix_the_texts_stay_padded(tmp_path, kind):
    path = family(tmp_path / kind, kind, **REFUSED[kind])
    assert not loaded(path, "auto").layout.packed
    with pytest.raises(Refused, match=f"model.rows: no packs of the family {kind}"):
        loaded(path, "packed")


def test_a_mean_over_all_tokens_is_not_packed(tmp_path):
    options = BY_TRANSFORMERS["modernbert"] | {"classifier_pooling": "mean"}
    with pytest.raises(Refused, match="no packs of the family modernbert"):
        loaded(family(tmp_path / "m", "modernbert", **options), "packed")


@pytest.mark.parametrize("seen", ["other texts", "nothing but itself"])
def test_attention_that_mixes_texts_is_found_when_a_model_is_loaded(untrained, monkeypatch, seen):
    def mixed(self, query, key, value):
        if seen == "nothing but itself":
            return value
        heads_first = (part.transpose(0, 1) for part in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(*heads_first).transpose(0, 1)

    monkeypatch.setattr("worker.model.attention.OverPack._text_by_text", mixed)
    assert not loaded(untrained, "auto").layout.packed
    with pytest.raises(Refused, match=r"model\.rows: packed rows have other scores"):
        loaded(untrained, "packed")


def test_positions_that_are_wrong_are_found_when_a_model_is_loaded(tmp_path, monkeypatch):
    path = family(tmp_path / "roberta", "roberta", **OURS["roberta"])
    positions = packed.PackedRows._positions
    monkeypatch.setattr(packed.PackedRows, "_positions", lambda *given: positions(*given) - 1)
    with pytest.raises(Refused, match="packed rows have other scores"):
        loaded(path, "packed")


@pytest.mark.parametrize(("packs", "rows"), [(1.15, "packed"), (1.25, "padded")])
def test_packed_rows_are_taken_where_they_are_not_slower(untrained, monkeypatch, packs, rows):
    monkeypatch.setattr(
        "worker.model.packing.seconds",
        lambda model, _: packs if model.layout.packed else 1.0,
    )
    with capture_logs() as logs:
        monkeypatch.setattr("worker.model.load.log", classifiers.structlog.get_logger())
        model = loaded(untrained, "auto")
    told = next(line for line in logs if line["event"] == "model_loaded")
    assert model.layout.packed == (rows == "packed")
    assert told["rows"] == rows
    assert told["padded_because"] == (None if rows == "packed" else "packed rows are slower")


def test_positions_count_from_the_padding_id_which_a_text_may_hold(tmp_path):
    model = loaded(family(tmp_path / "roberta", "roberta", **OURS["roberta"]), "packed")
    _, positions, _ = model.stage([[2, 20, 1, 30, 3], [2, 3], [1, 2]]).tensors
    assert positions.tolist() == [2, 3, 1, 4, 5, 2, 3, 1, 2]


def test_rows_are_put_end_to_end(untrained):
    model = loaded(untrained, "packed")
    (ids, positions, begins), lengths = model.stage([[2, 20, 3], [2, 3], [2, 30, 31, 3]])
    assert ids.tolist() == [2, 20, 3, 2, 3, 2, 30, 31, 3]
    assert positions.tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
    assert begins.tolist() == [0, 3, 5, 9]
    assert lengths == [3, 2, 4]
    assert (ids.dtype, positions.dtype, begins.dtype) == (torch.int64, torch.int64, torch.int32)
    assert model.layout == Layout(packed=True)


def test_token_types_that_differ_are_not_packed(untrained, monkeypatch):
    monkeypatch.setattr(
        "worker.model.padded.PaddedRows.typed",
        property(lambda _: True, lambda *_: None),
        raising=False,
    )
    with pytest.raises(Refused, match=r"model\.rows: the tokenizer gives token types"):
        loaded(untrained, "packed")


def test_a_network_of_transformers_still_takes_padded_rows_beside_packs(tmp_path):
    model = loaded(family(tmp_path / "electra", "electra", embedding_size=16), "packed")
    rows = rows_of(model)
    of_packs = model.run(rows)
    model.rows = model.padded
    assert np.abs(model.run(rows) - of_packs).max() < CLOSE


def test_the_attention_function_refuses_to_run_without_a_pack():
    part = torch.zeros(1, 1, 2, 4)
    with pytest.raises(RuntimeError, match="outside a pack"):
        packed_families._attend(None, part, part, part, None)


def test_packs_of_reduced_products_keep_the_tolerance(tmp_path):
    path = family(tmp_path / "bert", "bert", spread=0.1)
    model = loaded(path, "packed", dtype="bfloat16")
    expected = loaded(path, "padded").run(rows_of(model))
    assert 0 < np.abs(model.run(rows_of(model)) - expected).max() < 0.02


@pytest.mark.gpu
@pytest.mark.parametrize("kind", OURS | BY_TRANSFORMERS)
def test_on_cuda_packed_rows_have_the_scores_of_padded_ones(tmp_path, kind):
    path = family(
        tmp_path / kind, kind, spread=0.1,
        **(OURS | BY_TRANSFORMERS)[kind] | {"hidden_size": 64, "num_attention_heads": 4},
    )  # fmt: skip
    model = classifiers.load(path=path, device="cuda", dtype="auto", rows="packed")
    rows = rows_of(model)
    expected = loaded(path, "padded").run(rows)
    assert np.abs(model.run(rows) - expected).max() < 0.02
    alone = np.concatenate([model.run([row]) for row in rows])
    assert np.abs(model.run(rows) - alone).max() < 0.01


@pytest.mark.gpu
def test_on_cuda_packs_are_staged_in_pinned_memory(untrained):
    model = classifiers.load(path=untrained, device="cuda", dtype="auto", rows="packed")
    assert all(one.is_pinned() for one in model.stage([[2, 20, 3], [2, 3]]).tensors)


@pytest.mark.gpu
def test_on_cuda_many_packs_of_mixed_lengths_leave_the_memory_flat(untrained):
    """100,000 texts."""
    model = classifiers.load(path=untrained, device="cuda", dtype="auto", rows="packed")
    lengths = np.random.default_rng(0).integers(3, tiny.POSITIONS, size=100_000)
    rows, seen = [model.filler(int(length)) for length in lengths], []
    for at in range(0, len(rows), 1_000):
        model.run(rows[at : at + 1_000])
        seen.append(torch.cuda.memory_reserved())
    assert max(seen[50:]) <= max(seen[:50])


def test_the_kernel_of_cuda_is_asked_for_what_every_torch_since_2_10_knows(monkeypatch):
    """None is on a CPU: what it is given is looked at, and computed text by text."""
    asked = []
    pack = attention.Pack(torch.tensor([0, 3, 5], dtype=torch.int32), [3, 2], 3)
    parts = torch.randn(3, 5, 2, 8).unbind()

    def kernel(*given, **options):
        asked.append((given[3:], options))
        return plain(*given[:3])

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", kernel)
    for scale, reach, options in [
        (None, None, {}),
        (8**-0.5, 2, {}),  # its own scale, and a window that no text is longer than
        (0.5, 1, {"scale": 0.5, "window_size": (1, 1)}),
    ]:
        attend = attention.OverPack(pack, scale=scale, reach=reach)
        plain = attend._text_by_text
        assert torch.equal(attend._by_one_kernel(*parts), plain(*parts))
        given, found = asked.pop()
        assert (given[0] is given[1] is pack.begins, given[2:], found) == (True, (3, 3), options)


@pytest.mark.parametrize(
    ("capability", "dtype", "reason"),
    [
        ((7, 5), "bfloat16", "the GPU is older than Ampere, for which there is no kernel"),
        ((8, 0), "float32", "packs need 16 bit"),
        ((8, 0), "bfloat16", ""),
    ],
)
def test_what_packs_need_of_a_gpu(tmp_path, monkeypatch, capability, dtype, reason):
    path = family(tmp_path / "bert", "bert", spread=0.1)
    model = loaded(path, "padded", dtype=dtype)
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: capability)
    assert packing._missing_on_cuda(model) == reason


@pytest.mark.parametrize("kind", ["bert", "electra"])
def test_heads_of_a_width_that_the_kernel_does_not_take_stay_padded(tmp_path, monkeypatch, kind):
    path = family(tmp_path / kind, kind, spread=0.1, num_attention_heads=8)  # of 4
    model = loaded(path, "padded", dtype="bfloat16")
    monkeypatch.setattr("torch.cuda.get_device_capability", lambda _: (9, 0))
    assert packing._missing_on_cuda(model) == "the width of a head is no multiple of 8"

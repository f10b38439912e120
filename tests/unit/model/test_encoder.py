"""Networks of every family against the library's own: the same scores, whoever builds them."""

import contextlib
import json

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.support.families import family
from tests.support.lazy import Lazy
from worker.errors import Refused
from worker.model.checkpoint import read

pytestmark = [pytest.mark.heavy, pytest.mark.usefixtures("one_thread")]

torch, transformers = Lazy("torch"), Lazy("transformers")
safetensors = Lazy("safetensors.torch")
encoder, networks = Lazy("worker.model.encoder"), Lazy("worker.model.weights")
classifiers, failures = Lazy("worker.model.load"), Lazy("worker.model.failures")
samples = Lazy("worker.model.samples")
families, rows = Lazy("worker.model.families"), Lazy("worker.model.padded")
CPU = "cpu"
CLOSE = 1e-6
OURS = {
    "bert": {},
    "roberta": {"pad_token_id": 1, "type_vocab_size": 1},
    "xlm-roberta": {"pad_token_id": 1},
    "camembert": {"pad_token_id": 1},
    "distilbert": {"hidden_dim": 48},
}
THE_LIBRARYS = {
    "electra": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "deberta-v2": {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "mpnet": {"pad_token_id": 1},
    "xlnet": {"d_inner": 48, "d_head": 8},
}


@pytest.fixture(autouse=True)
def logs(monkeypatch):
    with capture_logs() as lines:
        monkeypatch.setattr("worker.model.weights.log", networks.structlog.get_logger())
        yield lines


def expected(path, ids, mask):
    """Logits as the library alone gives them."""
    model = transformers.AutoModelForSequenceClassification.from_pretrained(
        path, dtype=torch.float32
    ).eval()
    with torch.inference_mode():
        return model(input_ids=ids, attention_mask=mask).logits


def batch(path, lengths=(3, 17, 9, 20)):
    """Random ids; a length that is not the longest is padded."""
    checkpoint = read(path)
    ids = torch.randint(5, 110, (len(lengths), max(lengths)), generator=torch.manual_seed(1))
    mask = torch.ones_like(ids)
    for row, length in enumerate(lengths):
        ids[row, length:] = checkpoint.pad_token_id
        mask[row, length:] = 0
    return ids, mask


def difference(path, *, lengths=(3, 17, 9, 20)):
    """Between our network's logits and the library's, and how far the logits are apart."""
    model = networks.network(read(path), CPU)
    ids, mask = batch(path, lengths)
    with torch.inference_mode():
        found = model(input_ids=ids, attention_mask=mask).logits
    wanted = expected(path, ids, mask)
    assert wanted.std(dim=0).max() > 0.01, "the texts' logits hardly differ: nothing is compared"
    return (found - wanted).abs().max().item()


def built_here(logs):
    return not any(line["event"] == "loaded_by_transformers" for line in logs)


@pytest.mark.parametrize("lengths", [(3, 17, 9, 20), (12, 12, 12)], ids=["padded", "equal"])
@pytest.mark.parametrize("kind", OURS)
def test_a_common_family_is_built_here_with_the_librarys_logits(tmp_path, logs, kind, lengths):
    path = family(tmp_path / kind, kind, **OURS[kind])
    assert difference(path, lengths=lengths) <= CLOSE
    assert built_here(logs)


@pytest.mark.parametrize("kind", THE_LIBRARYS)
def test_any_other_family_is_loaded_by_transformers(tmp_path, logs, kind):
    path = family(tmp_path / kind, kind, **THE_LIBRARYS[kind])
    assert difference(path) <= CLOSE
    assert [line["reason"] for line in logs] == [f"model_type {kind}"]


@pytest.mark.parametrize("kind", [*OURS, *THE_LIBRARYS])
def test_the_scores_of_the_loaded_classifier_are_the_librarys(tmp_path, kind):
    """With the replaced layers, and whichever kernel is chosen: within rounding."""
    path = family(tmp_path / kind, kind, **(OURS | THE_LIBRARYS)[kind])
    model = classifiers.load(path=path, device="cpu", dtype="float32", rows="padded", threads=1)
    ids, mask = batch(path)
    found = model.scores(model.launch(rows.HostBatch((ids, mask), mask.sum(dim=1).tolist())))
    assert np.abs(found - expected(path, ids, mask).softmax(dim=-1).numpy()).max() <= CLOSE


def test_a_padding_token_within_a_text_has_the_librarys_position(tmp_path):
    path = family(tmp_path / "roberta", "roberta", pad_token_id=1)
    ids, mask = batch(path, (8, 8))
    ids[0, 3] = 1
    with torch.inference_mode():
        found = networks.network(read(path), CPU)(input_ids=ids, attention_mask=mask).logits
    assert (found - expected(path, ids, mask)).abs().max() <= CLOSE


@pytest.fixture
def path(tmp_path):
    return family(tmp_path / "bert", "bert")


def rename(path, *, without=(), **changes):
    """Rewrites the weights: each name by each replacement; then those without."""
    tensors = safetensors.load_file(path / "model.safetensors")
    for part, new in changes.items():
        old = part.replace("_", ".")
        tensors = {name.replace(old, new): tensor for name, tensor in tensors.items()}
    kept = {name: tensor for name, tensor in tensors.items() if name not in without}
    safetensors.save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    return path


def test_the_names_of_tensorflows_time_are_the_librarys_to_translate(path, logs):
    rename(path, LayerNorm_weight="LayerNorm.gamma", LayerNorm_bias="LayerNorm.beta")
    assert difference(path) <= CLOSE
    assert not built_here(logs)


def test_weights_without_the_models_prefix_are_the_librarys_to_translate(path, logs):
    rename(path, bert_="")
    assert difference(path) <= CLOSE
    assert not built_here(logs)


def test_saved_positions_of_old_releases_are_passed_over(path, logs):
    tensors = safetensors.load_file(path / "model.safetensors")
    tensors["bert.embeddings.position_ids"] = torch.arange(40)[None]
    safetensors.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    assert difference(path) <= CLOSE
    assert built_here(logs)


def with_tensors(path, **more):
    tensors = safetensors.load_file(path / "model.safetensors")
    tensors |= {name.replace("__", "."): tensor for name, tensor in more.items()}
    safetensors.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})


def test_a_head_of_another_task_beside_the_network_is_left_to_transformers(path, logs):
    with_tensors(path, cls__predictions__bias=torch.ones(3))
    assert difference(path) <= CLOSE
    assert not built_here(logs)


@pytest.mark.parametrize(
    ("config", "tensor"),
    [
        (
            {"position_embedding_type": "relative_key"},
            "bert__encoder__layer__0__attention__self__distance_embedding__weight",
        ),
        ({}, "bert__encoder__layer__0__attention__self__distance__weight"),
        ({}, "bert__encoder__layer__2__output__dense__weight"),
        ({}, "classifier__scale"),
    ],
)
def test_a_tensor_that_the_library_would_pass_over_is_refused(path, config, tensor):
    edit(path, **config)
    with_tensors(path, **{tensor: torch.ones(3, 3)})
    with pytest.raises(Refused, match=r"transformers has no place for .*compute something else"):
        networks.network(read(path), CPU)


@pytest.mark.parametrize("layers", [0, 1])
def test_fewer_layers_than_there_are_weights_are_refused(path, layers):
    edit(path, num_hidden_layers=layers)
    with pytest.raises(Refused, match=r"transformers has no place for bert\.encoder\.layer"):
        networks.network(read(path), CPU)


def test_whole_numbers_without_a_quantization_are_refused(path):
    tensors = safetensors.load_file(path / "model.safetensors")
    whole = {name: (tensor * 10).to(torch.int8) for name, tensor in tensors.items()}
    safetensors.save_file(whole, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Refused, match="holds whole numbers"):
        networks.network(read(path), CPU)


@pytest.mark.parametrize(
    "alias", [{"hidden_size": 16}, {"num_attention_heads": 8}, {"num_hidden_layers": 2}]
)
def test_a_setting_under_two_names_is_the_librarys_to_read(tmp_path, logs, alias):
    path = family(tmp_path / "distilbert", "distilbert", hidden_dim=48)
    edit(path, **alias)
    with contextlib.suppress(Refused):  # the library takes the other one, and weights do not fit
        assert difference(path) <= CLOSE
    assert not built_here(logs)


def test_settings_of_single_layers_are_never_passed_over(path, logs):
    edit(path, per_layer_config={"1": {"num_attention_heads": 8}})
    with pytest.raises(Refused):
        networks.network(read(path), CPU)
    assert not built_here(logs)


def test_a_model_that_returns_tuples_by_its_configuration_is_served(path, logs):
    edit(path, return_dict=False, hidden_act="gelu_new")
    model = networks.network(read(path), CPU)
    ids, mask = batch(path)
    assert model(input_ids=ids, attention_mask=mask).logits.shape == (4, 6)
    assert not built_here(logs)


def test_a_head_of_another_width_than_the_labels_is_refused(path, monkeypatch):
    edit(path, id2label=None, label2id=None, num_labels=5)
    with pytest.raises(Refused, match=r"another shape than config\.json says"):
        classifiers.load(path=path, device="cpu", dtype="float32", threads=1)
    edit(path, num_labels=6)
    scores = np.full((len(samples.SAMPLES), 5), 0.2)  # of a class that is wider than it says
    monkeypatch.setattr("worker.model.classifier.TorchClassifier.reference", lambda _: scores)
    with pytest.raises(Refused, match=r"has 5 outputs, and config\.json names 6 labels"):
        classifiers.load(path=path, device="cpu", dtype="float32", threads=1)


def test_a_text_that_cannot_be_labelled_at_the_start_is_a_refusal(path, monkeypatch):
    def broken(*_):
        raise failures.InferenceError("other", "index out of range")

    monkeypatch.setattr("worker.model.classifier.TorchClassifier.reference", broken)
    with pytest.raises(Refused, match="cannot label a text: index out of range"):
        classifiers.load(path=path, device="cpu", dtype="float32", threads=1)


def edit(path, **config):
    """Changes config.json; None takes a name away."""
    content = json.loads((path / "config.json").read_text()) | config
    kept = {name: value for name, value in content.items() if value is not None}
    (path / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_weights_that_were_saved_in_half_precision_compute_in_float32(path, logs, dtype):
    tensors = {
        name: one.to(getattr(torch, dtype))
        for name, one in safetensors.load_file(path / "model.safetensors").items()
    }
    safetensors.save_file(tensors, path / "model.safetensors", metadata={"format": "pt"})
    assert difference(path) <= CLOSE
    assert built_here(logs)


def test_shards_are_read_as_one(path, logs):
    tensors = safetensors.load_file(path / "model.safetensors")
    (path / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[::2], "model-2.safetensors": names[1::2]}
    for file, part in parts.items():
        safetensors.save_file(
            {name: tensors[name] for name in part}, path / file, metadata={"format": "pt"}
        )
    places = {name: file for file, part in parts.items() for name in part}
    index = {"weight_map": places, "metadata": {}}
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert difference(path) <= CLOSE
    assert built_here(logs)


@pytest.mark.parametrize(
    ("setting", "value", "reason"),
    [
        ("hidden_act", "gelu_new", "activation gelu_new"),
        ("is_decoder", True, "is_decoder True"),
        ("_attn_implementation", "eager", "_attn_implementation eager"),
        ("quantization_config", {"bits": 8}, "quantization_config"),
        ("hidden_size", None, "sizes"),
        ("num_attention_heads", 5, "sizes"),
        ("vocab_size", 10, "word_embeddings"),
        ("layer_norm_eps", None, "layer_norm_eps None"),
        ("model_type", "llama", "model_type llama"),
    ],
)
def test_what_is_not_of_the_ordinary_form_is_not_built_here(path, setting, value, reason):
    config = json.loads((path / "config.json").read_text())
    tensors = safetensors.load_file(path / "model.safetensors")
    encoder.build(config, tensors, labels=6)
    with pytest.raises(families.Unusual, match=reason):
        encoder.build(config | {setting: value}, tensors, labels=6)
    with pytest.raises(families.Unusual, match=r"classifier\.weight"):
        encoder.build(config, tensors, labels=5)


def test_another_activation_has_the_librarys_logits(tmp_path, logs):
    assert difference(family(tmp_path / "relu", "bert", hidden_act="relu")) <= CLOSE
    assert built_here(logs)
    assert difference(family(tmp_path / "new", "bert", hidden_act="gelu_new")) <= CLOSE
    assert not built_here(logs)


def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_its_name(path):
    rename(path, without=("bert.pooler.dense.weight",))
    with pytest.raises(Refused, match=r"lacks weights, bert.pooler.dense.weight among them"):
        networks.network(read(path), CPU)


@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.", "module._orig_mod."])
@pytest.mark.parametrize("kind", ["bert", "albert"])
def test_tensors_under_the_name_of_a_module_around_the_model_are_refused(tmp_path, kind, prefix):
    """transformers alone would say that the weights are missing."""
    path = family(tmp_path / kind, kind, **(OURS | THE_LIBRARYS)[kind])
    tensors = safetensors.load_file(path / "model.safetensors")
    renamed = {f"{prefix}{name}": tensor for name, tensor in tensors.items()}
    safetensors.save_file(renamed, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Refused, match=r"have the prefix .* save the model inside it") as caught:
        networks.network(read(path), CPU)
    assert "\n" not in str(caught.value)


def test_a_submodule_that_was_compiled_is_refused(path):
    rename(path, encoder_layer_1="encoder.layer.1._orig_mod")
    with pytest.raises(Refused, match=r"the prefix _orig_mod\. of torch\.compile"):
        networks.network(read(path), CPU)


def test_a_model_in_memory_does_not_change_with_its_file(path):
    model = networks.network(read(path), CPU)
    ids, mask = batch(path)
    with torch.inference_mode():
        before = model(input_ids=ids, attention_mask=mask).logits
        size = (path / "model.safetensors").stat().st_size
        with (path / "model.safetensors").open("r+b") as file:
            file.write(b"\0" * size)
        assert torch.equal(model(input_ids=ids, attention_mask=mask).logits, before)


def test_a_damaged_file_is_refused_without_transformers(path, monkeypatch):
    monkeypatch.setattr("worker.model.weights._by_transformers", None)
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[: len(data) // 2])
    with pytest.raises(Refused, match="cannot be loaded: ") as caught:
        networks.network(read(path), CPU)
    assert "\n" not in str(caught.value)


def test_our_families_exist_in_the_library():
    """A new release may rename one; the comparison above would then compare nothing."""
    known = transformers.models.auto.modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    assert set(families.FAMILIES) <= set(known)
    assert set(families.FAMILIES) == set(OURS)

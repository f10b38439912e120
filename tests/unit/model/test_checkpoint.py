"""A checkpoint directory: what is read from it, and what is refused before a weight is loaded."""

import errno
import hashlib
import json
import math
import os
import pathlib

import pytest
from tokenizers import Tokenizer, models

from worker.classifier import Abstention
from worker.errors import Refused
from worker.model.checkpoint import look, read

LABELS = ("sadness", "joy", "love")
CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "id2label": {str(i): label for i, label in enumerate(LABELS)},
    "problem_type": "single_label_classification",
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "vocab_size": 30_522,
}

ROBERTA = {"model_type": "roberta", "pad_token_id": 1}


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def write(path, *, config=None, manifest=None, tokenizer_config=None, without=()):
    """A checkpoint whose weights are never looked into; `None` in `config` removes a name."""
    path.mkdir(exist_ok=True)
    merged = {**CONFIG, **(config or {})}
    files = {
        "config.json": {name: value for name, value in merged.items() if value is not None},
        "manifest.json": manifest,
        "tokenizer_config.json": tokenizer_config,
    }
    for name, content in files.items():
        if content is not None:
            (path / name).write_text(json.dumps(content))
    (path / "model.safetensors").write_bytes(b"weights")
    (path / "tokenizer.json").write_bytes(b"{}")
    for name in without:
        (path / name).unlink()
    return path


def refusal(path):
    with pytest.raises(Refused) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith("model.checkpoint: ")
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.fixture
def path(tmp_path):
    return tmp_path / "emotion-tiny"


def test_a_plain_hugging_face_checkpoint_has_defaults(path):
    found = read(write(path))
    assert found.labels == LABELS
    assert (found.name, found.temperature, found.max_length) == ("emotion-tiny", 1.0, 512)
    assert (found.pad_token_id, found.vocabulary) == (0, 30_522)
    assert found.label_shares is None
    assert len(found.version) == 12
    assert int(found.version, 16) >= 0


def test_a_version_changes_with_weights_and_tokenizer_and_nothing_else(path, tmp_path):
    version = read(write(path)).version
    assert read(write(tmp_path / "copy")).version == version
    write(path, config={"hidden_dropout_prob": 0.5}, tokenizer_config={"model_max_length": 128})
    assert read(path).version == version
    (path / "model.safetensors").write_bytes(b"other weights")
    weights = read(path).version
    write(path)
    (path / "tokenizer.json").write_bytes(b'{"version": "1.0"}')
    assert len({version, weights, read(path).version}) == 3


def test_a_manifest_speaks_for_the_checkpoint(path):
    manifest = {
        "name": "emotion-minilm",
        "version": "3f2a9c1b7d04",
        "labels": list(LABELS),
        "temperature": 1.7,
        "max_length": 96,
        "label_distribution": {"sadness": 0.5, "joy": 0.25, "love": 0.25},
        "files": {"model.safetensors": sha256(b"weights"), "tokenizer.json": sha256(b"{}")},
    }
    found = read(write(path, manifest=manifest))
    assert (found.name, found.version) == ("emotion-minilm", "3f2a9c1b7d04")
    assert (found.temperature, found.max_length) == (1.7, 96)
    assert found.label_shares == {"sadness": 0.5, "joy": 0.25, "love": 0.25}


def test_an_empty_manifest_is_no_manifest(path):
    plain = read(write(path))
    assert read(write(path, manifest={})) == plain


def test_a_directory_that_is_not_there_is_refused_with_the_command_that_makes_one(path):
    assert "emotion-train run" in refusal(path)


def test_a_file_is_no_checkpoint(path):
    path.write_bytes(b"weights")
    assert "is a file, and a checkpoint is a directory" in refusal(path)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(path, name):
    assert name in refusal(write(path, without=[name]))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "model.pt"])
def test_weights_that_can_run_code_are_not_read(path, name):
    write(path, without=["model.safetensors"])
    (path / name).write_bytes(b"weights")
    assert "save_pretrained" in refusal(path)


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "tokenizer_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b"\xff\xfe"])
def test_a_file_that_is_no_json_object_is_named(path, name, content):
    (write(path) / name).write_bytes(content)
    assert name in refusal(path)


def shard(path, names, *, missing=()):
    index = {"metadata": {}, "weight_map": {f"layer.{i}": name for i, name in enumerate(names)}}
    write(path, without=["model.safetensors"])
    (path / "model.safetensors.index.json").write_text(json.dumps(index))
    for name in set(names) - set(missing):
        (path / name).write_bytes(name.encode())
    return path


SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]


def test_sharded_weights_are_read_and_every_shard_counts_for_the_version(path):
    first = read(shard(path, SHARDS)).version
    (path / SHARDS[1]).write_bytes(b"changed")
    assert read(path).version != first


def test_a_missing_shard_is_named(path):
    message = refusal(shard(path, SHARDS, missing=SHARDS[1:]))
    assert SHARDS[1] in message
    assert SHARDS[0] not in message


def test_an_index_without_shards_is_refused(path):
    assert "shards" in refusal(shard(path, []))


@pytest.mark.parametrize(
    ("config", "word"),
    [
        ({"id2label": {"0": "LABEL_0"}}, "regression"),
        ({"id2label": {"0": "LABEL_0"}, "problem_type": "regression"}, "regression"),
        ({"problem_type": "regression"}, "regression"),
        ({"problem_type": "multi_label_classification"}, "multi_label_classification"),
        ({"architectures": ["BertModel"]}, "BertModel"),
        ({"architectures": ["BertForTokenClassification"]}, "BertForTokenClassification"),
        ({"architectures": ["BertForMaskedLM"]}, "emotion-train run"),
        ({"architectures": None, "auto_map": {"AutoModel": "code.Model"}}, "code of its own"),
        ({"id2label": {"0": "joy", "1": "love", "2": "joy"}}, "twice"),
        ({"id2label": {"0": "joy", "2": "love"}}, "no entry '1'"),
        ({"id2label": {"1": "joy", "2": "love"}}, "no entry '0'"),
        ({"id2label": ["joy", "love"]}, "id2label"),
        ({"pad_token_id": -1}, "pad_token_id"),
        ({"pad_token_id": "0"}, "pad_token_id"),
    ],
)
def test_a_model_that_cannot_be_served_is_refused_with_the_reason(path, config, word):
    assert word in refusal(write(path, config=config))


@pytest.mark.heavy
@pytest.mark.parametrize(("kind", "pad"), [("bert", 0), ("roberta", 1), ("xlnet", 5), ("t5", 0)])
def test_a_configuration_without_a_padding_id_has_its_familys(path, kind, pad):
    found = read(write(path, config={"pad_token_id": None, "model_type": kind}))
    assert found.pad_token_id == found.config["pad_token_id"] == pad


@pytest.mark.heavy
@pytest.mark.parametrize("named", ["<x>", {"content": "<x>", "lstrip": False}])
def test_without_one_of_its_family_it_is_the_tokenizers(path, named):
    write(path, config={"pad_token_id": None, "model_type": "gpt2"})
    assert "no padding token" in refusal(path)
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<x>": 7}, unk_token="a"))
    tokenizer.save(str(path / "tokenizer.json"))
    (path / "tokenizer_config.json").write_text(json.dumps({"pad_token": named}))
    assert read(path).pad_token_id == 7
    (path / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<y>"}))
    assert "no padding token" in refusal(path)


def test_a_padding_id_that_is_null_is_the_tokenizers(path):
    write(path, tokenizer_config={"pad_token": "<x>"})
    (path / "config.json").write_text(json.dumps({**CONFIG, "pad_token_id": None}))
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<x>": 7}, unk_token="a"))
    tokenizer.save(str(path / "tokenizer.json"))
    assert read(path).pad_token_id == 7


@pytest.mark.parametrize("beside", [True, False])
def test_an_adapter_is_refused_with_the_way_to_a_model(path, beside):
    """Without peft transformers passes it over: the scores would be the base model's."""
    write(path, without=[] if beside else ["config.json", "model.safetensors", "tokenizer.json"])
    (path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    (path / "adapter_model.safetensors").write_bytes(b"weights")
    assert "merge_and_unload" in refusal(path)


@pytest.mark.parametrize("names", [["vocab.txt"], ["spm.model"], ["vocab.json", "merges.txt"]])
def test_the_files_of_a_tokenizer_without_tokenizer_json_count_for_the_version(path, names):
    write(path, without=["tokenizer.json"])
    versions = set()
    for name in names:
        for content in (b"one", b"two"):
            (path / name).write_bytes(content)
            versions.add(read(path).version)
    assert len(versions) == 2 * len(names)


@pytest.mark.parametrize("name", ["special_tokens_map.json", "added_tokens.json"])
def test_special_tokens_alone_are_no_tokenizer(path, name):
    write(path, without=["tokenizer.json"])
    (path / name).write_text("{}")
    assert "has no tokenizer.json" in refusal(path)


def test_a_binary_classifier_with_unnamed_labels_is_served(path):
    # transformers writes no id2label where it is the default one: LABEL_0 and LABEL_1.
    assert read(write(path, config={"id2label": None})).labels == ("LABEL_0", "LABEL_1")


@pytest.mark.parametrize("config", [{"problem_type": None}, {"architectures": None}])
def test_what_old_checkpoints_do_not_say_is_taken_for_granted(path, config):
    assert read(write(path, config=config)).labels == LABELS


def test_labels_are_in_the_order_of_their_numbers(path):
    names = {str(i): f"label {i}" for i in reversed(range(12))}
    assert read(write(path, config={"id2label": names})).labels == tuple(
        f"label {i}" for i in range(12)
    )


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_file_that_is_not_what_the_manifest_says_is_refused(path, name):
    files = {"model.safetensors": sha256(b"weights"), "tokenizer.json": sha256(b"{}")}
    write(path, manifest={"files": files})
    assert read(path).labels == LABELS
    (path / name).write_bytes(b"damaged")
    message = refusal(path)
    assert name in message
    assert "damaged" in message


@pytest.mark.parametrize(
    "labels", [["joy", "sadness", "love"], ["sadness", "joy"], ["a", "b", "c"]]
)
def test_a_manifest_with_other_labels_is_refused(path, labels):
    assert "differ in labels" in refusal(write(path, manifest={"labels": labels}))


@pytest.mark.parametrize("temperature", [0, -1, float("nan"), float("inf"), "1", None, [1]])
def test_a_temperature_must_be_above_zero(path, temperature):
    assert "temperature" in refusal(write(path, manifest={"temperature": temperature}))


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": ["model.safetensors"]},
        {"labels": 5},
        {"label_distribution": [0.5, 0.5]},
        {"label_distribution": {"joy": "half"}},
    ],
)
def test_a_manifest_of_another_shape_is_refused(path, manifest):
    assert "manifest.json" in refusal(write(path, manifest=manifest))


@pytest.mark.parametrize(
    ("config", "tokenizer", "asked", "expected"),
    [
        ({}, None, None, 512),
        ({}, 128, None, 128),
        ({}, 1e30, None, 512),
        ({}, int(1e30), None, 512),
        ({}, None, 96, 96),
        ({}, 128, 96, 96),
        ({}, None, 1_000, 512),  # the position table's end is the model's end
        ({"max_position_embeddings": 64}, 1e30, None, 64),
        ({"max_position_embeddings": 64}, 1e30, 128, 64),
        ({"max_position_embeddings": 4_096}, 1e30, None, 512),
        ({"max_position_embeddings": 4_096}, 1e30, 1_024, 1_024),
        ({"max_position_embeddings": None}, 1e30, None, 512),
        ({"max_position_embeddings": None}, 1e30, 1_024, 1_024),
        ({"max_position_embeddings": -1}, 1e30, None, 512),
        ({**ROBERTA, "max_position_embeddings": 514}, 1e30, None, 512),
        ({**ROBERTA, "max_position_embeddings": 130}, 1e30, None, 128),
        ({**ROBERTA, "max_position_embeddings": 130}, 1e30, 129, 128),
    ],
)
def test_texts_are_cut_to_what_manifest_tokenizer_and_positions_allow(
    path, config, tokenizer, asked, expected
):
    manifest = {} if asked is None else {"max_length": asked}
    tokenizer_config = {} if tokenizer is None else {"model_max_length": tokenizer}
    write(path, config=config, manifest=manifest, tokenizer_config=tokenizer_config)
    assert read(path).max_length == expected


def test_positions_begin_after_whatever_id_is_the_paddings(path):
    config = {"model_type": "roberta", "max_position_embeddings": 514, "pad_token_id": 3}
    assert read(write(path, config=config)).max_length == 510


@pytest.mark.parametrize(
    ("config", "manifest", "tokenizer_config", "word"),
    [
        ({}, {"max_length": 1}, None, "too few for one word"),
        ({}, None, {"model_max_length": 1}, "too few for one word"),
        ({"max_position_embeddings": 2}, None, None, "too few for one word"),
        *(
            ({}, None, {"model_max_length": value}, "model_max_length")
            for value in ("abc", [1], -5, 0, True, float("nan"))
        ),
        *(
            ({"vocab_size": size}, None, None, "vocab_size")
            for size in ("abc", [], 0, -1, True, 1.5)
        ),
        ({"vocab_size": 50, "pad_token_id": 99}, None, None, "vocab_size"),
        ({"pad_token_id": True}, None, None, "pad_token_id"),
        ({"architectures": 5}, None, None, "architectures"),
        ({"architectures": "Bert"}, None, None, "architectures"),
        ({"model_type": ["bert"]}, None, None, "model_type"),
        ({"model_type": None}, None, None, "model_type"),
        ({"transformers_weights": "other.safetensors"}, None, None, "transformers_weights"),
        ({}, {"temperature": 10**400}, None, "temperature"),
        ({}, {"temperature": True}, None, "temperature"),
    ],
)
def test_a_value_that_means_nothing_is_refused_before_it_is_used(
    path, config, manifest, tokenizer_config, word
):
    write(path, config=config, manifest=manifest, tokenizer_config=tokenizer_config)
    assert word in refusal(path)


def test_a_tokenizer_without_a_limit_says_infinity(path):
    write(path, tokenizer_config={"model_max_length": float("inf")})
    assert read(path).max_length == 512


@pytest.mark.parametrize("name", ["config.json", "manifest.json", "tokenizer_config.json"])
def test_json_that_is_nested_too_deep_is_refused(path, name):
    (write(path) / name).write_text("[" * 100_000)
    assert "nested too deep" in refusal(path)


@pytest.mark.parametrize("name", ["config.json", "manifest.json"])
def test_a_pipe_is_not_waited_for(path, name):
    (write(path) / name).unlink(missing_ok=True)
    os.mkfifo(path / name)
    refusal(path)


@pytest.mark.parametrize(
    "shards", [[], None, "a", {"a": 5}, {"a": None}, {"a": "../x.safetensors"}]
)
def test_an_index_that_maps_to_no_files_is_refused(path, shards):
    write(path, without=["model.safetensors"])
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    assert "weight_map" in refusal(path)


def test_of_a_file_and_shards_the_file_is_read_as_the_library_does(path):
    write(path)
    for name in ("shard.safetensors", "model.safetensors.index.json"):
        (path / name).write_text('{"weight_map": {"a": "shard.safetensors"}}')
    assert read(path).weights == (path / "model.safetensors",)


def test_as_many_labels_as_the_configuration_says_where_it_names_none(path):
    write(path, config={"id2label": None, "num_labels": 3})
    assert read(path).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_weights_that_another_user_may_not_read_are_refused(path, monkeypatch):
    write(path)

    def denied(self, mode, *args, **options):
        if self.suffix == ".safetensors":  # root may read everything
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(self))
        return opened(self, mode, *args, **options)

    opened = pathlib.Path.open
    monkeypatch.setattr("pathlib.Path.open", denied)
    assert "the right to read it" in refusal(path)


@pytest.mark.parametrize("length", [0, -1, "96", 96.0, True, []])
def test_a_length_that_is_no_count_is_refused(path, length):
    assert "max_length in manifest.json" in refusal(write(path, manifest={"max_length": length}))


def test_a_length_that_is_null_is_none(path):
    assert read(write(path, manifest={"max_length": None})).max_length == 512


THRESHOLDS = {"score": 0.71, "energy": -1.92, "precision": 0.97, "split": "validation"}


def test_the_thresholds_of_a_manifest_are_used_where_they_are_asked_for(path):
    write(path, manifest={"abstain": THRESHOLDS})
    assert read(path).abstention is None
    assert read(path, abstain=True).abstention == Abstention(score=0.71, energy=-1.92)
    look(path, abstain=True)


def test_thresholds_are_no_part_of_the_version(path, tmp_path):
    plain = read(write(path))
    marked = read(write(tmp_path / "marked", manifest={"abstain": THRESHOLDS}), abstain=True)
    assert marked.version == plain.version


@pytest.mark.parametrize("manifest", [None, {}, {"abstain": None}])
@pytest.mark.parametrize("ask", [look, read])
def test_without_thresholds_no_worker_is_to_abstain(path, manifest, ask):
    write(path, manifest=manifest)
    ask(path)
    with pytest.raises(Refused) as caught:
        ask(path, abstain=True)
    assert str(caught.value) == (
        f"model.abstain: the checkpoint {path} has no thresholds: write them with `emotion-train "
        f"threshold --checkpoint {path} --dataset DATASET`, or switch model.abstain off"
    )


@pytest.mark.parametrize("score", [0, 1, 0.5])
@pytest.mark.parametrize("energy", [-3, 0, 1e30])
def test_every_threshold_in_range_is_taken(path, score, energy):
    write(path, manifest={"abstain": {"score": score, "energy": energy}})
    assert read(path, abstain=True).abstention == Abstention(score=score, energy=energy)


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ([0.7, -1.9], "abstain in manifest.json of"),
        (0.7, "abstain in manifest.json of"),
        ("yes", "abstain in manifest.json of"),
        (False, "abstain in manifest.json of"),
        ({}, "abstain.score in"),
        ({"energy": -1.9}, "abstain.score in"),
        ({"score": 0.7}, "abstain.energy in"),
        *[
            ({"score": score, "energy": -1.9}, "abstain.score in")
            for score in (None, True, "0.7", -0.1, 1.01, math.nan, math.inf, [0.7])
        ],
        *[
            ({"score": 0.7, "energy": energy}, "abstain.energy in")
            for energy in (None, True, "-1.9", math.nan, math.inf, -math.inf, 10**400, {})
        ],
    ],
)
@pytest.mark.parametrize("abstain", [False, True])
def test_thresholds_of_another_shape_are_refused_whether_or_not_they_are_used(
    path, entry, told, abstain
):
    write(path, manifest={"abstain": entry})
    assert told in refusal(path)
    for ask in (look, read):
        with pytest.raises(Refused, match=r"^model\.checkpoint: abstain"):
            ask(path, abstain=abstain)

"""The classifier on a tiny model: scores, tokens, precision, kernels; CUDA at the end."""

import json
import shutil
import threading
import weakref

import numpy as np
import pytest
from structlog.testing import capture_logs
from tokenizers import Tokenizer

from tests.support import tiny
from tests.support.lazy import Lazy
from worker import check, run
from worker.check_options import CheckSettings
from worker.classifier import Abstention
from worker.errors import Refused
from worker.model.checkpoint import read
from worker.settings import BatchSettings, ModelSettings
from worker.stages.inference import Inference, stage

pytestmark = pytest.mark.heavy

torch, transformers = Lazy("torch"), Lazy("transformers")
safetensors = Lazy("safetensors.torch")
classifiers, linear = Lazy("worker.model.load"), Lazy("worker.model.linear")
tuning, failures = Lazy("worker.model.tuning"), Lazy("worker.model.failures")
samples = Lazy("worker.model.samples")

TEXTS = [text for text, _ in tiny.sentences(40, seed=9)]
TOLERANCE = 1e-3


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """A model this small is slower with more. What a test sets is taken back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=["padded", "packed"])
def model(untrained, request):
    return load_cpu(untrained, rows=request.param)


@pytest.fixture(scope="module")
def padded(untrained):
    return load_cpu(untrained)


@pytest.fixture
def copy(untrained, tmp_path):
    """A checkpoint of the test's own, to be spoilt."""
    return shutil.copytree(untrained, tmp_path / "copy")


def scores(model, texts):
    """One batch of all the texts."""
    return model.scores(model.launch(model.stage([ids for ids, _ in model.tokenize(texts)])))


def alone(model, texts):
    return np.concatenate([scores(model, [text]) for text in texts])


def change(path, name, **values):
    content = json.loads((path / name).read_text()) if (path / name).exists() else {}
    (path / name).write_text(json.dumps(content | values))
    return path


def load_cpu(path, dtype="float32", rows="padded"):
    return classifiers.load(path=path, device="cpu", dtype=dtype, rows=rows, threads=1)


def test_scores_are_probabilities_of_every_label(model):
    found = scores(model, TEXTS)
    assert found.shape == (40, 6)
    assert found.dtype == np.float32
    assert found.min() >= 0
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-5
    assert model.labels == tiny.LABELS


def test_different_texts_get_different_scores(model):
    # Else the comparisons below could not fail.
    found = scores(model, TEXTS)
    assert len(set(found.argmax(axis=1).tolist())) > 2
    assert found.std(axis=0).max() > 0.05


def test_scores_do_not_depend_on_batch_mates(model):
    expected = alone(model, TEXTS)
    assert np.abs(scores(model, TEXTS) - expected).max() < TOLERANCE
    assert np.abs(scores(model, TEXTS[::-1])[::-1] - expected).max() < TOLERANCE
    long = " ".join(TEXTS)
    for text, row in zip(TEXTS[:5], expected, strict=False):
        assert np.abs(scores(model, [long, text])[1] - row).max() < TOLERANCE


def test_scores_are_those_of_plain_transformers(model, untrained):
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_pretrained(untrained).eval()
    with torch.inference_mode():
        for text in TEXTS[:10]:
            ids = torch.tensor([model.tokenize([text])[0][0]])
            expected = plain(input_ids=ids).logits.softmax(dim=-1).numpy()
            assert np.abs(scores(model, [text]) - expected).max() < TOLERANCE


def test_padding_and_truncation_of_the_checkpoint_are_switched_off(model, untrained):
    baked = Tokenizer.from_file(str(untrained / "tokenizer.json"))
    assert len(baked.encode("happy").ids) == tiny.FIXED_PADDING  # as all-MiniLM's does
    assert model.tokenize(["happy"]) == [(baked.encode("happy").ids[:3], False)]
    (ids, cut) = model.tokenize(["happy " * 55])[0]
    assert (len(ids), cut) == (57, False)  # more than the tokenizer's own 48


def test_a_text_beyond_the_models_length_is_cut_and_marked(model):
    fits, beyond = model.tokenize(["happy " * (tiny.POSITIONS - 2), "happy " * tiny.POSITIONS])
    assert (len(fits[0]), fits[1]) == (tiny.POSITIONS, False)
    assert (len(beyond[0]), beyond[1]) == (tiny.POSITIONS, True)
    assert beyond[0][0] == fits[0][0]
    assert beyond[0][-1] == fits[0][-1]  # the separator is kept
    assert np.isfinite(scores(model, ["happy " * 500])).all()


def test_the_manifests_length_is_where_a_text_is_cut(copy):
    short = load_cpu(change(copy, "manifest.json", max_length=8))
    (ids, cut) = short.tokenize(["happy " * 20])[0]
    assert (len(ids), cut) == (8, True)


@pytest.mark.parametrize("text", ["\u200b", "\0", "\U0001f600", "\u2764\ufe0f" * 300, "x" * 5_000])
def test_any_text_gets_finite_scores(model, text):
    assert np.isfinite(scores(model, [text, "happy"])).all()


def test_rows_are_padded_with_the_models_own_id_and_masked(copy):
    model = load_cpu(change(copy, "config.json", pad_token_id=7))
    (ids, mask), lengths = model.stage([[2, 20, 3], [2, 3]])
    assert lengths == [3, 2]
    assert ids.tolist() == [[2, 20, 3], [2, 3, 7]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert ids.dtype == mask.dtype == torch.int64


def test_a_token_outside_the_vocabulary_is_an_error_before_the_model_runs(model):
    vocabulary = model.checkpoint.vocabulary
    model.stage([[2, vocabulary - 1, 3]])
    with pytest.raises(failures.InferenceError) as caught:
        model.stage([[2, 3], [2, vocabulary, 3]])
    assert caught.value.kind == "other"


def test_a_failing_model_call_is_explained_by_its_kind(model):
    staged = model.stage([[2, 20, 3]])
    bad = staged._replace(tensors=(torch.full_like(staged.tensors[0], 10_000), *staged.tensors[1:]))
    with pytest.raises(failures.InferenceError) as caught:
        model.launch(bad)
    assert caught.value.kind == "other"
    assert "\n" not in str(caught.value)


def test_a_batch_that_found_no_memory_gives_back_what_it_took_before_its_halves_run(
    padded, monkeypatch
):
    """An error's frames keep their tensors: as long as it is held, nothing is free."""
    taken = []

    def runs_out(**_):
        activations = torch.zeros(1_000)
        taken.append(weakref.ref(activations))
        raise torch.OutOfMemoryError("x")

    monkeypatch.setattr(padded, "network", runs_out)
    with pytest.raises(failures.InferenceError) as caught:
        scores(padded, TEXTS)
    assert caught.value.kind == "oom"
    assert taken[0]() is None, "the error still holds the activations"


def test_the_manifests_temperature_cools_the_scores(model, copy):
    warm = load_cpu(change(copy, "manifest.json", temperature=2.0))
    expected = np.sqrt(scores(model, TEXTS))
    expected /= expected.sum(axis=1, keepdims=True)
    assert np.abs(scores(warm, TEXTS) - expected).max() < TOLERANCE


def test_it_serves_the_inference_stage(model):
    from tests.support.fakes import encoded
    from worker.records import Encoded, MicroBatch

    items = tuple(
        Encoded(encoded(i, text=text).document, *model.tokenize([text])[0])
        for i, text in enumerate(TEXTS)
    )
    inference = Inference(classifier=model, on_error=[].append)
    outcomes = inference.finish(inference.launch(stage(model, MicroBatch(items, "full"))))
    expected = [tiny.LABELS[best] for best in scores(model, TEXTS).argmax(axis=1)]
    assert [outcome.prediction.label for outcome in outcomes] == expected


def test_a_batch_may_be_staged_while_another_runs(model):
    expected = scores(model, TEXTS)
    rows = [ids for ids, _ in model.tokenize(TEXTS)]
    staged = []
    thread = threading.Thread(target=lambda: staged.append(model.stage(rows)))
    thread.start()
    assert np.abs(scores(model, TEXTS) - expected).max() < TOLERANCE
    thread.join()
    assert np.abs(model.scores(model.launch(staged[0])) - expected).max() < TOLERANCE


@pytest.mark.parametrize(
    ("records", "tokens", "expected"),
    [
        (256, 2_048, {(256, 8), (128, 16), (64, 32), (32, 64)}),
        (16, 2_048, {(16, 8), (16, 16), (16, 32), (16, 64)}),
        (16, 1, {(1, 8), (1, 16), (1, 32), (1, 64)}),
    ],
)
def test_warming_up_runs_the_shapes_that_will_come(padded, monkeypatch, records, tokens, expected):
    shapes = set()
    launch = padded.launch

    def seen(staged):
        shapes.add(tuple(staged.tensors[0].shape))
        return launch(staged)

    monkeypatch.setattr(padded, "launch", seen)
    padded.warm_up(max_records=records, max_tokens=tokens)
    assert shapes == expected


def test_packed_rows_have_no_shapes_to_warm_up_but_the_shortest_and_the_longest(
    untrained, monkeypatch
):
    packed, shapes = load_cpu(untrained, rows="packed"), []
    launch = packed.launch
    monkeypatch.setattr(packed, "launch", lambda one: shapes.append(one.lengths) or launch(one))
    packed.warm_up(max_records=256, max_tokens=1_024)
    assert shapes == [[8] * 128, [tiny.POSITIONS] * 16]


def test_on_a_cpu_there_is_one_batch_at_a_time_and_no_device_memory(model):
    assert (model.depth, model.memory(), model.device.type) == (1, {}, "cpu")
    assert model.dtype == torch.float32


def test_both_kernels_give_equal_scores_and_can_be_exchanged(untrained):
    model = load_cpu(untrained)
    if not linear.onednn_is_there():
        pytest.skip("this torch has no oneDNN")
    linear.use_onednn(model.network, use=False)
    expected = scores(model, TEXTS)
    assert not any(type(one) is torch.nn.Linear for one in model.network.modules())

    linear.use_onednn(model.network, use=True)
    assert np.abs(scores(model, TEXTS) - expected).max() < TOLERANCE
    assert np.array_equal(scores(model, TEXTS).argmax(axis=1), expected.argmax(axis=1))

    linear.use_onednn(model.network, use=False)
    assert np.array_equal(scores(model, TEXTS), expected)


def test_only_the_products_are_reduced_and_not_that_of_the_scores(gentle):
    model = load_cpu(gentle, dtype="bfloat16")
    dtypes = {name: weight.dtype for name, weight in model.network.named_parameters()}
    products = [name for name, one in model.network.named_modules() if type(one) is linear.Product]
    for name, dtype in dtypes.items():
        layer = name.rpartition(".")[0]
        reduced = layer in products and layer != "classifier"
        assert dtype == (torch.bfloat16 if reduced else torch.float32), name
    assert "classifier" in products
    assert len(products) > 5


def test_a_kernel_that_computes_something_else_is_not_taken(untrained, monkeypatch):
    if not linear.onednn_is_there():
        pytest.skip("this torch has no oneDNN")
    model = load_cpu(untrained)
    linear.use_onednn(model.network, use=False)
    expected = scores(model, TEXTS)
    product = linear._onednn()
    monkeypatch.setattr("worker.model.linear._onednn", lambda: lambda *args: -product(*args))
    seconds = iter([2.0, 1.0])  # and it is faster
    monkeypatch.setattr("worker.model.tuning.seconds", lambda *_: next(seconds))
    assert tuning.choose_kernels(model, expected=model.reference()) == "default"
    assert np.array_equal(scores(model, TEXTS), expected)


def test_a_kernel_that_fails_is_not_taken(untrained, monkeypatch):
    if not linear.onednn_is_there():
        pytest.skip("this torch has no oneDNN")
    model = load_cpu(untrained)
    linear.use_onednn(model.network, use=False)
    expected = scores(model, TEXTS)

    def broken(*_):
        raise RuntimeError("could not create a primitive")

    monkeypatch.setattr("worker.model.linear._onednn", lambda: broken)
    assert tuning.choose_kernels(model, expected=model.reference()) == "default"
    assert np.array_equal(scores(model, TEXTS), expected)


@pytest.mark.parametrize(
    ("seconds", "kernels", "timings"),
    [
        ([1.0, 2.0], "onednn", 2),  # oneDNN is timed first
        ([2.0, 1.0], "default", 2),
        ([1.2, 1.0, 1.2, 1.1, 0.9, 1.1], "onednn", 6),  # near: the best of three decides
        ([1.0, 1.2, 1.1, 1.2, 1.1, 0.9], "default", 6),
    ],
)
def test_the_faster_kernel_is_taken_after_one_timing_where_the_difference_is_clear(
    untrained, monkeypatch, seconds, kernels, timings
):
    if not linear.onednn_is_there():
        pytest.skip("this torch has no oneDNN")
    model = load_cpu(untrained)
    left = list(seconds)
    monkeypatch.setattr("worker.model.tuning.seconds", lambda *_: left.pop(0))
    assert tuning.choose_kernels(model, expected=model.reference()) == kernels
    assert len(seconds) - len(left) == timings
    products = [one for one in model.network.modules() if type(one) is linear.Product]
    assert {one.onednn for one in products} == {kernels == "onednn"}


def test_every_gate_computes_every_sample(untrained, monkeypatch):
    """In float32 as it was read, in the precision, and by the other kernel."""
    computed = []
    launch = classifiers.TorchClassifier.launch

    def seen(model, staged):
        products = [one for one in model.network.modules() if type(one) is linear.Product]
        if len(staged.lengths) == len(samples.SAMPLES):
            computed.append(products and (products[0].weight.dtype, products[0].onednn))
        return launch(model, staged)

    monkeypatch.setattr(classifiers.TorchClassifier, "launch", seen)
    load_cpu(untrained)
    onednn = [(torch.float32, True)] if linear.onednn_is_there() else []
    assert computed == [[], (torch.float32, False), *onednn]


def test_the_weights_are_read_once_whatever_precision_is_taken(delicate, monkeypatch):
    reads = []
    network = classifiers.network
    module = "worker.model.load"
    monkeypatch.setattr(f"{module}.network", lambda *a: reads.append(a) or network(*a))
    monkeypatch.setattr(
        "worker.model.precision.choose_dtype",
        lambda asked, _: torch.bfloat16 if asked == "auto" else getattr(torch, asked),
    )
    model = load_cpu(delicate, dtype="auto")
    assert (model.dtype, len(reads)) == (torch.float32, 1)


def test_the_float32_weights_are_given_back_once_a_precision_is_taken(gentle):
    model = load_cpu(gentle, dtype="bfloat16")
    product = next(one for one in model.network.modules() if type(one) is linear.Product)
    assert product._float32 is None
    with pytest.raises(RuntimeError, match="settled"):
        linear.use_precision(model.network, torch.float32)


@pytest.fixture(scope="module")
def gentle(untrained, tmp_path_factory):
    """A checkpoint that bears a reduced precision on any device, as trained ones do."""
    path = shutil.copytree(untrained, tmp_path_factory.mktemp("gentle") / "tiny")
    scale_head(path, 0.25)
    return path


def scale_head(path, factor):
    weights = safetensors.load_file(path / "model.safetensors")
    weights["classifier.weight"] *= factor
    safetensors.save_file(weights, path / "model.safetensors", metadata={"format": "pt"})


def test_bfloat16_stays_within_the_tolerance(gentle):
    reduced, exact = load_cpu(gentle, dtype="bfloat16"), load_cpu(gentle)
    assert reduced.dtype == torch.bfloat16
    difference = np.abs(scores(reduced, TEXTS) - scores(exact, TEXTS)).max()
    assert 0 < difference < 0.02


@pytest.fixture
def delicate(copy):
    """A checkpoint whose scores bear no rounding: the head multiplies any difference."""
    scale_head(copy, 300)
    return copy


def test_a_precision_that_was_asked_for_and_changes_the_scores_is_refused(delicate):
    with pytest.raises(Refused, match=r"model.dtype: scores in bfloat16 differ from float32"):
        load_cpu(delicate, dtype="bfloat16")


def test_auto_falls_back_to_float32_with_a_warning(delicate, monkeypatch):
    expected = scores(load_cpu(delicate), TEXTS)
    monkeypatch.setattr(
        "worker.model.precision.choose_dtype",
        lambda asked, _: torch.bfloat16 if asked == "auto" else getattr(torch, asked),
    )
    with capture_logs() as logs:
        monkeypatch.setattr("worker.model.tuning.log", tuning.structlog.get_logger())
        model = load_cpu(delicate, dtype="auto")
    assert model.dtype == torch.float32
    # From the float32 weights, which are kept until now: what bfloat16 has cut off would be lost.
    assert np.abs(scores(model, TEXTS) - expected).max() < TOLERANCE
    warning = next(line for line in logs if line["event"] == "precision_refused")
    assert (warning["log_level"], warning["dtype"], warning["instead"]) == (
        *("warning", "bfloat16"),
        "float32",
    )


def refusal(path):
    with pytest.raises(Refused) as caught:
        load_cpu(path)
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("model.")
    return message


def test_a_base_model_with_a_head_only_in_its_config_is_refused(copy):
    file = copy / "model.safetensors"
    weights = {
        n: v for n, v in safetensors.load_file(file).items() if not n.startswith("classifier")
    }
    safetensors.save_file(weights, file, metadata={"format": "pt"})
    assert "classifier.bias" in refusal(copy)


def test_a_base_model_is_refused(tmp_path):
    tiny.base_model(tmp_path / "base")
    assert transformers.BertModel.__name__ in refusal(tmp_path / "base")


@pytest.mark.parametrize("content", [b"", b"weights", b"\x08\0\0\0\0\0\0\0{}      "])
def test_damaged_weights_are_refused(copy, content):
    (copy / "model.safetensors").write_bytes(content)
    refusal(copy)


def test_weights_of_another_shape_are_refused(copy):
    labels = {str(i): label for i, label in enumerate(tiny.LABELS[:3])}
    refusal(change(copy, "config.json", id2label=labels, label2id={}))


def test_weights_that_are_not_finite_are_refused(copy):
    file = copy / "model.safetensors"
    weights = safetensors.load_file(file)
    weights["classifier.bias"][0] = float("nan")
    safetensors.save_file(weights, file, metadata={"format": "pt"})
    assert "not finite" in refusal(copy)


@pytest.mark.parametrize("content", [b"{}", b"", b'{"version": "1.0", "model": 5}'])
def test_a_damaged_tokenizer_is_refused(copy, content):
    (copy / "tokenizer.json").write_bytes(content)
    assert "tokenizer.json" in refusal(copy)


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(copy):
    tokenizer = Tokenizer.from_file(str(copy / "tokenizer.json"))
    tokenizer.add_tokens(["brandnew"])
    tokenizer.save(str(copy / "tokenizer.json"))
    assert "tokens" in refusal(copy)


def test_code_that_comes_with_a_checkpoint_is_never_run(copy, tmp_path):
    trace = tmp_path / "it-ran"
    (copy / "code.py").write_text(
        f"open({str(trace)!r}, 'w')\nclass Config: pass\nModel = Config\n"
    )
    change(
        copy,
        "config.json",
        model_type="its-own",
        auto_map={
            "AutoConfig": "code.Config",
            "AutoModelForSequenceClassification": "code.Model",
        },
    )
    refusal(copy)
    assert not trace.exists()


def test_code_beside_a_known_model_is_ignored(copy, tmp_path, model):
    trace = tmp_path / "it-ran"
    (copy / "code.py").write_text(f"open({str(trace)!r}, 'w')\nclass Model: pass\n")
    change(copy, "config.json", auto_map={"AutoModelForSequenceClassification": "code.Model"})
    found = scores(load_cpu(copy), TEXTS)
    assert np.abs(found - scores(model, TEXTS)).max() < TOLERANCE
    assert not trace.exists()


def test_sharded_weights_give_the_same_scores(copy, model):
    weights = safetensors.load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(weights)
    halves = {"model-00001-of-00002.safetensors": names[::2]} | {
        "model-00002-of-00002.safetensors": names[1::2]
    }
    for file, part in halves.items():
        safetensors.save_file(
            {name: weights[name] for name in part}, copy / file, metadata={"format": "pt"}
        )
    index = {"weight_map": {name: file for file, part in halves.items() for name in part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index | {"metadata": {}}))
    assert np.abs(scores(load_cpu(copy), TEXTS) - scores(model, TEXTS)).max() < TOLERANCE


def test_threads_are_those_that_were_asked_for(untrained):
    classifiers.load(path=untrained, device="cpu", dtype="float32", threads=2)
    assert torch.get_num_threads() == 2
    load_cpu(untrained)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("given", "shared", "threads"),
    [(None, (1, 4), 4), (None, (2, 5), 2), (None, (4, 2), 1), (3, (2, 8), 3)],
)
@pytest.mark.parametrize("command", ["run", "check"])
def test_processes_share_the_cpus_unless_each_is_told(  # noqa: PLR0917
    monkeypatch, untrained, command, given, shared, threads
):  # fmt: skip
    """`check`, too: what it measures is what each of them will be."""
    processes, cpus = shared
    before, seen = torch.get_num_threads(), []
    monkeypatch.setattr("worker.model.device.usable_cpus", lambda: cpus)
    monkeypatch.setattr("torch.set_num_threads", seen.append)
    model = ModelSettings(checkpoint=untrained, device="cpu", threads=given)
    chosen = CheckSettings(model=model, processes=processes)
    if command == "run":
        run._loaded(chosen)
    else:
        check._device(chosen, read(untrained), check.Report())
    assert seen == [threads]
    assert torch.get_num_threads() == before


def test_the_model_has_the_name_version_and_labels_of_its_checkpoint(model, untrained):
    said = read(untrained)
    assert (model.name, model.version, model.labels) == (said.name, said.version, said.labels)
    assert model.label_shares is None


@pytest.fixture(scope="module")
def marked(untrained, tmp_path_factory):
    """The same checkpoint with a temperature and thresholds."""
    copy = shutil.copytree(untrained, tmp_path_factory.mktemp("marked") / "copy")
    thresholds = {"score": 0.5, "energy": -1.5, "split": "validation"}
    return change(copy, "manifest.json", temperature=1.7, abstain=thresholds)


@pytest.fixture(scope="module", params=["padded", "packed"])
def abstaining(marked, request):
    return load_abstaining(marked, rows=request.param)


def load_abstaining(path, *, device="cpu", dtype="float32", rows="padded"):
    said = read(path, abstain=True)
    return classifiers.load(
        path=path, device=device, dtype=dtype, rows=rows, threads=1, checkpoint=said
    )


def test_the_energy_is_that_of_the_logits_of_transformers_before_the_temperature(
    abstaining, marked
):
    found = scores(abstaining, TEXTS)
    assert found.shape == (40, 7)
    assert found.dtype == np.float32
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(marked).eval()
    for text, energy in zip(TEXTS, found[:, -1], strict=True):
        ids, _ = abstaining.tokenize([text])[0]
        with torch.inference_mode():
            logits = theirs(torch.tensor([list(ids)])).logits
        assert energy == pytest.approx(-torch.logsumexp(logits, dim=-1).item(), abs=TOLERANCE)
    assert found[:, -1].std() > 0.05  # else equal ones would say little


def test_the_scores_beside_the_energy_are_those_without_it(abstaining, marked):
    rows = "packed" if abstaining.layout.packed else "padded"
    plain = load_cpu(marked, rows=rows)
    assert plain.abstention is None
    assert abstaining.abstention == Abstention(score=0.5, energy=-1.5)
    expected = scores(plain, TEXTS)
    assert expected.shape == (40, 6)
    assert np.abs(scores(abstaining, TEXTS)[:, :-1] - expected).max() < TOLERANCE


def test_the_energy_does_not_depend_on_batch_mates(abstaining):
    expected = alone(abstaining, TEXTS)[:, -1]
    assert np.abs(scores(abstaining, TEXTS)[:, -1] - expected).max() < TOLERANCE
    assert np.abs(scores(abstaining, TEXTS[::-1])[::-1][:, -1] - expected).max() < TOLERANCE
    long = " ".join(TEXTS)
    for text, energy in zip(TEXTS[:5], expected, strict=False):
        assert abs(scores(abstaining, [long, text])[1, -1] - energy) < TOLERANCE


@pytest.mark.parametrize("dtype", ["bfloat16", "auto"])
def test_the_energy_is_float32_in_any_precision(marked, dtype):
    found = scores(load_abstaining(marked, dtype=dtype, rows="auto"), TEXTS)
    expected = scores(load_abstaining(marked), TEXTS)
    assert found.dtype == np.float32
    assert np.abs(found[:, -1] - expected[:, -1]).max() < 0.2


@pytest.mark.parametrize("abstain", [False, True])
def test_the_log_says_the_thresholds_of_a_model_that_abstains(marked, abstain):
    with capture_logs() as logs:
        run._loaded(settings_of(marked, abstain=abstain))
    (line,) = [line for line in logs if line["event"] == "model_loaded"]
    said = {name: value for name, value in line.items() if name.startswith("abstains")}
    thresholds = {"abstains_below_score": 0.5, "abstains_above_energy": -1.5}
    assert said == (thresholds if abstain else {})


def settings_of(path, *, abstain):
    model = ModelSettings(checkpoint=path, device="cpu", dtype="float32", abstain=abstain)
    return CheckSettings(model=model, batch=BatchSettings(max_tokens=64))


def test_check_says_the_thresholds_of_a_model_that_abstains(marked, capsys):
    for abstain in (False, True):
        check._checkpoint(settings_of(marked, abstain=abstain), check.Report())
    off, on = capsys.readouterr().out.splitlines()
    assert on == f"{off}; abstains below score 0.5 or above energy -1.5"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_on_cuda_scores_and_energies_are_those_of_the_cpu(marked, dtype):
    found = scores(load_abstaining(marked, device="cuda", dtype=dtype, rows="auto"), TEXTS)
    expected = scores(load_abstaining(marked), TEXTS)
    assert found.shape == expected.shape
    assert np.abs(found[:, :-1] - expected[:, :-1]).max() < 0.02
    assert np.abs(found[:, -1] - expected[:, -1]).max() < 0.2


@pytest.fixture(scope="module")
def cuda(untrained):
    return classifiers.load(path=untrained, device="cuda", dtype="float32")


@pytest.mark.gpu
@pytest.mark.parametrize("device", ["auto", "cuda", "cuda:0"])
def test_cuda_is_taken_where_it_is(untrained, device):
    assert classifiers.load(path=untrained, device=device, dtype="auto").device.type == "cuda"


@pytest.mark.gpu
def test_a_gpu_that_is_not_there_is_refused(untrained):
    with pytest.raises(Refused, match="cuda:99"):
        classifiers.load(path=untrained, device="cuda:99", dtype="auto")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "auto", "bfloat16", "float16"])
def test_cuda_gives_the_scores_of_the_cpu(gentle, dtype):
    found = scores(classifiers.load(path=gentle, device="cuda", dtype=dtype), TEXTS)
    assert np.abs(found - scores(load_cpu(gentle), TEXTS)).max() < 0.02


@pytest.mark.gpu
def test_on_cuda_scores_do_not_depend_on_batch_mates(cuda):
    assert np.abs(scores(cuda, TEXTS) - alone(cuda, TEXTS)).max() < 0.01


@pytest.mark.gpu
def test_on_cuda_two_batches_run_at_once_and_are_read_in_order(cuda):
    assert cuda.depth == 2
    halves = [TEXTS[:20], TEXTS[20:]]
    staged = [cuda.stage([ids for ids, _ in cuda.tokenize(half)]) for half in halves]
    launched = [cuda.launch(one) for one in staged]
    read_back = [cuda.scores(one) for one in launched]
    for half, found in zip(halves, read_back, strict=True):
        assert np.abs(found - scores(cuda, half)).max() < TOLERANCE


@pytest.mark.gpu
def test_on_cuda_rows_are_staged_in_pinned_memory_in_multiples_of_8(cuda):
    ids, mask = cuda.stage([[2, 20, 3], [2, 3]]).tensors
    assert ids.is_pinned()
    assert mask.is_pinned()
    assert ids.shape == mask.shape == (2, 8)
    assert mask.sum(dim=1).tolist() == [3, 2]
    assert cuda.stage([[2] * tiny.POSITIONS]).tensors[0].shape == (1, tiny.POSITIONS)


@pytest.mark.gpu
def test_cuda_memory_is_reported(cuda):
    cuda.warm_up(max_records=64, max_tokens=4_096)
    memory = cuda.memory()
    assert 0 < memory["allocated"] <= memory["reserved"]
    assert memory["peak"] >= memory["allocated"]


@pytest.mark.gpu
def test_a_bad_token_does_not_kill_the_cuda_context(cuda):
    expected = scores(cuda, TEXTS)
    with pytest.raises(failures.InferenceError):
        cuda.stage([[2, cuda.checkpoint.vocabulary, 3]])
    assert np.abs(scores(cuda, TEXTS) - expected).max() < TOLERANCE

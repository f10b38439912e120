"""The lower part of a model replaced by its outputs, and put back."""

import pytest

from tests.support import models, tiny
from tests.support.lazy import Lazy
from train.encoder import Encoder
from train.errors import Refused
from train.machine import Machine
from train.printer import Printer

pytestmark = pytest.mark.heavy

torch, transformers = Lazy("torch"), Lazy("transformers")
freeze = Lazy("train.freeze")
CPU = Machine(device="cpu", name="CPU", precision="float32")
TEXTS = ("i feel so happy today", "lost", "so sad [PAD] and lonely", "i feel so happy today")
LAYERS = 3
KINDS = {"bert": "Bert", "roberta": "Roberta", "xlm-roberta": "XLMRoberta"}
"""By model type, how transformers names its classes."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = models.tiny_models(tmp_path_factory) / "base"
    loaded = transformers.AutoTokenizer.from_pretrained(path)
    loaded.backend_tokenizer.no_padding()
    return loaded


def encoder(tokenizer, kind="bert", *, dropout=0.0):
    config = getattr(transformers, f"{KINDS[kind]}Config")
    model = getattr(transformers, f"{KINDS[kind]}ForSequenceClassification")
    torch.manual_seed(0)
    made = model(
        config(
            vocab_size=len(tokenizer),
            hidden_size=16,
            num_hidden_layers=LAYERS,
            num_attention_heads=2,
            intermediate_size=32,
            max_position_embeddings=tiny.POSITIONS,
            pad_token_id=tokenizer.pad_token_id,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            initializer_range=0.5,
        )
    )
    return Encoder(name=kind, model=made.eval(), tokenizer=tokenizer, max_length=tiny.POSITIONS)


def frozen(encoder, layers, texts=TEXTS):
    ids = encoder.tokenize(texts)["input_ids"]
    return freeze.lower_layers(encoder, layers=layers, token_ids=ids, on=CPU, printer=Printer())


def logits(encoder, texts=TEXTS):
    inputs = encoder.tokenizer(list(texts), padding=True, return_tensors="pt")
    return encoder.model(**inputs).logits


def test_every_known_kind_is_tested():
    assert set(KINDS) == set(freeze.KNOWN)


@pytest.mark.parametrize("layers", [0, 1, LAYERS])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_gives_the_same_scores_with_its_lower_layers_frozen(tokenizer, kind, layers):
    subject = encoder(tokenizer, kind)
    whole = logits(subject)
    with frozen(subject, layers):
        torch.testing.assert_close(logits(subject), whole)
    torch.testing.assert_close(logits(subject), whole)


def test_dropout_does_not_reach_the_frozen_layers(tokenizer):
    subject = encoder(tokenizer, dropout=0.5)
    inputs = subject.tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    expected = subject.model.bert(**inputs, output_hidden_states=True).hidden_states[2]
    subject.model.train()
    with frozen(subject, 2):
        subject.model.train()
        found = subject.model.bert.embeddings(inputs["input_ids"])
    texts = inputs["attention_mask"].bool()
    torch.testing.assert_close(found[texts], expected[texts])
    assert not found[~texts].any()


def test_a_step_changes_the_upper_layers_alone_and_the_model_is_whole_again(tokenizer):
    subject = encoder(tokenizer)
    before = {name: weights.clone() for name, weights in subject.model.state_dict().items()}
    with frozen(subject, 2):
        optimizer = torch.optim.SGD(subject.model.parameters(), lr=0.1)
        logits(subject).square().sum().backward()
        optimizer.step()
    after = subject.model.state_dict()
    assert list(after) == list(before)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert any(name.startswith("bert.encoder.layer.2.") for name in changed)
    assert any(name.startswith("classifier.") for name in changed)
    lower = ("bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1.")
    assert not [name for name in changed if name.startswith(lower)]


def test_a_model_is_whole_again_after_a_failure(tokenizer):
    subject = encoder(tokenizer)
    whole = logits(subject)
    with pytest.raises(KeyboardInterrupt), frozen(subject, 2):
        raise KeyboardInterrupt
    torch.testing.assert_close(logits(subject), whole)


def test_more_layers_than_there_are_are_refused(tokenizer):
    with pytest.raises(Refused) as refused, frozen(encoder(tokenizer), LAYERS + 1):
        pass
    assert str(refused.value) == "--freeze-layers 4: base model 'bert' has 3 layers"


def test_a_kind_of_model_whose_layers_are_not_known_is_refused(tokenizer):
    model = transformers.DistilBertForSequenceClassification(
        transformers.DistilBertConfig(
            vocab_size=len(tokenizer), dim=16, n_layers=1, n_heads=2, hidden_dim=32
        )
    )
    subject = Encoder(name="small", model=model, tokenizer=tokenizer, max_length=8)
    with pytest.raises(Refused) as refused, frozen(subject, 1):
        pass
    assert str(refused.value) == (
        "--freeze-layers 1: base model 'small' is of type distilbert;"
        " layers can be frozen in the types bert, roberta, xlm-roberta"
    )


def test_a_tokenizer_that_pads_on_the_left_is_refused(tokenizer, monkeypatch):
    monkeypatch.setattr(tokenizer, "padding_side", "left")
    with pytest.raises(Refused, match="pads on the left"), frozen(encoder(tokenizer), 1):
        pass

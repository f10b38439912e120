"""A base model, a dataset and an untrained checkpoint small enough to train and load in seconds.

Nothing is downloaded and everything is made from a fixed seed. The tokenizer carries a fixed
padding on purpose, as all-MiniLM's does: whoever forgets to switch it off fails a test here.
"""

import json
import random
from collections.abc import Sequence
from pathlib import Path

LABELS = ("sadness", "joy", "love", "anger", "fear", "surprise")
FIXED_PADDING = 48
POSITIONS = 64

_WORDS = {
    "sadness": ("cried", "lonely", "grief", "gloomy", "lost"),
    "joy": ("happy", "delighted", "cheerful", "smiling", "glad"),
    "love": ("adore", "darling", "tender", "beloved", "caring"),
    "anger": ("furious", "rude", "shouting", "annoyed", "rage"),
    "fear": ("scared", "afraid", "nervous", "trembling", "panic"),
    "surprise": ("wow", "unexpected", "astonished", "suddenly", "stunned"),
}
_FILLERS = ("i", "feel", "today", "so", "and", "the", "my", "was", "at", "home", "about", "it")
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,!?'#@"


def sentences(count: int, *, seed: int = 0) -> list[tuple[str, str]]:
    """`count` pairs of text and label name, 2 to 14 words long; the labels take turns."""
    source = random.Random(seed)
    rows = []
    for number in range(count):
        label = LABELS[number % len(LABELS)]
        words = [source.choice(_WORDS[label]), source.choice(_WORDS[label])]
        words += source.choices(_FILLERS, k=source.randint(0, 12))
        source.shuffle(words)
        rows.append((" ".join(words), label))
    return rows


def dataset(
    path: Path,
    *,
    splits: Sequence[str] = ("train", "validation", "test"),
    rows: int = 96,
    names: bool = True,
) -> Path:
    """A directory of jsonl splits: integer labels named by a README, or string labels.

    `rows` is the size of `train`; every other split has half as many.
    """
    path.mkdir(parents=True, exist_ok=True)
    for seed, split in enumerate(splits):
        count = rows if split == "train" else rows // 2
        lines = [
            json.dumps({"text": text, "label": LABELS.index(label) if names else label})
            for text, label in sentences(count, seed=seed)
        ]
        (path / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    if names:
        (path / "README.md").write_text(readme(splits), encoding="utf-8")
    return path


def readme(splits: Sequence[str], labels: Sequence[str] = LABELS) -> str:
    """The dataset card that gives integer labels their names."""
    files = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in splits)
    classes = "".join(f"          '{i}': {label}\n" for i, label in enumerate(labels))
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}"
        "dataset_info:\n  features:\n  - name: text\n    dtype: string\n"
        f"  - name: label\n    dtype:\n      class_label:\n        names:\n{classes}---\n"
    )


def base_model(path: Path) -> Path:
    """A BERT of 2 layers and 32 units without a head, and its WordPiece tokenizer.

    At a learning rate of 0.01 in batches of 16, `dataset(rows=240)` is learned in 4 epochs.
    """
    from transformers import BertModel

    _seeded(BertModel(_config()), spread=0.05).save_pretrained(path)
    _save_tokenizer(path)
    return path


def checkpoint(path: Path, *, labels: Sequence[str] = LABELS) -> Path:
    """An untrained classifier in the plain Hugging Face format, with no manifest."""
    from transformers import BertForSequenceClassification

    config = _config()
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: i for i, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    # Wide, so that two texts get visibly different scores even untrained.
    _seeded(BertForSequenceClassification(config), spread=0.3).save_pretrained(path)
    _save_tokenizer(path)
    return path


def _config():
    from transformers import BertConfig

    return BertConfig(
        vocab_size=len(_vocabulary()),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=POSITIONS,
        pad_token_id=0,
    )


def _seeded(model, *, spread: float):
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weights in model.named_parameters():
            if weights.dim() > 1:
                wide = 2 * spread if name.startswith("classifier") else spread
                weights.copy_(torch.randn(weights.shape, generator=generator) * wide)
    return model.eval()


def _vocabulary() -> dict[str, int]:
    words = sorted({word for group in (*_WORDS.values(), _FILLERS) for word in group})
    pieces = [*_CHARACTERS, *(f"##{character}" for character in _CHARACTERS)]
    return {token: i for i, token in enumerate(dict.fromkeys((*_SPECIAL, *pieces, *words)))}


def _save_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    vocabulary = _vocabulary()
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.enable_padding(length=FIXED_PADDING)
    tokenizer.enable_truncation(FIXED_PADDING)
    tokenizer.save(str(path / "tokenizer.json"))
    settings = {
        "tokenizer_class": "BertTokenizer",
        "model_max_length": POSITIONS,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")

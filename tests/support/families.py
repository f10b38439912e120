"""Untrained classifiers of many families, each small enough to be made in milliseconds."""

from pathlib import Path

from tests.support import tiny

SIZES = {
    "vocab_size": len(tiny._vocabulary()),
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 40,
    "pad_token_id": 0,
}
"""By the names that most families give to them."""

ENDED = {"pad_token_id": 0, "eos_token_id": 3, "decoder_start_token_id": 0}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, **ENDED}
BART = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "bos_token_id": 2,
    "forced_eos_token_id": 3,
    **ENDED,
}
NARROW = {"emb_dim": 32, "n_layers": 2, "n_heads": 4}
SERVED = {
    "xlnet": {"d_inner": 48, "d_head": 8},
    "t5": T5,
    "mt5": T5,
    "bart": BART,
    "gpt2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 40, "bos_token_id": 2,
             "eos_token_id": 3},
    "llama": {"num_key_value_heads": 4},
    "xlm": NARROW,
    "flaubert": NARROW,
    "big_bird": {},
    "longformer": {"attention_window": 8, "pad_token_id": 1},
}  # fmt: skip
SEEN = {"fnet": {}, "convbert": {"embedding_size": 32}, "nystromformer": {}}
"""Models that see padding on either side."""


def family(path: Path, kind: str, *, spread: float | None = 0.3, **settings: object) -> Path:
    """An untrained classifier of a family whose logits differ visibly from text to text.

    Without a spread its weights are those that transformers draws.
    """
    import torch
    import transformers

    torch.manual_seed(3)
    options = SIZES | {"id2label": dict(enumerate(tiny.LABELS))} | settings
    if kind in {"xlnet", "t5", "mt5"}:  # they have no limit, and XLNet refuses one
        del options["max_position_embeddings"]
    config = transformers.AutoConfig.for_model(kind, **options)
    model = transformers.AutoModelForSequenceClassification.from_config(config)
    with torch.no_grad():
        for weights in model.parameters() if spread else ():
            noise = torch.randn(weights.shape)
            weights.copy_(noise * spread if weights.dim() > 1 else weights + noise * 0.1)
    model.save_pretrained(path)
    tiny._save_tokenizer(path)
    return path

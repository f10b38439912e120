"""Models that find the end of a text by its end-of-sequence token: BART, T5 and their kind.

They refuse a batch whose rows have different numbers of that token ("All examples must have the
same number of <eos> tokens"). A text in which it is written (`</s>`) has one more than others, and
would make its whole batch fail, in training and in serving. Alone it has scores: the last of its
tokens counts. So rows with different numbers of it are computed apart, and every text has the
scores that it has alone.

Nothing here imports torch: only methods of tensors are called.
"""

from __future__ import annotations

import functools
from typing import Any


def ends_apart(model: Any) -> Any:
    """Lets a model take batches whose rows have different numbers of its end-of-sequence token.

    Args:
        model: A classifier of transformers. One with a decoder gets another class, of the same
            name: a method of the object itself would be lost where several GPUs share a batch. One
            that pads with this token stays as it is: its rows cannot be told apart by it, and what
            the library refuses is better refused than wrong.

    Returns:
        The same model.
    """
    kind, config = type(model), model.config
    pads_with_it = getattr(config, "pad_token_id", None) == getattr(config, "eos_token_id", None)
    if not getattr(config, "is_encoder_decoder", False) or pads_with_it:
        return model

    @functools.wraps(kind.forward)
    def forward(self: Any, input_ids: Any = None, **inputs: Any) -> Any:
        token = self.config.eos_token_id
        counts = None if input_ids is None else (input_ids == token).sum(1)
        if counts is None or bool((counts == counts[0]).all()):
            return kind.forward(self, input_ids=input_ids, **inputs)
        return _apart(functools.partial(kind.forward, self), counts, input_ids=input_ids, **inputs)

    members = {"forward": forward, "__module__": kind.__module__}
    model.__class__ = type(kind.__name__, (kind,), members)
    return model


def _apart(call: Any, counts: Any, **inputs: Any) -> Any:
    logits: Any = None
    loss: Any = None
    found: Any = None
    for count in counts.unique():
        rows = (counts == count).nonzero().flatten()
        own = {
            name: value[rows] if getattr(value, "shape", ())[:1] == counts.shape else value
            for name, value in inputs.items()
        }
        found = call(**own | {"return_dict": True})
        if logits is None:
            logits = found.logits.new_empty((len(counts), found.logits.shape[1]))
        logits[rows] = found.logits
        if found.loss is not None:  # the mean of its rows
            loss = (0 if loss is None else loss) + found.loss * (len(rows) / len(counts))
    return type(found)(loss=loss, logits=logits)

"""What `run` prints before and after the training: data, model, loss table."""

from train.dataset import Corpus
from train.encoder import Encoder
from train.history import History
from train.recipe import Machine, learning_rate
from train.settings import RunSettings
from train.show import Show, warn


def describe(
    corpus: Corpus,
    base: Encoder,
    on: Machine,
    settings: RunSettings,
    show: Show,
) -> None:
    """What is about to be trained on what, and how."""
    if corpus.labels_made_up:
        warn("the dataset names no labels: they are LABEL_0 and so on (a README can name them)")
    show.heading(f"Dataset {corpus.name}")
    counts = {split: corpus.counts(split) for split in corpus.splits}
    show.table(
        ("label", *corpus.splits),
        [
            *((label, *(c[i] for c in counts.values())) for i, label in enumerate(corpus.labels)),
            ("rows", *(len(split) for split in corpus.splits.values())),
        ],
    )
    train = corpus.splits["train"]
    ids = base.tokenize(train.texts)["input_ids"]
    show.heading("An example")
    show.line(f"text    {train.texts[0]}")
    show.line(f"label   {corpus.labels[(train.targets or (0,))[0]]}")
    show.line(f"tokens  {' '.join(base.tokenizer.convert_ids_to_tokens(ids[0]))}")
    show.line(f"ids     {' '.join(map(str, ids[0]))}")
    lengths = [len(row) for row in ids]
    full = sum(length >= base.max_length for length in lengths)
    show.line(
        f"lengths {sum(lengths) / len(lengths):.1f} tokens on average, {max(lengths)} at most"
        + (f"; {full:,} texts fill all {base.max_length} and may be cut" if full else "")
    )
    show.heading(f"Model {base.name}")
    rate = learning_rate(settings, base.hidden_size)
    show.line(
        f"{base.model.num_parameters() / 1e6:.1f} M parameters, {on.device} ({on.name}), "
        f"{on.precision}, {settings.epochs:g} epochs of batches of {settings.batch_size}, "
        f"learning rate {rate:.3g}, seed {settings.seed}"
        + (f", the lowest {settings.freeze_layers} layers frozen" if settings.freeze_layers else "")
    )


def describe_history(history: History, show: Show) -> None:
    """The loss table and the epoch that is kept."""
    show.table(
        ("epoch", "training loss", "validation loss", "accuracy", "macro F1"),
        [
            (f"{e.epoch:g}", e.train_loss, e.validation_loss, e.accuracy, e.macro_f1)
            for e in history.epochs
        ],
    )
    show.line(
        f"best epoch {history.best.epoch:g} by validation macro F1; {history.seconds:.0f} s, "
        f"{history.samples_per_second:.0f} samples/s"
    )

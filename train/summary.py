"""What `run` prints before and after the training: data, model, losses."""

from collections.abc import Sequence

from train import added, copies, lengths, loss, reading
from train.added import counts_of, training_rows
from train.dataset import Corpus
from train.encoder import Encoder
from train.history import History
from train.labels import listed
from train.machine import Machine
from train.options import learning_rate
from train.printer import Printer, counted, warn
from train.settings import RunSettings


def describe_dataset(corpus: Corpus, printer: Printer) -> None:
    """Prints files, rows of each label and texts in several rows; warns of what is seldom meant.

    Args:
        corpus: The dataset.
        printer: Prints it.
    """
    printer.heading(f"Dataset {corpus.name}")
    if files := reading.files(corpus.splits.values()):
        printer.table(("split", "file", "rows"), files)
    counts = {split: corpus.counts(split) for split in corpus.splits}
    printer.table(
        ("label", *corpus.splits),
        [
            *((label, *(c[i] for c in counts.values())) for i, label in enumerate(corpus.labels)),
            ("rows", *(len(split) for split in corpus.splits.values())),
        ],
    )
    same = copies.find(corpus)
    for line in (*corpus.notes, *copies.lines(same)):
        printer.line(line)
    for line in (
        *reading.doubts_of_labels(corpus),
        *reading.doubts(list(corpus.splits.values())),
        *copies.doubts(same, corpus.labels),
        *added.doubts(corpus),
    ):
        warn(line)


def describe(
    corpus: Corpus,
    base: Encoder,
    on: Machine,
    *,
    settings: RunSettings,
    counts: Sequence[int],
    printer: Printer,
) -> None:
    """Prints an example, the lengths, and the model with its most important settings.

    Args:
        corpus: The dataset.
        base: The base model with its tokenizer.
        on: The machine.
        settings: The user's.
        counts: Tokens of texts of `train`, special tokens included, before any is truncated.
        printer: Prints it.
    """
    train = corpus.splits["train"]
    (ids,) = base.tokenize(train.texts[:1])["input_ids"]
    printer.heading("An example")
    printer.line(f"text    {train.texts[0]}")
    printer.line(f"label   {corpus.labels[(train.targets or (0,))[0]]}")
    printer.line(f"tokens  {' '.join(base.tokenizer.convert_ids_to_tokens(ids))}")
    printer.line(f"ids     {' '.join(map(str, ids))}")
    drawn = f", in {len(counts):,} texts drawn at random" if len(counts) < len(train) else ""
    printer.line(
        f"lengths {sum(counts) / len(counts):.1f} tokens on average, {max(counts):,} at most{drawn}"
    )
    longer = sum(count > base.max_length for count in counts)
    by_data = settings.max_length is None
    if longer or (by_data and base.max_length > lengths.LEAST):
        printer.line(
            f"max length {base.max_length} tokens"
            + (", by the lengths of train" if by_data else "")
            + f"; {longer:,} of {counted(len(counts), 'text')} truncated"
        )
    printer.heading(f"Model {base.name}")
    rate = learning_rate(settings, base.hidden_size)
    printer.line(
        f"{base.model.num_parameters() / 1e6:.1f} M parameters, {on.device} ({on.name}), "
        f"{on.precision}, recipe {settings.recipe}, {counted(settings.epochs, 'epoch')} of batches "
        f"of {settings.batch_size}, learning rate {rate:.3g}, seed {settings.seed}"
        + (f", lower layers frozen: {settings.freeze_layers}" if settings.freeze_layers else "")
    )
    if settings.class_weights != "none":
        counted_labels = counts_of(training_rows(corpus)[1], labels=len(corpus.labels))
        weights = zip(corpus.labels, loss.balanced(counted_labels), strict=True)
        printer.line(f"class weights: {listed([f'{name} {each:.3g}' for name, each in weights])}")
    for note in base.notes:
        printer.line(note)


def describe_history(history: History, printer: Printer) -> None:
    """Prints the losses and metrics of the epochs, and which epoch is kept."""
    printer.table(
        ("epoch", "training loss", "validation loss", "accuracy", "macro F1"),
        [
            (f"{e.epoch:g}", e.train_loss, e.validation_loss, e.accuracy, e.macro_f1)
            for e in history.epochs
        ],
    )
    printer.line(
        f"best epoch {history.best.epoch:g} by macro F1 on validation; {history.seconds:.0f} s, "
        f"{history.samples_per_second:.0f} samples/s"
    )

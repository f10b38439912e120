"""Training throughput: `emotion-train` beside a plain script, on the real tweets.

    python -m tests.benchmarks.training [--dataset DIR] [--rounds N] [--texts N]

Both fine-tune the same base model on the same texts, in turns, so that what else the machine does
falls on both. The plain way is what a first script does: `Trainer` defaults, batches of 8,
float32, texts in random order. Printed are samples/s of whole rounds, after a warm-up of each.
"""

import argparse
import datetime as dt
import os
import platform
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path

import torch
from datasets import disable_progress_bars
from transformers import DataCollatorWithPadding, PrinterCallback, Trainer, TrainingArguments

from train import encoder, finetune, hub, machine
from train import options as options_of
from train.dataset import Columns, Corpus, Split, load_for_training
from train.dropout import cheaper_dropout
from train.settings import RunSettings

ROOT = Path(__file__).resolve().parents[2]
WARM_UP_TEXTS = 64


def tweets() -> Path:
    """The directory of the real tweets, as the tests find it."""
    named = os.environ.get("EMOTION_TWEETS")
    return Path(named) if named else ROOT.parent / "shared" / "datasets" / "emotion"


def plain_options(_corpus: Corpus, folder: str, on: machine.Machine) -> dict:
    return {
        "output_dir": folder,
        "num_train_epochs": 1,
        "use_cpu": on.device == "cpu",
        "dataloader_pin_memory": on.device == "cuda",
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
    }


def our_options(_corpus: Corpus, folder: str, on: machine.Machine) -> dict:
    settings = RunSettings(output=Path(folder), epochs=1, _env_file=None)
    options = options_of.trainer_options(
        settings, on=on, hidden_size=384, steps=1000, folder=Path(folder)
    )
    # Both are timed on their steps alone.
    off = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False}
    return {**options, **off}


def seconds(options, corpus: Corpus, *, base_model: str, on: machine.Machine) -> float:
    """Wall time of one epoch over the training split, from a fresh model."""
    base = encoder.load(base_model, labels=corpus.labels, max_length=128, seed=0)
    train = corpus.splits["train"]
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model=base.model,
            args=TrainingArguments(**options(corpus, folder, on)),
            data_collator=DataCollatorWithPadding(base.tokenizer),
            train_dataset=finetune.rows(base, train.texts, train.targets or ()),
        )
        trainer.remove_callback(PrinterCallback)
        ours = cheaper_dropout(base.model, on=on) if options is our_options else nullcontext()
        began = time.perf_counter()
        with ours:
            trainer.train()
        return time.perf_counter() - began


def head(corpus: Corpus, count: int) -> Corpus:
    """The first `count` texts of the training split."""
    train = corpus.splits["train"]
    split = Split(name="train", texts=train.texts[:count], targets=train.targets[:count])
    return Corpus(
        name=corpus.name,
        labels=corpus.labels,
        labels_made_up=corpus.labels_made_up,
        splits={"train": split},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description="training throughput, two ways side by side")
    parser.add_argument("--dataset", default=str(tweets()))
    parser.add_argument("--base-model", default=encoder.PACKAGED)
    parser.add_argument("--rounds", type=int, default=3, help="of each way")
    parser.add_argument("--texts", type=int, default=800, help="in one round")
    arguments = parser.parse_args()
    if not (Path(arguments.dataset) / "train.jsonl").is_file():
        print(f"no tweets in {arguments.dataset}: name their directory in EMOTION_TWEETS")
        return 2
    hub.quiet()
    disable_progress_bars()
    everything = load_for_training(arguments.dataset, columns=Columns())
    corpus, warm_up = head(everything, arguments.texts), head(everything, WARM_UP_TEXTS)
    on = machine.choose("auto", "auto")
    options = {"base_model": arguments.base_model, "on": on}
    rates: dict[str, list[float]] = {"plain": [], "emotion-train": []}
    ways = {"plain": plain_options, "emotion-train": our_options}
    for make in ways.values():
        seconds(make, warm_up, **options)
    for _ in range(arguments.rounds):
        for name, make in ways.items():
            rates[name].append(arguments.texts / seconds(make, corpus, **options))
    report(rates, on, arguments)
    return 0


def report(rates: dict[str, list[float]], on: machine.Machine, arguments) -> None:
    middle = {name: statistics.median(values) for name, values in rates.items()}
    batch = RunSettings.model_fields["batch_size"].default
    kinds = {
        "plain": "batches of 8, float32, random order",
        "emotion-train": f"batches of {batch}, {on.precision}, lengths grouped",
    }
    print(
        f"{on.device} {on.name}, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}, Python {platform.python_version()}, {dt.date.today()}; "  # noqa: DTZ011
        f"{arguments.rounds} rounds of {arguments.texts} tweets each, {arguments.base_model}\n"
    )
    print("| way | | samples/s | spread | ratio |")
    print("|---|---|---|---|---|")
    for name, values in rates.items():
        ratio = middle[name] / middle["plain"]
        print(
            f"| {name} | {kinds[name]} | {middle[name]:.0f} "
            f"| {min(values):.0f}-{max(values):.0f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    sys.exit(main())

"""One worker with the model of its checkpoint: what `run` does, and each of several processes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from worker.errors import Fatal

if TYPE_CHECKING:
    from collections.abc import Callable

    from worker.classifier import Classifier
    from worker.settings import Settings
    from worker.signals import DrainSignals


def run(
    settings: Settings,
    *,
    signals: DrainSignals,
    listening: Callable[[int], None] = lambda _: None,
) -> int:
    """Runs the worker until a signal drains it or it fails; returns the exit code.

    Args:
        settings: All settings.
        signals: Signals that are caught already.
        listening: Called with the port of the HTTP server, once it answers.
    """
    prepare_libraries()
    from worker.service import serve  # noqa: PLC0415 - after that

    def look() -> None:
        from worker.model import checkpoint as checkpoints  # noqa: PLC0415

        checkpoints.look(settings.model.checkpoint, abstain=settings.model.abstain)

    return serve(
        settings,
        load=lambda: _loaded(settings),
        look=look,
        signals=signals,
        listening=listening,
    )


def prepare_libraries() -> None:
    """Sets what the model's libraries read from the environment when they are imported."""
    # Checkpoints are local: no library may ask a hub, or wait for one.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Idle OpenMP threads that spin take the cores from the Kafka client: 737 messages/s instead
    # of 941 on 2 cores (bfloat16, MiniLM).
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _loaded(settings: Settings) -> Classifier:
    from worker.laps import Laps  # noqa: PLC0415
    from worker.model import checkpoint as checkpoints  # noqa: PLC0415

    model = settings.model
    laps = Laps()
    with ThreadPoolExecutor(1) as beside:
        # Computing the digest of the weights releases the GIL.
        reading = beside.submit(checkpoints.read, model.checkpoint, abstain=model.abstain)
        # Imported only now: signal handlers are in place before torch, which takes seconds.
        try:
            from worker.model.load import load  # noqa: PLC0415
        except (ImportError, OSError) as error:  # OSError: a shared library is missing
            raise Fatal(
                f"the libraries of the model cannot be imported: {error}: install them again, "
                "in the versions of constraints.txt"
            ) from error

        laps.lap("import")
        checkpoint = reading.result()
    laps.lap("checkpoint")
    return load(
        path=model.checkpoint,
        device=model.device,
        dtype=model.dtype,
        rows=model.rows,
        max_seconds=None if settings.batch.max_tokens else settings.batch.max_seconds,
        threads=model.threads,
        processes=settings.processes,
        checkpoint=checkpoint,
        laps=laps,
    )

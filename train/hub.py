"""The Hugging Face hub: whether it has a name, answered within seconds also without a network."""

import os
import sys
from pathlib import Path
from typing import Literal

from train.errors import Refused
from train.given.directory import nearby
from train.given.library import first_line

PROBE_TIMEOUT = 5.0
"""Seconds. A hub that can be reached answers within one; the libraries' own retries take 23 s
without a name service, and minutes behind a firewall that drops packets."""

Kind = Literal["dataset", "model"]


def is_local(name: str) -> bool:
    """Whether a name is meant as a path: it exists, or is written as one."""
    return Path(name).exists() or name.startswith((".", "/", "~", "\\"))


def quiet() -> None:
    """Switches off telemetry, adverts and progress bars of the Hugging Face libraries.

    They read these variables when they are imported: call it before.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def stay_local() -> None:
    """Stops all requests to the hub: from now on only paths and the cache are read."""
    from huggingface_hub import constants  # noqa: PLC0415 - after quiet()

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def look_up(name: str, kind: Kind) -> None:
    """Asks the hub whether it has a name; where it cannot be reached, the cache has to do.

    Args:
        name: As the user wrote it.
        kind: What it is the name of.

    Raises:
        Refused: The hub answers that there is no such name, or that it may not be read.
    """
    # Importing these takes a second, which `--help` and local paths do not have to pay.
    from huggingface_hub import HfApi  # noqa: PLC0415
    from huggingface_hub.errors import (  # noqa: PLC0415
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        RepositoryNotFoundError,
    )

    api = HfApi()
    probe = api.dataset_info if kind == "dataset" else api.model_info
    try:
        probe(name, timeout=PROBE_TIMEOUT)
    except HFValidationError as error:
        raise Refused(
            f"{kind} {name!r}: there is no such directory, and it cannot be a name on the hub"
        ) from error
    except GatedRepoError as error:
        raise Refused(f"{kind} {name!r}: accept its terms on the hub first") from error
    except RepositoryNotFoundError as error:
        raise Refused(
            f"{kind} {name!r}: there is no such directory, and no such {kind} on the hub"
            f"{nearby(Path(name))}"
        ) from error
    except HfHubHTTPError as error:
        raise Refused(f"{kind} {name!r}: the hub refused it: {first_line(error)}") from error
    except Exception:  # noqa: BLE001 - no name service, no route, no proxy, HF_HUB_OFFLINE: all one
        stay_local()

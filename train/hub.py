"""Whether the model hub can be reached, found out in seconds instead of retries."""

import os
import sys
from pathlib import Path
from typing import Literal

from train.errors import Refused
from train.given.directory import nearby
from train.given.library import first_line

# Seconds. A hub that is there answers within one; the libraries' own retries take 23 s with no
# name service and minutes behind a firewall that drops packets.
PROBE_TIMEOUT = 5.0

Kind = Literal["dataset", "model"]


def is_local(name: str) -> bool:
    """Whether `name` is meant as a path: it exists, or is spelled as one."""
    return Path(name).exists() or name.startswith((".", "/", "~", "\\"))


def quiet() -> None:
    """Switch off telemetry, adverts and progress bars of the Hugging Face libraries.

    They read these when imported, so this comes first.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")


def stay_local() -> None:
    """No request to the hub from now on: what is not in a path or the cache is not there."""
    from huggingface_hub import constants  # noqa: PLC0415 - after quiet()

    os.environ["HF_HUB_OFFLINE"] = "1"
    constants.HF_HUB_OFFLINE = True
    if "datasets" in sys.modules:
        sys.modules["datasets"].config.HF_HUB_OFFLINE = True


def look_up(name: str, kind: Kind) -> None:
    """Check that the hub has `name`; with no way to the hub, fall back to the local cache.

    Raises:
        Refused: The hub answers that there is no such name, or that it is not ours to read.
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
        raise Refused(f"{kind} {name!r}: no such directory, nor is it a hub name") from error
    except GatedRepoError as error:
        raise Refused(f"{kind} {name!r}: the hub asks for its terms to be accepted") from error
    except RepositoryNotFoundError as error:
        raise Refused(
            f"{kind} {name!r}: no such directory, nor a {kind} on the hub{nearby(Path(name))}"
        ) from error
    except HfHubHTTPError as error:
        raise Refused(f"{kind} {name!r}: the hub refused: {first_line(error)}") from error
    except Exception:  # noqa: BLE001 - no name, no route, no proxy, told to stay offline: all one
        stay_local()

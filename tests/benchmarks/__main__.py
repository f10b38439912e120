"""`make bench`: the worker against the usual loop, both guarantees, training against the plain one.

Without ARGS="--checkpoint DIR" a checkpoint is trained on the demo's sentences first.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.benchmarks import delivery, throughput, training
from tests.support.worker_process import clean_environment

ROOT = Path(__file__).resolve().parents[2]


def trained(folder):
    path = Path(folder) / "emotion-minilm"
    command = [sys.executable, "-m", "train", "run", "--dataset", str(ROOT / "train" / "data")]
    command += ["--base-model", "packaged", "--output", str(path), "--epochs", "1"]
    subprocess.run(command, env=clean_environment(), cwd=ROOT, check=True, capture_output=True)
    return path


def main():
    with tempfile.TemporaryDirectory() as folder:
        if "--checkpoint" not in sys.argv:
            sys.argv += ["--checkpoint", str(trained(folder))]
        print("## The worker against the usual loop\n", flush=True)
        throughput.main()
    sys.argv = sys.argv[:1]
    print("\n## At least once and exactly once\n", flush=True)
    delivery.main()
    if not (training.tweets() / "train.jsonl").is_file():
        print("\nNo training benchmark: it needs the real tweets (EMOTION_TWEETS).")
        return
    print("\n## Training\n", flush=True)
    training.main()


if __name__ == "__main__":
    main()

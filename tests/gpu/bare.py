"""`make gpu` on a machine without any network: unpacks what `make gpu-pack` made, and runs the kit.

    python3 tests/gpu/bare.py PACK [--only model,worker] [--tiny] [--out FOLDER] ...

`python3` is the one that has torch and transformers. Needs nothing else; writes to a folder of its
own beside the pack's name in the temporary directory, where a second call finds it.
"""

import os
import subprocess
import sys
import sysconfig
import tarfile
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def main() -> None:
    if len(sys.argv) < 2 or not Path(sys.argv[1]).is_dir():
        sys.exit("name the folder that make gpu-pack wrote: python3 tests/gpu/bare.py FOLDER ...")
    pack, place = Path(sys.argv[1]).resolve(), Path(tempfile.gettempdir()) / "emotion-gpu"
    python = place / "venv" / "bin" / "python"
    site = Path(
        sysconfig.get_path("purelib", vars={"base": str(place / "venv")}, scheme="posix_prefix")
    )
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", place / "venv"], check=True)
        # What the machine's own Python has, behind what the pack has.
        theirs = [path for path in sys.path if path.endswith("-packages")]
        (site / "machine.pth").write_text("\n".join(theirs) + "\n")
        # The repository is not installed, and the worker tells its version.
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        told = site / f"emotion_stream-{project['version']}.dist-info"
        told.mkdir()
        (told / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
        )
    unpacked(pack / "encoder.tar.xz", site)
    unpacked(pack / "kafka.tar.xz", place / "kafka")
    unpacked(pack / "tweets.tar.xz", place / "tweets")
    unpacked(pack / "wheels.tar.xz", place / "wheels")
    wheels = sorted(map(str, (place / "wheels").glob("*.whl")))
    mark = place / "installed"
    if wheels and not mark.exists():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps"]
        command += ["--disable-pip-version-check", "--no-compile", "--target", str(site)]
        subprocess.run([*command, *wheels], check=True)
        mark.touch()
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if (place / "kafka").exists():
        environment["EMOTION_KAFKA"] = str(place / "kafka")
    if (place / "tweets").exists():
        environment["EMOTION_TWEETS"] = str(place / "tweets")
    os.chdir(ROOT)
    os.execve(python, [str(python), "-m", "tests.gpu", *sys.argv[2:]], environment)


def unpacked(archive: Path, folder: Path) -> None:
    """Unpacks an archive that is there, once."""
    mark = folder / f".{archive.name}"
    if archive.exists() and not mark.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tarfile.open(archive) as given:
            given.extractall(folder, filter="data")
        mark.touch()


if __name__ == "__main__":
    main()

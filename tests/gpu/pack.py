"""`make gpu-pack`: what a machine without any network lacks for `make gpu`, in one folder.

    python -m tests.gpu.pack [--out build/gpu-pack] [--python 3.12]

Such a machine has Python, torch and transformers; `bare.py` there unpacks the folder and runs the
kit. It holds wheels, the packaged encoder in 16 bit, Java with Apache Kafka's jars, and the real
tweets where they are here. To make it small, what nobody there needs is zeros: the words of the
encoder that none of these texts has, and parts of Java. Left out are jars that are not loaded, and
in the others the native libraries of other systems.
"""

import argparse
import io
import json
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks import circumstances
from tests.support.worker_process import ROOT
from worker.demo.broker.jars import java_and_class_path

WHEELS = (
    "nvidia-ml-py",
    "kafka-python", "crc32c", "lz4", "orjson", "prometheus-client", "pydantic", "pydantic-core",
    "pydantic-settings", "annotated-types", "typing-inspection", "python-dotenv", "structlog",
    "confluent-kafka", "datasets", "dill", "multiprocess", "pytest-random-order",
    "pytest-rerunfailures", "rich", "markdown-it-py", "mdurl",
)  # fmt: skip
"""Small ones, with the versions of `constraints.txt`."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
LIMIT = 64 * 2**20
"""Bytes of all and of the repository's files: what travels to a machine."""
FOREIGN = re.compile(r"(^|/)(aix|darwin|freebsd|win|windows|mac|sunos|linux-musl)", re.IGNORECASE)
NATIVE = re.compile(r"\.(so|dylib|jnilib|dll|a)$")
OTHER_PROCESSOR = re.compile(r"(aarch64|arm|ppc|s390|riscv|loong|mips|sparc|x86/|/i386|android)")
NOT_JAVA = re.compile(r"legal|include|lib/jrt-fs|lib/lib(awt|fontm|freetype|lcms|mlib|splash)")
UNUSED_JAVA = (
    "java.compiler/", "java.datatransfer/", "java.desktop/", "java.instrument/", "java.net.http/",
    "java.prefs/", "java.scripting/", "java.sql.rowset/", "java.xml.crypto/", "java.xml/com/sun/",
    "jdk.httpserver/", "jdk.localedata/",
)  # fmt: skip
"""Modules, or packages of one."""
USED_JAVA = (
    "java.desktop/java/beans/", "jdk.localedata/sun/util/resources/cldr/provider/",
    "jdk.localedata/sun/util/resources/provider/",
)  # fmt: skip
"""Packages of those modules of which a broker loads classes."""
UNUSED_JARS = (
    "scala-reflect", "commons-collections", "commons-beanutils", "commons-digester", "caffeine",
    "jose4j", "hash4j",
)  # fmt: skip
"""A broker that serves the worker, and its `StorageTool`, load no class of them."""
JIMAGE = 0xCAFEDADA
"""What the file of Java's modules begins with."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "gpu-pack")
    parser.add_argument("--python", default="3.12", help="of the other machine")
    given = parser.parse_args()
    shutil.rmtree(given.out, ignore_errors=True)
    given.out.mkdir(parents=True)
    packed(given.out / "wheels.tar.xz", wheels(given.python))
    tweets = circumstances.tweets()
    if tweets:
        packed(given.out / "tweets.tar.xz", read(jsonl(tweets)))
    packed(given.out / "encoder.tar.xz", encoder(tweets))
    packed(given.out / "kafka.tar.xz", kafka())
    sizes = {
        path.relative_to(given.out).parts[0]: 0 for path in given.out.rglob("*") if path.is_file()
    }
    for path in given.out.rglob("*"):
        sizes[path.relative_to(given.out).parts[0]] += path.stat().st_size if path.is_file() else 0
    for name, size in sorted(sizes.items()):
        print(f"{size / 1e6:6.1f} MB  {name}")
    total = sum(sizes.values())
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    files = [ROOT / name for name in listed.stdout.decode().split("\0") if name]
    own = sum(file.stat().st_size for file in files if file.is_file())
    print(f"{total / 1e6:6.1f} MB  in {given.out}")
    print(f"{(total + own) / 1e6:6.1f} MB  with the repository, of {LIMIT / 1e6:.1f}")
    return 0 if total + own <= LIMIT else 1


def wheels(python: str) -> dict[str, bytes]:
    """Downloads the wheels. Their files are stored: one compression."""
    pinned = dict(
        re.match(r"([\w.-]+)==([^ ;]+)", each).groups()  # type: ignore[union-attr]
        for each in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
        if re.match(r"[\w.-]+==", each)
    )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary=:all:", "--implementation", "cp"]
    command += ["--python-version", python]
    for platform in PLATFORMS:
        command += ["--platform", platform]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--dest", folder]
        subprocess.run([*command, *(f"{name}=={pinned[name]}" for name in WHEELS)], check=True)
        return {path.name: stored(path) for path in sorted(Path(folder).iterdir())}


def stored(archive: Path, *, but: Callable[[str], bool] = lambda _: False) -> bytes:
    """A zip archive without compression; without the files for whose names `but` is true."""
    inside = io.BytesIO()
    with zipfile.ZipFile(archive) as given, zipfile.ZipFile(inside, "w") as written:
        for one in given.infolist():
            if not but(one.filename):
                written.writestr(one.filename, given.read(one))
    return inside.getvalue()


def jsonl(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.jsonl"))


def read(files: list[Path]) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in files}


def encoder(tweets: Path | None) -> dict[str, bytes]:
    """The packaged encoder as a package, in bfloat16."""
    import torch
    from safetensors.torch import load_file, save
    from tokenizers import Tokenizer

    from train.encoder import packaged

    path = packaged()
    tokenizer = Tokenizer.from_file(str(path / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    folders = [ROOT / "train" / "data", *([tweets] if tweets else [])]
    texts = [
        json.loads(line)["text"]
        for folder in folders
        for file in jsonl(folder)
        for line in file.read_text(encoding="utf-8").splitlines()
    ]
    used = sorted({token for one in tokenizer.encode_batch(texts) for token in one.ids})
    tensors = {}
    for name, tensor in load_file(path / "model.safetensors").items():
        kept = tensor
        if name.endswith("word_embeddings.weight"):
            kept = torch.zeros_like(tensor)
            special = [*tokenizer.get_added_tokens_decoder(), *used]
            kept[special] = tensor[special]
        tensors[name] = kept.to(torch.bfloat16) if kept.is_floating_point() else kept
    files = {
        str(Path(path.parent.name, path.name, file.relative_to(path))): file.read_bytes()
        for file in path.rglob("*")
        if file.is_file() and file.name != "model.safetensors"
    }
    model = str(Path(path.parent.name, path.name, "model.safetensors"))
    return {**files, model: save(tensors, {"format": "pt"}), f"{path.parent.name}/__init__.py": b""}


def kafka() -> dict[str, bytes]:
    """Java and the jars, as `EMOTION_KAFKA` wants them. The jars are stored: one compression."""
    java, class_path = java_and_class_path()
    home = Path(java).parents[1]
    files = {
        f"java/{file.relative_to(home)}": file.read_bytes()
        for file in sorted(home.rglob("*"))
        if file.is_file() and not NOT_JAVA.match(str(file.relative_to(home)))
    }
    files["java/lib/modules"] = without(files["java/lib/modules"], UNUSED_JAVA, USED_JAVA)
    for jar in class_path.split(os.pathsep):
        if Path(jar).name.startswith(UNUSED_JARS):
            continue
        files[Path(jar).name] = stored(Path(jar), but=foreign)
    return files


def without(image: bytes, unused: tuple[str, ...], used: tuple[str, ...] = ()) -> bytes:
    """Java's file of modules with zeros for the content of some: its index stays as it is.

    The format is that of the JDK's `jimage`: a header of seven numbers, two tables, and for each
    resource a list of attributes, of which each is a kind, a length and a number.

    Args:
        image: The file.
        unused: What `module/package/` begins with.
        used: The same, of what is kept all the same.
    """
    magic, _, _, _, places, locations, strings = struct.unpack_from("<7I", image)
    if magic != JIMAGE:
        raise ValueError("this is not Java's file of modules")
    begin = struct.calcsize("<7I") + 4 * places
    offsets = struct.unpack_from(f"<{places}I", image, begin)
    at_locations = begin + 4 * places
    at_strings = at_locations + locations
    found = bytearray(image)

    def named(number: int) -> str:
        at = at_strings + number
        return image[at : image.index(0, at)].decode()

    for offset in offsets:
        at, values = at_locations + offset, [0] * 8
        while image[at] >> 3:  # 1: module, 2: package, 5: offset, 6: size if compressed, 7: size
            length = (image[at] & 7) + 1
            values[image[at] >> 3] = int.from_bytes(image[at + 1 : at + 1 + length], "big")
            at += 1 + length
        package = f"{named(values[1])}/{named(values[2])}/"
        if package.startswith(unused) and not package.startswith(used):
            first, size = at_strings + strings + values[5], values[6] or values[7]
            found[first : first + size] = bytes(size)
    return bytes(found)


def foreign(name: str) -> bool:
    """Whether it is a library of another system or processor."""
    return bool(NATIVE.search(name) and (FOREIGN.search(name) or OTHER_PROCESSOR.search(name)))


def packed(path: Path, files: dict[str, bytes]) -> None:
    """Writes an archive; programs stay programs."""
    with (
        tempfile.TemporaryDirectory() as folder,
        tarfile.open(path, "w:xz", preset=9 | lzma.PRESET_EXTREME) as archive,
    ):
        for name, content in files.items():
            file = Path(folder) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)
            file.chmod(0o755 if "/bin/" in name else 0o644)
            archive.add(file, name)


if __name__ == "__main__":
    sys.exit(main())

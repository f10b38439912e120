"""Fetches a checkpoint for the worker: an archive (.tar.gz), checked by its SHA-256, unpacked.

Runs before the worker in a container of its own, with the standard library only. It unpacks only
what it has checked, writes nothing outside the directory, and deletes what an earlier try left
there. If it fails, it prints one line on standard error and exits with 1.
"""

import argparse
import hashlib
import http.client
import shutil
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

SILENCE = 60.0
"""Seconds without a byte after which a server counts as gone."""
CHUNK = 1 << 20
FAILURES = (
    *(OSError, http.client.HTTPException, ValueError),
    *(tarfile.TarError, EOFError, zlib.error),
)


def main(words: list[str] | None = None) -> None:
    options = argparse.ArgumentParser(description="Fetches a checkpoint.")
    options.add_argument("--url", required=True, help="https:// or file://")
    options.add_argument("--sha256", required=True, help="of the archive")
    options.add_argument("--into", required=True, type=Path, help="directory of the checkpoint")
    options.add_argument("--authorization", type=Path, help="file with an Authorization header")
    given = options.parse_args(words)
    shown = _without_secrets(given.url)
    try:
        fetch(given.url, given.sha256, given.into, authorization=given.authorization)
    except FAILURES as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        sys.exit(f"checkpoint: {shown}: {reason}")
    sys.stderr.write(f"checkpoint: {shown}: unpacked into {given.into}\n")


def fetch(url: str, sha256: str, into: Path, *, authorization: Path | None) -> None:
    """Puts the archive's files into the directory; if they are all in one directory, without it."""
    for old in into.iterdir():
        shutil.rmtree(old) if old.is_dir() and not old.is_symlink() else old.unlink()
    archive, unpacked = into / ".archive", into / ".unpacked"
    found = _download(url, archive, authorization)
    if found != sha256:
        raise ValueError(f"its SHA-256 is {found}, not {sha256}")
    with tarfile.open(archive, "r:gz") as tar:
        tar.extractall(unpacked, filter="data")  # refuses links and paths that lead out of it
    archive.unlink()
    root = unpacked
    entries = list(root.iterdir())
    if len(entries) == 1 and entries[0].is_dir():
        root = entries[0]
    if not (root / "config.json").is_file():
        raise ValueError("no config.json in it: this is no checkpoint")
    for entry in root.iterdir():
        entry.rename(into / entry.name)
    shutil.rmtree(unpacked)


def _download(url: str, path: Path, authorization: Path | None) -> str:
    """Writes what is at the address; returns its SHA-256."""
    if urllib.parse.urlsplit(url).scheme not in ("https", "file"):
        raise ValueError("only https:// and file:// are fetched")
    request = urllib.request.Request(url)  # noqa: S310 - its scheme was looked at
    if authorization is not None:
        header = authorization.read_text().strip()
        if len(header.splitlines()) != 1:
            raise ValueError("the authorization is to be one line")
        request.add_unredirected_header("Authorization", header)  # a redirect leads to others
    digest = hashlib.sha256()
    with urllib.request.urlopen(request, timeout=SILENCE) as answer, path.open("wb") as file:  # noqa: S310
        while chunk := answer.read(CHUNK):
            digest.update(chunk)
            file.write(chunk)
    return digest.hexdigest()


def _without_secrets(url: str) -> str:
    """The address as a log may have it: signed addresses carry their secret in the query."""
    parts = urllib.parse.urlsplit(url)
    return urllib.parse.urlunsplit(
        (parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", "")
    )


if __name__ == "__main__":
    main()

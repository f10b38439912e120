"""The chart's script that fetches a checkpoint, run as its container runs it: what is wrong is told
in one line, and the worker never sees a part of a checkpoint.
"""

import contextlib
import hashlib
import http.server
import io
import os
import ssl
import subprocess
import sys
import tarfile
import threading

import pytest

from tests.support.secure_kafka import Certificates
from tests.tools.chart_schema import CHART

SCRIPT = CHART / "files" / "fetch_checkpoint.py"
CHECKPOINT = {"config.json": b"{}", "model.safetensors": b"weights" * 1_000, "report/a.png": b"png"}


@pytest.fixture
def into(tmp_path):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.mark.parametrize("above", ["", "./", "emotion-v1/"])
def test_an_archive_is_unpacked_whether_or_not_it_has_a_folder_around_it(above, into, tmp_path):
    url, digest = archive(tmp_path, {above + name: data for name, data in CHECKPOINT.items()})
    done = fetch(url, digest, into)
    assert (done.returncode, done.stderr) == (0, f"checkpoint: {url}: unpacked into {into}\n")
    assert content(into) == CHECKPOINT


def test_what_an_earlier_try_left_is_thrown_away(into, tmp_path):
    (into / ".unpacked").mkdir()
    (into / ".unpacked" / "half").write_bytes(b"a file")
    (into / "link").symlink_to(tmp_path)
    (into / "stale.json").write_bytes(b"{}")
    url, digest = archive(tmp_path, CHECKPOINT)
    assert fetch(url, digest, into).returncode == 0
    assert content(into) == CHECKPOINT
    assert tmp_path.exists()


def test_another_archive_than_the_one_asked_for_is_refused(into, tmp_path):
    url, digest = archive(tmp_path, CHECKPOINT)
    told = refused(fetch(url, "ab" * 32, into))
    assert told == f"checkpoint: {url}: its SHA-256 is {digest}, not {'ab' * 32}"
    assert set(content(into)) == {".archive"}


def test_an_archive_that_is_not_there_is_told(into, tmp_path):
    told = refused(fetch(f"file://{tmp_path}/none.tar.gz", "ab" * 32, into))
    assert "No such file" in told


def test_an_archive_that_is_none_is_told(into, tmp_path):
    path = tmp_path / "a.tar.gz"
    path.write_bytes(b"<html>not found</html>")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert "not a gzip file" in refused(fetch(f"file://{path}", digest, into))


def test_an_archive_that_was_cut_before_it_was_hashed_is_told(into, tmp_path):
    url, _ = archive(tmp_path, CHECKPOINT)
    path = tmp_path / "a.tar.gz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    refused(fetch(url, hashlib.sha256(path.read_bytes()).hexdigest(), into))
    assert "config.json" not in content(into)


def test_an_archive_of_something_else_is_told(into, tmp_path):
    url, digest = archive(tmp_path, {"notes.txt": b"hello"})
    assert refused(fetch(url, digest, into)).endswith("no config.json in it: this is no checkpoint")
    assert "notes.txt" not in content(into)


@pytest.mark.parametrize(
    ("kind", "name", "target"),
    [
        (tarfile.REGTYPE, "../evil", ""),
        (tarfile.SYMTYPE, "link", "/etc"),
        (tarfile.SYMTYPE, "link", "../../evil"),
        (tarfile.CHRTYPE, "device", ""),
    ],
)
def test_an_archive_that_leads_out_of_the_folder_is_refused(kind, name, target, into, tmp_path):
    url, digest = archive(tmp_path, CHECKPOINT, (kind, name, target))
    assert name in refused(fetch(url, digest, into))
    assert not (tmp_path / "evil").exists()
    assert "config.json" not in content(into)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/a.tar.gz", "ftp://127.0.0.1/a.tar.gz", "a"])
def test_other_ways_than_https_and_file_are_refused(url, into):
    assert refused(fetch(url, "ab" * 32, into)).endswith("only https:// and file:// are fetched")


def test_an_archive_comes_by_https_from_a_server_that_is_trusted(certificates, into, tmp_path):
    _, digest = archive(tmp_path, CHECKPOINT)
    with served(tmp_path, certificates) as (url, seen):
        untrusted = refused(fetch(f"{url}/a.tar.gz", digest, into))
        assert "certificate verify failed" in untrusted
        trust = {"SSL_CERT_FILE": certificates.pem("ca")}
        assert fetch(f"{url}/a.tar.gz", digest, into, **trust).returncode == 0
        assert "404" in refused(fetch(f"{url}/none.tar.gz", digest, into, **trust))
    assert seen == [("/a.tar.gz", None), ("/none.tar.gz", None)]


def test_a_login_is_sent_to_the_server_and_not_where_it_redirects_to(certificates, into, tmp_path):
    _, digest = archive(tmp_path, CHECKPOINT)
    login = tmp_path / "authorization"
    login.write_text("Bearer s3cret\n")
    with served(tmp_path, certificates) as (url, seen):
        address = f"{url}/redirect?signature=s1gned"
        trust = {"SSL_CERT_FILE": certificates.pem("ca")}
        done = fetch(address, digest, into, f"--authorization={login}", **trust)
    assert done.returncode == 0
    assert seen == [("/redirect?signature=s1gned", "Bearer s3cret"), ("/a.tar.gz", None)]
    assert "s1gned" not in done.stderr
    assert content(into) == CHECKPOINT


def test_a_login_of_two_lines_is_refused_and_not_shown(into, tmp_path):
    login = tmp_path / "authorization"
    login.write_text("Bearer s3cret\nX-Other: s3cret\n")
    url = "https://user:s3cret@127.0.0.1:1/a.tar.gz?signature=s3cret"
    told = refused(fetch(url, "ab" * 32, into, f"--authorization={login}"))
    assert told == ("checkpoint: https://127.0.0.1:1/a.tar.gz: the authorization is to be one line")


def fetch(url, digest, into, *options, **variables):
    words = [f"--url={url}", f"--sha256={digest}", f"--into={into}", *options]
    return subprocess.run(
        [sys.executable, "-I", SCRIPT, *words],
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def refused(done):
    """The one line that is said."""
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("checkpoint: ")
    return line


def archive(folder, files, *more):
    """Packs files, and members that are none; returns the address and the digest."""
    path = folder / "a.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for kind, name, target in more:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    return f"file://{path}", hashlib.sha256(path.read_bytes()).hexdigest()


def content(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@contextlib.contextmanager
def served(folder, certificates):
    """A server of these files, by https; what it was asked for, and with which login."""
    seen = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=str(folder))

        def do_GET(self):
            seen.append((self.path, self.headers["Authorization"]))
            if self.path.startswith("/redirect"):
                self.send_response(http.HTTPStatus.FOUND)
                self.send_header("Location", "/a.tar.gz")
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *args):
            pass

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.pem("server"), certificates.key("server"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.handle_error = lambda *_: None  # a client that does not trust it hangs up
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield f"https://127.0.0.1:{server.server_port}", seen
        finally:
            server.shutdown()
            thread.join()

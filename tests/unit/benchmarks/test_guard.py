"""What `make bench-guard` compares with, and when it fails."""

import subprocess

import pytest

from tests.benchmarks import guard


def git(folder, *command):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run(
        ["git", *identity, *command], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """The worker, a change of it, and changes of documents: four commits."""
    folder = tmp_path / "repository"
    (folder / "worker").mkdir(parents=True)
    git(folder, "init", "--quiet")
    for path in ("worker/a.py", "worker/b.py", "README.md", "worker/README.md"):
        (folder / path).write_text(path)
        git(folder, "add", ".")
        git(folder, "commit", "--quiet", "-m", path)
    monkeypatch.setattr(guard, "ROOT", folder)
    return folder


def test_it_compares_with_what_was_before_the_workers_last_change(repository, tmp_path):
    before = guard.before_last_change()
    assert before == git(repository, "rev-parse", "--short", "HEAD~3")
    files = guard.checkout(before, tmp_path / "before")
    assert [path.name for path in (files / "worker").iterdir()] == ["a.py"]
    assert git(repository, "status", "--porcelain") == ""
    assert len(git(repository, "worktree", "list").splitlines()) == 1


def test_a_change_that_is_not_committed_is_compared_with_the_last_commit(repository):
    (repository / "worker" / "a.py").write_text("changed")
    assert guard.before_last_change() == git(repository, "rev-parse", "--short", "HEAD")


def test_a_shallow_clone_has_nothing_to_compare_with(repository, tmp_path, monkeypatch, capsys):
    shallow = tmp_path / "shallow"
    git(tmp_path, "clone", "--quiet", "--depth", "1", f"file://{repository}", str(shallow))
    monkeypatch.setattr(guard, "ROOT", shallow)
    assert guard.before_last_change() is None
    monkeypatch.setattr("sys.argv", ["guard"])
    assert guard.main() == 0
    assert "nothing to compare with" in capsys.readouterr().out


def test_a_folder_without_history_has_nothing_to_compare_with(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert guard.before_last_change() is None


def test_it_fails_only_if_every_round_is_slower():
    found = {
        "slower": {"before": [10.0, 10.0, 10.0], "this": [12.0, 11.5, 20.0]},
        "noisy": {"before": [10.0, 10.0, 10.0], "this": [12.0, 11.0, 20.0]},
        "faster": {"before": [10.0, 10.0, 10.0], "this": [5.0, 5.0, 5.0]},
    }
    assert guard.slower(found) == ["slower"]

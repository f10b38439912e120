"""`emotion-train` as a user types it, up to the point where a model would be needed."""

import fcntl
import io
import shutil
import subprocess
import sys

import pytest

from tests.support import models, tiny
from tests.support.lazy import Lazy
from train.__main__ import main
from train.errors import Refused

predict = Lazy("train.predict")  # imports scikit-learn


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)


def refused(capsys, *arguments: str) -> str:
    """The one line of a command that ends with 2."""
    capsys.readouterr()  # what the preparation printed
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("emotion-train: ")
    assert len(printed.err.splitlines()) == 1
    return printed.err


def test_no_command_and_an_unknown_one_are_refused(capsys):
    assert main([]) == 2
    assert "usage: emotion-train COMMAND" in capsys.readouterr().err
    assert "there is no command" in refused(capsys, "train")


def test_help_answers_without_loading_a_library():
    import train

    root = train.__path__[0] + "/.."
    script = (
        "import sys; from train.__main__ import main; code = main(sys.argv[1:]);"
        "sys.exit(code or 3 * any(name in sys.modules for name in ('torch', 'datasets')))"
    )
    for arguments in (["--help"], ["run", "--help"], ["evaluate", "-h"], ["predict", "--help"]):
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments],
            cwd=root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "emotion-train" in done.stdout


@pytest.mark.heavy
def test_run_refuses_an_output_that_is_taken_before_it_reads_anything(capsys, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs").touch()
    tiny.dataset(tmp_path / "d", rows=12)
    line = refused(capsys, "run", "--dataset", "d", "--output", "out")
    assert "--output out: the directory is not empty" in line


@pytest.mark.heavy
def test_run_refuses_a_dataset_and_a_base_model_that_are_not_there(capsys, tmp_path):
    assert "no such directory" in refused(capsys, "run", "--dataset", "./no", "--output", "o")
    tiny.dataset(tmp_path / "d", rows=12)
    line = refused(capsys, "run", "--dataset", "d", "--base-model", "./no", "--output", "o")
    assert "base model ./no: no such directory" in line
    assert not (tmp_path / "o").exists()


@pytest.mark.heavy
def test_run_refuses_several_processes(capsys, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "not built yet" in refused(capsys, "run", "--dataset", "d", "--output", "o")


@pytest.mark.heavy
@pytest.mark.slow
def test_a_work_directory_of_another_run_is_refused(capsys, tmp_path, tmp_path_factory):
    tiny.dataset(tmp_path / "d", rows=12)
    shutil.copytree(models.tiny_models(tmp_path_factory) / "base", tmp_path / "b")
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "notes.txt").touch()
    arguments = ("run", "--dataset", "d", "--base-model", "b", "--output", "o")
    line = refused(capsys, *arguments, "--work-dir", "work")
    assert "is not empty, and belongs to no run" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "d", "work"]


@pytest.mark.heavy
@pytest.mark.slow
def test_a_work_directory_in_use_is_a_failure_that_a_job_tries_again(
    capsys, tmp_path, tmp_path_factory
):
    tiny.dataset(tmp_path / "d", rows=12)
    shutil.copytree(models.tiny_models(tmp_path_factory) / "base", tmp_path / "b")
    (tmp_path / "work").mkdir()
    with (tmp_path / "work" / "run.json").open("w") as mark:
        fcntl.flock(mark, fcntl.LOCK_EX)
        arguments = ("run", "--dataset", "d", "--base-model", "b", "--output", "o")
        assert main([*arguments, "--work-dir", "work"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("emotion-train: --work-dir work: another process trains in it now")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "d", "work"]


@pytest.mark.heavy
def test_evaluate_refuses_results_that_it_could_not_write(capsys):
    for option in ("--json", "--predictions"):
        line = refused(capsys, "evaluate", "--checkpoint", "c", option, "no/such/file")
        assert f"{option} no/such/file: no such directory" in line


@pytest.mark.heavy
def test_predict_refuses_empty_texts(capsys):
    assert "text 2: the text is empty" in refused(capsys, "predict", "--checkpoint", "c", "a", " ")
    assert "not valid Unicode" in refused(capsys, "predict", "--checkpoint", "c", "\udcff")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "there is no text"),
        (b"a\n\nb\n", "standard input, line 2: the text is empty"),
        (b"a\n\xff\n", "not UTF-8"),
    ],
)
def test_standard_input_that_cannot_be_answered_line_by_line_is_refused(content, line):
    with pytest.raises(Refused, match=line):
        predict.lines(io.BytesIO(content))


@pytest.mark.heavy
def test_lines_are_texts_whatever_their_ends():
    source = io.BytesIO(b"\xef\xbb\xbfso happy\r\nvery sad\n")
    assert predict.lines(source) == ("so happy", "very sad")

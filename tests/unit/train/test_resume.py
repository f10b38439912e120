"""A work directory belongs to one run, of one version."""

import json

import pytest

from train import resume
from train.errors import Refused
from train.settings import RunSettings


@pytest.fixture
def claim(tmp_path):
    work = tmp_path / "work"

    def claimed(fingerprint="data", **changes):
        given = {"dataset": "d", "output": tmp_path / "out", "work_dir": work, **changes}
        resume.claim(work, RunSettings(**given), fingerprint=fingerprint)
        return work / "run.json"

    return claimed


def test_the_same_run_resumes_whatever_its_output_is_called(claim, tmp_path):
    claim()
    claim(output=tmp_path / "elsewhere", name="other")


@pytest.mark.parametrize("changes", [{"epochs": 9}, {"fingerprint": "other"}])
def test_another_run_is_told_that_settings_or_data_differ(claim, changes):
    claim()
    with pytest.raises(Refused, match=r"belongs to a run with other settings or data$"):
        claim(**changes)


def test_a_run_of_the_last_version_that_had_the_same_settings_resumes(claim):
    marked = claim()
    marked.write_text(json.dumps({"run": json.loads(marked.read_text())["run"]}))
    claim()


@pytest.mark.parametrize("older", [{}, {"settings": []}, {"settings": ["epochs", "seed"]}])
def test_a_run_of_another_version_is_told_so_and_what_to_do(claim, older):
    """Its settings are others, so that its mark is another, too, though the user gave the same."""
    claim().write_text(json.dumps({"run": "0" * 64, **older}))
    with pytest.raises(Refused) as refused:
        claim()
    line = str(refused.value)
    assert "another version of emotion-train" in line
    assert line.endswith("give another directory")
    assert "\n" not in line


@pytest.mark.parametrize("damage", ["", "[]", "5", "{"])
def test_a_mark_that_is_damaged_is_told_as_such(claim, damage):
    claim().write_text(damage)
    with pytest.raises(Refused, match=r"run\.json is damaged"):
        claim()

"""What a reader is told of the stages: done, stale or missing, and why."""

import subprocess
import sys

import pytest
import yaml
from doors import call

from commoncanvas import status
from commoncanvas.core import paths
from commoncanvas.status import NoStatus, State

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
DVC = [sys.executable, "-m", "dvc"]
STAGES = {
    "first": {"cmd": "cp input first.txt", "deps": ["input"], "outs": ["first.txt"]},
    "last": {"cmd": "cp first.txt last.txt", "deps": ["first.txt"]}
    | {"outs": ["last.txt"]},
    "by_hand": {"cmd": "touch never", "deps": ["input"], "frozen": True},
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return the root of a DVC project of two stages and a frozen one, all done."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    subprocess.run([*DVC, "init", "--no-scm", "-q"], check=True)
    (tmp_path / "input").write_text("1")
    (tmp_path / "dvc.yaml").write_text(
        yaml.safe_dump({"stages": STAGES}, sort_keys=False)
    )
    subprocess.run([*DVC, "repro", "-q"], check=True)
    return tmp_path


def words():
    return {state.name: state.word for state in status.states()}


def test_a_finished_graph_has_nothing_to_run(project):
    assert words() == {"first": "done", "last": "done", "by_hand": "frozen"}
    told = call("status")
    assert "There is nothing to run." in told and "2 done, 1 frozen" in told


def test_a_change_names_itself_and_what_comes_after_it(project):
    (project / "input").write_text("2")
    found = {state.name: state for state in status.states()}
    assert found["first"] == State("first", "stale", "input modified")
    assert found["last"] == State("last", "stale", "after first")
    assert "`make repro` runs what is stale or missing." in call("status")


def test_what_has_not_run_is_missing_and_what_reads_it_waits(project):
    (project / "first.txt").unlink()
    assert words()["first"] == "missing"
    (project / "last.txt").unlink()
    found = {state.name: state for state in status.states()}
    assert found["last"] == State("last", "missing", "after first")


def test_many_changes_are_counted(project):
    graph = {"one": {"cmd": "touch out", "deps": [*"abcde"], "outs": ["out"]}}
    (project / "dvc.yaml").write_text(yaml.safe_dump({"stages": graph}))
    for name in "abcde":
        (project / name).write_text("1")
    subprocess.run([*DVC, "repro", "-q"], check=True)
    for name in "abcde":
        (project / name).write_text("2")
    (state,) = status.states()
    assert state.why.endswith("modified, and 2 more")


def test_a_graph_that_dvc_refuses_is_one_line(project):
    (project / "dvc.yaml").write_text("stages: 3")
    with pytest.raises(NoStatus, match="DVC stopped: .*mend that, then ask again"):
        status.states()

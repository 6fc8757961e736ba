"""Stages run side by side where they can, and DVC finds nothing to do afterwards."""

import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from doors import call
from dvc.lock import Lock

from commoncanvas import lanes
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.lanes import LanesStopped, Plan

# A diamond with two long sides, one stage that runs alone, and one that is frozen.
NEEDS = {"first": [], "long": ["first"], "side": ["first"], "longer": ["long"]}
NEEDS |= {"timed": ["first"], "last": ["longer", "side", "timed"]}
# Each stage writes when it began, sleeps, and writes when it ended.
WORK = "date +%s.%N > {0}.txt; sleep {1}; date +%s.%N >> {0}.txt"
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
DVC = [sys.executable, "-m", "dvc"]


def write_graph(root, **commands):
    """Write dvc.yaml; a stage's command is `WORK` unless given."""
    stages = {
        name: {
            "cmd": commands.get(name, WORK.format(name, 1)),
            "deps": ["input", *(f"{other}.txt" for other in needs)],
            "outs": [f"{name}.txt"],
        }
        for name, needs in NEEDS.items()
    }
    stages["timed"]["meta"] = {"alone": "it times"}
    stages["frozen"] = {"cmd": "touch never", "deps": ["input"], "frozen": True}
    (root / "dvc.yaml").write_text(yaml.safe_dump({"stages": stages}, sort_keys=False))


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Return the root of a small DVC project that has not run."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")
    monkeypatch.setattr(lanes, "num_cores", lambda: 2)
    monkeypatch.setattr(lanes, "RETRY_S", 0.2)
    monkeypatch.setenv("SHELL", "/bin/sh")
    monkeypatch.chdir(tmp_path)
    subprocess.run([*DVC, "init", "--no-scm", "-q"], check=True)
    (tmp_path / "input").write_text("1")
    write_graph(tmp_path)
    return tmp_path


def times(root, name):
    """Return when a stage began and ended."""
    return tuple(map(float, (root / f"{name}.txt").read_text().split()))


def overlap(a, b):
    return a[0] < b[1] and b[0] < a[1]


@pytest.mark.slow
def test_two_stages_run_at_once_each_after_what_it_needs(project, capsys):
    lanes.repro(lanes=2)
    ran = {name: times(project, name) for name in NEEDS}
    assert overlap(ran["long"], ran["side"])
    pairs = [(name, other) for name, needs in NEEDS.items() for other in needs]
    assert all(ran[other][1] <= ran[name][0] for name, other in pairs)
    others = ran.keys() - {"timed"}
    assert not any(overlap(ran["timed"], ran[name]) for name in others)
    assert not (project / "never").exists()
    printed = capsys.readouterr().out
    assert re.search(r"^lane 2  side  started$", printed, re.MULTILINE)
    assert len(re.findall(r"^lane [12]  \w+  done in \d+ s$", printed, re.M)) == 6
    done = subprocess.run([*DVC, "repro"], capture_output=True, text=True)
    assert "up to date" in done.stdout and "Running" not in done.stdout
    # What is unchanged starts no process, and what a change reaches is run by DVC.
    lanes.repro(lanes=2)
    assert capsys.readouterr().out.count("skipped: unchanged") == len(NEEDS)
    assert {name: times(project, name) for name in NEEDS} == ran
    write_graph(project, long="cat input > long.txt; cp long.txt seen")
    (project / "input").write_text("2")
    lanes.repro(["long"], lanes=1)
    printed = capsys.readouterr().out
    assert "first  done" in printed and "side" not in printed
    assert (project / "seen").read_text() == "2"


@pytest.mark.slow
def test_what_gave_the_same_bytes_again_runs_nothing_after_it(project, capsys):
    same = {name: f"echo {name} > {name}.txt" for name in NEEDS}
    write_graph(project, **same)
    lanes.repro(["longer"], lanes=2)
    capsys.readouterr()
    write_graph(project, **same | {"first": "echo first > first.txt; true"})
    lanes.repro(["longer"], lanes=2)
    printed = capsys.readouterr().out
    assert "first  done" in printed
    assert len(re.findall(r"long(?:er)?  skipped: unchanged", printed)) == 2
    lanes.repro(["long"], lanes=2, force=True)
    assert capsys.readouterr().out.count("done in") == 2


@pytest.mark.slow
def test_a_failure_starts_nothing_more_and_lets_the_others_end(project, capsys):
    write_graph(project, long="echo no such luck; exit 3")
    with pytest.raises(LanesStopped, match="^long failed, and 3 stages were not start"):
        lanes.repro(lanes=2)
    printed = capsys.readouterr().out
    assert "lane 1  long  failed" in printed and "\nno such luck\n" in printed
    assert "lane 2  side  done" in printed and len(times(project, "side")) == 2
    assert not (project / "timed.txt").exists()


@pytest.mark.slow
def test_a_stage_waits_while_another_process_has_its_files(project, monkeypatch):
    """DVC waits for its own lock by itself, but not for one on a file."""
    wait = "touch begun; while [ ! -e go ]; do sleep 0.1; done; echo first > first.txt"
    write_graph(project, first=wait)
    said = []

    def say(lane, what):
        said.append(what)
        if what.startswith("waits"):
            (project / "go").touch()

    monkeypatch.setattr(lanes.Lane, "say", say)
    with subprocess.Popen([*DVC, "repro", "-q", "first"]) as other:
        while not (project / "begun").exists():
            time.sleep(0.05)
        lanes.repro(["first"], lanes=1)
    assert other.returncode == 0
    waits = "waits: another process has DVC's lock"
    assert said == ["started", waits, "skipped: unchanged"]


@pytest.mark.slow
def test_ctrl_c_ends_every_process(project):
    write_graph(project, long="sleep 987", side="trap '' INT; sleep 986; sleep 986")
    code = (
        "from pathlib import Path\nfrom commoncanvas import lanes\n"
        "from commoncanvas.core import paths\nlanes.GRACE_S = 2\n"
        "paths.ROOT = Path.cwd()\npaths.RUNS = Path('runs')\n"
        "lanes.num_cores = lambda: 2\nlanes.repro(lanes=2)\n"
    )
    run = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE)
    while len(sleeping()) < 2:
        time.sleep(0.1)
        assert run.poll() is None
    run.send_signal(signal.SIGINT)
    assert b"KeyboardInterrupt" in run.communicate(timeout=30)[1]
    assert not sleeping()


def sleeping():
    """Return the processes that sleep for as long as nobody else's do."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:1] == [b"sleep"] and words[1] in (b"986", b"987"):
            found.append(file)
    return found


@pytest.mark.slow
def test_dvc_s_refusal_is_one_line(project):
    (project / "dvc.yaml").write_text("stages: {a: {cmd: x, deps: [a], outs: [a]}}")
    with pytest.raises(LanesStopped, match="^DVC stopped: "):
        lanes.repro(lanes=1)
    write_graph(project)
    assert "'nonsense'" in call("repro", "--lanes", "1", "nonsense", fails=True)
    with Lock(str(project / ".dvc/tmp/lock")):
        with pytest.raises(LanesStopped, match="Unable to acquire lock"):
            lanes.repro(lanes=1)


@pytest.mark.parametrize("number", [0, 3])
def test_more_lanes_than_cores_are_refused(number, monkeypatch):
    monkeypatch.setattr(lanes, "num_cores", lambda: 2)
    with pytest.raises(ParameterError, match=f"^{number} lanes; 1 to 2 expected"):
        lanes.repro(lanes=number)


def plan(alone=(), unchanged=()):
    needs = {name: set(others) for name, others in NEEDS.items()}
    return Plan(needs, set(alone), set(unchanged))


def test_the_longest_chain_starts_first_and_the_experiments_order_decides():
    order = ["first", "long", "side", "longer", "timed", "last"]
    assert plan().order() == order
    assert plan(unchanged=["first"]).order() == order[1:]


@pytest.mark.parametrize(
    ("busy", "expected"),
    [
        ([], ["long", "side"]),
        (["long"], ["side"]),
        (["long", "side"], []),
        (["timed"], []),
        (["long", "side", "longer"], []),
    ],
)
def test_what_may_start_beside_what_runs(busy, expected):
    waiting = [name for name in plan().order()[1:] if name not in busy]
    assert plan(alone=["timed"]).next(waiting, busy, 2) == expected


def test_what_runs_alone_waits_until_nothing_else_could_run():
    assert plan(alone=["timed"]).next(["timed", "last"], [], 2) == ["timed"]
    assert plan(alone=["timed"]).next(["timed", "last"], ["longer"], 2) == []


def test_the_stage_that_times_training_is_the_one_that_runs_alone():
    stages = yaml.safe_load((paths.ROOT / "dvc.yaml").read_text())["stages"]
    assert [name for name in stages if "alone" in stages[name].get("meta", {})] == [
        "07_speed"
    ]


def test_stages_that_fill_a_machine_run_one_by_one(tmp_path, monkeypatch):
    monkeypatch.setattr(lanes, "num_cores", lambda: 16)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for scale, expected in [("mini", 2), ("full", 2), ("paper", 1), ("rehearsal", 1)]:
        (tmp_path / "params.yaml").write_text(f"scale: {scale}\n")
        assert lanes.default_lanes() == expected
    monkeypatch.setattr(lanes, "num_cores", lambda: 1)
    assert lanes.default_lanes() == 1


def test_a_stage_s_python_is_the_one_that_runs_it(project, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    find = "command -v python > first.txt"
    write_graph(project, first=find)
    lanes.repro(["first"], lanes=1)
    found = Path((project / "first.txt").read_text().strip())
    assert found.parent == Path(sys.executable).parent

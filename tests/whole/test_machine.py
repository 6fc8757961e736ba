"""The reader's machine decides nothing: settings, signals, second runs, odd paths."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

import commoncanvas
from commoncanvas import run
from commoncanvas.core import paths
from commoncanvas.core.determinism import DROPPED, KEPT, set_environment

SLEEPS = "import os, time\nprint('kernel', os.getpid(), flush=True)\ntime.sleep(60)"
SHOWS = """
import os, sys
print(sys.executable == os.environ["RUNNER"], os.environ.get("PANDAS_X"))
import matplotlib.pyplot as plt
print(plt.get_backend(), plt.rcParams["figure.dpi"], sys.flags.optimize)
print("one line")
1
2
"""
INLINE = "module://matplotlib_inline.backend_inline"
PROFILE = "common: {seed: 17, num_threads: 1, offline: true}\nchapter: {}\n"


@pytest.fixture
def clone(tmp_path):
    """Make a repository of one stage, `01_chapter`, below a path with odd signs."""
    root = tmp_path / "My Projects" / "c'c #1%20{x} é"
    source = Path(commoncanvas.__file__).parent
    shutil.copytree(
        source, root / "commoncanvas", ignore=shutil.ignore_patterns("*pycache*")
    )
    (root / "notebooks").mkdir()
    (root / "profiles").mkdir()
    (root / "params.yaml").write_text("scale: mini\n")
    (root / "profiles" / "mini.yaml").write_text(PROFILE)
    return root


def install(clone, code):
    tag = {"tags": ["parameters"]}
    declared = "scale: str = ''\nseed: int = 1"
    cells = [nbformat.v4.new_code_cell(declared, metadata=tag)]
    cells += [nbformat.v4.new_code_cell(code)]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, clone / "notebooks" / "01_chapter.ipynb")


def start(clone, **environment):
    """Start the stage in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "commoncanvas", "run", "01_chapter"],
        cwd=clone,
        env={**os.environ, "PYTHONPATH": str(clone), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def started(clone):
    """Start a stage that sleeps; return its process and its kernel's number."""
    install(clone, SLEEPS)
    process = start(clone)
    word, kernel = process.stdout.readline().split()
    assert word == "kernel"
    return process, int(kernel)


def ended_within(kernel, seconds=3.0):
    """Tell whether a process is gone, or only waits for its parent to look."""
    stat = Path(f"/proc/{kernel}/stat")
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [
        (signal.SIGINT, 130, "interrupted; run the same command again to go on.\n"),
        (signal.SIGTERM, 143, "interrupted; run the same command again to go on.\n"),
        (signal.SIGKILL, -9, ""),
    ],
)
def test_a_stopped_run_takes_its_kernel_along_and_can_go_on(clone, number, code, line):
    process, kernel = started(clone)
    start_of_end = time.monotonic()
    process.send_signal(number)
    assert process.wait(timeout=10) == code
    assert ended_within(kernel) and time.monotonic() - start_of_end < 4
    assert process.stderr.read() == line
    install(clone, "print('again')")
    again = start(clone)
    assert again.communicate(timeout=60)[0] == "again\n" and again.returncode == 0


@pytest.mark.slow
def test_a_second_run_of_a_stage_is_refused_at_once_and_names_the_first(clone):
    first, _ = started(clone)
    try:
        second = start(clone)
        assert second.wait(timeout=45) == 1 and first.poll() is None
        assert second.stderr.read() == (
            f"01_chapter@mini is running already, in process {first.pid}; wait until "
            "it has ended or end it, then run this again.\n"
        )
    finally:
        first.kill()
        first.wait()


@pytest.mark.slow
def test_stages_of_different_names_run_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    stages = [run.Stage("04_train", "mini", name) for name in ("a", "b")]
    with run.only_one(stages[0]), run.only_one(stages[1]):
        with pytest.raises(run.StageFailed, match="running already, in process"):
            with run.only_one(stages[0]):
                raise AssertionError
    with run.only_one(stages[0]):
        pass


@pytest.fixture
def hostile(tmp_path):
    """Make a home whose settings would change outputs; return the environment."""
    home = tmp_path / "home"
    profile = home / ".ipython" / "profile_default"
    styles = home / ".config" / "matplotlib"
    other = home / "jupyter"
    packages = home / "packages"
    places = [profile / "startup", styles, other / "kernels" / "python3", packages]
    places += [home / ".local" / "share" / "jupyter" / "kernels" / "python3"]
    for folder in places:
        folder.mkdir(parents=True)
    kernel = '{"argv": ["/bin/false"], "display_name": "x", "language": "python"}'
    for folder in (places[2], places[4]):
        (folder / "kernel.json").write_text(kernel)
    for name in ("ipython_config.py", "ipython_kernel_config.py"):
        (profile / name).write_text(
            'c = get_config()\nc.InteractiveShell.ast_node_interactivity = "all"\n'
        )
    (profile / "startup" / "first.py").write_text("print('start-up file')")
    (home / "startup.py").write_text("print('PYTHONSTARTUP')")
    (packages / "matplotlib.py").write_text("raise SystemExit('another matplotlib')")
    (styles / "matplotlibrc").write_text("figure.dpi: 30\nbackend: pdf\n")
    return {
        "HOME": str(home),
        "JUPYTER_PATH": str(other),
        "JUPYTER_CONFIG_DIR": str(home / "absent"),
        "JUPYTER_RUNTIME_DIR": "/dev/null/absent",
        "MATPLOTLIBRC": str(styles / "matplotlibrc"),
        "MPLBACKEND": "pdf",
        "PYTHONSTARTUP": str(home / "startup.py"),
        "PYTHONPATH": f"{{root}}:{packages}",
        "PYTHONOPTIMIZE": "2",
        "PANDAS_X": "1",
        "LC_ALL": "POSIX",
        "WORLD_SIZE": "2",
        "TERM": "xterm-256color",
    }


@pytest.mark.slow
def test_the_reader_s_settings_leave_the_same_bytes(clone, hostile):
    install(clone, SHOWS)
    executed = clone / "reports" / "executed" / "mini" / "01_chapter.ipynb"
    written = []
    for environment in ({}, hostile):
        environment = {**environment, "RUNNER": sys.executable}
        if "PYTHONPATH" in environment:
            environment["PYTHONPATH"] = environment["PYTHONPATH"].format(root=clone)
        process = start(clone, **environment)
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
        written.append(executed.read_bytes())
    assert written[0] == written[1]
    outputs = nbformat.reads(written[0].decode(), as_version=4).cells[-1].outputs
    assert outputs[0].text == f"True None\n{INLINE} 100.0 0\none line\n"
    assert [o.data["text/plain"] for o in outputs[1:]] == ["2"]


def test_the_environment_keeps_what_the_machine_may_decide(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    given = {"CUDA_VISIBLE_DEVICES": "1", "HF_HOME": "x", "TMPDIR": "y", "PATH": "z"}
    os.environ |= given | {"TORCH_HOME": "t", "RAY_ADDRESS": "auto"}
    os.environ |= {f"{name}X": "1" for name in DROPPED}
    set_environment({}, tmp_path)
    assert not [n for n in os.environ if n.endswith("X") and n.startswith(DROPPED)]
    assert given.items() <= os.environ.items()
    assert {*KEPT} & os.environ.keys() == {"TORCH_HOME"}

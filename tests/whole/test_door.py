"""One door: verbs that help at once, and every failure in one line."""

import ast
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner
from doors import call

from commoncanvas import __main__, __version__
from commoncanvas.core import paths
from commoncanvas.core.errors import ShapeError

VERBS = sorted(__main__.door.commands)
# The verbs, and the types of their arguments.
DOORS = ("__main__.py", "arguments.py")
DOOR = [sys.executable, "-m", "commoncanvas"]


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_says_what_it_does_and_means_each_option(verb):
    printed = call(verb, "--help")
    assert printed.startswith(f"Usage: commoncanvas {verb} ")
    command = __main__.door.commands[verb]
    options = [p for p in command.params if p.param_type_name == "option"]
    assert command.help and all(option.help for option in options)


def test_the_door_lists_every_verb_and_its_version():
    printed = call("--help")
    assert all(f"\n  {verb} " in printed for verb in VERBS)
    assert call("--version") == f"commoncanvas, version {__version__}\n"


def test_help_imports_no_room():
    code = "import sys; from commoncanvas import __main__; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    own = {name for name in done.stdout.split() if name.startswith("commoncanvas")}
    assert own == {"commoncanvas", "commoncanvas.__main__"} | {
        f"commoncanvas.core{name}" for name in ("", ".arguments", ".errors")
    }


def test_a_verb_without_a_scale_takes_that_of_params(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text("scale: little\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    given = []
    for verb, command in __main__.door.commands.items():
        if any(
            getattr(o, "default", 0) is __main__.OF_PARAMS["default"]
            for o in command.params
        ):
            monkeypatch.setattr(
                command, "callback", lambda **o: given.append(o["scale"])
            )
            monkeypatch.setattr(
                command, "params", [o for o in command.params if not o.required]
            )
            call(verb)
    assert set(given) == {"little"} and len(given) > 5


def test_help_is_instant():
    subprocess.run([*DOOR, "--help"], capture_output=True, cwd=paths.ROOT)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([*DOOR, "--help"], capture_output=True, cwd=paths.ROOT)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.5


@pytest.fixture
def failing(monkeypatch):
    def fail(error):
        def callback(**options):
            raise error

        monkeypatch.setattr(__main__.door.commands["index"], "callback", callback)

    return fail


def test_our_errors_are_one_line_and_exit_1(failing):
    failing(ShapeError("found 1,\n expected 2."))
    assert call("index", "--scale", "x", fails=True) == "found 1, expected 2."


def test_ctrl_c_is_one_line_and_exit_130(failing):
    failing(KeyboardInterrupt())
    done = CliRunner().invoke(__main__.door, ["index", "--scale", "x"])
    assert done.exit_code == 130
    assert done.stderr == "interrupted; run the same command again to go on.\n"


def test_an_error_that_is_not_ours_keeps_its_traceback(failing):
    failing(ZeroDivisionError())
    done = CliRunner().invoke(__main__.door, ["index", "--scale", "x"])
    assert isinstance(done.exception, ZeroDivisionError)


def test_an_unknown_verb_or_option_names_the_way_to_help():
    for words in (["nonsense"], ["index", "--sclae", "x"]):
        done = CliRunner().invoke(__main__.door, words)
        assert done.exit_code == 2 and "--help" in done.stderr


def test_no_room_reads_the_command_line_itself():
    for file in (paths.ROOT / "commoncanvas").rglob("*.py"):
        names = {
            node.names[0].name
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import)
        }
        assert "argparse" not in names, file.name
        assert ("click" in names) == (file.name in DOORS), file.name


NAMED = re.compile(r"(?:-m |\.venv/bin/|`|^|\$\(BIN\)/)commoncanvas ([a-z]+)", re.M)
SPEAKERS = ["README.md", "Makefile", "dvc.yaml", "results/model/README.md"]


@pytest.mark.parametrize(
    "file",
    [
        *SPEAKERS,
        *sorted(
            path.relative_to(paths.ROOT).as_posix()
            for pattern in ("docs/*.md", "notebooks/*.ipynb", "commoncanvas/**/*.py")
            for path in paths.ROOT.glob(pattern)
            if path.name != "LOG.md"
        ),
    ],
)
def test_every_command_that_is_named_exists(file):
    text = (paths.ROOT / file).read_text(encoding="utf-8")
    assert set(NAMED.findall(text)) <= set(VERBS)
    assert not re.search(r"-m commoncanvas\.", text)
    assert Path(file).name not in ("README.md",) or NAMED.search(text)

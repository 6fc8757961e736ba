"""Every command of the README is run: whole where it is quick, else as it plans."""

import re
import shutil
import subprocess
import sys

import pytest
from doors import call
from PIL import Image

from commoncanvas import parameters
from commoncanvas.core import paths

README = (paths.ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"```sh\n(.*?)```", re.DOTALL)
COMMAND = re.compile(r"(?:\.venv/bin/)?(make|dvc|commoncanvas|git|source) \S.*")


def commands():
    """Return the README's commands, those of its blocks and of its lines, once each."""
    blocks = "\n".join(BLOCK.findall(README)).splitlines()
    spans = re.findall(r"`([^`\n]+)`", BLOCK.sub("", README))
    found = [line.split(" #")[0].strip() for line in [*blocks, *spans]]
    return [one for one in dict.fromkeys(found) if COMMAND.fullmatch(one)]


COMMANDS = commands()
# Verbs that are named without words, or that need a run or a network: their own tests
# run them, and here they explain themselves.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
EXPLAINED = {"download", "takedown", "release-data", "repro"}
MAKE = [one for one in COMMANDS if one.startswith("make ")]
DVC = [one for one in COMMANDS if one.startswith("dvc ")]
OURS = [
    one.removeprefix(".venv/bin/")
    for one in COMMANDS
    if one.removeprefix(".venv/bin/").startswith("commoncanvas ")
]


def words_of(command):
    return re.findall(r'"[^"]*"|\S+', command)[1:]


def test_no_command_is_forgotten():
    rest = {*COMMANDS} - {*MAKE, *DVC} - {*OURS, *(f".venv/bin/{one}" for one in OURS)}
    assert rest == {"source .venv/bin/activate", "git restore dvc.lock"}
    assert len(MAKE) > 5 and len(OURS) > 8 and len(DVC) > 2


@pytest.mark.parametrize("command", MAKE)
def test_make_knows_what_to_run(command):
    done = subprocess.run(
        ["make", "-n", *words_of(command)],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    verbs = re.findall(r"-m commoncanvas ([\w-]+)", done.stdout)
    for verb in verbs:
        assert call(verb, "--help")
    if "SCALE=full" in command and "repro" in command:
        assert verbs.index("choose") < verbs.index("repro")


@pytest.mark.slow
@pytest.mark.parametrize("command", DVC)
def test_dvc_knows_the_command(command):
    words = [sys.executable, "-m", *command.split(), "--help"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0 and "usage: dvc" in done.stdout


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """Return an empty folder to work in, whose params.yaml may be changed."""
    shutil.copy(paths.ROOT / "params.yaml", tmp_path)
    monkeypatch.setattr(parameters.paths, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("command", OURS)
def test_our_commands_do_what_they_say(command, copy, monkeypatch):
    verb, *words = (word.strip('"') for word in words_of(command))
    if verb in EXPLAINED:
        assert "Usage: " in call(verb, "--help")
    elif verb == "choose":
        call(verb, *words)
        assert f"scale: {words[0]}" in (copy / "params.yaml").read_text()
    elif verb == "sample":
        name = words[words.index("--out") + 1] if "--out" in words else "sample.png"
        call(verb, *words)
        with Image.open(copy / name) as drawn:
            assert drawn.info["Title"] == words[0]
    elif verb == "credits":  # needs a finished run: else it says which stage to run
        monkeypatch.undo()
        Image.new("RGB", (64, 64)).save(copy / words[0])
        told = call(verb, copy / words[0], *words[1:], "--scale", "none", fails=True)
        assert "none" in told
    else:
        monkeypatch.undo()
        if "--out" in words:
            monkeypatch.chdir(copy)
        assert call(verb, *words)

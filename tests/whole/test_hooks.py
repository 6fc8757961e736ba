"""The hooks that are written here: each refuses its fault, and only that."""

import shlex
import subprocess

import pytest

from commoncanvas.core import paths
from commoncanvas.core.settings import load_yaml

KEY = "-----BEGIN " + "RSA PRIVATE KEY-----\n"
PAIRS = {  # hook: contents that it refuses, contents that it lets through
    "check-yaml": ("a: [1", "a: [1]"),
    "check-toml": ("a = [1", "a = [1]"),
    "private-key": (KEY, "a PRIVATE KEY is a word\n"),
    "large-files": ("a" * 1_000_001, "a" * 1_000_000),
}


def run(name, file):
    """Return the exit code of a hook on a file."""
    config = load_yaml(paths.ROOT / ".pre-commit-config.yaml")
    (hook,) = [hook for hook in config["repos"][0]["hooks"] if hook["id"] == name]
    words = shlex.split(hook["entry"])
    if words[0].startswith(".venv/") and not (paths.ROOT / words[0]).exists():
        pytest.skip("the hooks run in the environment of `make env`")
    done = subprocess.run([*words, file], cwd=paths.ROOT, capture_output=True)
    return done.returncode


@pytest.mark.parametrize("name", PAIRS)
def test_a_hook_refuses_its_fault_and_lets_the_rest_through(tmp_path, name):
    for number, contents in enumerate(PAIRS[name]):
        (tmp_path / f"{number}").write_text(contents)
    assert run(name, tmp_path / "0") != 0 and run(name, tmp_path / "1") == 0

"""The set-up follows what a reader has set for pip."""

import os
import shutil
import subprocess
import sys

import pytest

from commoncanvas.core import paths

MIRROR = "index-url"
SETTINGS = f"""
[global]
{MIRROR} = https://a.example/simple
extra-{MIRROR} =
  https://b.example/simple
  https://c.example/simple
trusted-host = b.example
cert = my files/ca.pem
"""
GIVEN = ("PATH", "HOME", "LANG", "TMPDIR")


@pytest.fixture
def installed(tmp_path):
    """Return what sees the environment and words of uv under given variables."""
    shutil.copy(paths.ROOT / "Makefile", tmp_path)
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    tools = tmp_path / ".venv" / "bin"
    tools.mkdir(parents=True)
    (tools / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (tools / "uv").write_text('#!/bin/sh\n(env; echo "WORDS=$*") > seen\nexit 3\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (tmp_path / ".venv" / "ready").touch()
    (tmp_path / "pip.conf").write_text(SETTINGS)

    def install(**variables):
        given = {name: os.environ[name] for name in GIVEN if name in os.environ}
        done = subprocess.run(
            ["make", "bench-licenses"],
            cwd=tmp_path,
            env=given | variables,
            capture_output=True,
        )
        assert done.returncode
        lines = (tmp_path / "seen").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)

    return install


@pytest.mark.slow
def test_pip_s_mirror_and_certificate_are_uv_s(installed):
    seen = installed(PIP_CONFIG_FILE="pip.conf")
    assert seen["UV_DEFAULT_INDEX"] == "https://a.example/simple"
    extra = "https://b.example/simple https://c.example/simple"
    assert seen["UV_EXTRA_INDEX_URL"].strip() == extra
    assert seen["UV_INSECURE_HOST"] == "b.example"
    assert seen["SSL_CERT_FILE"] == "my files/ca.pem"
    assert seen["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert "--no-index" not in seen["WORDS"]


@pytest.mark.slow
def test_pip_s_variables_go_before_its_files_and_uv_s_own_before_both(installed):
    variables = {"PIP_INDEX_URL": "https://d.example", "PIP_NO_INDEX": "1"}
    variables |= {"PIP_FIND_LINKS": "wheels", "UV_INSECURE_HOST": "e.example"}
    seen = installed(PIP_CONFIG_FILE="pip.conf", PIP_CERT="f.pem", **variables)
    assert seen["UV_DEFAULT_INDEX"] == "https://d.example"
    assert seen["UV_FIND_LINKS"] == "wheels" and seen["SSL_CERT_FILE"] == "f.pem"
    assert seen["UV_INSECURE_HOST"] == "e.example" and "--no-index" in seen["WORDS"]


@pytest.mark.slow
def test_empty_variables_are_as_good_as_none(installed):
    empty = {name: "" for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_CERT")}
    seen = installed(PIP_CONFIG_FILE=os.devnull, **empty)
    assert not seen["UV_DEFAULT_INDEX"] and not seen["SSL_CERT_FILE"]

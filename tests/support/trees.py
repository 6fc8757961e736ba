"""The files of the project, in a clone or in a tree that was unpacked without git."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from commoncanvas.core import paths

# What .gitignore keeps out, for where there is no git to read it.
CACHES = {".venv", ".checkpoints", ".finished", ".hypothesis", ".ipynb_checkpoints"}
CACHES |= {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", "node_modules"}
WRITTEN = {"data", "runs", "sources", "reports/html", "reports/executed", ".dvc/cache"}
WRITTEN |= {".dvc/tmp"}

STAGES = [
    "00_pretrain",
    "01_licenses",
    "02_captions",
    "03_latents",
    "04_train",
    "05_evaluate",
    "06_figures",
    "07_speed",
]


def kept_files() -> list[Path]:
    """Return the files that git keeps or would keep, sorted."""
    if not (paths.ROOT / ".git").exists():
        return sorted(unpacked_files(paths.ROOT))
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    done = subprocess.run(command, cwd=paths.ROOT, capture_output=True, check=True)
    names = set(done.stdout.decode().split("\0"))
    files = [paths.ROOT / name for name in sorted(names - {""})]
    return [file for file in files if file.is_file()]


def copy_project(root: Path, scale: str, experiment: Sequence[str]) -> None:
    """Copy what git keeps or would keep; let params.yaml choose scale and rows."""
    for file in kept_files():
        copy = root / file.relative_to(paths.ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    choose(root, scale, experiment)


def choose(root: Path, scale: str, experiment: Sequence[str]) -> None:
    """Let a copy's params.yaml choose a scale and the rows of the experiment."""
    text = (root / "params.yaml").read_text(encoding="utf-8")
    text = re.sub("^scale: .*", f"scale: {scale}", text, flags=re.MULTILINE)
    chosen = f"experiment: [{', '.join(experiment)}]\n\n"
    text = re.sub(r"^experiment:.*?\n\n", chosen, text, flags=re.DOTALL | re.MULTILINE)
    (root / "params.yaml").write_text(text, encoding="utf-8")


def unpacked_files(root: Path) -> Iterator[Path]:
    """Yield a tree's files, but for what runs and tools write."""
    for place, folders, files in os.walk(root):
        folder = Path(place)
        folders[:] = [
            name
            for name in folders
            if name not in CACHES
            and not name.endswith(".egg-info")
            and (folder / name).relative_to(root).as_posix() not in WRITTEN
        ]
        yield from (folder / name for name in files if name != "config.local")
    yield root / "reports/executed/00_pretrain.ipynb"

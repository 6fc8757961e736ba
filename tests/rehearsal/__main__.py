"""Make the rehearsal's world, and run it: `python -m tests.rehearsal --run`.

The run happens in a copy of the project, `runs/rehearsal`, whose params.yaml chooses
the scale; so the run kept in dvc.lock stays as it is. Run it again to go on.
"""

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import click

from commoncanvas.core import paths
from tests.rehearsal import world
from tests.support.trees import choose, copy_project

# C and NC, S and L, a pipeline of Stable Diffusion 2 that is not trained, and controls.
ROWS = ["cc_synthetic", "cc_nc", "cc_large", "web_human", "cc_shuffled", "cc_brief"]
FIRST, SECOND = "rehearsal", "rehearsal-512"
# What the pages have to say, and what they must not: it would be the icons' prose.
EXPECTED = ["photograph", "BLIP-2", "FID", "CLIP"]
FOREIGN = r"pictogram|\bicons?\b|\bemojis?\b"


def dvc(root: Path, *words: str, log: IO[str] | None = None) -> None:
    """Run DVC in a copy, on as many cores as stages ask for; `log` takes what it says.

    Raises:
        CalledProcessError: a stage failed; it has said why.
    """
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    environment["PATH"] = f"{Path(sys.executable).parent}:{environment['PATH']}"
    environment.pop("DVC_STAGE", None)
    words = "dvc", *words
    subprocess.run(words, cwd=root, env=environment, check=True, stdout=log, stderr=log)


def prepare(root: Path, made: Path, rows: Sequence[str]) -> None:
    """Copy the project to `root`, with the sources and the world `made` beside it."""
    copy_project(root, FIRST, rows)
    sources = root / "sources"
    sources.mkdir(exist_ok=True)
    for place in [*paths.SOURCES.iterdir(), made]:
        link = sources / (FIRST if place == made else place.name)
        if not link.is_symlink() and (place == made or place.name != FIRST):
            link.symlink_to(place.resolve())
    if not (root / ".git").exists():
        (root / "dvc.lock").unlink(missing_ok=True)
        subprocess.run(["git", "init", "-q"], cwd=root, check=True)


def run(root: Path, rows: Sequence[str], log: IO[str] | None = None) -> None:
    """Run every stage of the first scale, then of the second, which begins with it."""
    choose(root, FIRST, rows)
    dvc(root, "repro", log=log)
    choose(root, SECOND, rows[:1])
    dvc(root, "repro", log=log)


def text_of(page: Path) -> str:
    """Return what a page says: without its style, scripts, pictures and tags."""
    text = page.read_text(encoding="utf-8")
    text = re.sub(r"<(style|script|svg)\b.*?</\1>", " ", text, flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


def faults(root: Path) -> list[str]:
    """Return what is wrong with the pages of a finished run, one line each."""
    found = []
    for scale in (FIRST, SECOND):
        # Chapters alone: documents beside them speak of every world.
        pages = sorted((root / "reports" / "html" / scale).glob("[0-9]*.html"))
        told = {page: text_of(page) for page in pages if page.stem != "00_pretrain"}
        whole = " ".join(told.values())
        found += [f"{scale}: no page says {w!r}" for w in EXPECTED if w not in whole]
        for page, text in told.items():
            for match in re.finditer(FOREIGN, text, re.IGNORECASE):
                around = text[max(0, match.start() - 40) : match.end() + 40]
                found.append(f"{scale}/{page.name}: says {match[0]!r}: …{around}…")
    return found


@click.command()
@click.option("--run", "is_run", is_flag=True, help="Run every stage of it, too.")
@click.option("--root", default=paths.RUNS / FIRST, type=click.Path(path_type=Path))
def main(is_run: bool, root: Path) -> None:
    """Make the world of the scale `rehearsal` in sources/; with --run, run it."""
    made = paths.SOURCES / FIRST
    world.make(made)
    if not is_run:
        return
    prepare(root, made, ROWS)
    try:
        run(root, ROWS)
    except subprocess.CalledProcessError as error:
        sys.exit(f"rehearsal: {error}; what stopped it stands above.")
    wrong = faults(root)
    click.echo("\n".join(wrong))
    click.echo(f"read {root / 'reports/html/index.html'}")
    sys.exit(min(1, len(wrong)))


if __name__ == "__main__":
    main()

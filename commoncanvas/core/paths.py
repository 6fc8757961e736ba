"""Where each thing lives, named once; every stage and test asks here."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
PROFILES = ROOT / "profiles"
PRETRAINED = ROOT / "pretrained"
# `dvc exp run --temp` and `--queue` run a copy that lies below .dvc/ of the clone; it
# lacks what git ignores, so the pinned sources are the clone's.
CLONE = next((p.parent for p in ROOT.parents if p.name == ".dvc"), ROOT)
SOURCES = CLONE / "sources"
REPORTS = ROOT / "reports"
TEMPLATE = REPORTS / "template"
EXECUTED = REPORTS / "executed"
HTML = REPORTS / "html"
DOCS = ROOT / "docs"
RESULTS = ROOT / "results"
RUNS = ROOT / "runs"  # TensorBoard files; they hold clocks, so no stage reads them
CHECKPOINTS = ROOT / ".checkpoints"
FINISHED = ROOT / ".finished"


def stage_dir(scale: str, slug: str, variant: str | None = None) -> Path:
    """Return the data folder of one stage, e.g. `data/mini/04_train/cc_human`."""
    folder = ROOT / "data" / scale / slug
    return folder / variant if variant else folder

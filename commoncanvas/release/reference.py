"""Reference results: what a finished run leaves in `results/`, small enough for git.

`commoncanvas keep --scale full` keeps each variant's measured values, its log and the
gate as it drew it, the scorecard, the hardware with its hours, and the hashes of inputs
and code. Nothing is computed anew.
"""

import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from commoncanvas.analysis.sheets import contact_sheet
from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import read_json, write_json
from commoncanvas.core.keys import code_hash, key_of
from commoncanvas.core.manifest import NAME, read_manifest
from commoncanvas.evaluate.results import read_samples
from commoncanvas.parameters import planned_rows
from commoncanvas.publish.scorecard import read_rows
from commoncanvas.publish.side_by_side import released_models

GATE = "gate"  # the prompt set that is kept as a picture
SHARED = ("01_licenses", "02_captions", "03_latents", "06_figures", "07_speed")
MEASURED = ("01_licenses", "02_captions", "07_speed")  # those with a metrics.json
# What the notebooks call, whose hash takes in all that lies below.
CODE = (
    *("catalog.catalog", "catalog.duplicates", "captions.telephoning"),
    *("captions.study", "latents.reader", "latents.store", "train.loop"),
    *("train.export", "models.pipelines", "evaluate.prompts", "evaluate.extractors"),
    *("evaluate.measurement", "evaluate.copies", "claims.scorecard", "speed.ablation"),
)


def evaluated_variants(scale: str) -> list[str]:
    """Return the names of the variants whose stage 05 has run, sorted.

    Raises:
        ManifestError: there is none.
    """
    found = paths.stage_dir(scale, "05_evaluate").glob(f"*/{NAME}")
    variants = sorted(file.parent.name for file in found)
    if not variants:
        raise ManifestError(
            f"no variant of {scale} was evaluated; expected one or more; run "
            "`dvc repro` at that scale."
        )
    return variants


def keep(scale: str, variants: Sequence[str] | None = None) -> Path:
    """Copy what a reader needs of a finished run into `results/<scale>/`.

    Args:
        scale: name of a profile, all of whose stages have run.
        variants: rows of the experiment; None for all that were evaluated.

    Returns:
        The folder. It holds run.json, claims.json, the metrics of the stages that all
        variants share, and one folder a variant with metrics.json, log.csv, gate.png.
        What an earlier run left of other variants goes, but for the released models'.

    Raises:
        CommonCanvasError: a stage has not run, or its files are not those it wrote.
            Nothing is written then.
    """
    variants = variants or evaluated_variants(scale)
    folders = {slug: paths.stage_dir(scale, slug) for slug in SHARED}
    for variant in variants:
        for slug in ("04_train", "05_evaluate"):
            folders[f"{slug}/{variant}"] = paths.stage_dir(scale, slug, variant)
    outputs = {}
    for name, place in folders.items():
        outputs[name] = key_of(files=read_manifest(place)["files"])
    shared = {slug: read_json(folders[slug] / "metrics.json") for slug in MEASURED}
    profile = paths.PROFILES / f"{scale}.yaml"
    run = {
        "scale": scale,
        "not_run": sorted({*planned_rows(scale)} - {*variants}),
        "hardware": shared["07_speed"]["hardware"],
        "training_hours": {v: training_hours(scale, v) for v in variants},
        "outputs": outputs,
        "code": code_hash(*CODE),
        "profile": key_of(text=profile.read_text()),
    }
    claims, folder = read_rows(scale), paths.RESULTS / scale
    folder.mkdir(parents=True, exist_ok=True)
    released = _released(scale)
    for earlier in folder.glob("*/log.csv"):
        if earlier.parent.name not in released:
            shutil.rmtree(earlier.parent)
    for variant in variants:
        keep_variant(scale, variant, folder / variant)
    for slug, metrics in shared.items():
        write_json(folder / f"{slug}.json", metrics)
    write_json(folder / "claims.json", claims)
    write_json(folder / "run.json", run)
    return folder


def _released(scale: str) -> set[str]:
    """Return the variants of a scale that are released in `results/`."""
    models = [read_manifest(folder, verify=False) for folder in released_models()]
    return {model["variant"] for model in models if model["scale"] == scale}


def keep_variant(scale: str, variant: str, folder: Path) -> None:
    """Copy one variant's metrics and log, and draw the gate as stage 05 saw it."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = paths.stage_dir(scale, "05_evaluate", variant)
    shutil.copyfile(measured / "metrics.json", folder / "metrics.json")
    log = paths.stage_dir(scale, "04_train", variant) / "log.csv"
    shutil.copyfile(log, folder / "log.csv")
    if (measured / GATE).is_dir():
        pixels, prompts = read_samples(measured / GATE)
        contact_sheet(list(pixels), prompts).save(folder / "gate.png", optimize=True)


def training_hours(scale: str, variant: str) -> float | None:
    """Return how long a training took, pauses left out; None where no clock was kept.

    The clock is TensorBoard's: the median time between snapshots, times their number.
    """
    manifest = read_manifest(paths.stage_dir(scale, "04_train", variant))
    log = pd.read_csv(paths.stage_dir(scale, "04_train", variant) / "log.csv")
    folders = (paths.RUNS / f"{scale}-{manifest['variant']}").glob("*")
    folder = max(folders, key=lambda path: path.stat().st_mtime, default=None)
    if folder is None:
        return None
    events = EventAccumulator(str(folder)).Reload().Scalars("step")
    gaps = [b.wall_time - a.wall_time for a, b in zip(events, events[1:], strict=False)]
    return round(statistics.median(gaps) * len(log) / 3600, 2) if gaps else None

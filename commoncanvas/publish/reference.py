"""Reference results: what a finished run leaves in `results/`, small enough for git.

`python -m commoncanvas keep --scale full` keeps each variant's figures,
its log
and the gate as it drew it, the scorecard, the hardware with its hours, and the hashes
of inputs and code. Nothing is computed anew.
"""

import json
import shutil
import statistics

import pandas as pd
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import shown
from commoncanvas.core.keys import code_hash, key_of
from commoncanvas.core.manifest import read_manifest
from commoncanvas.evaluate.results import evaluated_variants, read_samples
from commoncanvas.publish.index import read_rows
from commoncanvas.publish.strips import contact_sheet

GATE = "gate"  # the prompt set that is kept as a picture
SHARED = ("01_licenses", "02_captions", "03_latents", "06_figures", "07_speed")
MEASURED = ("01_licenses", "02_captions", "07_speed")  # those with a metrics.json
# What the notebooks call, whose hash takes in all that lies below.
CODE = (
    *("catalog.catalog", "catalog.duplicates", "captions.telephoning"),
    *("captions.study", "latents.reader", "latents.store", "train.loop"),
    *("train.export", "models.pipelines", "evaluate.prompts", "evaluate.judges"),
    *("evaluate.measurement", "evaluate.copies", "claims.scorecard", "speed.ablation"),
)


def keep(scale, variants=None):
    """Copy what a reader needs of a finished run into `results/<scale>/`.

    Args:
        scale: name of a profile, all of whose stages have run.
        variants: rows of the experiment; None for all that were evaluated.

    Returns:
        The folder. It holds run.json, claims.json, the metrics of the stages that all
        variants share, and one folder a variant with metrics.json, log.csv, gate.png.

    Raises:
        CommonCanvasError: a stage has not run, or its files are not those it wrote.
            Nothing is written then.
    """
    variants = variants or evaluated_variants(scale)
    places = [(slug, None) for slug in SHARED]
    places += [(slug, v) for v in variants for slug in ("04_train", "05_evaluate")]
    outputs = {}
    for slug, variant in places:
        told = read_manifest(paths.stage_dir(scale, slug, variant), verify=True)
        outputs["/".join(filter(None, (slug, variant)))] = key_of(files=told["files"])
    shared = {
        slug: _read(paths.stage_dir(scale, slug) / "metrics.json") for slug in MEASURED
    }
    run = {
        "scale": scale,
        "hardware": shared["07_speed"]["hardware"],
        "training_hours": {v: training_hours(scale, v) for v in variants},
        "outputs": outputs,
        "code": code_hash(*CODE),
        "profile": key_of(text=(paths.ROOT / f"profiles/{scale}.yaml").read_text()),
    }
    claims, folder = read_rows(scale), paths.RESULTS / scale
    folder.mkdir(parents=True, exist_ok=True)
    for variant in variants:
        keep_variant(scale, variant, folder / variant)
    for slug, metrics in shared.items():
        _write(folder / f"{slug}.json", metrics)
    _write(folder / "claims.json", claims)
    _write(folder / "run.json", run)
    return folder


def keep_variant(scale, variant, folder):
    """Copy one variant's figures and log, and draw the gate as stage 05 saw it."""
    folder.mkdir(parents=True, exist_ok=True)
    measured = paths.stage_dir(scale, "05_evaluate", variant)
    shutil.copyfile(measured / "metrics.json", folder / "metrics.json")
    log = paths.stage_dir(scale, "04_train", variant) / "log.csv"
    shutil.copyfile(log, folder / "log.csv")
    guidance = _read(measured / "metrics.json")["common_guidance"]
    if (measured / GATE).is_dir():
        sheet = contact_sheet(*read_samples(measured / GATE, guidance))
        sheet.save(folder / "gate.png", optimize=True)


def training_hours(scale, variant):
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


def _read(file):
    if not file.is_file():
        raise ManifestError(f"{shown(file)} is missing; expected it; run its stage.")
    return json.loads(file.read_text(encoding="utf-8"))


def _write(file, value):
    text = json.dumps(value, indent=1, ensure_ascii=False)
    file.write_text(text + "\n", encoding="utf-8")

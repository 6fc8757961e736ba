"""The files of stage 05: samples and rows of measured values."""

import json

import numpy as np

from commoncanvas.core.errors import ManifestError
from commoncanvas.core.paths import stage_dir


def evaluated_variants(scale):
    """Return the names of the variants whose stage 05 has run, sorted.

    Raises:
        ManifestError: there is none.
    """
    found = stage_dir(scale, "05_evaluate").glob("*/manifest.json")
    variants = sorted(file.parent.name for file in found)
    if not variants:
        raise ManifestError(
            f"no variant of {scale} was evaluated; expected one or more; run "
            "`dvc repro` at that scale."
        )
    return variants


def write_samples(folder, samples, prompts):
    """Write samples as `samples.npz` (one array a guidance scale) and their prompts."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = {f"guidance_{scale:g}": pixels for scale, pixels in samples.items()}
    np.savez_compressed(folder / "samples.npz", **arrays)
    text = json.dumps({"prompts": list(prompts)}, ensure_ascii=False, indent=1)
    (folder / "prompts.json").write_text(text + "\n", encoding="utf-8")


def write_rows(folder, rows):
    """Write {prompt set: {metric: array}} as `rows.npz`, in float32.

    The set "reference" holds the reference's features, under each distance's name.
    """
    arrays = {
        f"{prompts}.{name}": np.asarray(values, np.float32)
        for prompts, found in rows.items()
        for name, values in found.items()
    }
    np.savez_compressed(folder / "rows.npz", **arrays)


def read_rows(folder):
    """Return what `write_rows` wrote, as float64, the leading prompt set first."""
    rows = {}
    with np.load(folder / "rows.npz") as arrays:
        for key in arrays:
            prompts, _, name = key.partition(".")
            rows.setdefault(prompts, {})[name] = arrays[key].astype(np.float64)
    return rows


def read_samples(folder, guidance_scale):
    """Return (pixels, prompts) that stage 05 wrote for one guidance scale."""
    with np.load(folder / "samples.npz") as arrays:
        pixels = arrays[f"guidance_{guidance_scale:g}"]
    return pixels, json.loads((folder / "prompts.json").read_text())["prompts"]

"""The files of stage 05: samples and rows of measured values."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from commoncanvas.analysis.tables import ASIDE
from commoncanvas.core.files import read_json, write_json, writing


def write_samples(
    folder: Path, samples: Mapping[float, np.ndarray], prompts: Iterable[str]
) -> None:
    """Write {guidance scale: pixels} as `samples.npz` and their prompts beside it."""
    arrays: dict[str, Any] = {
        f"guidance_{scale:g}": pixels for scale, pixels in samples.items()
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "samples.npz", **arrays)
    write_json(folder / "prompts.json", {"prompts": list(prompts)})


def write_metrics(folder: Path, trained: Path, metrics: dict[str, Any]) -> None:
    """Write what stage 05 measured, in full and as one flat file beside the folder.

    Both say from stage 04 whose training it is (`of`) and from which `seed`, or what
    its loss was. The flat file has the leading prompt set's values at the common
    guidance scale, for `dvc metrics diff`.

    Args:
        folder: of stage 05; gets metrics.json, the flat file is named after it.
        trained: folder of stage 04.
        metrics: begins with the variant's name.
    """
    learnt = read_json(trained / "metrics.json")
    training = {name: learnt[name] for name in ("of", "seed")}
    content = {"variant": metrics["variant"], **training, **metrics}
    write_json(folder / "metrics.json", content)
    measured = metrics["guidance"][str(metrics["common_guidance"])]
    flat = {name: measured[name]["value"] for name in measured if name not in ASIDE}
    flat["copy_rate"] = metrics["copies"]["copy_rate"]["value"]
    flat = {"validation_loss": learnt["validation_loss"], **flat}
    write_json(folder.with_suffix(".json"), flat)


def write_rows(folder: Path, rows: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write {prompt set: {metric: array}} as `rows.npz`, in float32.

    The set "reference" holds the reference's features, under each distance's name.
    """
    arrays: dict[str, Any] = {
        f"{prompts}.{name}": np.asarray(values, np.float32)
        for prompts, found in rows.items()
        for name, values in found.items()
    }
    with writing(folder):
        np.savez_compressed(folder / "rows.npz", **arrays)


def read_rows(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return what `write_rows` wrote, as float64, the leading prompt set first."""
    rows: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "rows.npz") as arrays:
        for key in arrays:
            prompts, _, name = key.partition(".")
            rows.setdefault(prompts, {})[name] = arrays[key].astype(np.float64)
    return rows


def read_samples(folder: Path, guidance_scale: float) -> tuple[np.ndarray, list[str]]:
    """Return (pixels, prompts) that stage 05 wrote for one guidance scale."""
    with np.load(folder / "samples.npz") as arrays:
        pixels = arrays[f"guidance_{guidance_scale:g}"]
    return pixels, read_json(folder / "prompts.json")["prompts"]

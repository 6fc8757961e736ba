"""The files of stage 05: samples and rows of measured values."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.analysis.tables import ASIDE
from commoncanvas.core.files import read_json, write_json, writing

NUM_KEPT = 1000  # samples that stage 05 hands on; all are drawn again from its seed


def write_samples(
    folder: Path, samples: Mapping[float, Sequence[np.ndarray]], prompts: Iterable[str]
) -> None:
    """Write {guidance scale: pictures} as `samples.npz` and their prompts beside it.

    The first 1,000 are kept, which is all that pages and votes show. A set that was
    judged has one scale, the set on which scales are tried has several.
    """
    arrays: dict[str, Any] = {
        f"guidance_{scale:g}": pixels[:NUM_KEPT] for scale, pixels in samples.items()
    }
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(folder / "samples.npz", **arrays)
    write_json(folder / "prompts.json", {"prompts": list(prompts)[:NUM_KEPT]})


def write_all(
    folder: Path,
    trained: Path,
    metrics: dict[str, Any],
    drawn: Mapping[tuple[str, float], Sequence[np.ndarray]],
    prompts: Mapping[str, pd.DataFrame],
    rows: Mapping[str, Mapping[str, np.ndarray]],
) -> None:
    """Write what stage 05 drew and measured: metrics, samples and rows.

    Samples of the leading prompt set lie in the folder itself, of the others in folders
    of their names; a set of which nothing was drawn has none.

    Args:
        folder: of stage 05.
        trained: folder of stage 04.
        metrics: as for `write_metrics`.
        drawn: {(prompt set, guidance scale): its samples}.
        prompts: of each set, with the column prompt; the first leads.
        rows: as for `write_rows`.
    """
    write_metrics(folder, trained, metrics)
    for name, asked in prompts.items():
        own = {guidance: s for (of, guidance), s in drawn.items() if of == name}
        if own:
            place = folder if name == next(iter(prompts)) else folder / name
            write_samples(place, own, asked["prompt"])
    write_rows(folder, rows)


def write_metrics(folder: Path, trained: Path, metrics: dict[str, Any]) -> None:
    """Write what stage 05 measured, in full and as one flat file beside the folder.

    Both say from stage 04 whose training it is (`of`), from which `seed` and of how
    many works, or what its loss was. The flat file has the leading prompt set's values
    at the common guidance scale, for `dvc metrics diff`.

    Args:
        folder: of stage 05; gets metrics.json, the flat file is named after it.
        trained: folder of stage 04.
        metrics: begins with the variant's name.
    """
    learnt = read_json(trained / "metrics.json")
    training = {name: learnt[name] for name in ("of", "seed", "num_train_pictures")}
    content = {"variant": metrics["variant"], **training, **metrics}
    write_json(folder / "metrics.json", content)
    measured = next(iter(metrics["by_prompt"].values()))
    flat = {name: measured[name]["value"] for name in measured if name not in ASIDE}
    flat["copy_rate"] = metrics["copies"]["copy_rate"]["value"]
    if "validation_loss" in learnt:  # a published pipeline has none
        flat = {"validation_loss": learnt["validation_loss"], **flat}
    write_json(folder.with_suffix(".json"), flat)


def write_rows(folder: Path, rows: Mapping[str, Mapping[str, np.ndarray]]) -> None:
    """Write {prompt set: {metric: array}} as `rows.npz`, in float64."""
    arrays: dict[str, Any] = {
        f"{prompts}.{name}": np.asarray(values, np.float64)
        for prompts, found in rows.items()
        for name, values in found.items()
    }
    with writing(folder):
        np.savez_compressed(folder / "rows.npz", **arrays)


def read_rows(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """Return what `write_rows` wrote, the leading prompt set first."""
    found: dict[str, dict[str, np.ndarray]] = {}
    with np.load(folder / "rows.npz") as arrays:
        for key in arrays.files:
            prompts, _, name = key.partition(".")
            found.setdefault(prompts, {})[name] = arrays[key]
    return found


def read_samples(
    folder: Path, guidance_scale: float | None = None
) -> tuple[np.ndarray, list[str]]:
    """Return (pixels, prompts) that stage 05 wrote.

    Args:
        folder: of stage 05 for the leading prompt set, or within it of another's name.
        guidance_scale: of a set with several; None takes the one of a judged set.
    """
    with np.load(folder / "samples.npz") as arrays:
        if guidance_scale is None:
            (name,) = arrays.files
        else:
            name = f"guidance_{guidance_scale:g}"
        pixels = arrays[name]
    return pixels, read_json(folder / "prompts.json")["prompts"]


def read_asked(folder: Path) -> pd.DataFrame:
    """Return prompt and id of the leading set's samples, in their order.

    Args:
        folder: of stage 05.
    """
    prompts = read_json(folder / "prompts.json")["prompts"]
    ids = (folder / "prompt_ids.txt").read_text(encoding="utf-8").splitlines()
    return pd.DataFrame({"prompt": prompts, "id": ids[: len(prompts)]})

"""The variants of a scale with their first samples, as the explorer shows them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from commoncanvas.analysis.plots import variant_place
from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import read_json

NUM_PROMPTS = 24  # first ones of a set that are read


@dataclass(frozen=True)
class Row:
    """A variant and its first samples.

    Attributes:
        folder: of stage 05.
        guidance: scale at which its judged sets were drawn.
        threshold: similarity above which a sample is a near copy; None where the run
            set it with another comparison than `evaluate.nearest`.
        protocol: of its metrics: prompt sets with their settings, seed and sources.
        prompts: {prompt set: its prompts}; sets of which it drew nothing are left out.
        drawn: {prompt set: {guidance scale: (n, h, w, 3) uint8}}, one a prompt.
    """

    name: str
    folder: Path
    guidance: float
    threshold: float | None
    protocol: dict[str, Any]
    prompts: dict[str, list[str]]
    drawn: dict[str, dict[float, np.ndarray]]

    def requests(self) -> dict[tuple[str, float], np.ndarray]:
        """Return {(prompt set, guidance scale): its samples}."""
        return {
            (name, scale): pixels
            for name, by_scale in self.drawn.items()
            for scale, pixels in by_scale.items()
        }

    def identity(self) -> list[list]:
        """Return what tells these samples from others: a hash of each request's."""
        return [
            [name, scale, hashlib.sha256(pixels.tobytes()).hexdigest()]
            for (name, scale), pixels in self.requests().items()
        ]

    def first(self, num: int) -> "Row":
        """Return the row with the first prompts of each set alone."""
        drawn = {
            name: {scale: pixels[:num] for scale, pixels in by_scale.items()}
            for name, by_scale in self.drawn.items()
        }
        prompts = {name: asked[:num] for name, asked in self.prompts.items()}
        return replace(self, prompts=prompts, drawn=drawn)


def folders_of(scale: str) -> list[Path]:
    """Return the folders of variants that stage 05 has drawn, in their usual order."""
    found = paths.stage_dir(scale, "05_evaluate").glob("*/metrics.json")
    drawn = [file.parent for file in found if (file.parent / "samples.npz").is_file()]
    return sorted(drawn, key=lambda folder: (variant_place(folder.name), folder.name))


def read_rows(scale: str) -> list[Row]:
    """Return the variants of a scale; repeats from other seeds are left out.

    Raises:
        ManifestError: a variant was asked other prompts than those before it.
    """
    rows: list[Row] = []
    asked: dict[str, list[str]] = {}
    for folder in folders_of(scale):
        metrics = read_json(folder / "metrics.json")
        if metrics.get("of", folder.name) != folder.name:
            continue
        row = _read(folder, metrics)
        for name, prompts in row.prompts.items():
            if asked.setdefault(name, prompts) != prompts:
                raise ManifestError(
                    f"05_evaluate of {row.name} has other prompts `{name}` than that "
                    f"of {rows[0].name}; expected the same; run `dvc repro`."
                )
        rows.append(row)
    return rows


def _read(folder: Path, metrics: Mapping[str, Any]) -> Row:
    prompts, drawn = {}, {}
    for place, name in enumerate(metrics["protocol"]["prompts"]):
        own = folder / name if place else folder  # the first set leads
        if not (own / "samples.npz").is_file():
            continue  # guidance was tried on it with other variants only
        with np.load(own / "samples.npz") as arrays:
            drawn[name] = {
                float(key.removeprefix("guidance_")): arrays[key][:NUM_PROMPTS]
                for key in arrays.files
            }
        prompts[name] = read_json(own / "prompts.json")["prompts"][:NUM_PROMPTS]
    copies = metrics["copies"]
    # A published detector has another similarity than the one that pages take.
    threshold = None if "copy_rate_published" in copies else copies["threshold"]
    told = metrics["guidance_scale"], threshold, metrics["protocol"]
    return Row(folder.name, folder, *told, prompts, drawn)

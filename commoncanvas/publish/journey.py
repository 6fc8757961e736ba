"""One work carried through all stages: licence, captions, latents, noise, sample.

The front page shows it with this run's sample; `commoncanvas diagram` draws the same as
one picture, with the released model's sample, for the README.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from commoncanvas.analysis.figures import data_uri
from commoncanvas.captions.names import captioners_of
from commoncanvas.core import paths
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.picture_store import captions_file, picture_file, pictures_of
from commoncanvas.core.settings import load_yaml
from commoncanvas.evaluate.results import read_samples
from commoncanvas.latents.reader import Latents
from commoncanvas.models.encoders import decode_latents, load_vae
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.publish.pages import BASE_VARIANT
from commoncanvas.publish.side_by_side import (
    CREDIT,
    Column,
    own_column,
    released_columns,
    rows_of,
)

TIMESTEPS = (100, 250, 400, 600)  # of training's 1,000, that are shown
SEED = 17  # of the noise that is shown
MOST_CHANNELS = 9  # of the latents, that are shown
STORED_PX = 96  # of the work's picture
BY_GATE = "the first prompt of the gate, our fixed list, that names a held-out work"
BY_ORDER = "the first held-out work of this run's prompts"
PEOPLE = "people"  # whose captions come with the works


@dataclass(frozen=True)
class Journey:
    """One work on its way through the stages.

    work: its fields of `CREDIT`.
    rule: how it was chosen.
    pixels: (96, 96, 3) uint8, as stage 01 stored it.
    captions: (whose, text), the people's first.
    latents: (channels, h/8, w/8) float32, the mean of the posterior.
    noised: (timestep, (h, w, 3) uint8), decoded.
    sample: (by which model, (h, w, 3) uint8), asked for the work's name; or None.
    """

    work: dict[str, Any]
    rule: str
    pixels: np.ndarray
    captions: list[tuple[str, str]]
    latents: np.ndarray
    noised: list[tuple[int, np.ndarray]]
    sample: tuple[str, np.ndarray] | None


def journey_of(scale: str, model: str = "own") -> Journey | None:
    """Follow one work through the files of a run; None where stage 03 has none of it.

    The work is the one that the first row of the index shows; where the gate names no
    held-out work, or was not drawn so far, it is the leading set's first.

    Args:
        model: whose sample is shown: "own", of this run, or "released".
    """
    columns = own_column(scale) if model == "own" else released_columns()
    ((prompt, work),) = rows_of(scale, num=1)
    rule = BY_GATE
    if not work or (model == "own" and not any(prompt in c.drawn for c in columns)):
        rule = BY_ORDER
        prompt, work, columns = _first_prompt(scale)
    if (
        not work
        or not (paths.stage_dir(scale, "03_latents") / "index.parquet").exists()
    ):
        return None
    licensed = paths.stage_dir(scale, "01_licenses")
    latents, noised = _latents(scale, work["key"])
    drawn = [(c.title, c.drawn[prompt]) for c in columns if prompt in c.drawn]
    return Journey(
        work=work,
        rule=rule,
        pixels=pictures_of(licensed, [work["key"]], STORED_PX)[0],
        captions=[(PEOPLE, work["title"]), *_captions(scale, work["key"])],
        latents=latents,
        noised=noised,
        sample=drawn[0] if drawn else None,
    )


def _first_prompt(scale: str) -> tuple[str, dict[str, Any] | None, list[Column]]:
    """Return prompt, work and sample of the leading set's first held-out work."""
    folder = paths.stage_dir(scale, "05_evaluate", BASE_VARIANT)
    ids, licensed = folder / "prompt_ids.txt", paths.stage_dir(scale, "01_licenses")
    if not ids.is_file():
        return "", None, []
    key = ids.read_text(encoding="utf-8").partition("\n")[0]
    file = licensed / "catalog.parquet"
    works = pd.read_parquet(file, columns=CREDIT, filters=[("key", "==", key)])
    if works.empty:  # a caption of COCO, say, which is no work of ours
        return "", None, []
    pixels, prompts = read_samples(folder)
    column = Column(f"This run, {scale}", "", {prompts[0]: pixels[0]}, scale)
    return prompts[0], works.to_dict("records")[0], [column]


def _captions(scale: str, key: str) -> list[tuple[str, str]]:
    """Return (captioner, text) of what stage 02 wrote for a work."""
    licensed, told = (
        paths.stage_dir(scale, slug) for slug in ("01_licenses", "02_captions")
    )
    catalog, of_key = licensed / "catalog.parquet", [("key", "==", key)]
    found = pd.read_parquet(catalog, columns=["key", "file"], filters=of_key)
    file = captions_file(told, picture_file(licensed, int(found["file"].iloc[0])))
    names = captioners_of(read_manifest(told, verify=False)["facts"])
    rows = pd.read_parquet(file, filters=of_key)
    rows = rows[rows["source"].isin(names) & (rows["caption"] != "")]
    return [(str(row.source), str(row.caption)) for row in rows.itertuples()]


def _latents(scale: str, key: str) -> tuple[np.ndarray, list[tuple[int, np.ndarray]]]:
    """Return a work's latents, and what the VAE makes of them with noise added."""
    profile = load_yaml(paths.PROFILES / f"{scale}.yaml")
    folder, sources = paths.stage_dir(scale, "03_latents"), [key.partition("/")[0]]
    data = Latents(folder, ["c"], "human", holdout=True, sources=sources)
    mean, _ = data.posterior(torch.tensor([data.keys.index(key)]))
    settings, train = profile["latents"], profile["train"]
    vae = load_vae(settings["vae_folder"], settings["vae_revision"])
    schedule = make_noise_scheduler(
        train["prediction_type"], train["scheduler"], train["scheduler_revision"]
    )
    eps = torch.randn(mean.shape, generator=make_generator(SEED, "journey"))
    factor = vae.config.scaling_factor
    noised = []
    for timestep in TIMESTEPS:
        at = torch.tensor([timestep])
        latents = schedule.add_noise(mean * factor, eps, at)
        noised.append((timestep, decode_latents(vae, latents / factor)[0]))
    return mean[0].numpy(), noised


def as_grey(latents: np.ndarray, gap: int = 1) -> np.ndarray:
    """Return channels (channels, h, w) in a square of squares, as (…, …, 3) uint8.

    Each channel is scaled to 0 … 255 by itself; a white gap lies between them.
    """
    low = latents.min(axis=(1, 2), keepdims=True)
    high = latents.max(axis=(1, 2), keepdims=True)
    scaled = (255 * (latents - low) / np.maximum(high - low, 1e-6)).astype(np.uint8)
    num, height, width = scaled.shape
    columns = math.ceil(math.sqrt(num))
    rows = -(-num // columns)
    size = rows * (height + gap) - gap, columns * (width + gap) - gap
    grey = np.full(size, 255, np.uint8)
    for i, channel in enumerate(scaled):
        top, left = (i // columns) * (height + gap), (i % columns) * (width + gap)
        grey[top : top + height, left : left + width] = channel
    return np.repeat(grey[:, :, None], 3, axis=2)


def for_page(found: Journey) -> dict[str, Any]:
    """Return what the template of the index shows of a journey."""
    shape = found.latents.shape
    return {
        "work": found.work,
        "rule": found.rule,
        "picture": data_uri(found.pixels),
        "captions": found.captions,
        "latents": data_uri(_enlarged(as_grey(found.latents[:MOST_CHANNELS]), 120)),
        "channels": min(len(found.latents), MOST_CHANNELS),
        "shape": " × ".join(map(str, shape)),
        "values": f"{np.prod(shape):,}",
        "noised": [{"t": t, "uri": data_uri(pixels)} for t, pixels in found.noised],
        "model": found.sample and found.sample[0],
        "sample": found.sample and data_uri(found.sample[1]),
    }


def _enlarged(pixels: np.ndarray, side: int) -> np.ndarray:
    """Return pixels at about `side` wide, each as a square."""
    times = max(1, side // pixels.shape[1])
    return pixels.repeat(times, 0).repeat(times, 1)

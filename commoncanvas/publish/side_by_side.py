"""The same prompts side by side: real pictures, the reference, the release, this run.

All models draw the gate, a fixed list of prompts; the rows are those of its prompts
that name a held-out work, so that what should have come out stands beside what did.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.analysis.figures import data_uri
from commoncanvas.analysis.sheets import cut_tiles
from commoncanvas.claims.rules import load_paper
from commoncanvas.core import paths
from commoncanvas.core.files import read_json
from commoncanvas.core.manifest import NAME
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.core.settings import load_yaml
from commoncanvas.evaluate.prompts import gate_prompts
from commoncanvas.evaluate.results import read_samples
from commoncanvas.publish.pages import BASE_VARIANT
from commoncanvas.publish.scorecard import REFERENCE

NUM_ROWS = 6
PICTURE_PX = 64  # of a real picture, as of the samples
GATE = "gate"
PICKED = "retrieval_top1"
# What a column says below its title, of the rows that it may show.
TRAINED_ON = {
    "cc_synthetic": "licensed pictures, synthetic captions",
    "web_human": "web pictures, human captions",
}
CREDIT = ["key", "title", "author", "license_title", "license_deed", "pageurl"]


Picked = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """What one model drew: {prompt: (h, w, 3) uint8 pixels}, below a title.

    metrics: stage 05's, or None where none are kept.
    scale: of its run, whose profile says among how many names a sample is looked up.
    """

    title: str
    detail: str
    drawn: dict[str, np.ndarray]
    scale: str
    metrics: dict[str, Any] | None = None


def side_by_side(scale: str) -> dict[str, Any] | None:
    """Return columns, rows, sentence and rule, for the index; None without samples.

    A column whose files are missing is left out. A row has prompt, real (a picture's
    address with its credit, or None) and cells, one a column.
    """
    columns = [*_reference(scale), *released_columns(), *own_column(scale)]
    if not columns:
        return None
    chosen, picked = rows_of(scale), comparable([_picked(c) for c in columns])
    rows = []
    for prompt, work in chosen:
        cells = [c.drawn.get(prompt) for c in columns]
        uris = [None if pixels is None else data_uri(pixels) for pixels in cells]
        rows.append({"prompt": prompt, "real": work, "cells": uris})
    has_real = any(row["real"] for row in rows)
    return {
        "columns": [
            {"title": c.title, "detail": c.detail, "picked": told}
            for c, told in zip(columns, picked, strict=True)
        ],
        "rows": rows,
        "has_real": has_real,
        "sentence": _sentence(columns, picked),
        "num": len(rows),
    }


def rows_of(scale: str, num: int = NUM_ROWS) -> list[tuple[str, dict | None]]:
    """Return (prompt, the held-out work that it names, or None) for the index's rows.

    They are the first prompts of the gate that name one, then the gate's first others.
    Of several works of one name it is the first by key, among the sources that samples
    are measured against. A work has the fields of `CREDIT` and its picture as `uri`.
    """
    prompts = list(gate_prompts()["prompt"])
    folder = paths.stage_dir(scale, "01_licenses")
    own = _metrics(paths.stage_dir(scale, "05_evaluate", BASE_VARIANT))
    works = _named(folder, prompts, (own or {}).get("protocol", {}).get("sources"))
    order = sorted(prompts, key=lambda prompt: prompt not in works)
    chosen: list[tuple[str, dict | None]] = []
    for prompt in order[:num]:
        work = works.get(prompt)
        if work:
            work["pixels"] = pictures_of(folder, [work["key"]], 96)[0]
            work["uri"] = data_uri(work["pixels"])
        chosen.append((prompt, work))
    return chosen


def _named(
    folder: Path, prompts: Sequence[str], sources: Sequence[str] | None
) -> dict[str, dict]:
    """Return {prompt: the held-out licensed work of that title}."""
    file = folder / "catalog.parquet"
    if not file.is_file():
        return {}
    wanted = [("is_holdout", "==", True), ("split", "==", "c"), ("file", ">=", 0)]
    if sources:
        wanted.append(("source", "in", list(sources)))
    wanted.append(("title", "in", list(prompts)))
    rows = pd.read_parquet(file, columns=CREDIT, filters=wanted).sort_values("key")
    first = rows.drop_duplicates("title")
    return {str(row["title"]): row for row in first.to_dict("records")}


def own_column(scale: str) -> list[Column]:
    """Return this run's column; an empty list where it drew no gate."""
    folder = paths.stage_dir(scale, "05_evaluate", BASE_VARIANT)
    metrics = _metrics(folder)
    if not metrics or not (folder / GATE / "samples.npz").is_file():
        return []
    with np.load(folder / GATE / "samples.npz") as arrays:
        if len(arrays.files) > 1:  # a set on which guidance is tried is not judged
            return []
    pixels, prompts = read_samples(folder / GATE)
    detail = TRAINED_ON[BASE_VARIANT]
    drawn = dict(zip(prompts, pixels, strict=True))
    run = "Reference run" if scale == REFERENCE else "This run"
    return [Column(f"{run}, {scale}", detail, drawn, scale, metrics)]


def _reference(scale: str) -> list[Column]:
    """Return the reference run's columns: the base variant's, and the web's."""
    columns = []
    for variant in (BASE_VARIANT, load_paper().comparison.against):
        folder = paths.RESULTS / REFERENCE / variant
        metrics = _metrics(folder)
        is_own = scale == REFERENCE and variant == BASE_VARIANT
        measured = (metrics or {}).get("by_prompt", {}).get(GATE)
        if is_own or not measured or not (folder / "gate.png").is_file():
            continue
        num = next(iter(measured.values()))["n"]
        with Image.open(folder / "gate.png") as sheet:
            tiles = cut_tiles(sheet, num)
        drawn = dict(zip(gate_prompts()["prompt"][:num], tiles, strict=True))
        title = f"Reference run, {REFERENCE}"
        detail = TRAINED_ON.get(variant, variant)
        columns.append(Column(title, detail, drawn, REFERENCE, metrics))
    return columns


def released_models() -> list[Path]:
    """Return the folders of `results/` that hold released models, sorted."""
    return sorted(file.parent for file in paths.RESULTS.glob(f"model*/{NAME}"))


def released_columns() -> list[Column]:
    """Return a column for each released model: its sheet's first seed."""
    return [column for folder in released_models() for column in _released(folder)]


def _released(folder: Path) -> list[Column]:
    files = [folder / name for name in ("sheet.png", "sheet.json", NAME)]
    if not all(file.is_file() for file in files):
        return []
    shows, manifest = read_json(files[1]), read_json(files[2])
    with Image.open(files[0]) as sheet:
        tiles = cut_tiles(sheet, len(shows["prompts"]))
    side = tiles.shape[2]  # the seeds of a prompt stand one below the other
    drawn = dict(zip(shows["prompts"], tiles[:, :side], strict=True))
    facts = manifest["facts"]
    detail = f"{facts['works']:,} works, {facts['caption_source']} captions"
    metrics = _metrics(paths.RESULTS / manifest["scale"] / manifest["variant"])
    return [Column("Released model", detail, drawn, manifest["scale"], metrics)]


def _metrics(folder: Path) -> dict[str, Any] | None:
    file = folder / "metrics.json"
    return read_json(file) if file.is_file() else None


def comparable(picked: Sequence[Picked | None]) -> list[Picked | None]:
    """Keep the values that were measured as the last one was; None for the others.

    A share of right names depends on how many names there are to choose from, and on
    the sets whose names are asked for: those of a set that was trained on are easier.
    """
    last = next((told for told in reversed(picked) if told), None)
    asked = last and (last["names"], last["sources"])
    return [
        told if told and (told["names"], told["sources"]) == asked else None
        for told in picked
    ]


def _picked(column: Column) -> Picked | None:
    """Return how often a network picks the right name for a column's samples.

    That is words, the number of names, the sets that they are from, and whether it is
    more often than by chance; None where it was not measured.
    """
    by_prompt = (column.metrics or {}).get("by_prompt") or {}
    first = next(iter(by_prompt.values()), None)
    if not first or not (found := first.get(PICKED)):
        return None
    profile = load_yaml(paths.PROFILES / f"{column.scale}.yaml")
    names = profile["evaluate"]["num_choices"]
    estimate = Estimate.from_dict(found)
    is_above = estimate.low > 1 / names
    found = {"words": f"{estimate:.1%}", "names": names, "is_above": is_above}
    return found | {"sources": (column.metrics or {})["protocol"]["sources"]}


def _sentence(columns: Sequence[Column], picked: Sequence[Picked | None]) -> str:
    """Say what the last line of the rows holds, and whose samples beat chance."""
    found = [pair for pair in zip(columns, picked, strict=True) if pair[1]]
    if not found:
        return ""
    own, told = found[-1]
    assert told
    chance = f"{1 / told['names']:.0%}".replace("%", " %")
    verb = "more often than by" if told["is_above"] else "no more often than by"
    return (
        "How often a scorer that is shown a sample picks its prompt among "
        f"{told['names']:,} names of held-out works, with 95 % intervals; by chance it "
        f"would for {chance}; a dash where it was asked for names of other sets. "
        f"{own.title}: {verb} chance."
    )

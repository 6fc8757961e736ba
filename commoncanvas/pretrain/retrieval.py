"""Stage 00: the features and names of captioned web pictures, for `RetrievalCaptioner`.

`make second-captioner` writes them alone, in two minutes, and leaves the other parts as
they are. Nothing is trained but the axes of a principal component analysis.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from commoncanvas.analysis.estimates import mean_interval, wilson
from commoncanvas.captions.text import exact_match, word_f1
from commoncanvas.core import paths
from commoncanvas.core.images import flatten
from commoncanvas.core.settings import load_yaml
from commoncanvas.models.efficientnet import image_features
from commoncanvas.models.retrieval import PART, RetrievalCaptioner
from commoncanvas.pretrain.training import write_part_manifest
from commoncanvas.pretrain.websets import captioned, load_pictures, sample_of

WIDTH = 128  # axes that are kept of 1,280


def write_retrieval(pixels: np.ndarray, names: Sequence[str], folder: Path) -> None:
    """Write what a `RetrievalCaptioner` reads, features in float16.

    Args:
        pixels: (n, h, w, 3) uint8 pictures, more than one.
        names: of each.
    """
    features = image_features(pixels)
    mean = features.mean(0)
    _, _, axes = np.linalg.svd(features - mean, full_matrices=False)
    axes = axes[:WIDTH].T
    tables = {"mean": mean, "axes": axes, "features": (features - mean) @ axes}
    folder.mkdir(parents=True, exist_ok=True)
    halves = {k: np.ascontiguousarray(v, np.float16) for k, v in tables.items()}
    save_file(halves, folder / "features.safetensors")
    config = {"width": axes.shape[1], "num_pictures": len(names)}
    for name, content in {"names": list(names), "config": config}.items():
        text = json.dumps(content) + "\n"
        (folder / f"{name}.json").write_text(text, encoding="utf-8")


def write_beside(settings: dict[str, Any], seed: int, folder: Path) -> None:
    """Write and measure it on the pictures that stage 00 has.

    Args:
        settings: the section `pretrain` of its profile: sets, held-out style, size.
        folder: where it goes; what lies beside it stays. metrics.json there says what
            it reaches, by set.
    """
    size = settings["picture_size_px"]
    rows, rgba = load_pictures(settings["web_sources"], size)
    kept, titles = captioned(rows)
    taught = [
        (i, title)
        for i, title in zip(kept, titles, strict=True)
        if rows[i]["source"] != settings["held_out_style"]
    ]
    places = [i for i, _ in taught]
    write_retrieval(flatten(rgba[places]), [title for _, title in taught], folder)
    write_part_manifest(folder)
    captioner, measured = RetrievalCaptioner(folder), {}
    rows, rgba = load_pictures(settings["test_sources"], size)
    chosen = sample_of(rows, settings["test_size"], seed)
    for source in settings["test_sources"]:
        own = [i for i in chosen if rows[i]["source"] == source]
        said = captioner.caption(flatten(rgba[own]))
        pairs = [(text, rows[i]["title"]) for text, i in zip(said, own, strict=True)]
        exact = wilson(sum(exact_match(*pair) for pair in pairs), len(pairs))
        shared = mean_interval([word_f1(*pair) for pair in pairs])
        measured[source] = {"exact": exact.as_dict(), "word_f1": shared.as_dict()}
    text = json.dumps(measured, indent=1) + "\n"
    (folder / "metrics.json").write_text(text, encoding="utf-8")
    write_part_manifest(folder)


def write_into_place() -> None:
    """Write it into `pretrained/`, and say how well it does."""
    profile = load_yaml(paths.PROFILES / "pretrain.yaml")
    folder = paths.PRETRAINED / PART
    write_beside(profile["pretrain"], profile["common"]["seed"], folder)
    print(f"{folder.name}: {folder / 'metrics.json'} says how often it is right")

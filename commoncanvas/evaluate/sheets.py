"""Contact sheets of samples, beside the works that their prompts name."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML

from commoncanvas.analysis import figures
from commoncanvas.core.picture_store import pictures_of

THE_WORK = "the work itself"  # head of the column of works


def named_works(
    licenses_folder: Path, ids: Sequence[str], size: int
) -> list[np.ndarray | None]:
    """Return the (size, size, 3) uint8 picture of the work of each prompt.

    Args:
        licenses_folder: of stage 01.
        ids: of prompts; that of a prompt which belongs to a work is the work's key.

    Returns:
        One a prompt, None where it belongs to no work.
    """
    known = pd.read_parquet(
        licenses_folder / "catalog.parquet",
        columns=["key"],
        filters=[("key", "in", sorted(set(ids))), ("file", ">=", 0)],
    )["key"].tolist()
    found: dict[str, np.ndarray] = {}
    if known:
        pictures = pictures_of(licenses_folder, known, size)
        found = dict(zip(known, pictures, strict=True))
    return [found.get(key) for key in ids]


def below_works(
    pixels: np.ndarray,
    prompts: pd.DataFrame,
    licenses_folder: Path,
    caption: str | None = None,
) -> HTML:
    """Return samples, each below the work that its prompt names, with the prompt once.

    Where no prompt belongs to a work, the samples stand alone.

    Args:
        pixels: (n, h, w, 3) uint8 samples, square.
        prompts: of the samples, with the columns prompt and id.
    """
    works = named_works(licenses_folder, prompts["id"].tolist(), pixels.shape[2])
    alt, tiles = "Samples in the order of their prompts", list(pixels)
    if any(work is not None for work in works):
        alt += ", each below the work that its prompt names"
        blank = np.full_like(pixels[0], 255)
        tiles = [
            np.concatenate([blank if work is None else work, sample])
            for work, sample in zip(works, pixels, strict=True)
        ]
        caption = f"Above the work that is named, below the sample; {caption}"
    labels = prompts["prompt"].tolist()
    return figures.sheet(np.stack(tiles), labels, 8, alt, caption)


def side_by_side(
    drawn: Mapping[str, Sequence[np.ndarray]],
    prompts: pd.DataFrame,
    licenses_folder: Path,
    caption: str | None = None,
) -> HTML:
    """Return one row a prompt: the work that it names, then each variant's sample.

    Args:
        drawn: {variant: its samples of these prompts, (h, w, 3) uint8 each}, of more
            prompts than are shown, too.
        prompts: those to show, with the columns prompt and id.
    """
    size = next(iter(drawn.values()))[0].shape[1]
    works = named_works(licenses_folder, prompts["id"].tolist(), size)
    has_works = any(work is not None for work in works)
    rows = [
        ([work] if has_works else []) + [samples[place] for samples in drawn.values()]
        for place, work in enumerate(works)
    ]
    heads = ([THE_WORK] if has_works else []) + list(drawn)
    alt = "Samples of every variant for the same prompts and seeds"
    alt += ", beside the work that the prompt names" if has_works else ""
    return figures.rows(rows, prompts["prompt"].tolist(), heads, alt, caption)

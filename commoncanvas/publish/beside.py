"""The training works that shown samples resemble, found while pages are written.

Stage 05 compares the samples of the leading prompts and keeps only its counts; here the
shown samples of every set are compared, in the same way, and the result is kept under
all that it depends on.
"""

import itertools
from collections.abc import Sequence

import pandas as pd
import torch

from commoncanvas.core import keys, paths
from commoncanvas.core.files import read_json, write_json
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.picture_store import hash_of
from commoncanvas.evaluate.nearest import TrainingWorks, nearest
from commoncanvas.publish.rows import Row

NUM_NEAREST = 3  # works beside a sample
MOST_WORKS = 50_000  # of a variant that are searched: as many take about a minute

# {(prompt set, guidance scale): [[(key, similarity), …] of each sample]}
Near = dict[tuple[str, float], list[list[tuple[str, float]]]]


def find_near(scale: str, rows: Sequence[Row]) -> dict[str, Near | None]:
    """Find the training works closest to each sample, closest first.

    Returns:
        {variant: its `Near`}; None of one whose works are not known, as of a published
        model, or are too many to be searched while pages are written.

    Raises:
        ManifestError: stage 01 has not run, or lacks a work.
    """
    folder = paths.stage_dir(scale, "01_licenses")
    searched = {row.name: _works_of(scale, row.name) for row in rows}
    key = keys.key_of(
        pictures=hash_of(read_manifest(folder, verify=False)),
        works=searched,
        samples={row.name: row.identity() for row in rows},
        num=NUM_NEAREST,
        code=keys.code_hash("evaluate.nearest"),
    )
    file = keys.work_folder(key) / "near.json"
    if not file.is_file():
        torch.set_num_threads(1)  # the same last digits on any number of cores
        found = {}
        for row in rows:
            own = searched[row.name]
            found[row.name] = _search(row, TrainingWorks(folder, own)) if own else None
        write_json(file, found)
    told = read_json(file)
    keys.finish(key)
    return {row.name: _by_request(row, told[row.name]) for row in rows}


def _works_of(scale: str, variant: str) -> list[str]:
    """Return the keys of a variant's own training works; none as in `find_near`."""
    file = paths.stage_dir(scale, "04_train", variant) / "works.parquet"
    if not file.is_file():
        return []
    works = pd.read_parquet(file)
    if "model" in works:  # what it was trained from learnt of other works
        works = works[works["model"] == f"{scale}/{variant}"]
    return sorted(works["key"]) if len(works) <= MOST_WORKS else []


def _search(row: Row, works: TrainingWorks) -> list[list[tuple[str, float]]]:
    """Return (key, similarity) of each sample's closest works, all samples in turn."""
    pixels = itertools.chain.from_iterable(row.requests().values())
    places, similarity = nearest(pixels, works, NUM_NEAREST)
    return [
        list(zip(names, scores, strict=True))
        for names, scores in zip(
            works.keys[places].tolist(), similarity.tolist(), strict=True
        )
    ]


def _by_request(row: Row, found: list | None) -> Near | None:
    if found is None:
        return None
    rest = iter(found)
    return {
        request: [[(key, score) for key, score in next(rest)] for _ in pixels]
        for request, pixels in row.requests().items()
    }

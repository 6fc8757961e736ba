"""The samples that stage 05 measures, drawn batch by batch and no batch twice.

Drawing takes long. A batch that is drawn lies in `.checkpoints/<key>/`, so that an
interrupted evaluation goes on from there, and one of which only tables or plots changed
draws nothing. The batches are drawn by this process, or by the workers of a Ray
cluster, one a GPU; each draws whole batches, so the pictures are the same. They stay in
their files: a million of them would not fit in memory.
"""

import functools
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from commoncanvas.core.images import encode_png
from commoncanvas.core.keys import code_hash, key_of
from commoncanvas.core.pictures import largest_center_square
from commoncanvas.core.shards import shard_files
from commoncanvas.models.pipelines import draw_batch, load_pipeline

Request = tuple[str, float]  # a prompt set's name and a guidance scale


@dataclass(frozen=True)
class Batch:
    """Prompts of one call of the pipeline; the first is number `first` of its set."""

    prompts: list[str]
    first: int
    guidance_scale: float


class Samples(Sequence[np.ndarray]):
    """The pictures of one request, (h, w, 3) uint8 each, read from files when asked.

    Iteration holds one batch in memory; an index gives a picture, a slice or a list of
    places an array (n, h, w, 3).
    """

    def __init__(self, files: Sequence[Path], batch_size: int, num: int) -> None:
        self.files, self.batch_size, self.num = list(files), batch_size, num

    def __len__(self) -> int:
        return self.num

    def __iter__(self) -> Iterator[np.ndarray]:
        for file in self.files:
            yield from _pictures(file)

    # A list of places is more than a sequence's own index may be.
    def __getitem__(self, wanted: Any) -> np.ndarray:  # type: ignore[override]
        if isinstance(wanted, int | np.integer):
            return self[[wanted]][0]
        every = range(self.num)
        places = every[wanted] if isinstance(wanted, slice) else wanted
        numbers, rows = np.divmod([every[int(i)] for i in places], self.batch_size)
        found: dict[int, np.ndarray] = {}
        for number in np.unique(numbers):  # each file is read once
            is_in = np.flatnonzero(numbers == number)
            pixels = _pictures(self.files[number], rows[is_in])
            found |= dict(zip(is_in.tolist(), pixels, strict=True))
        return np.stack([found[i] for i in range(len(rows))])

    @property
    def size(self) -> int:
        """Edge of the pictures [pixels]."""
        return len(self[0])


def requests_of(
    sets: Mapping[str, pd.DataFrame], scales: Sequence[float]
) -> dict[Request, list[str]]:
    """Ask for every set's prompts, its column prompt, at every guidance scale."""
    return {
        (name, scale): rows["prompt"].tolist()
        for name, rows in sets.items()
        for scale in scales
    }


def draw_requests(
    pipeline: Path,
    files: Mapping[str, Mapping[str, Any]],
    requests: Mapping[Request, Sequence[str]],
    num_inference_steps: int,
    seed: int,
    batch_size: int,
    size: int,
    dtype: str = "float32",
    engine: str = "local",
) -> tuple[str, dict[Request, Samples]]:
    """Draw one picture a prompt for every request, as `pipelines.draw_samples` does.

    Args:
        pipeline: folder of a `StableDiffusionPipeline`.
        files: of stage 04's manifest; those of the pipeline are part of the key.
        requests: {(prompt set, guidance scale): its prompts}; of none, nothing.
        size: edge of the pictures; those of a pipeline that draws at another are
            resized (Lanczos), so that all rows are compared alike [pixels].
        dtype: see `load_pipeline`.
        engine: "local", or "ray" for a Ray cluster; see `shards`.

    Returns:
        (key, {request: its `Samples`}), the key for `keys.finish`, which moves them.
    """
    hashes = {name: facts["sha256"] for name, facts in files.items() if _draws(name)}
    key = key_of(
        pipeline=hashes,
        requests=[[scale, list(words)] for (_, scale), words in requests.items()],
        settings=[num_inference_steps, seed, batch_size, size, dtype],
        code=code_hash("evaluate.samples"),
    )
    batches = [
        Batch(list(prompts[first : first + batch_size]), first, guidance_scale)
        for (_, guidance_scale), prompts in requests.items()
        for first in range(0, len(prompts), batch_size)
    ]
    if not batches:
        return key, {}
    how = str(pipeline), dtype, num_inference_steps, seed, size
    draw = functools.partial(_table, *how)
    drawn = shard_files(key, batches, 1, draw, "batches of samples", engine)
    samples, start = {}, 0
    for request, prompts in requests.items():
        end = start + -(-len(prompts) // batch_size)
        samples[request] = Samples(drawn[start:end], batch_size, len(prompts))
        start = end
    return key, samples


def _draws(name: str) -> bool:
    """Say whether pictures depend on a file of stage 04; the model card has no part."""
    cards = ("README.md", "card.json")
    return name.startswith("pipeline/") and not name.endswith(cards)


def _table(
    folder: str, dtype: str, steps: int, seed: int, size: int, batches: list[Batch]
) -> pa.Table:
    (batch,) = batches  # a shard each
    pipeline = load_pipeline(folder, dtype)
    pixels = draw_batch(
        pipeline, batch.prompts, batch.first, batch.guidance_scale, steps, seed
    )
    pictures: Iterable[np.ndarray] = pixels
    if pixels.shape[1:3] != (size, size):
        pictures = (largest_center_square(Image.fromarray(p), size) for p in pixels)
    return pa.table({"png": [encode_png(picture) for picture in pictures]})


def _pictures(file: Path, rows: np.ndarray | None = None) -> np.ndarray:
    stored = pq.read_table(file)["png"]
    data = (stored if rows is None else stored.take(rows)).to_pylist()
    return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in data])

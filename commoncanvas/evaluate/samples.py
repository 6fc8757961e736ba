"""The samples that stage 05 measures, drawn batch by batch and no batch twice.

Drawing takes long. A batch that is drawn lies in `.checkpoints/<key>/`, so that an
interrupted evaluation goes on from there, and one of which only tables or plots changed
draws nothing.
"""

import functools
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from commoncanvas.core.images import encode_png
from commoncanvas.core.keys import code_hash, key_of
from commoncanvas.core.shards import shard_files
from commoncanvas.models.pipelines import draw_batch

Request = tuple[str, float]  # a prompt set's name and a guidance scale


@dataclass(frozen=True)
class Batch:
    """Prompts of one call of the pipeline; the first is number `first` of its set."""

    prompts: list[str]
    first: int
    guidance_scale: float


def draw_requests(
    pipeline: Any,
    files: Mapping[str, Mapping[str, Any]],
    requests: Mapping[Request, Sequence[str]],
    num_inference_steps: int,
    seed: int,
    batch_size: int,
) -> tuple[str, dict[Request, np.ndarray]]:
    """Draw one picture a prompt for every request, as `pipelines.draw_samples` does.

    Args:
        pipeline: a `StableDiffusionPipeline`.
        files: of stage 04's manifest; those of the pipeline are part of the key.
        requests: {(prompt set, guidance scale): its prompts}.

    Returns:
        (key, {request: (n, h, w, 3) uint8}), the key for `keys.finish`.
    """
    hashes = {name: facts["sha256"] for name, facts in files.items() if _draws(name)}
    key = key_of(
        pipeline=hashes,
        requests=[[scale, list(words)] for (_, scale), words in requests.items()],
        settings=[num_inference_steps, seed, batch_size],
        code=code_hash("evaluate.samples"),
    )
    batches = [
        Batch(list(prompts[first : first + batch_size]), first, guidance_scale)
        for (_, guidance_scale), prompts in requests.items()
        for first in range(0, len(prompts), batch_size)
    ]
    draw = functools.partial(_table, pipeline, num_inference_steps, seed)
    drawn = iter(shard_files(key, batches, 1, draw, "batches of samples"))
    samples = {}
    for request, prompts in requests.items():
        num_batches = math.ceil(len(prompts) / batch_size)
        parts = [_pictures(next(drawn)) for _ in range(num_batches)]
        samples[request] = np.concatenate(parts)
    return key, samples


def _draws(name: str) -> bool:
    """Say whether pictures depend on a file of stage 04; the model card has no part."""
    cards = ("README.md", "card.json")
    return name.startswith("pipeline/") and not name.endswith(cards)


def _table(pipeline: Any, steps: int, seed: int, batches: list[Batch]) -> pa.Table:
    (batch,) = batches  # a shard each
    pixels = draw_batch(
        pipeline, batch.prompts, batch.first, batch.guidance_scale, steps, seed
    )
    return pa.table({"png": [encode_png(picture) for picture in pixels]})


def _pictures(file: Path) -> np.ndarray:
    stored = pq.read_table(file)["png"].to_pylist()
    return np.stack([np.asarray(Image.open(io.BytesIO(png))) for png in stored])

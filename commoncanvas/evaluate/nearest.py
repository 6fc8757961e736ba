"""The training pictures that a picture is closest to.

Pictures are compared by the low frequencies of 16 x 16 pixels, which blur, noise and
JPEG hardly change; of each work many windows are compared, so that a crop is found too.
Tried and worse on real pictures: pooled EfficientNet features, which take every second
blurred picture for another work, and a gain for each colour, which takes a blue heart
for a violet one.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.fft import dct

from commoncanvas.core.errors import ManifestError
from commoncanvas.core.images import pixels_to_images, stored_pixels
from commoncanvas.core.picture_store import picture_files, read_keys, read_pictures
from commoncanvas.core.pictures import largest_center_square

EDGE = 16  # of what is compared [pixels]; at 32, noise and blur hide more copies
WORK_EDGE = 32  # of the picture that windows are cut from [pixels]
CANDIDATES = 5  # works that are aligned; the source is among them 99 times in 100
# A window of the work: its edge, and how many lie side by side [share of the picture].
WINDOWS = {1.0: 1, 0.9: 2, 0.85: 3, 0.75: 3, 1.1: 2}
STEPS = (0.04, 0.015)  # by which the best window is then moved and scaled [share]

_WINDOWS = torch.tensor(
    [
        (top, left, edge)
        for edge, number in WINDOWS.items()
        for top, left in itertools.product(np.linspace(0, 1 - edge, number), repeat=2)
    ],
    dtype=torch.float32,
)
# Down, right and larger about its middle, each by one step, none or one step back.
_MOVES = torch.tensor(
    [
        (down - more, right - more, 2 * more)
        for down, right, more in itertools.product((-1.0, 0.0, 1.0), repeat=3)
    ]
)
_DCT = torch.from_numpy(dct(np.eye(EDGE), axis=0, norm="ortho")[:12]).float()
# Drawings differ least in the lowest frequencies; the very lowest is the brightness.
_WEIGHTS = torch.hypot(torch.arange(12.0)[:, None], torch.arange(12.0)).sqrt()


class TrainingWorks:
    """The works that a variant trained on; their pictures are read chunk by chunk.

    Attributes:
        keys, groups: (n,) object, the works in the file's order and the key of the
            first near copy of each; see `duplicates.mark_duplicates`.

    Raises:
        ManifestError: a work has no picture in the folder of stage 01.
    """

    def __init__(
        self, folder: Path, keys: Iterable[str], chunk_size: int = 128
    ) -> None:
        self.folder, self.chunk_size, wanted = folder, chunk_size, set(keys)
        columns = ["key", "split", "near_group"]
        catalog = pd.read_parquet(folder / "catalog.parquet", columns=columns)
        self.catalog = catalog[catalog["near_group"].notna()].set_index("key")
        self._wanted = wanted
        stored = map(read_keys, picture_files(folder))
        kept = [key for keys in stored for key in keys if key in wanted]
        self.keys = np.array(kept, object)
        self.groups = self.catalog.loc[self.keys, "near_group"].to_numpy(object)
        if lost := len(wanted) - len(self.keys):
            raise ManifestError(
                f"{lost} of {len(wanted)} works have no picture in 01_licenses; "
                "expected one each; run 01_licenses and what follows it again."
            )

    def __len__(self) -> int:
        return len(self.keys)

    def chunks(self) -> Iterator[tuple[int, torch.Tensor]]:
        """Yield (place of the first, its chunk's (c, 3, 32, 32) images in [−1, 1])."""
        for first, chunk in self.stored():
            pixels = [stored_pixels(data, WORK_EDGE) for data in chunk]
            yield first, pixels_to_images(np.stack(pixels))

    def stored(self) -> Iterator[tuple[int, list[bytes]]]:
        """Yield (place of the first, its chunk's pictures as they are stored)."""
        first = 0
        for file in picture_files(self.folder):
            rows = [data for key, data in read_pictures(file) if key in self._wanted]
            for start in range(0, len(rows), self.chunk_size):
                chunk = rows[start : start + self.chunk_size]
                yield first, chunk
                first += len(chunk)

    def comparable(self) -> pd.DataFrame:
        """Return the catalogue's rows of the same splits, trained on or not."""
        splits = self.catalog.loc[self.keys, "split"].unique()
        return self.catalog[self.catalog["split"].isin(splits)]


@torch.no_grad()
def nearest(
    pixels: Iterable[np.ndarray],
    works: TrainingWorks,
    k: int = CANDIDATES,
    groups: Sequence | np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find the works that each picture is closest to.

    Candidates are those of which a window, mirrored or not, is most similar; their
    windows are then moved and scaled in small steps. Similarity is the cosine of
    weighted frequencies: brightness, contrast and a cast of colour do not count.
    Memory grows with n and the works' chunk, not with their number.

    Args:
        pixels: (h, w, 3) uint8 each, n of them, read once.
        k: works to name for each picture.
        groups: (n,) near group of each picture, whose works are left out; None for
            none, also of one picture.

    Returns:
        (places, similarity): (n, k) int64 and (n, k) float64 in [−1, 1] to four
        decimals, closest first; fewer columns where there are fewer works.
    """
    small = [largest_center_square(Image.fromarray(p), WORK_EDGE) for p in pixels]
    num = len(small)
    images = _cut(pixels_to_images(np.stack(small)), _WINDOWS[:1].expand(num, -1, -1))
    images = torch.cat([images, images.flip(-1)], 1)  # (num, 2, 3, 16, 16), 1 mirrored
    wanted = _frequencies(images, 8).flatten(0, 1)  # (num * 2, frequencies)
    named = np.array([] if groups is None else groups, object)
    grouped = np.flatnonzero([group is not None for group in named])
    named = named[grouped]
    # Of the best works so far: score, place, and view, which is the best of a work's
    # windows for the picture (view < len(_WINDOWS)) or its mirror image; (num, best).
    scores = torch.empty(num, 0)
    places = views = torch.empty(num, 0, dtype=torch.int64)
    pictures: dict[int, torch.Tensor] = {}  # (3, 32, 32) of these works, by place
    for first, found in works.chunks():
        # First every window of every work of the chunk, at the lowest frequencies only.
        seen = _frequencies(_cut(found, _WINDOWS.expand(len(found), -1, -1)), 8)
        products = (wanted @ seen.flatten(0, 1).T).view(num, 2, len(seen), -1)
        # (num, chunk, 2 * windows) to the best view of each work, (num, chunk).
        new_scores, new_views = products.transpose(1, 2).flatten(2).max(2)
        if len(grouped):
            own = works.groups[first : first + len(seen)] == named[:, None]
            rows, columns = np.nonzero(own)
            new_scores[grouped[rows], columns] = -1
        new_places = torch.arange(first, first + len(seen)).expand(num, -1)
        scores = torch.cat([scores, new_scores], 1)
        places = torch.cat([places, new_places], 1)
        views = torch.cat([views, new_views], 1)
        order = _descending(scores, max(k, CANDIDATES))
        scores, places, views = (x.gather(1, order) for x in (scores, places, views))
        # Cloned, because a part of a chunk would keep all of it in memory.
        pictures = {
            place: pictures[place] if place < first else found[place - first].clone()
            for place in places.unique().tolist()
        }
    # Then the candidates alone, all frequencies, each from its best window on.
    mirrored, windows = views // len(_WINDOWS), _WINDOWS[views % len(_WINDOWS)]
    aligned = [
        _aligned(image[sides], torch.stack([pictures[p] for p in row]), boxes)
        for image, sides, row, boxes in zip(
            images, mirrored, places.tolist(), windows, strict=True
        )
    ]
    similarity = torch.stack(aligned).where(scores > -1, -1)  # (num, candidates)
    order = _descending(similarity, k)
    similarity = similarity.gather(1, order)
    return places.gather(1, order).numpy(), similarity.double().numpy().round(4)


def _cut(images: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
    """Cut (n, w, 3) windows of (n, 3, h, h) images: (n, w, 3, 16, 16); edges go on."""
    ticks = (torch.arange(EDGE) + 0.5) / EDGE  # middles of the pixels of a window
    # (n, w, 16) each; the sampler counts from −1 to 1.
    rows, columns = (
        2 * (windows[..., i, None] + windows[..., 2:] * ticks) - 1 for i in (0, 1)
    )
    grid = torch.broadcast_tensors(columns[..., None, :], rows[..., :, None])
    cut = torch.nn.functional.grid_sample(
        images,
        torch.stack(grid, -1).flatten(1, 2),  # (n, w * 16, 16, 2), x before y
        padding_mode="border",
        align_corners=False,
    )
    return cut.unflatten(2, (-1, EDGE)).transpose(1, 2)  # from (n, 3, w * 16, 16)


def _frequencies(images: torch.Tensor, number: int = 12) -> torch.Tensor:
    """Map (..., 3, 16, 16) to weighted frequencies (..., 3 * number²) of length one."""
    waves = _DCT[:number]
    found = (waves @ images @ waves.T * _WEIGHTS[:number, :number]).flatten(-3)
    return torch.nn.functional.normalize(found, dim=-1, eps=1e-3)  # of a blank, near 0


def _aligned(
    images: torch.Tensor, pictures: torch.Tensor, windows: torch.Tensor
) -> torch.Tensor:
    """Return the (pairs,) similarity after moving and scaling each pair's window."""
    wanted = _frequencies(images)[..., None]  # (pairs, frequencies, 1)
    for step in STEPS:
        # Of all moves by one step the best is kept: (pairs, moves, 3) to (pairs, 3).
        tried = windows[:, None] + step * _MOVES
        scores, best = (_frequencies(_cut(pictures, tried)) @ wanted)[..., 0].max(1)
        windows = tried[torch.arange(len(tried)), best]
    return scores


def _descending(scores: torch.Tensor, k: int) -> torch.Tensor:
    """Return the places of the k largest scores of each row, the first of equals first.

    Rounded, because a product's last digits depend on how many rows it has.
    """
    rounded = scores.mul(1e4).round()
    return rounded.sort(dim=1, descending=True, stable=True).indices[:, :k]

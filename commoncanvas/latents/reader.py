"""Reads the tensors of stage 03, mapped from disk.

Each file is hashed when it is opened, once a process, and compared with the folder's
manifest: a stage reads a few files of the terabytes that a folder may hold.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open

from commoncanvas.core.errors import ManifestError, ShapeError
from commoncanvas.core.files import shown
from commoncanvas.latents.mirror import local_files, read_listing
from commoncanvas.latents.selection import choose_works, read_index


class _Rows:
    """Rows of one tensor that lies in several files, mapped into memory.

    The system reads the pages of the rows that are asked for, and drops them when
    memory is short. Nothing stays open: a mapping needs no file descriptor.
    """

    def __init__(self, files: Sequence[Path], name: str) -> None:
        self.parts = []
        for file in files:
            with safe_open(file, "pt") as opened:
                # Of torch, this is a view onto the mapped file; of NumPy, a copy.
                self.parts.append(opened.get_tensor(name).numpy())
        self.starts = np.cumsum([0, *map(len, self.parts)])
        self.shape = self.parts[0].shape[1:]

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, wanted: torch.Tensor) -> torch.Tensor:
        """Return (batch, *shape) of (batch,) int64 rows, in the order asked."""
        rows = wanted.numpy()
        # The file that holds each row, and the row's place in it, both (batch,).
        files = np.searchsorted(self.starts, rows, "right") - 1
        places = rows - self.starts[files]
        found = np.empty((len(rows), *self.shape), self.parts[0].dtype)
        pairs = zip(files.tolist(), places.tolist(), strict=True)
        for number, (file, place) in enumerate(pairs):
            found[number] = self.parts[file][place]
        return torch.from_numpy(found)


class Latents:
    """Latents and text states of one stage 03 folder, mapped into memory.

    `buckets` has for each bucket the (n,) int64 places of its works, ascending; most
    folders have one.

    Args:
        folder: written by `write_latents`, or its address; see `local_files`.
        licenses, caption_source, fraction, holdout, sources, num, shuffle_seed: see
            `choose_works`.
        cache: where the files of an address are kept; see `local_files`.

    Raises:
        ParameterError: no work is left, a source has none, or the address no driver.
        ManifestError: the folder, or a file of it, is missing, or not what the
            folder's manifest says, if it has one.
    """

    def __init__(
        self,
        folder: Path | str,
        licenses: Sequence[str],
        caption_source: str | Mapping[str, float],
        fraction: float = 1.0,
        holdout: bool = False,
        sources: Sequence[str] | None = None,
        num: int = 0,
        shuffle_seed: int | None = None,
        cache: Path | None = None,
    ) -> None:
        self._folder, self._cache = folder, cache
        self._listing = read_listing(folder, cache)
        index = read_index(folder, caption_source, cache, self._listing)
        self._works = choose_works(
            index,
            licenses,
            caption_source,
            fraction,
            holdout,
            sources,
            num,
            shuffle_seed,
        )
        self._num_works, is_one = len(index), "bucket" not in index.column_names
        numbers = (
            np.zeros(len(index), np.int8) if is_one else index["bucket"].to_numpy()
        )
        del index  # what follows takes about 20 bytes a work and caption, and its key
        sizes = np.bincount(numbers)
        rows = np.zeros(len(numbers), np.int32)  # each work's, in its bucket's files
        for number, size in enumerate(sizes):
            rows[numbers == number] = np.arange(size)
        chosen = self._works.rows
        self.text_rows = torch.from_numpy(self._works.text_rows)
        self.text_shares = torch.from_numpy(self._works.text_shares)
        self.rows = torch.from_numpy(chosen)
        self._numbers = torch.from_numpy(numbers[chosen])
        self._bucket_rows = torch.from_numpy(rows[chosen])
        self.buckets = [
            torch.where(self._numbers == number)[0] for number in self._numbers.unique()
        ]
        (self._texts,) = local_files(folder, "texts.parquet", cache, self._listing)
        num_texts = pq.read_metadata(self._texts).num_rows
        self._latents = {}
        for number in np.flatnonzero(sizes).tolist():
            kind = "latents" if is_one else f"latents-{number}"
            mean = self._mapped(kind, "mean", sizes[number])
            self._latents[number] = mean, self._mapped(kind, "logvar", sizes[number])
        self._states = self._mapped("texts", "states", num_texts)

    def _mapped(self, kind: str, name: str, num_expected: int) -> _Rows:
        pattern = f"{kind}-*.safetensors"
        files = local_files(self._folder, pattern, self._cache, self._listing)
        found = _Rows(files, name)
        if len(found) != num_expected:
            raise ManifestError(
                f"{shown(self._folder)}: {pattern} have {len(found)} rows; expected "
                f"{num_expected}; a file is missing: run the stage, or copy it again."
            )
        return found

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def keys(self) -> list[str]:
        """The works' keys, in order; a list that is made anew at each call."""
        return self._works.keys

    def keys_at(self, places: np.ndarray) -> list[str]:
        """Return the keys of the works at (n,) places."""
        return self._works.key_column.take(pa.array(places)).to_pylist()

    @property
    def latent_shape(self) -> torch.Size:
        """Shape of one work's latents, where all are of one bucket; see `shape_of`."""
        return self.shape_of(torch.arange(len(self)))

    def shape_of(self, places: torch.Tensor) -> torch.Size:
        """Return (channels, h/8, w/8) of the works at (batch,) places of one bucket.

        Raises:
            ShapeError: they are of several.
        """
        return self._stored(places)[0].shape

    def _stored(self, places: torch.Tensor) -> tuple[_Rows, _Rows]:
        numbers = self._numbers[places if len(places) else [0]].unique()
        if len(numbers) > 1:
            raise ShapeError(
                f"{len(places)} works are of the buckets {numbers.tolist()}; expected "
                "one, since buckets differ in shape; see `Latents.buckets`."
            )
        return self._latents[int(numbers)]

    def texts(self, places: np.ndarray | None = None) -> list[str]:
        """Return the captions of the works at (n,) places, None for all, in order.

        Of a work that has several captions it is the first.
        """
        return self._works.texts(self._texts, places)

    def features(self, places: np.ndarray | None = None) -> np.ndarray:
        """Return (n, 1280) float64 image features of the works (see `efficientnet`).

        Args:
            places: (n,) of works, in any order; None for all.
        """
        rows = self.rows if places is None else self.rows[places]
        found = self._mapped("features", "features", self._num_works)
        return found[rows].double().numpy()

    def feature_blocks(self, num: int = 8192) -> Iterator[np.ndarray]:
        """Yield `features` of all works in blocks of at most `num`, as float32."""
        found = self._mapped("features", "features", self._num_works)
        for rows in self.rows.split(num):
            yield found[rows].numpy()

    def posterior(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (mean, std) of the given places, each (batch, channels, h/8, w/8).

        Args:
            places: (batch,) int64 of one bucket, in any order; float32 results come
                in the same. Works of several raise what `shape_of` does.
        """
        (mean, logvar), rows = self._stored(places), self._bucket_rows[places]
        return mean[rows].float(), logvar[rows].float().mul(0.5).exp()

    def prompt_embeds(
        self,
        places: torch.Tensor,
        is_dropped: torch.Tensor,
        draws: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return (batch, tokens, width) states, the empty caption's where dropped.

        Args:
            places: (batch,) int64.
            is_dropped: (batch,) bool.
            draws: (batch,) float64 in [0, 1), uniform; each chooses one of its work's
                captions by weight. Without them, the first is taken.
        """
        choice = torch.zeros(len(places), dtype=torch.int64)
        if draws is not None and self.text_rows.shape[1] > 1:
            # A draw lies past the cumulative share of every caption before its own.
            choice = (draws[:, None] >= self.text_shares[places]).sum(1)
        rows = self.text_rows[places, choice]
        return self._states[torch.where(is_dropped, 0, rows)].float()

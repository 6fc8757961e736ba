"""Precomputed latents: what stage 03 stores, and how training reads it.

Safetensors files hold the VAE posterior's mean and log-variance, so that the sample is
drawn anew at every training step, and the text encoder's states of the distinct texts,
row 0 being the empty caption. A file ends after `WORKS_PER_FILE` rows and the next goes
on; buckets have files of their own. `write_latents` holds one in memory; `Latents` maps
all and holds none.
"""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from commoncanvas.buckets import bucket_shape
from commoncanvas.errors import ManifestError, ParameterError, ShapeError
from commoncanvas.features import NUM_FEATURES
from commoncanvas.mirrors import Mirror
from commoncanvas.mixing import caption_choices
from commoncanvas.policies import trainable_slugs

# A file of latents of (4, 32, 32) has 1 GB, and 67 million works have 1,023 files.
WORKS_PER_FILE = 2**16
_BATCH = 256  # rows unpacked at once


def write_latents(folder, tables, texts, index, latent_shape, text_shape, buckets=()):
    """Write latents, text states and the index of a stage's pictures.

    Memory holds the index, the texts' words and one output file at a time.

    Args:
        folder: the stage's data folder; latents written to it before are removed.
        tables: iterable of Parquet files, as from `shard_files`, or of tables: the
            rows of `latent_table`, one a picture in the order of `index`.
        texts: the same of `text_table`; the first row is the empty caption.
        index: from `make_index`.
        latent_shape: (channels, h/8, w/8); of several buckets, the channels count.
        text_shape: (tokens, width).
        buckets: those that `latent_table` was given; the index then has a column
            bucket, and the tables are read once for each.

    Raises:
        ManifestError: index and tables disagree; nothing is written or removed.
    """
    tables, texts = list(tables), list(texts)  # the keys are read first, on their own
    _check_keys(tables, index["key"].tolist())
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.safetensors"):  # a larger world had more of them
        old.unlink()
    lots = [("latents", latent_shape, None)]
    if buckets:
        lots, numbers = [], np.array([n for (n,) in _rows(tables, ["bucket"])])
        index = index.assign(bucket=numbers)
        for n, (w, h) in enumerate(buckets):
            shape = bucket_shape(latent_shape[0], (w, h))
            lots.append((f"latents-{n}-{w}x{h}", shape, numbers == n))
    for name, shape, is_in in lots:
        half = (shape, np.float16)
        _write(folder / name, tables, {"mean": half, "logvar": half}, is_in)
    _write(folder / "features", tables, {"features": ((NUM_FEATURES,), np.float32)})
    _write(folder / "texts", texts, {"states": (text_shape, np.float16)})
    words = [text for (text,) in _rows(texts, ["text"])]
    pd.DataFrame({"text": words}).to_parquet(folder / "texts.parquet")
    index.to_parquet(folder / "index.parquet")


def _check_keys(tables, keys):
    found = (key for (key,) in _rows(tables, ["key"]))
    if not all(a == b for a, b in itertools.zip_longest(found, keys)):
        raise ManifestError(
            f"03_latents: {num_rows(tables)} latents, {len(keys)} index rows; "
            "expected the same keys in the same order; delete .checkpoints/ and run "
            "again."
        )


def num_rows(parts):
    """Count the rows of Parquet files or tables, without reading the files."""
    return sum(
        part.num_rows if isinstance(part, pa.Table) else pq.read_metadata(part).num_rows
        for part in parts
    )


def _rows(parts, columns):
    """Yield the values of some columns, row by row, of Parquet files or tables."""
    for part in parts:
        if isinstance(part, pa.Table):
            batches = part.select(columns).to_batches(_BATCH)
        else:
            batches = pq.ParquetFile(part).iter_batches(_BATCH, columns=columns)
        for batch in batches:
            yield from zip(*(batch[c].to_pylist() for c in columns), strict=True)


def _write(stem, parts, columns, is_in=None):
    """Write columns of raw bytes, {name: (shape of a row, dtype)}, file by file.

    `is_in`: (n,) bool, which rows; None for all.
    """
    rows, total = _rows(parts, list(columns)), num_rows(parts)
    if is_in is not None:
        rows, total = itertools.compress(rows, is_in), int(is_in.sum())
    for number, start in enumerate(range(0, total, WORKS_PER_FILE)):
        lot = _unpacked(rows, min(WORKS_PER_FILE, total - start), columns)
        save_file(lot, f"{stem}-{number:05d}.safetensors")
        del lot  # before the next one is made: memory holds one


def _unpacked(rows, num, columns):
    """Return {name: (num, *shape)} of the next rows of raw bytes."""
    lot = {
        name: np.empty((num, *shape), kind) for name, (shape, kind) in columns.items()
    }
    for place, row in enumerate(itertools.islice(rows, num)):
        for array, data in zip(lot.values(), row, strict=True):
            array[place] = np.frombuffer(data, array.dtype).reshape(array.shape[1:])
    return lot


class _Rows:
    """Rows of one tensor that lies in several files, mapped into memory.

    The system reads the pages of the rows that are asked for, and drops them when
    memory is short. Nothing stays open: a mapping needs no file descriptor.
    """

    def __init__(self, files, name):
        self.parts = []
        for file in files:
            with safe_open(file, "pt") as opened:
                # Of torch, this is a view onto the mapped file; of NumPy, a copy.
                self.parts.append(opened.get_tensor(name).numpy())
        self.starts = np.cumsum([0, *map(len, self.parts)])
        self.shape = self.parts[0].shape[1:]

    def __len__(self):
        return int(self.starts[-1])

    def __getitem__(self, rows):
        """Return (batch, *shape) of (batch,) int64 rows, in the order asked."""
        rows = rows.numpy()
        files = np.searchsorted(self.starts, rows, "right") - 1
        found = np.empty((len(rows), *self.shape), self.parts[0].dtype)
        places = zip(files.tolist(), (rows - self.starts[files]).tolist(), strict=True)
        for place, (file, row) in enumerate(places):
            found[place] = self.parts[file][row]
        return torch.from_numpy(found)


class Latents:
    """Latents and text states of one stage 03 folder, mapped into memory.

    `buckets` has for each bucket the (n,) int64 places of its works, ascending; most
    folders have one.

    Args:
        folder: a folder written by `write_latents`, or its address, e.g.
            s3://bucket/run/03_latents; see `Mirror`.
        licenses: policies or licence slugs to train on, e.g. ["c"] or ["cc0", "by"].
        caption_source: "human", "alt_text" or a captioner's name; or {source: weight}
            to mix several. A work without captions of one source draws from the
            others; one without any is left out.
        fraction: share of the works to keep, the same works for every larger share.
        holdout: True reads the held-out works instead of the training works.
        sources: the sets to keep, None for all.
        cache: where the files of an address are kept; see `Mirror`.

    Raises:
        ParameterError: no work is left, a source has none, or the address no driver.
        ManifestError: the folder, or a file of it, is missing.
    """

    def __init__(
        self,
        folder,
        licenses,
        caption_source,
        fraction=1.0,
        holdout=False,
        sources=None,
        cache=None,
    ):
        self._mirror = Mirror(folder, cache)
        (file,) = self._mirror.paths("index.parquet")
        # Rows of the tensors are places in the table, whatever its index says.
        index = pd.read_parquet(file).reset_index(drop=True)
        self._num_works, is_one = len(index), "bucket" not in index
        index = index.assign(bucket=index.get("bucket", 0))
        index["row"] = index.groupby("bucket").cumcount()  # in its bucket's files
        sizes = index["bucket"].value_counts().to_dict()
        chosen = index["license_slug"].isin(trainable_slugs(licenses))
        chosen &= index["is_holdout"] == holdout
        rows, shares = caption_choices(index, caption_source)
        chosen &= shares[:, -1] > 0
        absent = sorted(set(sources or ()) - set(index["source"]))
        if sources is not None:
            chosen &= index["source"].isin(sources)
        index = index[chosen]
        index = index.sort_values("order").head(round(len(index) * fraction))
        if index.empty or absent:
            raise ParameterError(
                f"no work is left for licenses {list(licenses)}, {caption_source} "
                f"captions, fraction {fraction} and {absent or 'these'} sources; "
                "expected one or more of each; edit the profile."
            )
        self.keys = index["key"].tolist()
        self.rows = torch.tensor(index.index.to_numpy())
        numbers = self._numbers = torch.tensor(index["bucket"].to_numpy())
        self._bucket_rows = torch.tensor(index["row"].to_numpy())
        self.buckets = [torch.where(numbers == n)[0] for n in numbers.unique()]
        self.text_rows = torch.tensor(rows[index.index])
        self.text_shares = torch.tensor(shares[index.index])
        (self._texts,) = self._mirror.paths("texts.parquet")
        num_texts = pq.read_metadata(self._texts).num_rows
        self._latents = {}
        for n, size in sizes.items():
            kind = "latents" if is_one else f"latents-{n}"
            both = (self._mapped(kind, name, size) for name in ("mean", "logvar"))
            self._latents[n] = tuple(both)
        self._states = self._mapped("texts", "states", num_texts)

    def _mapped(self, kind, name, num_expected):
        pattern = f"{kind}-*.safetensors"
        found = _Rows(self._mirror.paths(pattern), name)
        if len(found) != num_expected:
            raise ManifestError(
                f"{self._mirror.name}: {pattern} have {len(found)} rows; expected "
                f"{num_expected}; a file is missing: run the stage, or copy it again."
            )
        return found

    def __len__(self):
        return len(self.rows)

    @property
    def latent_shape(self):
        """Shape of one work's latents, where all are of one bucket; see `shape_of`."""
        return self.shape_of(torch.arange(len(self)))

    def shape_of(self, places):
        """Return (channels, h/8, w/8) of the works at (batch,) places of one bucket.

        Raises:
            ShapeError: they are of several.
        """
        return self._stored(places)[0].shape

    def _stored(self, places):
        numbers = self._numbers[places if len(places) else [0]].unique()
        if len(numbers) > 1:
            raise ShapeError(
                f"{len(places)} works are of the buckets {numbers.tolist()}; expected "
                "one, since buckets differ in shape; see `Latents.buckets`."
            )
        return self._latents[int(numbers)]

    def texts(self):
        """Return the works' captions, in order; the first of each that has several."""
        texts = pd.read_parquet(self._texts)["text"]
        return texts.iloc[self.text_rows[:, 0].tolist()].tolist()

    def features(self):
        """Return (n, 1280) float64 image features of the works (see `features`)."""
        found = self._mapped("features", "features", self._num_works)
        return found[self.rows].double().numpy()

    def posterior(self, places):
        """Return (mean, std) of the given places, each (batch, channels, h/8, w/8).

        Args:
            places: (batch,) int64 of one bucket, in any order; float32 results come
                in the same. Works of several raise what `shape_of` does.
        """
        (mean, logvar), rows = self._stored(places), self._bucket_rows[places]
        return mean[rows].float(), logvar[rows].float().mul(0.5).exp()

    def prompt_embeds(self, places, is_dropped, draws=None):
        """Return (batch, tokens, width) states, the empty caption's where dropped.

        Args:
            places: (batch,) int64.
            is_dropped: (batch,) bool.
            draws: (batch,) float64 in [0, 1), uniform; each chooses one of its work's
                captions by weight. Without them, the first is taken.
        """
        choice = torch.zeros(len(places), dtype=torch.int64)
        if draws is not None and self.text_rows.shape[1] > 1:
            choice = (draws[:, None] >= self.text_shares[places]).sum(1)
        rows = self.text_rows[places, choice]
        return self._states[torch.where(is_dropped, 0, rows)].float()

"""Reads the tensors of stage 03, mapped from disk, local or mirrored from elsewhere."""

import fnmatch
import sys
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from tqdm import tqdm

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError, ShapeError
from commoncanvas.core.files import shown, write_atomically
from commoncanvas.core.keys import key_of
from commoncanvas.latents.mixing import caption_choices
from commoncanvas.licenses.policies import trainable_slugs


class Mirror:
    """The files of one folder as local paths.

    Args:
        folder: a local folder, or an address that fsspec opens, s3://bucket/run/x. One
            of file:// is fetched as well, for folders on a slow network drive.
        cache: where fetched files lie; None for `.checkpoints/mirrors`. A place in it
            belongs to one address and to sizes and dates of all files there.

    Raises:
        ParameterError: fsspec does not know the protocol, or lacks its driver.
        ManifestError: the address cannot be listed.
    """

    def __init__(self, folder, cache=None):
        self._is_remote = "://" in str(folder)
        if not self._is_remote:
            self.folder, self.name = Path(folder), shown(folder)
            return
        self.name = str(folder)
        self._files, entries = _listed(self.name)
        self._entries = {entry["name"].rpartition("/")[2]: entry for entry in entries}
        key = key_of(address=self.name.rstrip("/"), files=sorted(map(str, entries)))
        self.folder = Path(cache or paths.CHECKPOINTS / "mirrors") / key

    def paths(self, pattern):
        """Return the local paths of the files of that name, fetched where they lack.

        Args:
            pattern: a name, or one with `*`.

        Returns:
            One path or more, sorted by name; each is whole.

        Raises:
            ManifestError: there is no such file, or it was cut short on its way.
        """
        if self._is_remote:
            names = fnmatch.filter(self._entries, pattern)
        else:
            names = [path.name for path in self.folder.glob(pattern)]
        if not names:
            raise ManifestError(
                f"{self.name} has no {pattern}; expected what a finished stage writes; "
                "correct the address, or run the stage."
            )
        found = [self.folder / name for name in sorted(names)]
        lacking = [path for path in found if not path.exists()]
        bar = {"unit": "file", "file": sys.stderr, "disable": not lacking}
        for path in tqdm(lacking, desc=f"fetch {pattern}", **bar):
            write_atomically(path, lambda part, name=path.name: self._fetch(name, part))
        return found

    def _fetch(self, name, part):
        entry = self._entries[name]
        self._files.get_file(entry["name"], str(part))
        size, expected = part.stat().st_size, entry.get("size")
        if expected is not None and size != expected:
            raise ManifestError(
                f"{self.name}/{name} came with {size} bytes; expected {expected}; it "
                "changed or was cut short: run again."
            )


def _listed(address):
    """Return the file system of an address, and what it tells of every file there."""
    try:
        files, folder = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError) as error:
        raise ParameterError(
            f"{address} cannot be opened ({_line(error)}); expected a folder or an "
            "address whose driver is installed, as s3fs for s3://; install it or "
            "correct the address."
        ) from error
    try:
        files.invalidate_cache()  # a listing kept from before hides what changed
        entries = files.ls(folder, detail=True)
    except Exception as error:  # every driver has errors of its own, not only OSError
        raise ManifestError(
            f"{address} cannot be listed ({type(error).__name__}: {_line(error)}); "
            "expected a folder with files; correct the address or the access to it."
        ) from error
    return files, [entry for entry in entries if entry["type"] == "file"]


def _line(error):
    return " ".join(str(error).split())


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
        """Return (n, 1280) float64 image features of the works (see `efficientnet`)."""
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

"""Precomputed latents: what stage 03 stores, and how training reads it.

A safetensors file holds the VAE posterior's mean and log-variance, so that the sample
is drawn anew at every training step; a table of distinct texts holds the text encoder's
states, row 0 being the empty caption. `Latents` reads both back for training.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from commoncanvas.errors import ManifestError, ParameterError
from commoncanvas.features import NUM_FEATURES
from commoncanvas.mixing import caption_choices
from commoncanvas.policies import trainable_slugs


def _tensor(column, shape, dtype=np.float16):
    """Return a tensor (rows, *shape) of a column of raw bytes."""
    flat = np.frombuffer(b"".join(column.to_pylist()), dtype)
    return torch.from_numpy(flat.reshape(-1, *shape).copy())


def write_latents(folder, table, texts, index, latent_shape, text_shape):
    """Write latents, text states and the index of a stage's pictures.

    Args:
        folder: the stage's data folder.
        table: from `latent_table`, one row a picture in the order of `index`.
        texts: from `text_table`, row 0 the empty caption.
        index: from `make_index`.
        latent_shape: (channels, h/8, w/8).
        text_shape: (tokens, width).

    Raises:
        ManifestError: index and table disagree.
    """
    if table["key"].to_pylist() != index["key"].tolist():
        raise ManifestError(
            f"03_latents: {table.num_rows} latents, {len(index)} index rows; expected "
            "the same keys in the same order; delete .checkpoints/ and run again."
        )
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    latents = {name: _tensor(table[name], latent_shape) for name in ("mean", "logvar")}
    save_file(latents, folder / "latents.safetensors")
    features = _tensor(table["features"], (NUM_FEATURES,), np.float32)
    save_file({"features": features}, folder / "features.safetensors")
    save_file(
        {"states": _tensor(texts["states"], text_shape)}, folder / "texts.safetensors"
    )
    texts.select(["text"]).to_pandas().to_parquet(folder / "texts.parquet")
    index.to_parquet(folder / "index.parquet")


class Latents:
    """Latents and text states of one stage 03 folder, held in memory.

    Args:
        folder: a folder written by `write_latents`.
        licenses: policies or licence slugs to train on, e.g. ["c"] or ["cc0", "by"].
        caption_source: "human", "alt_text" or a captioner's name; or {source: weight}
            to mix several. A work without captions of one source draws from the
            others; one without any is left out.
        fraction: share of the works to keep, the same works for every larger share.
        holdout: True reads the held-out works instead of the training works.
        sources: the sets to keep, None for all.

    Raises:
        ParameterError: no work is left.
    """

    def __init__(
        self,
        folder,
        licenses,
        caption_source,
        fraction=1.0,
        holdout=False,
        sources=None,
    ):
        folder = Path(folder)
        # Rows of the tensors are places in the table, whatever its index says.
        index = pd.read_parquet(folder / "index.parquet").reset_index(drop=True)
        chosen = index["license_slug"].isin(trainable_slugs(licenses))
        chosen &= index["is_holdout"] == holdout
        rows, shares = caption_choices(index, caption_source)
        chosen &= shares[:, -1] > 0
        if sources is not None:
            chosen &= index["source"].isin(sources)
        index = index[chosen]
        index = index.sort_values("order").head(round(len(index) * fraction))
        if index.empty:
            raise ParameterError(
                f"no work is left for licenses {list(licenses)}, {caption_source} "
                f"captions and fraction {fraction}; expected one or more; edit the "
                "profile."
            )
        self.folder = folder
        self.keys = index["key"].tolist()
        self.rows = torch.tensor(index.index.to_numpy())
        self.text_rows = torch.tensor(rows[index.index])
        self.text_shares = torch.tensor(shares[index.index])
        latents = load_file(folder / "latents.safetensors")
        self.mean, self.logvar = latents["mean"], latents["logvar"]
        self.states = load_file(folder / "texts.safetensors")["states"]

    def __len__(self):
        return len(self.rows)

    def texts(self):
        """Return the works' captions, in order; the first of each that has several."""
        texts = pd.read_parquet(self.folder / "texts.parquet")["text"]
        return texts.iloc[self.text_rows[:, 0].tolist()].tolist()

    def features(self):
        """Return (n, 1280) float64 image features of the works (see `features`)."""
        with safe_open(self.folder / "features.safetensors", "pt") as file:
            return file.get_tensor("features")[self.rows].double().numpy()

    def posterior(self, places):
        """Return (mean, std) of the given places, each (batch, channels, h/8, w/8)."""
        rows = self.rows[places]
        return self.mean[rows].float(), self.logvar[rows].float().mul(0.5).exp()

    def prompt_embeds(self, places, is_dropped, generator=None):
        """Return (batch, tokens, width) states, the empty caption's where dropped.

        Args:
            places: (batch,) int64.
            is_dropped: (batch,) bool.
            generator: draws one of the captions of each work by weight; without it,
                and where there is but one, the first is taken.
        """
        choice = torch.zeros(len(places), dtype=torch.int64)
        if generator is not None and self.text_rows.shape[1] > 1:
            draws = torch.rand(len(places), dtype=torch.float64, generator=generator)
            choice = (draws[:, None] >= self.text_shares[places]).sum(1)
        rows = self.text_rows[places, choice]
        return self.states[torch.where(is_dropped, 0, rows)].float()

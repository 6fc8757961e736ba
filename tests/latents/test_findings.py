"""Each figure of notebook 03 is read by a sentence with the figure's own numbers."""

import re

import numpy as np
import pandas as pd
import pytest
import torch

from commoncanvas.core.errors import ManifestError
from commoncanvas.latents import findings
from commoncanvas.licenses.credit import credit_line


def grey(*levels, height=16, width=32):
    return np.stack([np.full((height, width, 3), lev, np.uint8) for lev in levels])


def test_rejected_works_are_not_encoded():
    kept = pd.DataFrame(
        {
            "split": ["c", "c", "rejected"],
            "is_holdout": [False, True, False],
            "size": [5, 2, 9],
        }
    )
    said = findings.pictures_to_encode(kept, 1234).sentence
    assert said.startswith("7 pictures and 1,234 texts are encoded; 2 of")


def test_a_latent_is_shown_channel_by_channel_in_its_picture_s_shape():
    latent = torch.zeros(40, 2, 4)
    found = findings.channels(grey(9)[0], latent, "<b>credit</b>")
    assert found.data.count("<img") == 1 + findings.MOST_CHANNELS
    assert (
        "1,536 numbers" in found.sentence and "of 40 × 2 × 4 is 320" in found.sentence
    )
    assert "one for 4.8" in found.sentence
    assert "<b>credit" not in found.data and 'height="16"' in found.data


def test_reconstructions_are_read_by_their_worst_and_best():
    found = findings.reconstructions(grey(100, 100, 100), grey(100, 110, 140))
    assert "worst at 16.1 dB" in found.sentence
    assert (
        "median is 28.1 dB, where pixels are off by about 10 of 255" in found.sentence
    )
    labels = re.findall(r">(original|[\d.]+ dB)<", found.data)
    assert labels[0::2] == ["original"] * 3 and labels[3] == "28.1 dB"
    assert np.isfinite(findings.psnr(grey(1), grey(1))).all()


def test_latents_are_compared_with_noise_by_channel():
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(500, 2, 8, 8, generator=generator)
    latents[:, 1] *= 0.5
    said = findings.spreads(latents).sentence
    assert "of 0.79, and single channels from 0.50 to 0.99" in said


@pytest.fixture
def catalogue(tmp_path):
    rows = pd.DataFrame(
        {
            "key": ["a/1", "a/2"],
            "title": ["cat", None],
            "author": ["Ann", ""],
            "source": "a",
            "license_title": "CC BY 4.0",
        }
    )
    rows.to_parquet(tmp_path / "catalog.parquet")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "line"),
    [("a/1", "“cat” by Ann (a), CC BY 4.0"), ("a/2", "a/2 (a), CC BY 4.0")],
)
def test_a_credit_names_title_author_set_and_licence(catalogue, key, line):
    assert credit_line(catalogue, key) == line


def test_a_work_that_is_not_in_the_catalogue_has_no_credit(catalogue):
    with pytest.raises(ManifestError, match="no work 'a/3'"):
        credit_line(catalogue, "a/3")

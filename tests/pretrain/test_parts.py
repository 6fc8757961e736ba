"""The examination of the parts measures what it says, and can tell good from bad."""

import numpy as np
import pandas as pd
import pytest
import torch

from commoncanvas.core.images import images_to_pixels, pixels_to_images
from commoncanvas.models.scorer import sentence_embeds
from commoncanvas.pretrain import parts

TITLES = ["red apple", "blue heart", "green tree", "yellow sun"]


class Captioner:
    """Writes the same captions, some right and some wrong, for any pictures."""

    def caption(self, pixels):
        return [" red apple", "heart", "", "sun yellow"][: len(pixels)]


class Scorer:
    """Embeds pictures as if they were their names."""

    def image_embeds(self, pixels):
        return sentence_embeds(TITLES[: len(pixels)]).astype(float)


class Mirror:
    """A VAE that returns its input."""

    device, dtype = "cpu", torch.float32

    class Posterior:
        def __init__(self, images):
            self.mean = self.sample = self.latent_dist = images

    def encode(self, images):
        posterior = self.Posterior(images)
        posterior.latent_dist = posterior
        return posterior

    def decode(self, latents):
        return self.Posterior(latents)


@pytest.fixture(scope="module")
def examined():
    pixels = np.random.default_rng(0).integers(0, 256, (4, 96, 96, 3), np.uint8)
    made = parts.Parts(Captioner(), Mirror(), Scorer())
    return pixels, parts.examine(made, pixels, TITLES)


def test_captions_and_decibels_stand_beside_their_names(examined):
    pixels, found = examined
    assert found.table["exact"].tolist() == [True, False, False, False]
    assert found.table["word_f1"].tolist() == pytest.approx([1, 2 / 3, 0, 1])
    small = images_to_pixels(pixels_to_images(pixels, 64))
    assert np.array_equal(found.decoded, small) and found.table["psnr_db"].min() > 60


def test_every_measure_of_a_set_has_value_interval_and_count(examined):
    _, found = examined
    measures = parts.measures_of(found.table, found.embeds, 0)
    assert measures["exact"]["value"] == 0.25
    assert measures["image_to_text"]["value"] == 1
    assert all(m["n"] == 4 and len(m["interval"]) == 2 for m in measures.values())


def test_a_goal_is_reached_or_not_and_unmeasured_sets_have_no_row(examined):
    _, found = examined
    table = found.table.assign(source="twemoji")
    table["name was seen"] = [True, True, False, False]
    measured = {"twemoji": parts.measures_of(table, found.embeds, 0)}
    shown = parts.against_goals(table, measured).set_index("measure")
    assert set(shown["set"]) == {"twemoji", "all sets"}
    assert not shown.loc["exact", "reached"] and shown.loc["psnr_db", "reached"]
    assert shown.loc["image_to_text", "found"] == 1


def test_the_best_name_of_all_is_counted():
    names = ["yellow sun", "red apple", "something else", "green tree"]
    pixels = np.zeros((4, 8, 8, 3), np.uint8)
    assert parts.share_found(Scorer(), pixels, TITLES, names) == 0.75


def test_right_names_score_above_near_misses_and_those_above_random_ones():
    titles = [f"{c} {t}" for c in ("red", "blue", "green") for t in ("heart", "car")]
    spread = parts.score_spread(sentence_embeds(titles), titles, 0)
    means = [values.mean() for values in spread.values()]
    assert means[0] == pytest.approx(100) and means[0] > means[1] > means[2]


def test_the_same_name_twice_is_no_near_miss():
    titles = ["sun", "Sun", "red sun", "car"]
    spread = parts.score_spread(sentence_embeds(titles), titles, 0)
    assert (spread["near miss"] < 99).all()


def test_equal_drawings_have_equal_hashes_whatever_their_names():
    rows = [{"svg": "<svg/>", "key": k} for k in "ab"] + [{"svg": "<svg></svg>"}]
    assert len(parts.content_hashes(rows)) == 2


def test_the_table_of_rates_has_a_line_for_each_grid():
    unet = {
        "down_block_types": ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"],
        "block_out_channels": [16],
        "layers_per_block": 1,
        "norm_num_groups": 4,
    }
    pixels = np.random.default_rng(1).integers(0, 256, (6, 64, 64, 3), np.uint8)
    table = parts.rate_table(pixels, pixels, [[8, 2], [8, 8], [4, 2]], unet, 2)
    assert isinstance(table, pd.DataFrame)
    assert table["numbers"].tolist() == [128, 512, 512]
    line = table["best linear code [dB]"]
    assert line[1] > line[0] and (table["UNet [images/s]"] > 0).all()

"""The committed parts are small, load through their classes, and kept to the web."""

import numpy as np
import pytest
import yaml

from commoncanvas.captioner import OpenCaptioner
from commoncanvas.captions import exact_match
from commoncanvas.catalog import draw_rows, iconify_rows
from commoncanvas.images import flatten, images_to_pixels, pixels_to_images
from commoncanvas.latents import load_vae
from commoncanvas.metrics import alignment_gap, mean_interval
from commoncanvas.paths import PRETRAINED, PROFILES
from commoncanvas.scorer import load_scorer, sentence_embeds


@pytest.fixture(scope="module")
def licensed():
    """Forty pictures of a licensed set, with their names."""
    rows = [r for r in iconify_rows("emojione-v1") if not r["is_skin_tone"]][::24][:40]
    pixels, reasons = draw_rows(rows, 96)
    assert not any(reasons)
    return [row["title"] for row in rows], flatten(pixels)


def test_the_weights_stay_below_30_megabytes():
    sizes = [p.stat().st_size for p in PRETRAINED.rglob("*.safetensors")]
    assert len(sizes) == 3 and sum(sizes) <= 30e6


@pytest.mark.parametrize("profile", ["tiny", "mini", "full"])
def test_no_set_is_both_pretrained_on_and_licensed(profile):
    web = yaml.safe_load((PROFILES / "pretrain.yaml").read_text())["pretrain"]
    used = yaml.safe_load((PROFILES / f"{profile}.yaml").read_text())["licenses"]
    assert set(web["web_sources"]).isdisjoint(used["cc_sources"])
    assert set(web["web_sources"]).isdisjoint(web["test_sources"])


def test_the_captioner_names_some_licensed_pictures(licensed):
    titles, pixels = licensed
    captions = OpenCaptioner(PRETRAINED / "captioner").caption(pixels)
    assert all(captions)
    exact = [exact_match(c, t) for c, t in zip(captions, titles, strict=True)]
    assert np.mean(exact) >= 0.1


def test_the_vae_rebuilds_licensed_pictures_at_20_decibels(licensed):
    small = images_to_pixels(pixels_to_images(licensed[1], 64))
    vae = load_vae(str(PRETRAINED / "vae"))
    images = pixels_to_images(small)
    decoded = images_to_pixels(vae.decode(vae.encode(images).latent_dist.mean).sample)
    error = (decoded.astype(float) - small) ** 2
    assert (10 * np.log10(255**2 / error.mean(axis=(1, 2, 3)))).mean() >= 20


def test_the_scorer_prefers_a_pictures_own_name(licensed):
    titles, pixels = licensed
    embeds = load_scorer(PRETRAINED / "scorer").image_embeds(pixels)
    gap = mean_interval(alignment_gap(embeds, sentence_embeds(titles), 17))
    assert gap.low > 0

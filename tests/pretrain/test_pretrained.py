"""The committed parts are small, trained on the web, and as good as their page says."""

import json

import pytest
import yaml

from commoncanvas.catalog import catalog
from commoncanvas.catalog.sources import iconify, openclipart
from commoncanvas.core.images import flatten
from commoncanvas.core.paths import PRETRAINED, PROFILES
from commoncanvas.pretrain.parts import Parts, content_hashes, examine, measures_of
from commoncanvas.pretrain.websets import load_pictures, sample_of

METRICS = json.loads((PRETRAINED / "metrics.json").read_text(encoding="utf-8"))
# Another processor rounds differently: a few captions of 300 may flip, no more.
TOLERANCES = {
    "exact": 0.02,
    "word_f1": 0.02,
    "psnr_db": 0.1,
    "image_to_text": 0.02,
    "text_to_image": 0.02,
}


def section(profile, name):
    return yaml.safe_load((PROFILES / f"{profile}.yaml").read_text())[name]


@pytest.fixture(scope="module")
def recomputed():
    """The measures of 300 Twemoji pictures at random, computed from `pretrained/`."""
    rows, rgba = load_pictures(["twemoji"], 96)
    chosen = sample_of(rows, 300, METRICS["seed"])
    titles = [rows[i]["title"] for i in chosen]
    parts = Parts.load(PRETRAINED)
    examined = examine(parts, flatten(rgba[chosen]), titles)
    assert len(examined.table) == 300
    return measures_of(examined.table, examined.embeds, METRICS["seed"])


@pytest.mark.slow
@pytest.mark.parametrize(("measure", "tolerance"), TOLERANCES.items())
def test_a_measure_on_300_licensed_pictures_is_the_committed_one(
    recomputed, measure, tolerance
):
    committed = METRICS["sets"]["twemoji"][measure]
    assert committed["n"] == recomputed[measure]["n"] == 300
    assert abs(recomputed[measure]["value"] - committed["value"]) <= tolerance


def test_the_weights_stay_small():
    sizes = {p.parent.name: p.stat().st_size for p in PRETRAINED.rglob("*.safetensors")}
    assert sizes.keys() == {"vae", "captioner", "scorer", "second_captioner"}
    assert sum(sizes.values()) <= 40e6


@pytest.mark.parametrize("profile", ["tiny", "mini", "full"])
def test_no_set_is_both_pretrained_on_and_licensed(profile):
    web = section("pretrain", "pretrain")
    used = section(profile, "licenses")
    assert set(web["web_sources"]).isdisjoint(used["cc_sources"])
    assert set(web["web_sources"]).isdisjoint(web["test_sources"])


def test_no_drawing_that_was_trained_on_is_in_the_licensed_catalogue():
    trained_on = set()
    for source in section("pretrain", "pretrain")["web_sources"]:
        trained_on |= content_hashes(iconify.read_set(source))
    for source in section("full", "licenses")["cc_sources"]:
        if source == "openclipart" and not openclipart.FOLDER.exists():
            continue  # not in the package registry; `make openclipart` fetches it
        rows = [r for r in catalog.read_source(source) if not r["reason"]]
        assert rows and content_hashes(rows).isdisjoint(trained_on), source

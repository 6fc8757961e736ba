"""The profile chooses the feature extractors, whose rows never depend on the batch."""

import hashlib
import json

import numpy as np
import pytest
import torch
import torchmetrics
from toys import random_inception, save_clip, save_dinov2

from commoncanvas.analysis import distances, kernels, matching
from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.core.paths import PRETRAINED
from commoncanvas.evaluate import extractors
from commoncanvas.models import efficientnet
from commoncanvas.models.scorer import load_scorer, sentence_embeds

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (9, 24, 24, 3), np.uint8)
REAL = RNG.integers(0, 256, (8, 24, 24, 3), np.uint8) // 2
METRICS = {
    "efficientnet": ("fd_efficientnet", "kd_efficientnet", 1280),
    "inception": ("fid_inception", "kid_inception", 2048),
    "clip": ("clip_fid", "", 8),
    "clip_large": ("fd_clip_large", "cmmd", 8),
    "dinov2": ("fd_dinov2", "kd_dinov2", 16),
}


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    """Return `features` of a profile that names all, of small or random weights."""
    weights = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(random_inception().state_dict(), weights)
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    folder = save_clip(tmp_path_factory.mktemp("clip"))
    return {
        "efficientnet": {},
        "inception": {"weights": str(weights), "sha256": sha256},
        "clip": {"model": str(folder), "revision": ""},
        "clip_large": {"model": str(folder), "revision": ""},
        "dinov2": {"model": str(save_dinov2(tmp_path_factory.mktemp("dinov2")))},
    }


@pytest.fixture(scope="module")
def loaded(settings):
    return {judge.name: judge for judge in extractors.load_extractors(settings)}


@pytest.fixture
def small_batches(monkeypatch):
    monkeypatch.setattr(efficientnet, "BATCH_SIZE", 2)  # Inception is slow


def parts(pictures, size):
    return [pictures[i : i + size] for i in range(0, len(pictures), size)]


def test_judges_come_in_the_profiles_order_under_their_true_names(loaded):
    found = {n: (j.frechet, j.kernel, j.num_features) for n, j in loaded.items()}
    assert found == METRICS and list(found) == list(METRICS)


@pytest.mark.slow
@pytest.mark.parametrize("name", METRICS)
def test_distances_do_not_depend_on_the_batches_of_the_caller(
    loaded, name, small_batches
):
    judge = loaded[name]
    whole, real = judge.features(PIXELS), judge.features(REAL)
    assert whole.shape == (9, judge.num_features) and whole.dtype == np.float64
    fd, kd = (
        distances.frechet_distance(whole, real),
        kernels.kernel_distance(whole, real),
    )
    for size in (1, 7):
        rows = np.concatenate([judge.features(part) for part in parts(PIXELS, size)])
        assert np.array_equal(rows, whole)
        assert distances.frechet_distance(rows, real) == pytest.approx(fd, rel=1e-9)
        assert kernels.kernel_distance(rows, real) == pytest.approx(kd, rel=1e-9)


@pytest.mark.parametrize("name", ["efficientnet", "clip", "dinov2"])
def test_moments_of_a_stream_give_the_distance_of_the_features(loaded, name):
    judge = loaded[name]
    streams = [judge.moments(p for p in pictures) for pictures in (PIXELS, REAL)]
    tables = [judge.features(pictures) for pictures in (PIXELS, REAL)]
    expected = distances.frechet_distance(*tables)
    assert distances.frechet_distance(*streams) == pytest.approx(expected, rel=1e-9)


def test_the_open_judge_sees_what_it_always_saw(loaded):
    rows = loaded["efficientnet"].features(PIXELS)
    assert np.array_equal(rows, efficientnet.image_features(PIXELS))


@pytest.mark.parametrize("name", METRICS)
def test_a_judge_tells_its_weights_and_its_resize_rule(loaded, settings, name):
    protocol = loaded[name].protocol
    assert json.loads(json.dumps(protocol)) == protocol
    assert {"weights", "resize"} <= set(protocol) and "px" in protocol["resize"]
    assert str(settings[name].get("model")) not in protocol["weights"]


def test_inceptions_protocol_names_the_file_and_the_rule(loaded, settings):
    protocol = loaded["inception"].protocol
    assert protocol["weights"] == settings["inception"]["sha256"]
    assert "TensorFlow 1 bilinear to 299 px" in protocol["resize"]
    assert protocol["range"] == "(x - 128) / 128"


def test_a_small_network_under_a_published_metrics_name_is_told_by_its_protocol(loaded):
    assert loaded["dinov2"].protocol["network"].startswith("ViT of 2 layers, 16 wide")
    assert "224 px, square" in loaded["dinov2"].protocol["resize"]
    assert "centre 16 px" in loaded["clip_large"].protocol["resize"]
    assert "Gaussian of width 10" in loaded["clip_large"].protocol["kernel"]
    balls = {name for name, judge in loaded.items() if "balls" in judge.protocol}
    assert balls == {"efficientnet", "dinov2"}
    version = f"torchmetrics {torchmetrics.__version__}; "
    assert loaded["inception"].protocol["values"].startswith(version)


def test_a_wrong_file_is_refused_when_the_judges_are_loaded(settings):
    words = {"weights": settings["inception"]["weights"]}  # not the published one
    with pytest.raises(SourceError, match="expected 6726825d0af5") as caught:
        extractors.load_extractors({"efficientnet": {}, "inception": words})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({}, "expected one or more of efficientnet, inception, clip"),
        ({"fid": {}}, "has 'fid'; expected one of efficientnet, inception, clip"),
        ({"inception": {}}, "lacks `weights`"),
        ({"clip": {"model": "a/b", "size": 3}}, "does not take `size`"),
        ({"clip": {"model": "a/b"}}, "pinned by its commit"),
    ],
)
def test_judges_that_cannot_be_loaded_are_refused_in_one_line(chosen, message):
    with pytest.raises(ParameterError, match=message) as caught:
        extractors.load_extractors(chosen)
    assert "\n" not in str(caught.value)


def test_the_open_scorer_scores_as_it_always_did():
    scorer = extractors.load_scorer({"scorer": "open"})
    texts = ["a cat", "a dog", "", "sun"]
    expected = load_scorer(PRETRAINED / "scorer").image_embeds(PIXELS[:4])
    assert np.array_equal(scorer.image_embeds(PIXELS[:4]), expected)
    assert np.array_equal(scorer.text_embeds(texts), sentence_embeds(texts))
    assert scorer.name == "alignment" and scorer.score is matching.alignment


def test_clips_scorer_scores_pictures_against_texts(settings):
    scorer = extractors.load_scorer({"scorer": "clip", **settings["clip"]})
    rows = scorer.image_embeds(PIXELS[:3]), scorer.text_embeds(["cat", "dog", "sun"])
    scores = scorer.score(*rows)
    assert scorer.name == "clip_score"
    assert np.array_equal(scores, matching.alignment(*rows))
    expected = max(scores.mean(), 0)
    assert scorer.standard(*rows) == pytest.approx(expected, rel=1e-9)
    assert scorer.protocol["max_tokens"] == 77


@pytest.mark.parametrize("chosen", [{}, {"scorer": "fid"}])
def test_an_unknown_scorer_is_refused(chosen):
    with pytest.raises(ParameterError, match="expected one of open, clip"):
        extractors.load_scorer(chosen)

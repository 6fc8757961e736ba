"""The scorer puts pictures and sentences on one sphere, row by row."""

import numpy as np
import pytest
import torch

from commoncanvas.models import scorer
from commoncanvas.models.captioner import save_half

TEXTS = ["a red cat", "", "a very long name " * 20, "a crimson kitten"]
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 48, 48, 3), np.uint8)


@pytest.fixture(scope="module")
def random_scorer():
    torch.manual_seed(0)
    return scorer.ImageScorer(pretrained=False).eval()


@pytest.fixture(scope="module")
def embeds():
    return scorer.sentence_embeds(TEXTS)


def test_sentences_have_unit_length(embeds):
    assert embeds.shape == (4, 384) and embeds.dtype == np.float32
    assert np.allclose(np.linalg.norm(embeds, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_sentence_does_not_depend_on_its_batch(embeds, batch_size):
    assert np.allclose(scorer.sentence_embeds(TEXTS, batch_size), embeds, atol=1e-5)


def test_sentences_keep_their_order(embeds):
    assert np.allclose(scorer.sentence_embeds(TEXTS[::-1])[::-1], embeds, atol=1e-5)


def test_what_means_the_same_lies_closer(embeds):
    other = scorer.sentence_embeds(["quarterly tax report"])[0]
    assert embeds[0] @ embeds[3] > embeds[0] @ other + 0.2


def test_no_sentences_are_no_rows():
    assert scorer.sentence_embeds([]).shape == (0, 384)


def test_pictures_have_unit_length(random_scorer):
    rows = random_scorer.image_embeds(PIXELS)
    assert rows.shape == (5, 384) and rows.dtype == np.float64
    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_picture_does_not_depend_on_its_batch(random_scorer, batch_size):
    rows = random_scorer.image_embeds(PIXELS)
    assert np.allclose(random_scorer.image_embeds(PIXELS, batch_size), rows, atol=1e-4)


def test_no_pictures_are_no_rows(random_scorer):
    assert random_scorer.image_embeds(PIXELS[:0]).shape == (0, 384)


def test_a_saved_scorer_scores_as_before(random_scorer, tmp_path):
    save_half(random_scorer, tmp_path / "model.safetensors")
    loaded = scorer.load_scorer(tmp_path)
    assert not loaded.training
    cosines = (loaded.image_embeds(PIXELS) * random_scorer.image_embeds(PIXELS)).sum(1)
    assert cosines.min() > 0.999


def test_the_words_encoder_is_frozen():
    model = scorer.text_encoder()[1]
    assert not model.training and not any(p.requires_grad for p in model.parameters())

"""The small loop resumes bit by bit, and keeps the weights of the best score."""

import shutil

import numpy as np
import pytest
import torch

from commoncanvas.core import paths
from commoncanvas.core.determinism import make_generator
from commoncanvas.models import captioner
from commoncanvas.pretrain import training
from commoncanvas.pretrain.websets import NamedPictures


class TinyTrunk(torch.nn.Module):
    """Stands where EfficientNet does: one strided convolution of the same shape."""

    def __init__(self, pretrained=True):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 1280, 32, 32)

    def forward(self, images):
        return self.conv(images)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished", raising=False)


def fit(key, num_steps=505, stop_at=None, seed=0, score=None):
    """Fit a model with batch statistics and dropout, as the true ones have them."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 4),
        torch.nn.BatchNorm1d(4),
        torch.nn.Dropout(0.1),
        torch.nn.Linear(4, 1),
    )
    seen = []

    def loss_at(step):
        if step == stop_at:
            raise KeyboardInterrupt
        seen.append(step)
        rows = torch.randn(6, 4, generator=make_generator(seed, "rows", step))
        return (model(rows)[:, 0] - rows.sum(1)).square().mean()

    history = training.fit(key, model, loss_at, num_steps, 0.01, "toy", score)
    return model, history, seen


@pytest.mark.slow
@pytest.mark.parametrize("stop_at", [0, 100, 250, 260, 504])
def test_an_interrupted_fit_ends_with_the_same_bits(stop_at):
    model, whole, _ = fit("key")
    shutil.rmtree(paths.CHECKPOINTS)
    with pytest.raises(KeyboardInterrupt):
        fit("key", stop_at=stop_at)
    resumed, broken, _ = fit("key")
    states = model.state_dict(), resumed.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert whole.losses == broken.losses


def test_a_resumed_fit_does_not_start_again():
    with pytest.raises(KeyboardInterrupt):
        fit("broken", stop_at=260)
    assert fit("broken")[2][0] == 250


def test_a_finished_fit_is_returned_without_training():
    model, history, _ = fit("whole")
    again, same, seen = fit("whole")
    assert seen == [] and history == same and not again.training
    assert torch.equal(model[0].weight, again[0].weight)


def test_fitting_lowers_the_loss_and_reports_it_in_blocks_of_twenty():
    losses = fit("whole")[1].losses
    assert len(losses) == 26 and losses[-1] < losses[0] / 2


def test_a_fit_keeps_the_weights_of_the_best_score_and_says_where_it_was():
    kept = []

    def score(model):
        assert not model.training  # a score is taken without dropout
        kept.append({k: v.clone() for k, v in model.state_dict().items()})
        return [1.0, 3.0, 2.0][len(kept) - 1]

    model, history, _ = fit("scored", score=score)
    assert history.scores == [(250, 1.0), (500, 3.0), (505, 2.0)]
    assert all(torch.equal(v, kept[1][k]) for k, v in model.state_dict().items())
    again, same, _ = fit("scored", score=score)
    assert same.scores == history.scores and len(kept) == 3
    assert torch.equal(again[0].weight, model[0].weight)


def test_frozen_weights_stay_as_they_are():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    model[0].requires_grad_(False)
    before = model[0].weight.clone(), model[1].weight.clone()
    ones = torch.ones(3, 2)
    training.fit("frozen", model, lambda step: model(ones).mean(), 5, 0.1, "toy")
    assert torch.equal(model[0].weight, before[0])
    assert not torch.equal(model[1].weight, before[1])


def test_contrast_is_small_for_the_right_name_and_large_for_another():
    targets, names = torch.eye(5), torch.arange(5)
    right = training.contrast(targets, names, targets, 0.05)
    wrong = training.contrast(targets.roll(1, 0), names, targets, 0.05)
    assert right < 1e-6 and wrong > 10


def test_blurred_embeddings_stay_on_the_sphere_near_their_names():
    embeds = torch.nn.functional.normalize(torch.randn(200, 384), dim=-1)
    blurred = training.blur(embeds, make_generator(0, "blur"))
    cosines = (embeds * blurred).sum(1)
    assert torch.allclose(blurred.norm(dim=1), torch.ones(200), atol=1e-5)
    assert 0.5 < cosines.min() < 0.75 and cosines.max() > 0.97


@pytest.mark.slow
def test_the_captioner_learns_to_write_a_handful_of_names(monkeypatch):
    monkeypatch.setattr(captioner, "Trunk", TinyTrunk)
    rgba = np.zeros((4, 96, 96, 4), np.uint8)
    rgba[..., 3] = 255
    for i, colour in enumerate([(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]):
        rgba[i, ..., :3] = colour
    titles = ["red heart", "green apple", "blue whale", "night"]
    data = NamedPictures(rgba, titles)
    _, tokenizer, history = training.train_captioner(data, 0, 8, 4, 8, 2e-3, 300)
    assert history.scores == [] and len(history.losses) == 2
    assert history.losses[0] < 12 and tokenizer.decode([2]) == "<eos>"

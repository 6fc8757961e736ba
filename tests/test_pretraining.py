"""The small loop resumes bit by bit, and the tokenizer can write anything."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas import paths, pretraining
from commoncanvas.seeds import make_generator


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished", raising=False)


TOKENIZER = pretraining.train_tokenizer(["red heart", "sun", "sunny heart"], 280, 400)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(max_examples=60, deadline=None)
def test_every_text_can_be_written_and_read_back(text):
    ids = TOKENIZER(text).input_ids
    assert all(0 <= i < len(TOKENIZER) for i in ids)
    said = TOKENIZER.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    specials = ("<pad>", "<bos>", "<eos>")
    assert any(s in text for s in specials) or said.strip() == text.strip()


def test_a_text_is_framed_by_begin_and_end():
    ids = TOKENIZER("red heart").input_ids
    assert (ids[0], ids[-1]) == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)
    assert TOKENIZER.pad_token_id == 0 and TOKENIZER.unk_token is None


def test_the_tokenizer_does_not_depend_on_the_order_of_names():
    names = ["red heart", "sun", "sunny heart"]
    other = pretraining.train_tokenizer(names[::-1], 280, 400)
    assert other.get_vocab() == TOKENIZER.get_vocab()


def fit(key, num_steps=505, stop_at=None, seed=0):
    """Fit a model with batch statistics, as the true ones have them, on random rows."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 1)
    )
    seen = []

    def loss_at(step):
        if step == stop_at:
            raise KeyboardInterrupt
        seen.append(step)
        rows = torch.randn(6, 4, generator=make_generator(seed, "rows", step))
        return (model(rows)[:, 0] - rows.sum(1)).square().mean()

    losses = pretraining.fit(key, model, loss_at, num_steps, 0.01, "toy")
    return model, losses, seen


@pytest.mark.parametrize("stop_at", [0, 100, 250, 260, 504])
def test_an_interrupted_fit_ends_with_the_same_bits(stop_at):
    model, losses, _ = fit("whole")
    with pytest.raises(KeyboardInterrupt):
        fit("broken", stop_at=stop_at)
    resumed, same_losses, _ = fit("broken")
    states = model.state_dict(), resumed.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert losses == same_losses


def test_a_resumed_fit_does_not_start_again():
    with pytest.raises(KeyboardInterrupt):
        fit("broken", stop_at=260)
    assert fit("broken")[2][0] == 250


def test_a_finished_fit_is_returned_without_training():
    model, losses, _ = fit("whole")
    again, same_losses, seen = fit("whole")
    assert seen == [] and losses == same_losses and not again.training
    assert torch.equal(model[0].weight, again[0].weight)


def test_fitting_lowers_the_loss_and_reports_it_in_blocks_of_twenty():
    _, losses, _ = fit("whole")
    assert len(losses) == 26 and losses[-1] < losses[0] / 2


def test_contrast_is_small_for_the_right_name_and_large_for_another():
    targets, names = torch.eye(5), torch.arange(5)
    right = pretraining.contrast(targets, names, targets, 0.05)
    wrong = pretraining.contrast(targets.roll(1, 0), names, targets, 0.05)
    assert right < 1e-6 and wrong > 10


def test_a_vae_makes_latents_of_an_eighth():
    vae = pretraining.make_vae(4, [8, 8, 8, 8])
    with torch.no_grad():
        mean = vae.encode(torch.zeros(1, 3, 32, 32)).latent_dist.mean
        assert mean.shape == (1, 4, 4, 4)
        assert vae.decode(mean).sample.shape == (1, 3, 32, 32)


def test_a_vae_is_trained_on_drawn_pictures_alone():
    rgba = np.random.default_rng(0).integers(0, 256, (4, 16, 16, 4), np.uint8)
    args = rgba, 0, 2, 2, 1e-3, 4, [8, 8, 8, 8], 1e-6
    vae, losses = pretraining.train_vae(*args)
    assert np.isfinite(losses).all() and not vae.training

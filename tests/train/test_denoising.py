"""A batch is drawn whole, and any part of it is as if it were computed alone."""

import pytest
import torch
from toys import UNET, FakeLatents

from commoncanvas.core.determinism import make_generator
from commoncanvas.core.draws import Draws
from commoncanvas.core.errors import ParameterError
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.models.unets import make_unet as make_any_unet
from commoncanvas.train import denoising, state


def make_unet(seed=1):
    return make_any_unet(UNET, 4, 4, 8, seed)


@pytest.fixture
def noised():
    generator = make_generator(0, "test")
    latents, noise = torch.randn(2, 6, 4, 4, 4, generator=generator)
    timesteps = torch.tensor([0, 1, 200, 500, 900, 999])
    noise_scheduler = make_noise_scheduler()
    alphas = noise_scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return latents, noise, timesteps, alphas


def target(kind, latents, noise, timesteps):
    noise_scheduler = make_noise_scheduler(kind)
    return denoising.training_target(noise_scheduler, latents, noise, timesteps)


def test_the_three_targets_convert_into_each_other(noised):
    latents, noise, timesteps, alphas = noised
    kinds = ("epsilon", "sample", "v_prediction")
    epsilon, sample, v = (target(k, latents, noise, timesteps) for k in kinds)
    noisy = make_noise_scheduler().add_noise(latents, noise, timesteps)
    signal, spread = alphas.sqrt(), (1 - alphas).sqrt()
    assert torch.allclose(signal * noisy - spread * v, sample, atol=1e-5)
    assert torch.allclose(signal * v + spread * noisy, epsilon, atol=1e-5)
    assert torch.allclose(signal * sample + spread * epsilon, noisy, atol=1e-5)


def test_the_first_step_hardly_changes_latents_and_the_last_is_nearly_noise(noised):
    latents, noise, timesteps, _ = noised
    noisy = make_noise_scheduler().add_noise(latents, noise, timesteps)
    assert (noisy[0] - latents[0]).square().mean() < 0.01
    assert (noisy[-1] - noise[-1]).square().mean() < 0.02


def test_another_prediction_type_is_refused_with_its_name(noised):
    class Odd:
        config = type("Config", (), {"prediction_type": "flow"})

    with pytest.raises(ParameterError, match="'flow'; expected epsilon, v_prediction"):
        denoising.training_target(Odd, *noised[:3])


BATCH = Draws(0, "draws")


def read(places, rows=None, data=None):
    rows = torch.arange(len(places)) if rows is None else rows
    return denoising.read_part(data or FakeLatents(), places, rows, 0.3, BATCH)


def losses(part, unet=None):
    unet = unet or make_unet()
    return denoising.denoising_losses(unet, make_noise_scheduler(), part, BATCH, 0.5)[0]


def test_a_work_s_loss_does_not_depend_on_the_rest_of_its_batch():
    places, rows = torch.tensor([3, 0, 5, 1]), torch.arange(4)
    whole = losses(read(places))
    for some in (rows[:1], rows[1:], rows[[3, 1]]):
        torch.testing.assert_close(losses(read(places[some], some)), whole[some])


def test_the_same_work_at_another_place_of_the_batch_has_other_noise():
    first, second = losses(read(torch.tensor([3, 3])))
    assert first != second


def test_another_mixture_of_captions_moves_no_noise():
    class Mixed(FakeLatents):
        def prompt_embeds(self, places, is_dropped, draws=None):
            self.chosen = draws
            return super().prompt_embeds(places, is_dropped)

    data, places = Mixed(), torch.arange(6)
    part = read(places, data=data)
    assert data.chosen.shape == (6,) and ((data.chosen >= 0) & (data.chosen < 1)).all()
    assert len(data.chosen.unique()) == 6
    torch.testing.assert_close(losses(part), losses(read(places)))


@pytest.mark.parametrize(("logit_mean", "share"), [(0.0, 0.5), (0.5, 0.691)])
def test_logit_normal_timesteps_lie_around_their_mean(logit_mean, share):
    kind = BATCH, "logit_normal", logit_mean
    found = denoising.draw_timesteps(torch.arange(20_000), 1000, *kind)
    assert 0 <= found.min() and found.max() <= 999 and found.dtype == torch.int64
    # A normal variable around m is above 0 with the probability of the normal at m.
    assert (found >= 500).double().mean().item() == pytest.approx(share, abs=0.015)


def test_timesteps_are_as_often_unless_told_otherwise():
    kind = BATCH, "none", 9.0
    found = denoising.draw_timesteps(torch.arange(20_000), 10, *kind)
    assert found.bincount().double().div(20_000).sub(0.1).abs().max() < 0.01


def test_an_unknown_scheme_is_named():
    with pytest.raises(ParameterError, match="'mode'; expected none or logit_normal"):
        denoising.draw_timesteps(torch.arange(1), 10, BATCH, "mode", 0.0)


def test_the_mean_of_a_batch_is_the_mean_of_its_works():
    places, schedule = torch.arange(5), make_noise_scheduler()
    told = make_unet(), schedule, FakeLatents(), places, 0.5, 0.3, BATCH
    mean = denoising.diffusion_loss(*told)
    torch.testing.assert_close(mean, losses(read(places)).mean())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_with_low_norms_stays_near_full_precision(dtype):
    """Bounds on loss (2 %) and on the gradient's direction and length (5 %)."""
    part = read(torch.arange(8))
    found = {}
    for name, low in (("full", False), ("half", True)):
        unet = make_unet()
        if low:
            state.lower_norms(unet)
        with torch.autocast("cpu", dtype, enabled=low):
            loss = losses(part, unet).mean()
        loss.backward()
        grads = torch.cat([p.grad.flatten() for p in unet.parameters()])
        found[name] = loss.item(), grads
    (full, grads), (half, half_grads) = found["full"], found["half"]
    assert half == pytest.approx(full, rel=0.02)
    cosine = torch.nn.functional.cosine_similarity(grads, half_grads, 0)
    assert cosine > 0.95 and half_grads.norm() / grads.norm() == pytest.approx(
        1, abs=0.05
    )


def test_validation_never_drops_a_caption_and_leaves_the_model_in_training():
    unet, held = make_unet().train(), FakeLatents()
    args = unet, make_noise_scheduler(), held, 0.5, 0
    assert denoising.validation_loss(*args) == denoising.validation_loss(*args)
    assert set(held.dropped) == {False} and unet.training


def test_a_perfect_model_has_no_loss():
    part, noise_scheduler = read(torch.arange(3)), make_noise_scheduler("sample")
    clean = denoising.sample_latents(part, BATCH, 0.5)

    class Perfect(torch.nn.Linear):
        def forward(self, noisy, timesteps, prompt_embeds):
            return type("Output", (), {"sample": clean})

    args = Perfect(1, 1), noise_scheduler, part, BATCH, 0.5
    assert denoising.denoising_losses(*args)[0].max() < 1e-12


class TwoShapes(FakeLatents):
    """Works of which every third is wide, and whose posterior has no spread."""

    def __init__(self, num):
        super().__init__(num)
        is_wide = torch.arange(num) % 3 == 0
        self.buckets = [torch.where(~is_wide)[0], torch.where(is_wide)[0]]

    def shape_of(self, places):
        (is_wide,) = (places % 3 == 0).unique()
        return (4, 2, 8) if is_wide else (4, 4, 4)

    def posterior(self, places):
        mean = self.mean[places].view(-1, *self.shape_of(places))
        return mean, torch.zeros_like(mean)


@pytest.mark.parametrize("num_works", [1, 4, 7, 128])
def test_validation_is_the_mean_over_works_of_all_shapes(num_works):
    class Zero(torch.nn.Linear):
        def forward(self, noisy, timesteps, prompt_embeds):
            return type("Output", (), {"sample": torch.zeros_like(noisy)})

    data = TwoShapes(7)
    schedule = make_noise_scheduler("sample")
    found = denoising.validation_loss(Zero(1, 1), schedule, data, 0.5, 0, num_works)
    wanted = (data.mean[:num_works] * 0.5).square().mean()
    assert found == pytest.approx(wanted.item(), rel=1e-6)


def test_validation_draws_the_same_for_several_shapes_each_time():
    args = make_unet(), make_noise_scheduler(), TwoShapes(7), 0.5
    first, again = (denoising.validation_loss(*args, seed=1) for _ in range(2))
    assert first == again != denoising.validation_loss(*args, seed=2)

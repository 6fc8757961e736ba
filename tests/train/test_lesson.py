"""What notebook 04 shows on one work is what training and sampling compute."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from toys import UNET, FakeLatents, make_recipe, make_vae
from transformers import PreTrainedTokenizerBase

from commoncanvas.core.draws import Draws
from commoncanvas.core.errors import ParameterError
from commoncanvas.models import pipelines
from commoncanvas.models.unets import make_unet
from commoncanvas.train import denoising, lesson
from commoncanvas.train.recipe import TrainSpec

KINDS = ("epsilon", "sample", "v_prediction")
DRAWS, SCALE = Draws(3, "lesson"), 0.5


class Held(FakeLatents):
    """Fake works with captions, the larger bucket of which is the second."""

    def __init__(self, num=8):
        super().__init__(num)
        self.keys = [f"{'ab'[i % 2]}/{i}" for i in range(num)]
        self.buckets = [torch.tensor([0]), torch.arange(1, num)]

    def keys_at(self, places):
        return [self.keys[place] for place in places]

    def texts(self, places):
        return [f"caption {place}" for place in places]


@pytest.fixture
def part():
    return example().part


@pytest.fixture(autouse=True)
def credits(monkeypatch):
    monkeypatch.setattr(lesson, "credit_line", lambda folder, key: f"{folder}: {key}")


def example(sources=()):
    return lesson.choose_example(Held(), "here", sources)


def small_unet(width=8):
    return make_unet(UNET, 4, 4, width, seed=1).eval()


def schedule(kind="epsilon"):
    return pipelines.make_noise_scheduler(kind)


def test_the_example_is_the_first_of_the_commonest_shape():
    found = example()
    assert (found.key, found.caption) == ("b/1", "caption 1")
    assert found.credit == "here: b/1"
    torch.testing.assert_close(found.part.mean, Held().mean[[1]])


@pytest.mark.parametrize(("sources", "key"), [(["a"], "a/2"), (["none"], "b/1")])
def test_the_example_is_of_the_variant_s_sets_if_they_have_one(sources, key):
    assert example(sources).key == key


def test_signal_and_noise_keep_the_variance():
    signal, noise = lesson.levels(schedule())
    np.testing.assert_allclose(signal**2 + noise**2, 1)
    assert (np.diff(signal) < 0).all() and len(signal) == 1000


def test_a_work_is_noised_by_the_formula_with_one_noise(part):
    noisy, latents, noise = lesson.noised(part, schedule(), [0, 500], DRAWS, SCALE)
    signal, spread = (torch.tensor(f)[[0, 500]] for f in lesson.levels(schedule()))
    wanted = signal.view(-1, 1, 1, 1) * latents + spread.view(-1, 1, 1, 1) * noise
    torch.testing.assert_close(noisy, wanted.float())
    assert noise[0].equal(noise[1])


@pytest.mark.parametrize("kind", KINDS)
def test_every_target_leads_back_to_the_clean_latents(part, kind):
    scheduler, at = schedule(kind), torch.tensor([0, 250, 999])
    noisy, latents, noise = lesson.noised(part, scheduler, at.tolist(), DRAWS, SCALE)
    target = denoising.training_target(scheduler, latents, noise, at)
    found = lesson.clean_from(scheduler, target, noisy, at)
    torch.testing.assert_close(found, latents, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_shown_is_the_loss_of_training(part, kind):
    unet, scheduler = small_unet(), schedule(kind)
    at = denoising.draw_timesteps(part.rows, 1000, DRAWS).tolist()
    _, shown = lesson.predict(unet, scheduler, part, at, DRAWS, SCALE)
    with torch.no_grad():
        trained, _ = denoising.denoising_losses(unet, scheduler, part, DRAWS, SCALE)
    assert shown == pytest.approx(trained.tolist(), abs=1e-6)


def test_losses_by_timestep_are_those_of_single_works():
    unet, data, scheduler = small_unet(), Held(), schedule()
    found = lesson.losses_by_timestep(unet, scheduler, data, [100, 900], DRAWS, SCALE)
    assert [e.n for e in found] == [7, 7]
    rows = torch.arange(7)
    part = denoising.read_part(data, rows + 1, rows, 0.0, DRAWS)
    shown = [
        lesson.predict(
            unet, scheduler, part.moved(lambda t, i=i: t[[i]]), [900], DRAWS, SCALE
        )[1][0]
        for i in rows.tolist()
    ]
    assert found[1].value == pytest.approx(np.mean(shown), rel=1e-4)


def test_of_one_held_out_work_there_is_no_interval():
    data = Held(2)
    assert (
        lesson.losses_by_timestep(small_unet(), schedule(), data, [1], DRAWS, SCALE)
        == []
    )


def test_timesteps_are_drawn_as_in_training():
    even = lesson.drawn_timesteps(1000, "none", 0.0, 1)
    noisier = lesson.drawn_timesteps(1000, "logit_normal", 0.5, 1)
    assert abs(even.mean() - 500) < 5 and noisier.mean() > 580
    assert even.min() == 0 and even.max() == 999


def spec(**changes):
    made = TrainSpec("", "", {}, UNET, 8, make_recipe(), "", latent_shape=[4, 4, 4])
    return replace(made, **changes)


def test_the_first_unet_is_the_one_that_training_begins_with():
    found = lesson.first_unet(spec())
    wanted = make_unet(UNET, 4, 4, 8, make_recipe().seed)
    for one, other in zip(found.parameters(), wanted.parameters(), strict=True):
        assert one.equal(other)


def test_a_warm_start_is_the_first_unet(tmp_path):
    warm = make_unet(UNET, 4, 4, 8, seed=9)
    warm.save_pretrained(tmp_path / "unet")
    found = lesson.first_unet(spec(init_from=str(tmp_path)))
    pairs = zip(found.parameters(), warm.parameters(), strict=True)
    assert all(one.equal(other) for one, other in pairs)


def test_without_the_latents_shape_no_unet_is_built():
    with pytest.raises(ParameterError, match="latent_shape"):
        lesson.first_unet(spec(latent_shape=None))


class Words(torch.nn.Module):
    """Stands for a text encoder: states that depend on the prompt."""

    dtype, device = torch.float32, torch.device("cpu")


@pytest.fixture
def pipeline(monkeypatch):
    """A pipeline whose prompts are states without a tokenizer."""
    unet = small_unet()
    for name, weights in unet.named_parameters():
        if "attn2.to_out" in name:
            weights.data.mul_(20)
    tokenizer = PreTrainedTokenizerBase()
    made = pipelines.make_pipeline(unet, make_vae(), tokenizer, Words(), schedule())

    def encode_prompt(prompt, *rest, **more):
        number = len(prompt if isinstance(prompt, str) else prompt[0])
        return torch.full((1, 3, 8), number / 5), torch.zeros(1, 3, 8)

    monkeypatch.setattr(made, "encode_prompt", encode_prompt)
    return made


@pytest.mark.parametrize("kind", KINDS)
def test_the_last_of_the_strip_is_the_sample(pipeline, kind):
    pipeline.scheduler = pipelines.make_sampler(schedule(kind))
    times, pictures = lesson.denoise(pipeline, "cat", 3.0, 5, seed=1)
    (drawn,) = pipelines.draw_samples(pipeline, ["cat"], 3.0, 5, 1, 1)
    assert np.abs(pictures[-1].astype(int) - drawn).max() <= 1
    assert len(pictures) == 5 and times == sorted(times, reverse=True)


def test_what_is_expected_before_the_last_step_is_without_noise(pipeline):
    _, pictures = lesson.denoise(pipeline, "cat", 3.0, 5, seed=1)
    assert len({picture.tobytes() for picture in pictures}) == 5


@pytest.mark.parametrize(
    ("num", "most", "places"),
    [(3, 8, [0, 1, 2]), (20, 3, [0, 10, 19]), (1, 8, [0]), (0, 8, [])],
)
def test_places_are_spread_with_both_ends(num, most, places):
    assert lesson.spread(num, most) == places


def test_the_unet_is_told_from_input_to_output():
    config = {
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "block_out_channels": [32, 64],
        "layers_per_block": [1, 3],
        "sample_size": 9,
    }
    table = lesson.unet_levels(config)
    assert table["block"].tolist() == ["down 1", "down 2", "middle", "up 1", "up 2"]
    assert table["resolution"].tolist() == ["9 × 9", *["5 × 5"] * 3, "9 × 9"]
    assert table["channels"].tolist() == [32, 64, 64, 64, 32]
    assert table["layers"].tolist() == [1, 3, 2, 4, 2]
    attends = table["cross-attention"].tolist()
    assert attends == ["yes", "no", "yes", "no", "yes"]


def test_a_unet_may_have_no_middle():
    table = lesson.unet_levels(small_unet().config)
    assert table["block"].tolist() == ["down 1", "up 1"]

"""Training draws from (seed, step) alone, and an interrupted run ends the same."""

import math

import pytest
import torch

from commoncanvas import checkpoints, paths, training
from commoncanvas.errors import ParameterError
from commoncanvas.seeds import make_generator

UNET = {
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "mid_block_type": None,
    "block_out_channels": [8],
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}
SETTINGS = {
    "seed": 5,
    "num_train_steps": 7,
    "train_batch_size": 3,
    "learning_rate": 1e-2,
    "lr_warmup_steps": 2,
    "lr_schedule": "cosine",
    "weight_decay": 0.01,
    "caption_drop_prob": 0.3,
    "ema_fraction": 0.5,
    "ema_decay": 0.9,
    "prediction_type": "epsilon",
    "scaling_factor": 0.5,
    "checkpoint_steps": 2,
}


class FakeLatents:
    """Random latents and captions of a few works, and a record of what was asked."""

    def __init__(self, num=8, seed=0, level=1.0):
        generator = make_generator(seed, "fake")
        self.mean = torch.randn(num, 4, 4, 4, generator=generator) * level
        self.states = torch.randn(num + 1, 3, 8, generator=generator)
        self.dropped, self.asked = [], []

    def __len__(self):
        return len(self.mean)

    def posterior(self, places):
        self.asked += places.tolist()
        return self.mean[places], torch.full_like(self.mean[places], 0.1)

    def prompt_embeds(self, places, is_dropped, generator=None):
        self.dropped += is_dropped.tolist()
        return self.states[torch.where(is_dropped, 0, places + 1)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished", raising=False)


def make_unet(seed=1):
    return training.make_unet(UNET, 4, 4, 8, seed)


def run(key="run", data=None, **changes):
    data = data or FakeLatents()
    held = FakeLatents(4, seed=1)
    words = {**SETTINGS, **changes}
    unet, log = training.train(key, make_unet(), data, held, **words)
    return unet.state_dict(), log


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture
def stop_at(monkeypatch):
    """Return a function after which training step k fails, once."""
    whole = training.diffusion_loss

    def arm(k):
        seen = []

        def loss(unet, *arguments):
            if unet.training:
                seen.append(1)
                if len(seen) == k + 1:
                    raise KeyboardInterrupt
            return whole(unet, *arguments)

        monkeypatch.setattr(training, "diffusion_loss", loss)

    return arm


@pytest.mark.parametrize("step", [0, 1, 3, 6])
def test_an_interrupted_run_ends_with_the_same_bits(stop_at, step):
    weights, log = run("whole")
    stop_at(step)
    with pytest.raises(KeyboardInterrupt):
        run("broken")
    resumed, same_log = run("broken")
    assert same(weights, resumed) and log == same_log


def test_a_run_that_is_stopped_twice_ends_with_the_same_bits(stop_at):
    weights, log = run("whole")
    for step in (3, 3):
        stop_at(step)
        with pytest.raises(KeyboardInterrupt):
            run("broken")
    resumed, same_log = run("broken")
    assert same(weights, resumed) and log == same_log


def test_a_resumed_run_does_not_start_again(stop_at):
    stop_at(5)
    with pytest.raises(KeyboardInterrupt):
        run("broken")
    data = FakeLatents()
    run("broken", data)
    assert len(data.asked) == 3 * (7 - 4)


def test_a_finished_run_is_returned_without_training():
    weights, log = run()
    data = FakeLatents()
    again, same_log = run(data=data)
    assert same(weights, again) and log == same_log and data.asked == []


def test_a_finished_run_is_found_after_its_key_is_finished():
    weights, log = run()
    checkpoints.finish("run")
    again, same_log = run()
    assert same(weights, again) and log == same_log


def test_another_seed_gives_other_weights():
    assert not same(run("a")[0], run("b", seed=6)[0])


def test_the_global_stream_does_not_matter():
    torch.manual_seed(1)
    weights = run("a")[0]
    torch.manual_seed(2)
    assert same(weights, run("b")[0])


def test_the_log_has_a_row_a_checkpoint_and_one_at_the_end():
    log = run()[1]
    assert [row["step"] for row in log] == [2, 4, 6, 7]
    fields = {"step", "loss", "validation_loss", "learning_rate", "grad_norm"}
    assert all(set(row) == fields for row in log)
    assert all(math.isfinite(value) for row in log for value in row.values())


def test_how_often_it_is_saved_does_not_change_the_weights():
    assert same(run("a")[0], run("b", checkpoint_steps=100)[0])


def test_training_lowers_the_loss():
    log = run(num_train_steps=60, checkpoint_steps=20)[1]
    assert log[-1]["loss"] < log[0]["loss"]


@pytest.mark.parametrize(("num_works", "batch_size"), [(8, 4), (7, 3), (3, 8), (1, 2)])
def test_every_work_comes_once_an_epoch(num_works, batch_size):
    steps = range(3 * num_works)
    batches = [training.batch_places(num_works, batch_size, 0, step) for step in steps]
    order = torch.cat(batches)
    assert all(len(batch) == batch_size for batch in batches)
    epochs = order[: len(order) // num_works * num_works].view(-1, num_works)
    everyone = torch.arange(num_works).expand_as(epochs)
    assert torch.equal(epochs.sort(1).values, everyone)


def test_epochs_and_seeds_have_their_own_order():
    first, second = (training.batch_places(50, 50, 0, step) for step in (0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, training.batch_places(50, 50, 1, 0))


def test_a_batch_does_not_depend_on_the_batches_before_it():
    alone = training.batch_places(10, 4, 0, 7)
    torch.rand(5)
    for step in range(7):
        training.batch_places(10, 4, 0, step)
    assert torch.equal(alone, training.batch_places(10, 4, 0, 7))


def test_the_order_is_the_same_for_every_batch_size():
    fours = torch.cat([training.batch_places(10, 4, 0, step) for step in range(5)])
    fives = torch.cat([training.batch_places(10, 5, 0, step) for step in range(4)])
    assert torch.equal(fours, fives)


@pytest.fixture
def noised():
    generator = make_generator(0, "test")
    latents, noise = torch.randn(2, 6, 4, 4, 4, generator=generator)
    timesteps = torch.tensor([0, 1, 200, 500, 900, 999])
    noise_scheduler = training.make_noise_scheduler()
    alphas = noise_scheduler.alphas_cumprod[timesteps].view(-1, 1, 1, 1)
    return latents, noise, timesteps, alphas


def target(kind, latents, noise, timesteps):
    noise_scheduler = training.make_noise_scheduler(kind)
    return training.training_target(noise_scheduler, latents, noise, timesteps)


def test_the_three_targets_convert_into_each_other(noised):
    latents, noise, timesteps, alphas = noised
    kinds = ("epsilon", "sample", "v_prediction")
    epsilon, sample, v = (target(k, latents, noise, timesteps) for k in kinds)
    noisy = training.make_noise_scheduler().add_noise(latents, noise, timesteps)
    signal, spread = alphas.sqrt(), (1 - alphas).sqrt()
    assert torch.allclose(signal * noisy - spread * v, sample, atol=1e-5)
    assert torch.allclose(signal * v + spread * noisy, epsilon, atol=1e-5)
    assert torch.allclose(signal * sample + spread * epsilon, noisy, atol=1e-5)


def test_the_first_step_hardly_changes_latents_and_the_last_is_nearly_noise(noised):
    latents, noise, timesteps, _ = noised
    noisy = training.make_noise_scheduler().add_noise(latents, noise, timesteps)
    assert (noisy[0] - latents[0]).square().mean() < 0.01
    assert (noisy[-1] - noise[-1]).square().mean() < 0.02


def test_another_prediction_type_is_refused_with_its_name(noised):
    class Odd:
        config = type("Config", (), {"prediction_type": "flow"})

    with pytest.raises(ParameterError, match="'flow'; expected epsilon, v_prediction"):
        training.training_target(Odd, *noised[:3])


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_every_prediction_type_trains(kind):
    log = run(prediction_type=kind, num_train_steps=2)[1]
    assert math.isfinite(log[-1]["loss"])


@pytest.mark.parametrize(("fraction", "first"), [(1.0, 0), (0.5, 3), (0.1, 6)])
def test_the_average_runs_over_the_last_steps_only(monkeypatch, fraction, first):
    seen = []

    class Counted(training.EMAModel):
        def step(self, parameters):
            seen.append(1)
            super().step(parameters)

    monkeypatch.setattr(training, "EMAModel", Counted)
    run(ema_fraction=fraction)
    assert len(seen) == 7 - first


def test_a_share_of_steps_is_not_rounded_up_by_floating_point(monkeypatch):
    seen = []
    monkeypatch.setattr(training.EMAModel, "step", lambda *_: seen.append(1))
    run(ema_fraction=0.28, num_train_steps=25, checkpoint_steps=25)
    assert 0.28 * 25 > 7 and len(seen) == 7


def test_without_average_the_last_weights_are_returned():
    last = run("a", ema_fraction=0.0)[0]
    newest = run("b", ema_fraction=0.5, ema_decay=0.0)[0]
    assert all(torch.allclose(last[name], newest[name], atol=1e-6) for name in last)
    averaged = run("c", ema_fraction=0.5, ema_decay=0.99)[0]
    assert not torch.allclose(last["conv_in.weight"], averaged["conv_in.weight"])


@pytest.mark.parametrize(("prob", "expected"), [(0.0, {False}), (1.0, {True})])
def test_captions_are_dropped_never_or_always(prob, expected):
    data = FakeLatents()
    run(data=data, caption_drop_prob=prob)
    assert set(data.dropped) == expected


def test_captions_are_dropped_about_as_often_as_asked():
    data = FakeLatents()
    run(data=data, caption_drop_prob=0.5, train_batch_size=40)
    assert 0.38 < sum(data.dropped) / len(data.dropped) < 0.62


def test_validation_never_drops_a_caption_and_leaves_the_model_in_training():
    unet, held = make_unet().train(), FakeLatents()
    args = unet, training.make_noise_scheduler(), held, 0.5, 0
    assert training.validation_loss(*args) == training.validation_loss(*args)
    assert set(held.dropped) == {False} and unet.training


def test_a_loss_that_is_no_number_stops_with_its_step():
    data = FakeLatents()
    bad = training.batch_places(8, 3, 5, 2)[0]
    data.mean[bad] = math.nan
    first = next(s for s in range(9) if bad in training.batch_places(8, 3, 5, s))
    with pytest.raises(ParameterError, match=f"nan at step {first}") as caught:
        run(data=data)
    assert "learning_rate" in str(caught.value) and "\n" not in str(caught.value)


def test_a_loss_that_is_no_number_is_never_saved():
    data = FakeLatents()
    data.mean[:] = math.nan
    with pytest.raises(ParameterError):
        run(data=data)
    assert not list(paths.CHECKPOINTS.rglob("*.pt"))


def test_another_choice_of_captions_moves_no_other_draw():
    """Posterior sample, drops, timesteps and noise are those of one caption a work."""

    class TwoCaptions(FakeLatents):
        def prompt_embeds(self, places, is_dropped, generator=None):
            torch.rand(5, generator=generator)
            return super().prompt_embeds(places, is_dropped)

    weights, log = run("one")
    mixed, same_log = run("two", data=TwoCaptions())
    assert same(weights, mixed) and log == same_log


def test_the_choice_of_captions_is_drawn_anew_at_each_step():
    class Recorder(FakeLatents):
        draws = []

        def prompt_embeds(self, places, is_dropped, generator=None):
            self.draws.append(torch.rand(1, generator=generator).item())
            return super().prompt_embeds(places, is_dropped)

    run("drawn", data=Recorder())
    assert len(set(Recorder.draws)) == SETTINGS["num_train_steps"]


def test_the_same_seed_builds_the_same_unet():
    assert same(make_unet(1).state_dict(), make_unet(1).state_dict())
    assert not same(make_unet(1).state_dict(), make_unet(2).state_dict())


def test_a_perfect_model_has_no_loss():
    data, noise = FakeLatents(), []
    noise_scheduler = training.make_noise_scheduler("sample")

    class Perfect(torch.nn.Linear):
        def forward(self, noisy, timesteps, prompt_embeds):
            return type("Output", (), {"sample": noise[0]})

    clean = torch.arange(3)
    draws = torch.randn(3, 4, 4, 4, generator=make_generator(0, "x"))
    noise.append((data.mean[clean] + 0.1 * draws) * 0.5)
    args = Perfect(1, 1), noise_scheduler, data, clean, 0.5, 0.0
    assert training.diffusion_loss(*args, make_generator(0, "x")).item() < 1e-12

"""Each figure of notebook 04 is read by a sentence with the figure's own numbers."""

import numpy as np
import pytest
import torch
from toys import UNET, FakeLatents, make_recipe, make_vae

from commoncanvas.core.draws import Draws
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.models.unets import make_unet
from commoncanvas.publish.markdown import PageRenderer, prose
from commoncanvas.train import findings, lesson, sheets
from commoncanvas.train.denoising import Part

DRAWS = Draws(3, "lesson")
VAE = make_vae()
EVIL = "<b>cat</b>"


def unet(seed=1):
    return make_unet(UNET, 4, 4, 8, seed=seed).eval()


@pytest.fixture
def example():
    data, place = FakeLatents(), torch.tensor([0])
    states = data.prompt_embeds(place, torch.tensor([False]))
    part = Part(place, place, *data.posterior(place), states)
    return lesson.Example("toy/0", EVIL, "“cat” by Ann (toy), CC BY 4.0", part)


def flat(*levels, prompts=2):
    """Return a column of grey pictures for each level."""
    return [np.full((prompts, 8, 8, 3), level, np.uint8) for level in levels]


def entry(step, held_out):
    more = {"loss": held_out, "validation_loss": held_out, "attention": "SDPA"}
    return {"step": step, **more}


def test_the_start_says_how_often_a_work_is_met():
    found = findings.start(30, 7, 20, 8, None, 0)
    assert "each of its 30 works 5.33 times" in found.sentence
    assert "random weights" in found.data and "behind" not in found.data


def test_an_ancestor_of_unknown_works_is_said():
    known = {"model": "a/b", "license": "", "num_works": 3}
    assert "<td>3</td>" in findings.start(1, 1, 1, 1, known, 3).data
    known["num_works"] = None
    assert "<td>unknown</td>" in findings.start(1, 1, 1, 1, known, 0).data


def test_the_schedule_is_read_where_noise_takes_over():
    scheduler = make_noise_scheduler()
    kept = scheduler.alphas_cumprod.numpy()
    even = int(np.argmax(kept <= 0.5))
    said = findings.noise_levels(scheduler).sentence
    assert f"from t = {even} of 1,000 on" in said
    assert f"is {np.sqrt(kept[-1]):.3f}." in said


def test_a_step_is_set_beside_zeros():
    target = torch.full((1, 4, 4, 4), 2.0)
    at, loss = torch.tensor([7]), torch.tensor(3.0)
    said = findings.first_step(loss, loss[None], target, at).sentence
    assert "t = 7" in said and "3.000, less than the 4.000" in said
    said = findings.first_step(loss * 2, loss[None], target, at).sentence
    assert "6.000, no less than the 4.000" in said and "gives 3.000" in said


def test_losses_are_read_at_their_ends():
    unets = {"untrained": unet(), "trained": unet(2)}
    data, scheduler = FakeLatents(), make_noise_scheduler()
    found = findings.losses(unets, scheduler, data, DRAWS, 0.5)
    marks = range(50, 1000, 100)
    after, before = (
        [
            e.value
            for e in lesson.losses_by_timestep(u, scheduler, data, marks, DRAWS, 0.5)
        ]
        for u in (unets["trained"], unets["untrained"])
    )
    low, high = int(np.argmin(after)), int(np.argmax(after))
    assert f"least at t = {marks[low]} ({after[low]:.3f})" in found.sentence
    assert f"greatest at t = {marks[high]} ({after[high]:.3f})" in found.sentence
    change = 1 - np.mean(after) / np.mean(before)
    word = "takes away" if change > 0 else "adds"
    assert f"training {word} {100 * abs(change):.0f} %" in found.sentence
    assert "Mean over 8 held-out works" in found.data


def test_too_few_held_out_works_are_said():
    found = findings.losses(
        {"a": unet()}, make_noise_scheduler(), FakeLatents(1), DRAWS, 0.5
    )
    assert "Fewer than two" in found.sentence and "<svg" not in found.data


def test_the_density_of_timesteps_is_read_by_its_quarters():
    drawn = lesson.drawn_timesteps(1000, "logit_normal", 0.5, 3)
    low, high = np.quantile(drawn, [0.25, 0.75]).round()
    said = findings.timesteps_drawn(1000, "logit_normal", 0.5, 3).sentence
    assert f"between {low:.0f} and {high:.0f}; were" in said
    assert "it would be 250 and 750" in said


def test_the_curve_says_where_the_loss_was_least():
    log = [entry(1, 0.5), entry(2, 0.2), entry(3, 0.3)]
    said = findings.loss_curve(log, "cc").sentence
    assert (
        "0.500 at step 1 and 0.300 at step 3; its least was 0.200, at step 2." in said
    )
    said = findings.loss_curve(log[:2], "cc").sentence
    assert "0.200 at step 2, its least." in said


@pytest.mark.parametrize(
    ("own", "held", "said"),
    [
        (0.1, 0.6, "falls by 80 % and the held-out loss rises by 20 %: the model over"),
        (0.1, 0.4, "held-out loss falls by 20 %: works that it never saw share less"),
        (0.3, 0.3, "held-out loss falls by 40 %: works that it never saw share half"),
        (0.6, 0.6, "rises by 20 % and the held-out loss rises by 20 %: where the"),
    ],
)
def test_the_two_losses_tell_of_overfitting(own, held, said):
    first, last = entry(1, 0.5), entry(9, held) | {"loss": own}
    assert said in findings.overfitting(first, last)
    assert said in findings.loss_curve([first, last], "cc").sentence
    assert findings.overfitting(first, first) == ""


@pytest.mark.parametrize(
    ("kind", "formula"),
    [
        ("epsilon", r"\varepsilon - \varepsilon_\theta(x_t, t, c)"),
        ("sample", r"x_0 - x_\theta(x_t, t, c)"),
        ("v_prediction", r"v - v_\theta(x_t, t, c)"),
    ],
)
def test_the_loss_is_that_of_what_is_predicted(kind, formula):
    said = findings.objective(kind).data
    assert formula in said and f"prediction_type: {kind}" in said
    assert ("Eq. 14" in said) == (kind == "epsilon")
    assert prose(said, PageRenderer(set())).count("<math") == 3


def test_the_average_says_how_far_it_looks_back():
    said = findings.average(make_recipe(num_train_steps=1000, ema_fraction=0.1))
    assert "from step 901 to 1,000" in said and "about 10 of them" in said
    assert "no average" in findings.average(make_recipe(ema_fraction=0.0))
    said = findings.average(make_recipe(num_train_steps=10, ema_decay=1.0))
    assert "about 5 of them" in said


def test_the_unet_is_counted():
    model = unet()
    said = findings.unet_levels(model, "small", make_recipe()).sentence
    assert f"{sum(p.numel() for p in model.parameters()):,} parameters" in said
    assert "2 of its 2 blocks" in said


def test_the_noised_work_bears_its_credit_and_its_levels(example):
    found = sheets.noised_work(example, VAE, make_noise_scheduler(), DRAWS)
    assert found.data.count("<img") == 5 and "CC BY 4.0" in found.data
    assert "t = 250, 500, 750 and 999" in found.sentence
    assert "<b>cat" not in found.data


def test_before_and_after_show_every_unet_at_every_timestep(example):
    unets = {"untrained": unet(), "trained": unet(2)}
    scheduler = make_noise_scheduler("v_prediction")
    found = sheets.before_and_after(example, unets, VAE, scheduler, DRAWS)
    assert found.data.count("<img") == 15 and found.data.count("loss 0.") >= 1
    _, before = lesson.predict(
        unets["untrained"],
        scheduler,
        example.part,
        [500],
        DRAWS,
        VAE.config.scaling_factor,
    )
    assert f"{before[0]:.3f} before" in found.sentence


def test_a_loss_that_rose_is_not_said_to_fall(example):
    model = unet()
    found = sheets.before_and_after(
        example, {"a": model, "b": model}, VAE, make_noise_scheduler(), DRAWS
    )
    assert "does not fall" in found.sentence


def test_guidance_is_one_row_a_prompt():
    drawn = dict(zip((1.0, 8.0), flat(100, 130), strict=True))
    found = sheets.guided(drawn, ["cat", "dog"], 20)
    assert "From guidance w = 1 to 8 a pixel changes by 30 of 255" in found.sentence
    texts = [text for text in ("w = 1", "cat", "dog") if f">{text}<" in found.data]
    assert texts == ["w = 1", "cat", "dog"]


def test_the_strip_says_when_half_of_the_way_is_gone():
    pictures = np.concatenate(flat(200, 180, 140, 100, prompts=1))
    found = sheets.denoising([900, 600, 300, 0], pictures, "cat")
    assert "by 100 of 255" in found.sentence
    assert "by step 3 of 4, t = 300" in found.sentence


def test_of_many_steps_ten_are_shown_with_both_ends():
    previews = {step: flat(step)[0] for step in range(10, 250, 10)}
    found = sheets.filmstrip(previews, ["cat", "dog"])
    assert found.data.count("<img") == 20
    assert ">10<" in found.data and ">240<" in found.data
    assert "Between training steps 10 and" in found.sentence


@pytest.mark.parametrize(
    ("previews", "said"),
    [({}, "No pictures were kept"), ({7: flat(1)[0]}, "One picture a prompt")],
)
def test_a_training_with_few_pictures_says_so(previews, said):
    assert said in sheets.filmstrip(previews, ["cat", "dog"]).sentence


def test_errors_are_white_where_there_is_none():
    work = flat(100, prompts=1)[0][0]
    assert (sheets._difference(flat(100)[0], work) == 255).all()
    assert (sheets._difference(flat(130)[0], work) == 225).all()

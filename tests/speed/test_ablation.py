"""The ablation compares like with like, and says what it did not run."""

import dataclasses
import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from commoncanvas.claims.outcomes import Effect
from commoncanvas.claims.scorecard import make_scorecard
from commoncanvas.core.errors import ShapeError
from commoncanvas.core.images import encode_png
from commoncanvas.latents import mixing
from commoncanvas.latents.encode import latent_table, text_table
from commoncanvas.latents.reader import Latents
from commoncanvas.latents.store import write_index, write_latents
from commoncanvas.models import encoders
from commoncanvas.models.unets import make_unet
from commoncanvas.pretrain import autoencoder
from commoncanvas.speed import ablation, clocks
from commoncanvas.train import denoising, state

TOKENS, SIZE = 6, 16
UNET = {
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "block_out_channels": [16],
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
ON_CPU = [recipe.name for recipe in ablation.RECIPES if not recipe.needs_gpu]


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    """Return `Latents` and `OnlineLatents` of six coloured squares."""
    rng = np.random.default_rng(0)
    keys = [f"set:{i}" for i in range(6)]
    pictures = rng.integers(0, 255, (6, SIZE, SIZE, 3), dtype=np.uint8)
    pngs = pd.Series([encode_png(p) for p in pictures], index=keys)
    catalog = pd.DataFrame({"key": keys, "title": [f"square {i}" for i in range(6)]})
    catalog = catalog.assign(
        source="set",
        split="c",
        license_slug="by",
        alt_text="",
        is_holdout=False,
        order=range(6),
    )
    captions = pd.DataFrame({"key": keys, "source": "synthetic", "caption": "square"})
    index, texts = mixing.make_index(catalog, captions)
    torch.manual_seed(0)
    vae = autoencoder.make_vae(4, [8, 8, 8, 8]).eval()
    vae_folder = tmp_path_factory.mktemp("vae")
    vae.save_pretrained(vae_folder)
    table = latent_table(str(vae_folder), SIZE, list(pngs.items()))
    states = text_table(TOKENS, texts)
    folder = tmp_path_factory.mktemp("latents")
    shapes = (4, SIZE // 8, SIZE // 8), (TOKENS, 384)
    write_index(folder, [(index, texts)])
    write_latents(folder, [table], [states], *shapes)
    data = Latents(folder, ["c"], "human")
    return data, ablation.OnlineLatents(
        data,
        np.arange(len(data)),
        [pngs[key] for key in data.keys],
        SIZE,
        vae,
        *encoders.load_text_encoder("all-MiniLM-L6-v2", TOKENS),
    )


def make():
    return make_unet(UNET, 4, SIZE // 8, 384, 0)


TIMING = ablation.Timing(1, 2, 1, 2, scaling_factor=1.0)


def measure(readers, recipes=None, **options):
    timing = dataclasses.replace(TIMING, **options)
    return ablation.measure_training(make, *readers, timing, recipes)


def test_online_encoding_trains_on_the_same_numbers_as_stored_latents(readers):
    data, online = readers
    places, is_dropped = torch.tensor([4, 0, 2]), torch.tensor([False, True, False])
    for stored, fresh in zip(
        data.posterior(places), online.posterior(places), strict=True
    ):
        torch.testing.assert_close(stored, fresh, atol=1e-2, rtol=1e-2)
    torch.testing.assert_close(
        data.prompt_embeds(places, is_dropped),
        online.prompt_embeds(places, is_dropped).cpu(),
        atol=1e-2,
        rtol=1e-2,
    )


def test_every_row_of_a_cpu_is_timed_once_a_repeat(readers):
    rates = measure(
        readers, num_repeats=3, recipes=[ablation.LATENTS, ablation.LATE_EMA]
    )
    assert {name: len(values) for name, values in rates.items()} == {
        ablation.LATENTS.name: 3,
        ablation.LATE_EMA.name: 3,
    }
    assert all((values > 0).all() for values in rates.values())


def test_rows_take_turns_in_being_first(readers, monkeypatch):
    seen = []
    step = ablation.Trainee.step
    monkeypatch.setattr(
        ablation.Trainee,
        "step",
        lambda self, recipe, loss: (seen.append(recipe.name), step(self, recipe, loss)),
    )
    measure(readers, recipes=[ablation.LATENTS, ablation.LATE_EMA])
    assert seen[2:4] == seen[4:6][::-1]


def test_rows_see_the_same_batches_with_the_same_noise(readers, monkeypatch):
    seen = {}

    def spy(unet, schedule, reader, places, *more):
        row = seen.setdefault(type(reader).__name__, [])
        row.append((places.tolist(), *more))
        return denoising.diffusion_loss(unet, schedule, reader, places, *more)

    monkeypatch.setattr(ablation, "diffusion_loss", spy)
    measure(readers, recipes=[ablation.ATTENTION, ablation.TEXTS])
    assert seen["OnlineLatents"] == seen["Latents"]
    assert len({str(batch) for batch in seen["Latents"][1:]}) == 2


@pytest.mark.parametrize(
    ("recipe", "kind"),
    [(ablation.PLAIN, AttnProcessor), (ablation.ATTENTION, AttnProcessor2_0)],
)
def test_a_row_trains_with_its_own_attention(readers, monkeypatch, recipe, kind):
    seen = set()
    step = ablation.Trainee.step

    def spy(self, recipe, loss_of):
        seen.update(type(p) for p in self.unet.attn_processors.values())
        step(self, recipe, loss_of)

    monkeypatch.setattr(ablation.Trainee, "step", spy)
    measure(readers, recipes=[recipe])
    assert seen == {kind}


@pytest.mark.parametrize(
    "recipe", [ablation.LATENTS, ablation.LATE_EMA, ablation.FUSED, ablation.EXAMPLE]
)
def test_a_step_changes_the_weights_and_the_average_only_where_the_row_says(recipe):
    trainee = ablation.Trainee(make(), recipe)
    before = [p.detach().clone() for p in trainee.unet.parameters()]
    trainee.step(recipe, lambda unet: unet.conv_in.weight.square().sum())
    after = list(trainee.unet.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert (trainee.ema is not None) == recipe.ema_every_step


def test_fast_attention_computes_what_eager_attention_computes():
    unet = make()
    inputs = torch.ones(1, 4, 2, 2), torch.zeros(1).long(), torch.ones(1, TOKENS, 384)
    outputs = []
    for kind in (AttnProcessor, AttnProcessor2_0):
        unet.set_attn_processor(kind())
        outputs.append(unet(*inputs).sample)
    torch.testing.assert_close(*outputs, atol=1e-5, rtol=1e-4)


def test_both_optimisers_take_the_same_step():
    recipes = (ablation.LATE_EMA, ablation.FUSED)
    trainees = [ablation.Trainee(make(), recipe) for recipe in recipes]
    for trainee, recipe in zip(trainees, recipes, strict=True):
        trainee.step(recipe, lambda unet: unet.conv_in.weight.square().sum())
    states = [t.unet.state_dict() for t in trainees]
    torch.testing.assert_close(*states, atol=1e-7, rtol=1e-6)


def test_every_row_of_the_ladder_adds_one_thing():
    for before, after in itertools.pairwise(ablation.LADDER):
        changed = {
            f.name
            for f in dataclasses.fields(after)
            if getattr(before, f.name) != getattr(after, f.name)
        }
        assert len(changed - {"name", "needs_gpu"}) == 1, after.name


def test_low_precision_norms_keep_the_type_and_nearly_the_values():
    plain, low = make(), make()
    state.lower_norms(low)
    hidden = torch.randn(2, 16, 2, 2, generator=torch.Generator().manual_seed(0))
    norm, lowered = plain.conv_norm_out, low.conv_norm_out
    assert lowered(hidden.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(
        lowered(hidden.bfloat16()).float(), norm(hidden), atol=0.05, rtol=0.05
    )


RATES = {
    ablation.PLAIN.name: np.array([10.0, 20.0]),
    ablation.ATTENTION.name: np.array([11.0, 22.0]),
    ablation.LATENTS.name: np.array([20.0, 40.0]),
    ablation.TEXTS.name: np.array([22.0, 44.0]),
    ablation.LATE_EMA.name: np.array([28.0, 56.0]),
    ablation.FUSED.name: np.array([30.0, 60.0]),
    ablation.EXAMPLE.name: np.array([9.0, 18.0]),
    ablation.AGAIN.name: np.array([10.1, 19.9]),
}


SMALL = {"model": "open:abc", "device": "AMD EPYC", "rate": np.array([12.0, 12.0])}


def test_a_machine_that_slows_down_does_not_move_the_ratios():
    estimate = ablation.ratio(RATES, ablation.FUSED)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((3, 3, 3))


def test_rows_that_were_not_run_say_why():
    rows = {row["row"]: row for row in ablation.summarise(RATES, 1e9, 1e11)}
    assert list(rows) == [recipe.name for recipe in ablation.RECIPES]
    for recipe in (ablation.COMPILED, ablation.GRAPHS, ablation.FLASH):
        assert rows[recipe.name]["ratio"] is None
        assert rows[recipe.name]["note"] == "needs a GPU"
    assert all(rows[name]["note"] == "" for name in ON_CPU)


def test_rows_that_were_stopped_say_by_what_and_others_go_on(readers, monkeypatch):
    monkeypatch.setattr(ablation, "in_groups", lambda rows: [[row] for row in rows])
    made = iter([make])

    def make_once():
        for function in made:
            return function()
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    failures = {}
    recipes = [ablation.LATENTS, ablation.FUSED]
    words = make_once, *readers, TIMING, recipes
    rates = ablation.measure_training(*words, failures)
    assert list(rates) == [ablation.LATENTS.name]
    rows = {r["row"]: r for r in ablation.summarise(rates, 1e9, 1e11, failures)}
    note = rows[ablation.FUSED.name]["note"]
    assert note.startswith("failed: CUDA out of memory") and "\n" not in note
    assert rows[ablation.LATENTS.name]["images_per_second"]
    with pytest.raises(RuntimeError):
        ablation.measure_training(*words)


def test_a_gpu_holds_one_kind_of_unet_at_a_time(monkeypatch):
    assert ablation.in_groups(ablation.RECIPES) == [list(ablation.RECIPES)]
    monkeypatch.setattr(ablation, "DEVICE", torch.device("cuda"))
    groups = ablation.in_groups(ablation.RECIPES)
    assert all(len({recipe.kind for recipe in group}) == 1 for group in groups)
    assert sorted(r.name for group in groups for r in group) == sorted(
        r.name for r in ablation.RECIPES
    )


def test_pictures_of_a_few_batches_are_enough(readers, monkeypatch):
    data, _ = readers
    monkeypatch.setattr(ablation, "NUM_BATCHES", 2)
    seen = ablation.places_seen(data, 1, 3)
    assert 1 <= len(seen) <= 2 < len(data)
    for step in range(7):
        (place,) = ablation.batch_of(data, 1, 3, step).tolist()
        assert place in seen


def test_precomputed_latents_still_read_their_words(readers):
    data, online = readers
    mixed = ablation.MixedLatents(data, online)
    places, is_dropped = torch.tensor([1, 2]), torch.tensor([False, False])
    assert torch.equal(mixed.posterior(places)[0], data.posterior(places)[0])
    states = mixed.prompt_embeds(places, is_dropped)
    assert torch.equal(states, online.prompt_embeds(places, is_dropped))


def test_utilisation_is_flops_times_rate_over_peak():
    rows = ablation.summarise(RATES, 2e9, 1e11)
    assert rows[0]["mfu"] == pytest.approx(2e9 * 15 / 1e11)


def test_one_repeat_gives_no_interval_and_is_refused():
    with pytest.raises(ShapeError):
        ablation.summarise({name: r[:1] for name, r in RATES.items()}, 1e9, 1e11)


def test_the_claims_compare_the_rows_that_they_name():
    measured = ablation.measure_claims(RATES, SMALL)
    assert measured["speed.total"].estimate.value == pytest.approx(3)
    assert measured["speed.latents"].estimate.value == pytest.approx(2)
    assert measured["speed.same"].estimate.value == pytest.approx(1, abs=0.01)
    assert {e.unit for e in measured.values() if isinstance(e, Effect)} == {"timings"}


def cost_of(captions):
    measured = ablation.measure_claims(RATES, captions)
    rows = make_scorecard("close", None, measured, ["07_speed"])
    (cost,) = [row for row in rows if row["claim_id"] == "caption_cost"]
    return cost


def test_a_small_captioner_gives_no_verdict_on_the_cost_of_blip2():
    cost = cost_of(SMALL)
    assert cost["outcome"] == "no test here"
    assert "hours of one AMD EPYC by open:abc" in cost["why"]


def test_the_paper_s_captioner_on_its_hardware_is_judged():
    blip2 = "blip2:Salesforce/blip2-opt-2.7b@59a1ef6c:float16"
    rate = 99.2e6 / 3600 / np.array([1000.0, 1001, 999, 1000, 1000])
    on_a100 = {"model": blip2, "device": "NVIDIA A100-SXM4-80GB", "rate": rate}
    cost = cost_of(on_a100)
    assert cost["outcome"] == "transfers"
    other = cost_of(on_a100 | {"device": "NVIDIA H100 80GB HBM3"})
    assert other["outcome"] == "no test here" and "H100" in other["why"]


def test_imported_captions_cost_nothing_here_and_say_so():
    cost = cost_of({"model": "imported:told.parquet", "device": "any", "rate": None})
    assert cost["outcome"] == "no test here" and "imported" in cost["why"]


def test_the_reader_is_timed_over_all_its_repeats(readers):
    assert (clocks.measure_reader(readers[0], 2, 3, 4, seed=1) > 0).sum() == 4

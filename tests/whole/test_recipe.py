"""The pilot and paper profiles hold the recipe of the paper and of its code.

Sources as in docs/paper.yaml: commoncanvas-cvpr, and mosaicml-diffusion's SD-2-base-256
and SD-2-base-512 yamls at 256 px.
"""

import re

import pytest
import torch
import yaml

from commoncanvas.core import paths
from commoncanvas.models.pipelines import make_noise_scheduler
from commoncanvas.models.unets import make_unet

SCALES = ["pilot", "paper"]
LATENT_CHANNELS, SIDE, TEXT_WIDTH = 4, 32, 1024  # 256 px; OpenCLIP ViT-H
# S is SD2's UNet; L is SDXL's with cross_attention_dim 1024 and no micro-conditioning.
# Counted by building the two configurations.
NUM_PARAMETERS = {"small": 865_910_724, "large": 2_391_824_644}
RECIPE = {
    "train_batch_size": 2048,  # SD-2-base-256: global_train_batch_size
    "learning_rate": 1.0e-4,  # SD-2-base-256: optimizer
    "weight_decay": 0.01,  # SD-2-base-256: optimizer
    "lr_warmup_steps": 10_000,  # SD-2-base-256: scheduler t_warmup
    "lr_schedule": "constant_with_warmup",  # SD-2-base-256: alpha_f 1, constant after
    "caption_drop_prob": 0.1,  # SD-2-base-256: dataset
    "ema_fraction": 0.035,  # commoncanvas-cvpr, §5.1: the final 3.5 %
    "ema_decay": 0.9999,  # SD-2-base-512: ema smoothing
    "prediction_type": "epsilon",  # stable_diffusion_2's default
    "weighting_scheme": "none",  # StableDiffusion.forward: timesteps are uniform
    "unet": "small",  # commoncanvas-cvpr, §6.2: S is the baseline
}


# Where a rehearsal may differ from the run that it rehearses; all else is the same.
SIZES = """licenses.holdout_share licenses.picture_size_px licenses.shard_size
licenses.metadata_rows
captions.captioners.synthetic.batch_size captions.num_compared captions.num_studied
captions.num_reviewed latents.resolution_px train.num_train_steps
train.train_batch_size train.micro_batch_size train.lr_warmup_steps
train.checkpoint_steps train.preview_steps unets.small.block_out_channels
unets.small.layers_per_block unets.small.attention_head_dim
unets.large.block_out_channels unets.large.layers_per_block
unets.large.attention_head_dim unets.large.transformer_layers_per_block
evaluate.prompt_sets.validation.skip evaluate.prompt_sets.validation.num
evaluate.prompt_sets.parti.num evaluate.num_samples evaluate.guidance_scales
evaluate.num_reference evaluate.num_inference_steps evaluate.sample_batch_size
evaluate.num_choices figures.num_prompts figures.num_pairs speed.num_repeats
speed.steps_per_repeat speed.train_batch_size""".split()
PLACES = """licenses.cc_sources captions.captioners.synthetic.model
captions.captioners.synthetic.revision captions.second_captioner.model
captions.second_captioner.revision captions.scorer.model captions.scorer.revision
captions.prompt_file
latents.vae_folder latents.vae_revision
latents.text_encoder latents.text_encoder_revision train.init_from train.scheduler
train.scheduler_revision evaluate.features.inception.weights
evaluate.features.inception.sha256 evaluate.features.clip.model
evaluate.features.clip.revision evaluate.scorer.model evaluate.scorer.revision
evaluate.prompt_sets.coco.file evaluate.prompt_sets.coco.pictures
evaluate.prompt_sets.validation.file evaluate.prompt_sets.validation.pictures
evaluate.prompt_sets.parti.file own_variants.web_human.pipeline
own_variants.web_human.revision own_variants.released.pipeline
own_variants.released.revision""".split()
DEVICES = """common.num_threads latents.encoder_dtype train.mixed_precision
train.attention train.compile train.num_processes evaluate.engine
evaluate.sample_dtype""".split()
ROWS = ["rows.experiment", "rows.repeats"]  # those of a rehearsal are its maker's


def flat(settings, start=""):
    """Return {dotted name: value} of nested settings."""
    found = {}
    for name, value in settings.items():
        inner = isinstance(value, dict) and value
        found |= flat(value, f"{start}{name}.") if inner else {f"{start}{name}": value}
    return found


def profile(scale):
    return yaml.safe_load((paths.PROFILES / f"{scale}.yaml").read_text("utf-8"))


@pytest.mark.parametrize(
    ("rehearsal", "rehearsed"),
    [("rehearsal", "pilot"), ("rehearsal-512", "paper-512")],
)
def test_a_rehearsal_differs_in_sizes_places_and_devices_alone(rehearsal, rehearsed):
    ours, theirs = flat(profile(rehearsal)), flat(profile(rehearsed))
    changed = {n for n in ours | theirs if ours.get(n, 0) != theirs.get(n, 0)}
    assert sorted(changed - {*SIZES, *PLACES, *DEVICES, *ROWS}) == []
    named = [n for n in changed & {*PLACES} if not n.endswith(("revision", "sha256"))]
    for name in named:  # nothing of it lies elsewhere
        values = ours[name] if isinstance(ours[name], list) else [ours[name]]
        assert all(re.search("sources/rehearsal/|data/rehearsal/", v) for v in values)


def section(scale, name):
    return profile(scale)[name]


def on_meta(scale, name):
    """Build a UNet of a profile as stage 04 does, without its weights."""
    config = section(scale, "unets")[name]
    with torch.device("meta"):
        return make_unet(config, LATENT_CHANNELS, SIDE, TEXT_WIDTH, 0)


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_a_unet_of_the_paper_has_exactly_its_parameters(scale, name):
    unet = on_meta(scale, name)
    assert sum(p.numel() for p in unet.parameters()) == NUM_PARAMETERS[name]
    assert unet.config.cross_attention_dim == TEXT_WIDTH
    assert unet.config.in_channels == unet.config.out_channels == LATENT_CHANNELS


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NUM_PARAMETERS)
def test_attention_heads_are_64_wide(scale, name):
    # The count does not tell heads from their width; SD2 and SDXL have 64 everywhere.
    unet = on_meta(scale, name)
    blocks = [m for m in unet.modules() if type(m).__name__ == "Attention"]
    assert {block.to_q.out_features // block.heads for block in blocks} == {64}


@pytest.mark.parametrize("scale", SCALES)
def test_no_unet_is_told_the_size_of_its_picture(scale):
    large = section(scale, "unets")["large"]
    assert "addition_embed_type" not in large


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("key", RECIPE)
def test_a_setting_is_the_paper_s(scale, key):
    assert section(scale, "train")[key] == RECIPE[key]


def test_the_paper_s_run_has_its_steps_at_256_px():
    # SD-2-base-256: max_duration; the pilot does fewer, on a part of the works.
    assert section("paper", "train")["num_train_steps"] == 550_000
    assert section("paper", "latents")["resolution_px"] == 256


def test_the_paper_s_second_stage_goes_on_at_512_px():
    # SD-2-base-512: max_duration, and ema from step 800,000; else as the first stage.
    changed = {
        "latents": {"resolution_px": 512},
        "train": {
            "init_from": "data/paper/04_train/{variant}/pipeline",
            "num_train_steps": 850_000,
            "micro_batch_size": 4,
            "ema_fraction": 0.0588,
        },
        "speed": {"train_batch_size": 512},
    }
    for name in ("common", "licenses", "captions", "latents", "train", "unets"):
        first, second = (section(scale, name) for scale in ("paper", "paper-512"))
        assert second == {**first, **changed.get(name, {})}, name
    steps = 0.0588 * 850_000
    assert steps == pytest.approx(0.035 * (550_000 + 850_000), rel=0.03)
    assert steps == pytest.approx(50_000, rel=0.001)


@pytest.mark.parametrize("scale", SCALES)
def test_the_pilot_and_the_paper_s_run_build_the_same_unets(scale):
    assert section(scale, "unets") == section("paper", "unets")


@pytest.mark.parametrize("scale", SCALES)
def test_captions_are_as_long_as_clip_reads(scale):
    assert section(scale, "latents")["max_tokens"] == 77  # stable_diffusion_2


@pytest.mark.parametrize("scale", SCALES)
def test_the_noise_schedule_is_the_released_model_s(scale):
    train = section(scale, "train")
    assert train["scheduler"] == section(scale, "latents")["vae_folder"]
    assert train["scheduler_revision"] == section(scale, "latents")["vae_revision"]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("part", ["vae", "text_encoder"])
def test_encoders_of_the_hub_are_pinned_by_a_commit(scale, part):
    latents = section(scale, "latents")
    name = latents["vae_folder" if part == "vae" else part]
    assert name == "common-canvas/CommonCanvas-S-C"
    assert re.fullmatch("[0-9a-f]{40}", latents[f"{part}_revision"])


def test_noise_is_sd2_s():
    # stable_diffusion_2 takes that of stabilityai/stable-diffusion-2-base.
    config = make_noise_scheduler(RECIPE["prediction_type"]).config
    assert config.num_train_timesteps == 1000
    assert (config.beta_start, config.beta_end) == (0.00085, 0.012)
    assert config.beta_schedule == "scaled_linear"
    assert config.prediction_type == "epsilon"


@pytest.mark.parametrize(
    "scale", sorted({p.stem for p in paths.PROFILES.glob("*.yaml")} - {"pretrain"})
)
def test_the_texts_that_variants_train_on_are_encoded(scale):
    params = yaml.safe_load((paths.ROOT / "params.yaml").read_text("utf-8"))
    own = profile(scale).get("own_variants", {})
    encoded = {*section(scale, "latents")["text_sources"]}
    encoded |= section(scale, "captions")["captioners"].keys()
    # The reference run trains every variant that there is.
    for row in params["variants" if scale == "full" else "experiment"]:
        changes = params["variants"][row] | own.get(row, {})
        settings = section(scale, "train") | changes
        # The web's names are always encoded; published weights are not trained.
        if settings["licenses"] != ["web"] and "pipeline" not in changes:
            weights = settings["caption_weights"] or {settings["caption_source"]: 1}
            assert weights.keys() <= encoded, row


@pytest.mark.parametrize("scale", ["tiny", "mini", "full"])
def test_models_of_marks_are_asked_for_exactly_the_works_they_learnt(scale):
    params = yaml.safe_load((paths.ROOT / "params.yaml").read_text("utf-8"))
    rows = params["variants"] | profile(scale)["own_variants"]
    sets = section(scale, "evaluate")["prompt_sets"]
    for row in ("marks_human", "marks_synthetic"):
        for name in ("marks_named", "marks_told"):
            assert sets[name]["sources"] == rows[row]["train_sources"]
            assert sets[name]["num"] == rows[row]["num_works"]
            assert sets[name]["holdout"] is False


@pytest.mark.parametrize("scale", ["tiny", "mini", "full"])
def test_both_worlds_give_emoji_and_a_referee_gives_the_prompts(scale):
    licenses, train = section(scale, "licenses"), section(scale, "train")
    evaluate = section(scale, "evaluate")
    referees, trained = licenses["referee_sources"], {*train["train_sources"]}
    assert evaluate["prompt_sources"] == referees and not trained & {*referees}
    assert trained & {*licenses["cc_sources"]} and trained & {*licenses["web_sources"]}
    assert trained <= {*licenses["cc_sources"], *licenses["web_sources"]}
    sets, name = evaluate["prompt_sets"], evaluate["sweep_prompts"]
    assert train["num_works"] and sets[name]["skip"] >= evaluate["num_samples"]

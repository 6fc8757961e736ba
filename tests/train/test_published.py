"""A published pipeline takes a training's place, and says that nothing was trained."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from toys import UNET, make_vae, save_tokenizer
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from commoncanvas.analysis import tables
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.manifest import read_manifest, write_manifest
from commoncanvas.models.pipelines import draw_samples, make_noise_scheduler
from commoncanvas.models.unets import make_unet
from commoncanvas.train.published import refuse_published, take_pipeline

VALUES = {
    "scale": "toy",
    "variant": "web_human",
    "of": "web_human",
    "seed": 17,
    "licenses": ["c"],
    "caption_source": "synthetic",
    "caption_weights": {},
    "data_fraction": 1.0,
    "num_works": 3,
    "train_sources": [],
}


def save_pipeline(folder):
    """Save a tiny pipeline of SD2's classes, as it lies on the Hub."""
    words = save_tokenizer(folder / "words")
    torch.manual_seed(0)
    config = CLIPTextConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        vocab_size=len(words),
        bos_token_id=len(words) - 2,
        eos_token_id=len(words) - 1,
        pad_token_id=0,
    )
    StableDiffusionPipeline(
        vae=make_vae(),
        text_encoder=CLIPTextModel(config).eval(),
        tokenizer=CLIPTokenizer.from_pretrained(folder / "words"),
        unet=make_unet(UNET, 4, 4, 16, seed=0).eval(),
        scheduler=make_noise_scheduler("epsilon"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder / "pipeline")
    return folder / "pipeline"


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A scale whose stage 03 is done, and a published pipeline beside it."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    latents = paths.stage_dir("toy", "03_latents")
    latents.mkdir(parents=True)
    write_manifest(latents, "03_latents", "toy", None, 9, 9, {}, {})
    return save_pipeline(tmp_path / "sd2")


def test_it_lies_where_a_training_would_and_draws_the_same_pictures(world):
    page = take_pipeline([str(world), ""], VALUES)
    folder = paths.stage_dir("toy", "04_train", "web_human")
    manifest = read_manifest(folder)
    assert manifest["counts"] == {
        "in": 9,
        "out": 0,
        "rejected": {"not in this variant": 9},
    }
    assert manifest["facts"]["licenses"] == ["c"]
    taken = StableDiffusionPipeline.from_pretrained(folder / "pipeline")
    published = StableDiffusionPipeline.from_pretrained(world)
    assert isinstance(taken.scheduler, DDIMScheduler)
    published.scheduler = taken.scheduler
    a, b = (draw_samples(p, ["a cat"], 3.0, 2, 5, 1) for p in (taken, published))
    assert np.array_equal(a, b) and a.std() > 0
    assert "was not trained here" in page and str(world) in page


def test_it_says_that_its_works_are_not_known(world):
    take_pipeline([str(world), ""], VALUES)
    folder = paths.stage_dir("toy", "04_train", "web_human")
    assert not (folder / "works.parquet").exists()
    card = json.loads((folder / "pipeline" / "card.json").read_text())
    assert card["license"] == "" and card["pipeline"] == str(world)
    assert pd.read_csv(folder / "log.csv").empty
    metrics = json.loads((folder / "metrics.json").read_text())
    assert tables.num_works(metrics) == "not known"
    assert "validation_loss" not in metrics
    with pytest.raises(ParameterError, match="is the published .* trained here"):
        refuse_published(read_manifest(folder))


@pytest.mark.parametrize("broken", ["unet", "tokenizer", "all"])
def test_what_is_no_whole_pipeline_is_one_line(world, broken):
    place = world / "model_index.json" if broken == "all" else world / broken
    place.rename(world / "gone")
    expected = "no whole StableDiffusionPipeline|has neither"
    with pytest.raises(ParameterError, match=expected) as e:
        take_pipeline([str(world), ""], VALUES)
    assert "\n" not in str(e.value)
    assert not paths.stage_dir("toy", "04_train", "web_human").exists()


def test_a_hub_id_needs_a_commit(world):
    with pytest.raises(ParameterError, match="no revision"):
        take_pipeline(["someone/model", ""], VALUES)

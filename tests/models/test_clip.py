"""CLIP embeds a picture or a text alike, whatever else is in the batch."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from toys import CLIP_SIZE, save_clip
from transformers import CLIPModel, CLIPProcessor

from commoncanvas.analysis import matching
from commoncanvas.core.errors import ParameterError
from commoncanvas.models import clip

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 20, 28, 3), np.uint8)
TEXTS = ["a red cat", "", "dog", "a cat a dog " * 20, "blue"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def small(folder):
    return clip.Clip(folder)


def test_embeddings_are_those_of_transformers(small, folder):
    # Each alone and unpadded, by the model's own processor of both sides.
    model = CLIPModel.from_pretrained(folder).eval()
    processor = CLIPProcessor.from_pretrained(folder)
    for picture, text in zip(PIXELS, TEXTS, strict=False):
        words = {"images": Image.fromarray(picture), "text": [text]}
        cut = {"truncation": True, "max_length": small.max_tokens}
        inputs = processor(**words, **cut, return_tensors="pt")
        with torch.no_grad():
            output = model(**inputs)
        seen, read = small.image_embeds([picture]), small.text_embeds([text])
        assert matching.alignment(
            seen.repeat(2, 0), output.image_embeds.repeat(2, 1)
        ) == (pytest.approx(100, abs=1e-4))
        assert matching.alignment(
            read.repeat(2, 0), output.text_embeds.repeat(2, 1)
        ) == (pytest.approx(100, abs=1e-4))


@pytest.mark.parametrize("num", [1, 4])
def test_an_embedding_does_not_depend_on_how_many_follow(small, num):
    pictures, texts = small.image_embeds(PIXELS), small.text_embeds(TEXTS)
    assert pictures.shape == (9, small.num_features) and pictures.dtype == np.float64
    assert np.array_equal(small.image_embeds(PIXELS[:num]), pictures[:num])
    assert np.array_equal(small.text_embeds(iter(TEXTS[:num])), texts[:num])


def test_pictures_and_texts_are_told_apart(small):
    for rows in (small.image_embeds(PIXELS), small.text_embeds(TEXTS)):
        gaps = np.linalg.norm(rows[:, None] - rows[None], axis=2)
        assert gaps[~np.eye(len(rows), dtype=bool)].min() > 1e-3


def test_pictures_of_several_sizes_come_together(small):
    pictures = [PIXELS[0], PIXELS[1, :10, :40], PIXELS[2, :12, :12]]
    together = small.image_embeds(pictures)
    for picture, row in zip(pictures, together, strict=True):
        assert small.image_embeds([picture])[0] == pytest.approx(row, rel=1e-5)


def test_nothing_is_no_rows(small):
    assert small.image_embeds([]).shape == small.text_embeds([]).shape == (0, 8)


def test_the_resize_rule_is_the_processors_own(small):
    assert small.resize == (
        f"bicubic (Pillow), shortest edge {CLIP_SIZE} px, centre {CLIP_SIZE} px"
    )


@pytest.mark.parametrize("revision", [None, ""])
def test_a_model_of_the_hub_needs_its_revision(revision):
    with pytest.raises(ParameterError, match="pinned by its commit") as caught:
        clip.Clip("openai/clip-vit-base-patch32", revision)
    assert "\n" not in str(caught.value)


def test_a_model_of_one_tower_is_refused(folder, tmp_path):
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "clip_text_model"
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ParameterError, match="is a 'clip_text_model'; expected 'clip'"):
        clip.Clip(tmp_path)


@pytest.mark.parametrize(
    "files",
    [
        {"model.safetensors"},
        {"preprocessor_config.json"},
        {"vocab.json"},
        {"vocab.json", "merges.txt", "tokenizer_config.json"},
    ],
)
def test_a_model_without_a_part_is_refused_in_one_line(files, folder, tmp_path):
    for path in folder.iterdir():
        if path.name not in files:
            (tmp_path / path.name).symlink_to(path)
    with pytest.raises(ParameterError, match="is no whole (CLIP|clip)") as caught:
        clip.Clip(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_model_that_lacks_a_weight_is_refused(folder, tmp_path):
    shutil.copytree(folder, tmp_path, dirs_exist_ok=True)
    state = load_file(tmp_path / "model.safetensors")
    del state["visual_projection.weight"]
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ParameterError, match="no weights for visual_projection"):
        clip.Clip(tmp_path)


def test_the_identity_is_that_of_the_weights(small, folder, tmp_path):
    assert small.identity == clip.Clip(folder).identity
    assert clip.Clip(save_clip(tmp_path, seed=1)).identity != small.identity

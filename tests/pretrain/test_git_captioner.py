"""The second captioner is trained beside stage 00, and read as any of transformers."""

import json

import numpy as np
import pytest
import torch

from commoncanvas.captions import telephoning
from commoncanvas.core import paths
from commoncanvas.core.images import encode_png, flatten
from commoncanvas.core.manifest import read_manifest
from commoncanvas.pretrain import git_captioner, training
from commoncanvas.pretrain.websets import NamedPictures

TINY = {"width": 32, "vision_layers": 1, "text_layers": 1, "patch_size": 32}
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (0, 0, 0)]
NAMES = ["red heart", "green apple", "blue whale", "night"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished")


def drawings():
    rgba = np.full((4, 96, 96, 4), 255, np.uint8)
    rgba[:, 16:80, 16:80, :3] = np.array(COLOURS, np.uint8)[:, None, None]
    return rgba


def train(num_steps, **words):
    data = NamedPictures(drawings(), NAMES)
    return git_captioner.train_git(
        data, 0, num_steps, 8, 3e-3, 300, sizes=TINY, **words
    )


@pytest.mark.slow
def test_it_learns_to_write_and_goes_on_where_it_was_stopped(monkeypatch, tmp_path):
    monkeypatch.setattr(training, "CHECKPOINT_STEPS", 20)
    git, _, history = train(100)
    assert history.losses[-1] < 0.8 * history.losses[0]
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "other")
    draw, count = NamedPictures.draw, []

    def stops(self, *args):
        if len(count) == 45:
            raise KeyboardInterrupt
        count.append(0)
        return draw(self, *args)

    monkeypatch.setattr(NamedPictures, "draw", stops)
    with pytest.raises(KeyboardInterrupt):
        train(100)
    monkeypatch.setattr(NamedPictures, "draw", draw)
    again, _, same = train(100)
    assert same.losses == history.losses
    states = git.state_dict(), again.state_dict()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_stage_02_reads_it_as_a_captioner_of_transformers(tmp_path):
    git, tokenizer, _ = train(20)
    pixels = flatten(drawings())
    measured = {"toys": git_captioner.measure(git, tokenizer, pixels, NAMES)}
    place = tmp_path / "second_captioner"
    git_captioner.save_git(git, tokenizer, place, measured)
    assert read_manifest(place)["facts"] == {"part": "second_captioner"}
    assert json.loads((place / "metrics.json").read_text()) == measured
    settings = {"captioner": "transformers", "model": str(place), "cut": "keep"}
    settings["generate"] = {"max_new_tokens": git_captioner.MAX_TOKENS}
    rows = [(name, encode_png(p)) for name, p in zip(NAMES, pixels, strict=True)]
    halved = git_captioner.GitForCausalLM.from_pretrained(place, dtype=torch.float32)
    table = telephoning.caption_rows(settings, rows)
    assert table["caption_raw"].to_pylist() == (
        git_captioner.write_names(halved.eval(), tokenizer, pixels)
    )


@pytest.mark.slow
def test_a_training_beside_stage_00_writes_its_own_folder_alone(tmp_path):
    settings = {
        "web_sources": ["flat-color-icons", "fxemoji"],
        "held_out_style": "fxemoji",
        "test_sources": ["gridicons"],
        "test_size": 20,
        "picture_size_px": 96,
        "vocab_size": 400,
    }
    recipe = {"num_steps": 4, "batch_size": 4, "learning_rate": 1e-3}
    place = tmp_path / "pretrained" / git_captioner.FOLDER
    history = git_captioner.train_beside(settings, 1, place, recipe, TINY)
    assert [step for step, _ in history.scores] == [4]
    assert [path.name for path in place.parent.iterdir()] == [place.name]
    measured = json.loads((place / "metrics.json").read_text())
    assert list(measured) == ["gridicons"]
    assert measured["gridicons"]["exact"]["n"] == 20
    assert {file.name for file in place.glob("*.safetensors")} == {"model.safetensors"}

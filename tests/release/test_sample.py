"""The same words and seed draw the same bytes, and the file says where it is from."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionPipeline
from doors import call
from PIL import Image
from worlds import MARKUP, relist, write_trained_world

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.manifest import read_manifest
from commoncanvas.core.picture_store import stored_pictures
from commoncanvas.evaluate import credits
from commoncanvas.evaluate.prompts import gate_prompts
from commoncanvas.licenses import attribution
from commoncanvas.models.encoders import load_text_encoder
from commoncanvas.models.weights import OPEN_TEXT_ENCODER
from commoncanvas.release import model as release
from commoncanvas.release import sample, strips

NAMES = {"Title", "Copyright", "Source", "Seed", "Comment"}
THRESHOLD = 0.99
PROJECT = paths.ROOT
GATE = gate_prompts()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    write_trained_world(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        patch.setattr(strips, "gate_prompts", lambda: GATE[:1])
        patch.setattr(strips, "NUM_STRIP", 1)
        patch.setattr(strips, "NUM_SEEDS", 1)
        torch.set_num_threads(1)
        release.release("toy", "cc_toy", root / "model")
    return root


@pytest.fixture
def draw(root, tmp_path, monkeypatch):
    """Draw into an empty folder; return the files' bytes by name."""
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.chdir(tmp_path)

    def run(prompt="red apple", out="a.png", **options):
        drawn = sample.sample(prompt, out, folder=root / "model", **options)
        return {path.name: path.read_bytes() for path, _ in drawn}

    return run


def test_the_same_words_and_seed_draw_the_same_bytes(draw):
    first = draw()
    assert first == draw() and list(first) == ["a.png"]


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_picture_is_the_one_that_plain_diffusers_draws(root, draw, guidance):
    _, text_encoder = load_text_encoder(OPEN_TEXT_ENCODER, 12)
    pipeline = StableDiffusionPipeline.from_pretrained(
        root / "model", text_encoder=text_encoder
    )
    pipeline.set_progress_bar_config(disable=True)
    draw(seed=3, guidance_scale=guidance, num_inference_steps=4)
    generator = torch.Generator().manual_seed(3)
    how = {"guidance_scale": guidance, "num_inference_steps": 4}
    (expected,) = pipeline("red apple", generator=generator, **how).images
    assert np.array_equal(np.asarray(Image.open("a.png")), np.asarray(expected))


@pytest.mark.slow
def test_the_command_draws_the_same_bytes_and_imports_nothing_heavy(
    root, draw, tmp_path
):
    code = f"""import sys
sys.argv = ["commoncanvas", "sample", "red apple", "--out", "b.png",
            "--model", {str(root / "model")!r}]
from commoncanvas.__main__ import main
try:
    main()
except SystemExit as end:
    assert end.code in (0, None), end.code
heavy = ["torch._dynamo.utils", "sympy", "scipy.optimize", "matplotlib", "pandas"]
print([name for name in heavy if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "b.png\n[]\n" and done.stderr == ""
    assert draw()["a.png"] == (tmp_path / "b.png").read_bytes()


def test_a_strip_is_the_pictures_of_its_seeds_side_by_side(draw):
    (several,) = draw(seed=3, num=3, strip=True)
    strip = np.asarray(Image.open(several))
    assert several == "a.png" and strip.shape == (32, 3 * 32, 3)
    assert credits.read_png("a.png")[1]["Seed"] == "3 to 5"
    for place, seed in enumerate((3, 4, 5)):
        draw(seed=seed)
        tile = strip[:, place * 32 : place * 32 + 32]
        assert np.array_equal(tile, np.asarray(Image.open("a.png")))


def test_words_seed_and_settings_all_matter(draw):
    draw()
    first = np.asarray(Image.open("a.png"))
    changes = {"prompt": "blue heart", "seed": 1, "guidance_scale": 8.0}
    for name, value in {**changes, "num_inference_steps": 5}.items():
        draw(**{name: value})
        assert not np.array_equal(first, np.asarray(Image.open("a.png"))), name


def test_settings_left_out_are_those_that_the_model_was_measured_at(draw):
    assert draw() == draw(guidance_scale=3.0, num_inference_steps=2)


def test_several_pictures_are_each_the_picture_of_its_seed(draw):
    several = draw(seed=3, num=3)
    assert list(several) == ["a-3.png", "a-4.png", "a-5.png"]
    for seed in (3, 4, 5):
        assert draw(seed=seed)["a.png"] == several[f"a-{seed}.png"]


def test_the_file_says_what_it_is(root, draw):
    prompt = "café <b>\n猫 \\ 100 %"
    draw(prompt, seed=7, guidance_scale=1.5)
    pixels, texts = credits.read_png("a.png")
    assert pixels.shape == (32, 32, 3) and texts.keys() == NAMES
    num = read_manifest(root / "model")["facts"]["works"]
    assert texts["Title"] == prompt and texts["Seed"] == "7"
    assert texts["Source"] == "toy cc_toy"
    assert texts["Comment"] == "guidance_scale 1.5, 2 DDIM steps"
    licences = "CC BY 4.0, CC BY-SA 4.0, CC0 1.0"
    assert f"learnt from {num} works under {licences};" in texts["Copyright"]


def test_credits_name_the_closest_works_that_the_model_learnt_from(root, draw):
    draw(scale="toy")
    pixels, texts = credits.read_png("a.png")
    works, threshold = credits.open_works("toy", "cc_toy")
    found = credits.credits_of(pixels, works, threshold)
    assert texts.keys() == NAMES
    assert texts["Copyright"].endswith("\n\n" + attribution.attribution_text(found))
    ((_, named),) = sample.sample(
        "red apple", "b.png", 0, 1, 3.0, 2, root / "model", "toy"
    )
    assert named["key"].tolist() == found["key"].tolist()
    draw()
    assert np.array_equal(pixels, credits.read_png("a.png")[0])  # nothing else changes


def test_a_copy_is_called_one_and_a_stranger_s_name_does_nothing(
    root, draw, monkeypatch
):
    licensed = root / "data/toy/01_licenses"
    frame = pd.read_parquet(licensed / "catalog.parquet")
    (key,) = frame["key"][frame["title"] == MARKUP]
    (copied,) = stored_pictures(licensed, [key], 32)
    monkeypatch.setattr(sample, "draw", lambda *_: copied)
    told = call("sample", "a", "--scale", "toy", "--model", root / "model")
    assert told.startswith("sample.png\n") and "\x1b" not in told
    closest = "a near copy; similarity 1.00, above the threshold of a near copy (0.99)"
    assert f"{closest}: {MARKUP!r} by {MARKUP!r}" in told and told.count("\n") == 6
    thanks = credits.read_png("sample.png")[1]["Copyright"]
    assert "<script>" not in thanks and "&lt;script&gt;" in thanks


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"prompt": " "}, "the prompt is empty; expected words"),
        ({"out": "a.jpg"}, "--out is a.jpg; expected .*ends in .png"),
        ({"out": "none/a.png"}, "--out is none/a.png; expected .*folder that exists"),
        ({"num": 0}, "--num is 0; expected 1 or more"),
        ({"seed": -1}, "--seed is -1; expected 0 or more"),
        ({"seed": 2**63}, "--seed is 9223372036854775808; expected .*below"),
        ({"seed": 2**63 - 1, "num": 2}, "--seed is 9223372036854775807; expected"),
        ({"guidance_scale": 0.5}, "--guidance is 0.5; expected 1 .* or more"),
        ({"guidance_scale": float("nan")}, "--guidance is nan; expected"),
        ({"guidance_scale": float("inf")}, "--guidance is inf; expected"),
        ({"num_inference_steps": 0}, "--steps is 0; expected 1 to 999"),
        ({"num_inference_steps": 1000}, "--steps is 1000; expected 1 to 999"),
        ({"scale": "toy", "strip": True}, "--scale is 'toy' beside --strip; expected"),
        ({"scale": "mini"}, "--scale is 'mini', but .* works of 'toy'; .*leave it out"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(draw, tmp_path, options, words):
    with pytest.raises(ParameterError, match=words) as error:
        draw(**options)
    assert "\n" not in str(error.value) and list(tmp_path.iterdir()) == []


def test_the_largest_seed_and_number_of_steps_draw(draw):
    draw(seed=2**63 - 1, num_inference_steps=3)
    pipeline, _ = sample.load(paths.ROOT / "model")
    pipeline.scheduler.set_timesteps(999)  # one more would step out of the schedule
    assert pipeline.scheduler.timesteps.max() == 999
    pipeline.scheduler.set_timesteps(1000)
    assert pipeline.scheduler.timesteps.max() == 1000


def test_of_a_long_prompt_is_said_how_much_is_read(draw, capsys):
    draw("red apple " * 5)
    assert capsys.readouterr().err == ""
    draw("red apple " * 6)
    assert "has 14 tokens, of which 12 are read" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(draw, tmp_path):
    (tmp_path / "a.png").mkdir()
    with pytest.raises(ParameterError, match="a.png cannot be written .*another --out"):
        draw()


@pytest.mark.parametrize("change", [Path.unlink, lambda file: file.write_text("{}")])
@pytest.mark.parametrize(
    "name", ["manifest.json", "unet/config.json", "tokenizer/tokenizer.json"]
)
def test_a_model_that_is_not_whole_is_refused(root, tmp_path, name, change):
    shutil.copytree(root / "model", tmp_path / "model")
    (tmp_path / "model" / ".gitattributes").touch()  # as a hub adds it
    sample.load(tmp_path / "model")
    change(tmp_path / "model" / name)
    words = "no whole released model .*commoncanvas release"
    with pytest.raises(ParameterError, match=words) as error:
        sample.load(tmp_path / "model")
    assert "\n" not in str(error.value)


def test_a_stage_s_folder_is_no_model(root):
    with pytest.raises(ParameterError, match="no whole released model.*04_train"):
        sample.load(root / "data/toy/04_train/cc_toy")


def test_credits_need_the_training_that_the_model_is_of(root, draw):
    trained = root / "data/toy/04_train/cc_toy"
    works = pd.read_parquet(trained / "works.parquet")
    works[:-1].to_parquet(trained / "works.parquet")
    relist(trained)
    with pytest.raises(ManifestError, match="another training than the model's"):
        draw(scale="toy")
    works.to_parquet(trained / "works.parquet")
    relist(trained)
    manifest = trained / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    with pytest.raises(ManifestError, match="dvc repro 04_train@toy-cc_toy"):
        draw(scale="toy")
    manifest.write_text(text)


def test_the_command_draws_prints_and_fails_in_one_line(root, draw):
    words = ["sample", "red apple", "--model", root / "model", "--seed", 4]
    assert call(*words, "--num", 2, "--out", "a.png") == "a-4.png\na-5.png\n"
    call(*words, "--guidance", 3, "--steps", 2, "--out", "b.png")
    assert Path("b.png").read_bytes() == draw(seed=4)["a.png"]
    told = call("sample", "a", "--model", "none", fails=True)
    assert "none is no whole released model" in told


def test_the_card_loads_the_folder_that_it_lies_in(root):
    text = (root / "model/README.md").read_text(encoding="utf-8")
    assert '"model", text_encoder=' in text and "--model model\n" in text
    assert "results/model" not in text
    command = "commoncanvas credits picture.png --scale toy --variant cc_toy`"
    assert command in " ".join(text.split())


def test_help_says_how():
    printed = " ".join(call("sample", "--help").split())
    for part in (
        '"red apple" --seed 0 --out apple.png',
        "apple-0.png",
        "results/model",
    ):
        assert part in printed
    assert re.search(r"--guidance SCALE .*1 is off", printed)

"""One work goes through the stages as their files say, on the page and in a picture."""

import numpy as np
import pandas as pd
import pytest
from doors import call
from PIL import Image

from commoncanvas.core import paths
from commoncanvas.publish import diagram, journey, side_by_side

WORK = {"key": "openmoji/a", "title": "red apple", "author": "A", "pixels": None}
WORK |= {"license_title": "CC0 1.0", "license_deed": "https://b.example"}
WORK |= {"pageurl": "https://a.example/a/very/long/address"}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A run whose stages' files are stood in for by what they would give."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    folder = paths.stage_dir("tiny", "03_latents")
    folder.mkdir(parents=True)
    (folder / "index.parquet").touch()
    pixels = np.zeros((1, 96, 96, 3), np.uint8)
    noised = [(t, pixels[0, :64, :64]) for t in journey.TIMESTEPS]
    column = side_by_side.Column("This run", "", {"red apple": pixels[0]}, "tiny")
    latents = np.random.default_rng(0).random((32, 8, 8), np.float32)
    for name, found in {
        "own_column": [column],
        "released_columns": [column],
        "pictures_of": pixels,
        "_captions": [("synthetic", "pouting cat")],
        "_latents": (latents, noised),
        "rows_of": [("red apple", WORK)],
    }.items():
        monkeypatch.setattr(journey, name, lambda *_, found=found, **__: found)
    return monkeypatch


def test_the_work_is_the_first_that_the_gate_names(world):
    found = journey.journey_of("tiny")
    assert found.work == WORK and found.rule == journey.BY_GATE
    assert found.captions == [("people", "red apple"), ("synthetic", "pouting cat")]
    assert found.sample[0] == "This run"


def test_where_the_gate_has_no_sample_it_is_the_first_prompt(world):
    world.setattr(journey, "own_column", lambda scale: [])
    other = WORK | {"title": "sun"}
    column = side_by_side.Column("This run", "", {"sun": np.zeros((8, 8, 3))}, "tiny")
    world.setattr(journey, "_first_prompt", lambda scale: ("sun", other, [column]))
    found = journey.journey_of("tiny")
    assert found.work["title"] == "sun" and found.rule == journey.BY_ORDER
    assert found.sample


def test_without_latents_nothing_is_followed(world):
    (paths.stage_dir("tiny", "03_latents") / "index.parquet").unlink()
    assert journey.journey_of("tiny") is None
    told = call("diagram", "--scale", "tiny", fails=True)
    assert "dvc repro 03_latents@tiny" in told


def test_captions_are_those_of_the_captioners_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    licensed, told = (
        paths.stage_dir("tiny", slug) for slug in ("01_licenses", "02_captions")
    )
    licensed.mkdir(parents=True)
    (told / "captions").mkdir(parents=True)
    pd.DataFrame({"key": ["a", "b"], "file": [1, 0]}).to_parquet(
        licensed / "catalog.parquet"
    )
    rows = [("a", "synthetic", "cat"), ("a", "human", "dog"), ("a", "second", "")]
    frame = pd.DataFrame(rows, columns=["key", "source", "caption"])
    frame.to_parquet(told / "captions/00001.parquet")
    facts = {s: {"captioner": {"captioner": "open"}} for s in ("synthetic", "second")}
    monkeypatch.setattr(journey, "read_manifest", lambda *_, **__: {"facts": facts})
    assert journey._captions("tiny", "a") == [("synthetic", "cat")]


@pytest.mark.parametrize(("num", "side"), [(4, 2), (9, 3), (3, 2)])
def test_channels_stand_in_a_square_each_scaled_by_itself(num, side):
    latents = np.arange(num * 16, dtype=np.float32).reshape(num, 4, 4)
    grey = journey.as_grey(latents)
    assert grey.shape[1] == side * 5 - 1
    assert grey[0, 0, 0] == 0 and grey[3, 3, 0] == 255
    assert (grey[:4, 4] == 255).all()
    assert (grey[:4, 5:9] == grey[:4, :4]).all()


def test_the_picture_holds_every_stage_and_is_small(world, tmp_path):
    told = call("diagram", "--scale", "tiny", "--out", tmp_path / "a.png")
    assert told.startswith("wrote ")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == (diagram.WIDTH, diagram.HEIGHT)
    assert (tmp_path / "a.png").stat().st_size < 300_000


def test_an_address_is_broken_after_a_slash_and_loses_nothing():
    parts = diagram._wrapped("https://icon-sets.example/openmoji/red-apple/")
    assert "".join(parts) == "https://icon-sets.example/openmoji/red-apple/"
    assert all(len(part) < 26 for part in parts)

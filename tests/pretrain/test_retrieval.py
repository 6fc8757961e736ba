"""The captioner by retrieval names what it has seen, and little but colours decide."""

import json

import numpy as np
import pytest

from commoncanvas.captions import telephoning
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.images import encode_png
from commoncanvas.core.manifest import read_manifest
from commoncanvas.models.retrieval import RetrievalCaptioner
from commoncanvas.pretrain import retrieval
from commoncanvas.pretrain.training import write_part_manifest

COLOURS = [(255, 0, 0), (0, 200, 0), (0, 0, 255), (0, 0, 0)]
NAMES = ["red heart", "green apple", "blue whale", "night"]


def drawings(shift=0):
    pixels = np.full((4, 96, 96, 3), 255, np.uint8)
    pixels[:, 16 + shift : 80, 16:80] = np.array(COLOURS, np.uint8)[:, None, None]
    return pixels


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "second_captioner"
    retrieval.write_retrieval(drawings(), NAMES, place)
    write_part_manifest(place)
    return place


def rows(pixels):
    return [(name, encode_png(p)) for name, p in zip(NAMES, pixels, strict=True)]


def test_a_picture_gets_the_name_of_the_one_most_like_it(folder):
    settings = {"captioner": "retrieval", "folder": str(folder)}
    for shift in (0, 6):
        table = telephoning.caption_rows(settings, rows(drawings(shift)))
        assert table["caption_raw"].to_pylist() == NAMES
        assert table["key"].to_pylist() == NAMES


def test_a_batch_and_a_picture_alone_get_the_same_name(folder):
    captioner = RetrievalCaptioner(folder)
    pixels = drawings(3)
    alone = [captioner.caption(pixels[i : i + 1])[0] for i in range(len(pixels))]
    assert captioner.caption(pixels) == alone


def test_its_identity_is_of_its_files(folder):
    first = RetrievalCaptioner(folder).identity
    assert first.startswith("retrieval:")
    names = json.loads((folder / "names.json").read_text())
    (folder / "names.json").write_text(json.dumps(names[::-1]))
    with pytest.raises(CommonCanvasError):  # not the file that the manifest lists
        RetrievalCaptioner(folder)
    write_part_manifest(folder)
    assert RetrievalCaptioner(folder).identity != first


def test_the_committed_one_names_drawings_that_it_has_not_seen():
    measured = json.loads((RetrievalCaptioner().folder / "metrics.json").read_text())
    assert measured["twemoji"]["exact"]["interval"][0] > 0.2
    assert measured["logos"]["exact"]["value"] < 0.02  # marks' names are not its words


@pytest.mark.slow
def test_it_is_written_beside_stage_00(tmp_path):
    settings = {
        "web_sources": ["flat-color-icons", "fxemoji"],
        "held_out_style": "fxemoji",
        "test_sources": ["gridicons"],
        "test_size": 20,
        "picture_size_px": 96,
    }
    place = tmp_path / "pretrained" / "second_captioner"
    retrieval.write_beside(settings, 1, place)
    assert read_manifest(place)["facts"] == {"part": "second_captioner"}
    measured = json.loads((place / "metrics.json").read_text())
    assert measured["gridicons"]["exact"]["n"] == 20
    assert {file.name for file in place.glob("*.safetensors")} == {
        "features.safetensors"
    }

"""References are bounded, drawn once, kept for the next variant, and named."""

import io
import json
import zipfile

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.evaluate import references
from commoncanvas.evaluate.extractors import FeatureExtractor
from commoncanvas.evaluate.prompts import read_prompts

SIZE = 8
COLOURS = [(i * 20, 255 - i * 20, 7 * i) for i in range(12)]
NAMES = {"kind": "names"}


def judge(asked, name="inception"):
    """Return a network whose features are a picture's mean colour."""

    def embed(pictures):
        asked.extend(pictures)
        means = [torch.from_numpy(p.astype(np.float64)).mean((0, 1)) for p in pictures]
        return torch.stack(means).float()

    return FeatureExtractor(name, f"fid_{name}", "", 3, embed, {"weights": "w"})


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """Twelve images of one colour each, in a folder and in a zip, with captions."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(references, "code_hash", lambda name: name)
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished")
    names = [f"COCO_{i:04d} x.png" for i in range(len(COLOURS))]
    images = [{"id": i, "file_name": name} for i, name in enumerate(names)]
    said = [{"image_id": i, "id": i, "caption": f"a {i}"} for i in range(len(names))]
    content = {"images": images, "annotations": said}
    (tmp_path / "coco.json").write_text(json.dumps(content))
    (tmp_path / "val" / "deep").mkdir(parents=True)
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as packed:
        for name, colour in zip(names, COLOURS, strict=True):
            buffer = io.BytesIO()
            Image.new("RGB", (30, 20), colour).save(buffer, "PNG")
            packed.writestr(f"val2014/{name}", buffer.getvalue())
            (tmp_path / "val" / "deep" / name).write_bytes(buffer.getvalue())
    return tmp_path


class Held:
    """Stands for the `Latents` of held-out works."""

    keys = ("b", "a", "c")

    def __len__(self):
        return len(self.keys)

    def features(self, places):
        return places * 1.0


def of_coco(pictures, num=99, seed=5):
    own = {"kind": "coco", "file": "coco.json", "pictures": pictures}
    return references.find_reference(
        {"coco": own, "human": NAMES}, None, None, num, seed
    )


@pytest.mark.parametrize("pictures", ["val", "val.zip"])
def test_the_pictures_of_coco_are_the_reference_of_its_captions(coco, pictures):
    reference = of_coco(pictures)
    real = reference.features([judge([])], SIZE)["inception"]
    assert sorted(map(tuple, real.tolist())) == sorted(COLOURS)
    own = {"kind": "coco", "file": "coco.json", "pictures": pictures}
    assert reference.suffix(**own) == ""
    assert reference.suffix(**NAMES) == reference.suffix(kind="gate") == "_to_coco"


def test_few_pictures_are_drawn_at_random_once(coco):
    few, other, whole = of_coco("val", 4), of_coco("val", 4, seed=6), of_coco("val")
    assert few.keys == whole.keys[:4] != other.keys
    assert whole.keys != sorted(whole.keys)
    assert of_coco("val.zip", 4).keys == few.keys


def test_features_are_made_once_for_all_variants(coco):
    asked, again = [], []
    first = of_coco("val.zip").features([judge(asked)], SIZE)
    second = of_coco("val.zip").features([judge(again)], SIZE)
    assert len(asked) >= len(COLOURS) and again == []
    assert np.array_equal(first["inception"], second["inception"])
    of_coco("val.zip").features([judge(again)], SIZE + 1)
    assert len(again) >= len(COLOURS)


def test_other_bytes_are_another_reference(coco):
    of_coco("val").features([judge([])], SIZE)
    file = next((coco / "val" / "deep").iterdir())
    Image.new("RGB", (90, 90), "white").save(file)
    again = []
    of_coco("val").features([judge(again)], SIZE)
    assert again


@pytest.mark.parametrize(
    ("pictures", "message"),
    [("lost", "lost: it is missing"), ("coco.json", "coco.json cannot be read")],
)
def test_pictures_that_are_none_are_one_line(coco, pictures, message):
    own = {"kind": "coco", "file": "coco.json", "pictures": pictures}
    with pytest.raises(ParameterError, match=message):
        read_prompts(**own)
        of_coco(pictures)


def test_a_lost_picture_is_named(coco):
    next((coco / "val" / "deep").iterdir()).unlink()
    with pytest.raises(ParameterError, match="lacks 1 of the 12 pictures"):
        of_coco("val")


def test_held_out_works_are_the_reference_of_all_else(coco):
    licenses = coco / "01_licenses"
    licenses.mkdir()
    rows = {"key": list("cab"), "file": [0, 1, 0]}
    pd.DataFrame(rows).to_parquet(licenses / "catalog.parquet")
    write_manifest(licenses, "01_licenses", "toy", None, 3, 3, {}, {})
    held = Held()
    sets = {"coco": {"kind": "coco", "file": "coco.json"}, "human": NAMES}
    reference = references.find_reference(sets, held, licenses, 2, 5)
    assert reference.keys == ["b", "a"]  # b's picture lies in the first file
    known = reference.features([judge([], "efficientnet")], SIZE)["efficientnet"]
    assert known.tolist() == [0.0, 1.0]
    assert reference.suffix(**sets["coco"]) == "_to_held_out"
    assert reference.suffix(**NAMES) == reference.suffix("telephoned") == ""


def test_one_picture_is_no_reference(coco):
    with pytest.raises(ParameterError, match="num_reference is 1"):
        of_coco("val", 1)


def of_gpic(tmp_path, monkeypatch, arrays, num=99):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    np.savez(tmp_path / "test_stats.npz", **arrays)
    sets = {"gpic": {"kind": "gpic", "file": "x", "pictures": "test_stats.npz"}}
    return references.find_reference(sets, Held(), tmp_path, num, 5), sets["gpic"]


def test_gpics_pictures_are_the_features_that_are_handed_out(tmp_path, monkeypatch):
    rows = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
    arrays = {"dino_embeddings": rows, "dino_mu": rows.mean(0)}
    found, own = of_gpic(tmp_path, monkeypatch, arrays)
    dino = judge([], "dinov2")
    assert np.array_equal(found.features([dino], SIZE)["dinov2"], rows)
    assert found.suffix(**own) == "" and found.suffix(**NAMES) == "_to_gpic"
    some, _ = of_gpic(tmp_path, monkeypatch, arrays, num=4)
    assert np.array_equal(some.features([dino], SIZE)["dinov2"], rows[::3])


def test_no_other_network_has_seen_gpics_pictures(tmp_path, monkeypatch):
    monkeypatch.setattr(references, "code_hash", lambda name: name)
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished")
    arrays = {"dino_embeddings": np.ones((12, 3))}
    found, _ = of_gpic(tmp_path, monkeypatch, arrays)
    with pytest.raises(ParameterError, match="expected no other network"):
        found.features([judge([])], SIZE)


@pytest.mark.parametrize(
    "arrays", [{"dino_mu": np.ones(3)}, {"dino_embeddings": np.ones(3)}]
)
def test_statistics_without_features_are_refused(tmp_path, monkeypatch, arrays):
    with pytest.raises(ParameterError, match="expected test_stats.npz") as caught:
        of_gpic(tmp_path, monkeypatch, arrays)
    assert "\n" not in str(caught.value)

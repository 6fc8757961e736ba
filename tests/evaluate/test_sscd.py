"""A detector in SSCD's file format finds copies as our own does, under its own rule."""

import numpy as np
import pytest
import torch
from PIL import Image
from toys import write_real_world

from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.core.files import sha256_of
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.evaluate import copies, sscd
from commoncanvas.evaluate.nearest import TrainingWorks


class Tiny(torch.nn.Module):
    """Descriptors of length one, as SSCD's; the lowest frequencies of a picture."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = torch.nn.Conv2d(3, 8, 3, stride=2)
        self.pool = torch.nn.AdaptiveAvgPool2d(6)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        pooled = self.pool(self.trunk(images))
        flat = (pooled - pooled.mean((2, 3), keepdim=True)).flatten(1)
        return torch.nn.functional.normalize(flat)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("sscd") / sscd.FILE
    torch.jit.script(Tiny().eval()).save(str(path))
    return path


@pytest.fixture(scope="module")
def detector(weights):
    settings = {"detector": "sscd", "weights": str(weights)}
    return copies.load_detector(settings | {"sha256": sha256_of(weights)})


@pytest.fixture(scope="module")
def works(tmp_path_factory):
    folder = tmp_path_factory.mktemp("01_licenses")
    frame = write_real_world(folder, ["twemoji", "openmoji"], 60)
    keys = frame.loc[~frame["is_holdout"], "key"].tolist()
    return TrainingWorks(folder, keys, chunk_size=17)


def test_a_file_that_is_not_the_published_one_is_not_opened(weights, monkeypatch):
    monkeypatch.setattr(torch.jit, "load", None)  # it would run as code
    for file in (weights, weights.with_name("none.pt")):
        with pytest.raises(SourceError, match="expected 9f26bd4c848c") as caught:
            sscd.Sscd(file)
        assert "\n" not in str(caught.value) and sscd.FILE in str(caught.value)


@pytest.mark.parametrize("settings", [{}, {"detector": "sscd"}, {"detector": "phash"}])
def test_detectors_that_cannot_be_loaded_are_refused_in_one_line(settings):
    with pytest.raises(ParameterError) as caught:
        copies.load_detector(settings)
    assert "\n" not in str(caught.value)


def test_pictures_are_shown_to_it_as_published(weights):
    network = sscd.Sscd(weights, sha256_of(weights))
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    small = Image.fromarray(picture).resize((288, 288), Image.Resampling.BILINEAR)
    images = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None] / 255
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    images = (images - mean.view(3, 1, 1)) / std.view(3, 1, 1)
    expected = torch.jit.load(weights)(images)
    found = network.descriptors([picture])
    assert found == pytest.approx(expected.detach().numpy(), abs=1e-6)
    assert network.protocol["resize"] == "centre square, bilinear (Pillow) to 288 px"


def test_a_work_is_closest_to_itself_and_its_group_can_be_left_out(detector, works):
    pixels = pictures_of(works.folder, works.keys[:9], 64)
    places, similarity = detector.search(pixels, works, 3)
    assert places[:, 0].tolist() == list(range(9)) and similarity[:, 0].min() > 0.98
    assert (np.diff(similarity, axis=1) <= 0).all() and places.shape == (9, 3)
    groups = np.where(np.arange(9) < 4, works.groups[:9], None)
    without, _ = detector.search(pixels, works, 3, groups)
    left_out = works.groups[without[:4]] == groups[:4, None]
    assert not left_out.any() and without[4:].tolist() == places[4:].tolist()


def test_chunks_change_nothing(detector, works):
    pixels = pictures_of(works.folder, works.keys[5:12], 64)
    other = TrainingWorks(works.folder, works.keys.tolist(), chunk_size=1000)
    found, again = detector.search(pixels, works), detector.search(pixels, other)
    assert np.array_equal(found[0], again[0])
    np.testing.assert_allclose(found[1], again[1], atol=1e-4)


def test_a_study_by_a_published_detector_says_what_its_threshold_finds(detector, works):
    noise = np.random.default_rng(1).integers(0, 256, (20, 64, 64, 3), np.uint8)
    planted = pictures_of(works.folder, works.keys[:10], 64)
    samples = np.concatenate([noise, planted])
    found = copies.study(samples, works.folder, works.keys, 0, detector)
    expected = int((found.similarity[:, 0] > 0.75).sum())
    published = found.measured["copy_rate_published"]
    assert published["n"] == 30 and 10 <= expected < 20
    assert published["value"] == pytest.approx(expected / 30, rel=1e-5)
    assert found.places[20:, 0].tolist() == list(range(10))
    own = copies.study(samples, works.folder, works.keys, 0)
    assert found.measured.keys() - own.measured.keys() == {"copy_rate_published"}

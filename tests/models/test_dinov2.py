"""DINOv2 loads as it lies on the Hub, and its features are its authors'."""

import json

import numpy as np
import pytest
from toys import save_clip, save_dinov2

from commoncanvas.core.errors import ParameterError
from commoncanvas.models import dinov2

# The class tokens of `pictures`, first six of sixteen, by dinov2 0.0.1.dev2 (the
# authors' package) with the weights of `save_dinov2`.
EXPECTED = [
    [1.349092, 0.499716, -1.358641, -0.408347, 1.494224, -0.249795],
    [1.372650, 0.511594, -1.311406, -0.410587, 1.525056, -0.244358],
    [1.373122, 0.512607, -1.309123, -0.410556, 1.527586, -0.244102],
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_dinov2(tmp_path_factory.mktemp("dinov2"))


@pytest.fixture(scope="module")
def network(folder):
    return dinov2.Dinov2(str(folder))


@pytest.fixture(scope="module")
def pictures():
    found = list(np.random.default_rng(0).integers(0, 256, (2, 40, 40, 3), np.uint8))
    found[1][:20] //= 4
    return [*found, np.full((64, 64, 3), [200, 30, 90], np.uint8)]


def test_features_are_those_of_the_authors_code(network, pictures):
    rows = network.embed_pictures(pictures).numpy()
    assert rows.shape == (3, 16) and network.num_features == 16
    assert rows[:, :6] == pytest.approx(np.array(EXPECTED), abs=1e-4)


def test_pictures_are_squeezed_and_not_cropped(pictures):
    wide = np.zeros((50, 100, 3), np.uint8)
    wide[:, :20] = 255  # a centre crop would lose it
    images = dinov2.imagenet_images([wide], 224, dinov2.Image.Resampling.BICUBIC)
    white = (1 - np.array(dinov2.MEAN)) / np.array(dinov2.STD)
    assert images.shape == (1, 3, 224, 224)
    assert images[0, :, 100, 10].numpy() == pytest.approx(white, abs=1e-5)


def test_it_tells_how_large_it_is(network):
    assert network.architecture == "ViT of 2 layers, 16 wide, patches of 56 px"
    assert len(network.identity) == 16


def test_another_kind_of_model_is_refused(tmp_path):
    with pytest.raises(
        ParameterError, match="is a 'clip'; expected 'dinov2'"
    ) as caught:
        dinov2.Dinov2(str(save_clip(tmp_path)))
    assert "\n" not in str(caught.value)


def test_weights_that_lack_a_layer_are_refused(tmp_path):
    config = json.loads((save_dinov2(tmp_path) / "config.json").read_text())
    config["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ParameterError, match="is no whole dinov2 .no weights for"):
        dinov2.Dinov2(str(tmp_path))


@pytest.mark.parametrize("revision", [None, "", "main"])
def test_a_model_of_the_hub_needs_its_commit(revision):
    with pytest.raises(ParameterError, match="commit"):
        dinov2.Dinov2("facebook/dinov2-large", revision)

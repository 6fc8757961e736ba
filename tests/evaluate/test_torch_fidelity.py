"""Inception, FID and KID agree with torch-fidelity's on real pictures.

torch-fidelity needs torchvision, which the default environment does not have: install
the extra `inception` to run these. The weights are random but the same on both sides,
so that nothing has to be fetched.
"""

import hashlib

import numpy as np
import pytest
import torch
from toys import random_inception

from commoncanvas.analysis import distances, kernels
from commoncanvas.catalog.sources import iconify
from commoncanvas.core import images
from commoncanvas.core.svg import svg_to_pixels
from commoncanvas.evaluate import inception

fidelity = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
metric_fid = pytest.importorskip("torch_fidelity.metric_fid")
metric_kid = pytest.importorskip("torch_fidelity.metric_kid")
pytestmark = pytest.mark.slow
SIZES = [64, 512]  # both are resized, one up and one down [pixels]
NUM = 32  # pictures of each size


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(random_inception().state_dict(), path)
    return path


@pytest.fixture(scope="module")
def judge(weights):
    return fidelity.FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=str(weights)
    )


@pytest.fixture(scope="module")
def pictures():
    """{size: NUM drawings of Twemoji}, each drawn at every size."""
    svgs = [row["svg"] for row in iconify.read_set("twemoji")[:: 3000 // NUM][:NUM]]
    return {
        size: [images.flatten(svg_to_pixels(svg, size)) for svg in svgs]
        for size in SIZES
    }


@pytest.fixture(scope="module")
def ours(weights, pictures):
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    network = inception.load_inception(weights, sha256)
    return {
        size: network(inception.inception_images(drawn)).numpy()
        for size, drawn in pictures.items()
    }


@pytest.fixture(scope="module")
def theirs(judge, pictures):
    stacks = {size: torch.from_numpy(np.stack(p)) for size, p in pictures.items()}
    return {s: judge(p.permute(0, 3, 1, 2))[0].numpy() for s, p in stacks.items()}


@pytest.mark.parametrize("size", SIZES)
def test_pictures_are_resized_alike(pictures, size):
    pixels = torch.from_numpy(np.stack(pictures[size])).permute(0, 3, 1, 2).float()
    expected = fidelity.interpolate_bilinear_2d_like_tensorflow1x(
        pixels, size=(299, 299), align_corners=False
    )
    found = inception.inception_images(pictures[size])
    assert torch.equal(found, (expected - 128) / 128)


@pytest.mark.parametrize("size", SIZES)
def test_features_are_equal_picture_by_picture(ours, theirs, size):
    assert ours[size].shape == theirs[size].shape == (NUM, 2048)
    gap = np.linalg.norm(ours[size] - theirs[size], axis=1)
    assert (gap / np.linalg.norm(theirs[size], axis=1)).max() < 1e-4
    assert ours[size] == pytest.approx(theirs[size], rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("num_features", [2048, 16])  # more than pictures, and fewer
def test_fid_is_theirs(theirs, num_features):
    tables = [theirs[size][:, :num_features].astype(float) for size in SIZES]
    both = [metric_fid.fid_features_to_statistics(torch.tensor(t)) for t in tables]
    theirs = metric_fid.fid_statistics_to_metric(*both, verbose=False)
    expected = theirs[metric_fid.KEY_METRIC_FID]
    assert distances.frechet_distance(*tables) == pytest.approx(expected, rel=1e-3)


def test_kid_is_theirs(theirs):
    tables = [torch.from_numpy(theirs[size]).double() for size in SIZES]
    options = {"kid_subsets": 1, "kid_subset_size": NUM, "verbose": False}
    theirs = metric_kid.kid_features_to_metric(*tables, **options)
    found = kernels.kernel_distance(*(theirs[size] for size in SIZES))
    assert found == pytest.approx(theirs[metric_kid.KEY_METRIC_KID_MEAN], rel=1e-3)

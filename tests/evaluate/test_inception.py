"""FID's Inception-v3 is the published network, and takes no other weights for it."""

import hashlib

import numpy as np
import pytest
import torch
from toys import random_inception

from commoncanvas.core.errors import SourceError
from commoncanvas.evaluate import inception

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(random_inception().state_dict(), path)
    return path


def sha256_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def resized_by_hand(picture, size):
    """Read every output pixel on its own, as TensorFlow 1 says it."""
    h, w, _ = picture.shape
    out = np.zeros((size, size, 3))
    for i, j in np.ndindex(size, size):
        y, x = i * h / size, j * w / size
        top, left = int(y), int(x)
        down, right = min(top + 1, h - 1), min(left + 1, w - 1)
        upper = picture[top, left] * (1 - x % 1) + picture[top, right] * (x % 1)
        lower = picture[down, left] * (1 - x % 1) + picture[down, right] * (x % 1)
        out[i, j] = upper * (1 - y % 1) + lower * (y % 1)
    return out


def test_the_published_file_fits_by_name_and_size():
    state = inception.make_inception().state_dict()
    # 94 convolutions of a weight and five numbers of batch norm, and the classes.
    assert len(state) == 94 * 6 + 2
    size_bytes = sum(v.numel() * v.element_size() for v in state.values())
    assert 95_000_000 < size_bytes < 95_628_359
    shapes = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Conv2d_4a_3x3.bn.running_var": (192,),
        "Mixed_5b.branch5x5_2.conv.weight": (64, 48, 5, 5),
        "Mixed_5d.branch_pool.conv.weight": (64, 288, 1, 1),
        "Mixed_6a.branch3x3.conv.weight": (384, 288, 3, 3),
        "Mixed_6c.branch7x7dbl_4.conv.weight": (160, 160, 7, 1),
        "Mixed_6e.branch7x7_2.conv.weight": (192, 192, 1, 7),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7b.branch3x3_2a.conv.weight": (384, 384, 1, 3),
        "Mixed_7c.branch3x3dbl_3b.bn.num_batches_tracked": (),
        "fc.weight": (1008, 2048),
    }
    assert {name: tuple(state[name].shape) for name in shapes} == shapes


def test_features_are_2048_means_of_what_is_0_or_more(weights):
    network = inception.load_inception(weights, sha256_of(weights))
    pictures = RNG.integers(0, 256, (2, 40, 60, 3), np.uint8)
    rows = network(inception.inception_images(pictures))
    assert rows.shape == (2, 2048) and rows.min() >= 0
    assert not torch.allclose(rows[0], rows[1], rtol=0.01)
    assert not network.training and not any(
        p.requires_grad for p in network.parameters()
    )


def test_average_pools_leave_their_padding_out():
    ones = torch.ones(1, 2, 5, 5)
    assert torch.equal(inception.AVERAGE(ones), ones)


def test_only_the_last_block_pools_by_maximum():
    network = inception.make_inception()
    blocks = {n: m for n, m in network.named_children() if n.startswith("Mixed")}
    kept = {n: type(b.pool).__name__ for n, b in blocks.items() if b.pool.stride == 1}
    assert len(blocks) == 11 and len(kept) == 9
    assert [n for n, kind in kept.items() if kind == "MaxPool2d"] == ["Mixed_7c"]


def test_a_block_joins_its_branches_in_the_published_order():
    torch.manual_seed(0)
    block = inception.Block(8, inception.E, inception.MAXIMUM).eval()
    images = torch.rand(1, 8, 5, 5)
    with torch.no_grad():
        three = block.branch3x3_1(images)
        double = block.branch3x3dbl_2(block.branch3x3dbl_1(images))
        expected = [
            block.branch1x1(images),
            block.branch3x3_2a(three),
            block.branch3x3_2b(three),
            block.branch3x3dbl_3a(double),
            block.branch3x3dbl_3b(double),
            block.branch_pool(inception.MAXIMUM(images)),
        ]
        assert torch.equal(block(images), torch.cat(expected, 1))


@pytest.mark.parametrize(("name", "shape"), [("B", (480, 7, 7)), ("D", (512, 7, 7))])
def test_a_block_that_shrinks_keeps_the_pooled_channels(name, shape):
    block = inception.Block(8, getattr(inception, name), inception.SHRINK).eval()
    images = torch.rand(1, 8, 15, 15)
    channels = shape[0] + 8
    assert block.width == channels
    output = block(images)
    assert output.shape == (1, channels, *shape[1:])
    assert torch.equal(output[:, -8:], inception.SHRINK(images))


@pytest.mark.parametrize(("h", "w"), [(5, 3), (23, 31), (11, 11), (1, 40)])
def test_pictures_are_resized_as_tensorflow_1_does(h, w):
    picture = RNG.integers(0, 256, (h, w, 3), np.uint8)
    images = torch.from_numpy(picture).permute(2, 0, 1)[None].double()
    found = inception.resize_as_tensorflow(images, 11)[0].permute(1, 2, 0).numpy()
    assert found == pytest.approx(resized_by_hand(picture, 11), abs=1e-9)


def test_a_picture_of_299_pixels_is_only_scaled():
    picture = RNG.integers(0, 256, (299, 299, 3), np.uint8)
    (image,) = inception.inception_images([picture])
    assert np.array_equal(image.permute(1, 2, 0) * 128 + 128, picture)
    assert image.min() == -1 and image.max() == 127 / 128


def test_pictures_of_several_sizes_come_together():
    pictures = [RNG.integers(0, 256, (h, 30, 3), np.uint8) for h in (20, 70)]
    images = inception.inception_images(pictures)
    assert torch.equal(images[1:], inception.inception_images(pictures[1:]))


@pytest.mark.parametrize("name", ["missing.pth", "other.pth"])
def test_a_wrong_file_is_refused_before_it_is_opened(name, tmp_path, monkeypatch):
    (tmp_path / "other.pth").write_bytes(b"no weights")
    monkeypatch.setattr(torch, "load", None)
    with pytest.raises(SourceError, match="expected 6726825d0af5") as caught:
        inception.load_inception(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)

"""The encoder is the linear code of patches; the decoder learns; both are one VAE."""

import numpy as np
import pytest
import torch

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.images import images_to_pixels, pixels_to_images
from commoncanvas.pretrain import autoencoder

WIDTHS = [16, 16, 16, 24]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished")


def drawings(num=24, size=32, seed=0):
    """Return smooth coloured pictures, as unlike noise as drawings are."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(num, 3, 5, 5, generator=generator) * 2 - 1
    return torch.nn.functional.interpolate(
        coarse, (size, size), mode="bicubic", align_corners=False
    ).clamp(-1, 1)


def linear(channels=8, groups=4, images=None):
    vae = autoencoder.make_vae(channels, WIDTHS, groups)
    autoencoder.start_from_components(vae, drawings() if images is None else images)
    return vae


def codes(vae, images):
    with torch.no_grad():
        return vae.encode(images).latent_dist.mean


def test_a_vae_makes_latents_of_an_eighth():
    vae = autoencoder.make_vae(4, [8, 8, 8, 8])
    mean = codes(vae, torch.zeros(1, 3, 32, 32))
    assert mean.shape == (1, 4, 4, 4)
    with torch.no_grad():
        assert vae.decode(mean).sample.shape == (1, 3, 32, 32)


def test_directions_are_orthonormal_and_sorted_by_variance():
    rows, variances = autoencoder.principal_directions(drawings(), 3)
    assert torch.allclose(rows @ rows.T, torch.eye(3), atol=1e-5)
    assert (variances[:-1] >= variances[1:]).all()


def test_the_codes_are_white_on_the_pictures_they_were_taken_from():
    images = drawings(64)
    mean = codes(linear(images=images), images)
    rows = mean.permute(0, 2, 3, 1).reshape(-1, 8)
    assert torch.allclose(rows.mean(0), torch.zeros(8), atol=0.02)
    assert torch.allclose(torch.cov(rows.T), torch.eye(8), atol=0.1)


def test_the_codes_are_linear_in_the_picture():
    vae, (a, b) = linear(), (drawings(4, seed=1), drawings(4, seed=2))
    middle = codes(vae, (a + b) / 2)
    assert torch.allclose(middle, (codes(vae, a) + codes(vae, b)) / 2, atol=0.05)


def test_a_code_sees_its_own_patch_and_no_other():
    vae, image = linear(), drawings(1)
    other = image.clone()
    other[..., 8:16, 8:16] *= -1
    moved = (codes(vae, image) - codes(vae, other)).abs().amax(1)[0]
    moved[1, 1] -= moved.max()
    assert moved.max() < 0.02


def test_the_best_linear_decoder_of_the_codes_is_as_good_as_components():
    images = drawings(64)
    rows = codes(linear(images=images), images).permute(0, 2, 3, 1).reshape(-1, 8)
    rows = torch.cat([rows, torch.ones(len(rows), 1)], 1)
    patches = torch.nn.functional.pixel_unshuffle(images, 8)
    wanted = patches.permute(0, 2, 3, 1).reshape(-1, 192)
    error = rows @ torch.linalg.lstsq(rows, wanted).solution - wanted
    found = 10 * torch.log10(4 / error.square().mean())
    pixels = images_to_pixels(images)
    line = autoencoder.linear_psnr(pixels, pixels, 8, 8)
    assert found > np.mean(line) - 1.5


def test_the_encoder_is_frozen_and_the_decoder_is_not():
    vae = linear()
    assert not any(p.requires_grad for p in vae.encoder.parameters())
    assert all(p.requires_grad for p in vae.decoder.parameters())


def test_a_code_that_does_not_fit_is_refused_in_one_line():
    with pytest.raises(ParameterError, match="10 codes in 4 groups of 6 channels"):
        linear(channels=10)


def test_more_numbers_keep_more_and_all_of_them_keep_everything():
    train = images_to_pixels(drawings(64))
    test = images_to_pixels(drawings(8, seed=5))
    line = [autoencoder.linear_psnr(train, test, 4, c).mean() for c in (1, 4, 16, 48)]
    assert line == sorted(line) and line[-1] > 50


def test_a_rebuilt_picture_that_is_the_picture_has_the_highest_decibels():
    pixels = images_to_pixels(drawings(3))
    assert autoencoder.psnr(pixels, pixels) == pytest.approx(68.13, abs=0.01)
    far = 255 - pixels
    assert (autoencoder.psnr(far, pixels) < 20).all()


def test_training_starts_from_components_and_moves_the_decoder_alone():
    rgba = np.random.default_rng(0).integers(0, 256, (8, 64, 64, 4), np.uint8)
    vae, history = autoencoder.train_vae(rgba, 0, 3, 2, 1e-3, 8, WIDTHS, 4)
    assert np.isfinite(history.losses).all() and not vae.training
    again, _ = autoencoder.train_vae(rgba, 0, 3, 2, 1e-3, 8, WIDTHS, 4)
    first, second = vae.state_dict(), again.state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert autoencoder.reconstruct(vae, rgba[..., :3]).shape == (8, 64, 64, 3)


def test_the_saved_factor_gives_latents_of_unit_variance(tmp_path):
    pixels = images_to_pixels(drawings(40, 64))
    vae = linear(images=pixels_to_images(pixels))
    autoencoder.save_vae(vae, pixels, tmp_path, 0)
    scaled = codes(vae, pixels_to_images(pixels)) * vae.config.scaling_factor
    assert scaled.std() == pytest.approx(1, abs=0.02)


def test_stretched_latents_decode_to_the_same_pictures():
    vae, images = linear(), drawings(3)
    before = codes(vae, images)
    with torch.no_grad():
        drawn = vae.decode(before).sample
    factors = torch.linspace(0.2, 3, 8)
    autoencoder.stretch(vae, factors)
    after = codes(vae, images)
    assert torch.allclose(after, before * factors.view(1, -1, 1, 1), atol=1e-5)
    with torch.no_grad():
        assert torch.allclose(vae.decode(after).sample, drawn, atol=1e-4)
        std = vae.encode(images).latent_dist.std[0, :, 0, 0]
    assert torch.allclose(std, factors * autoencoder.POSTERIOR_STD, atol=1e-4)

"""Random views stay pictures, and every draw comes from the generator passed in."""

import pytest
import torch

from commoncanvas.pretrain import augment


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def blank(batch, alpha):
    rgba = torch.zeros(batch, 16, 16, 4, dtype=torch.uint8)
    rgba[..., 3] = alpha
    return rgba


@pytest.fixture
def rgba():
    shape = (6, 20, 20, 4)
    return torch.randint(0, 256, shape, generator=generator(9), dtype=torch.uint8)


@pytest.fixture
def pictures():
    return torch.rand(64, 3, 12, 12, generator=generator(9))


@pytest.mark.parametrize("size", [8, 20, 33])
def test_views_have_the_asked_size_and_range(rgba, size):
    views = augment.random_views(rgba, size, generator())
    assert views.shape == (6, 3, size, size) and views.dtype == torch.float32
    assert views.min() >= 0 and views.max() <= 1


def test_styles_keep_shape_and_range(pictures):
    changed = augment.change_style(pictures, generator())
    assert changed.shape == pictures.shape
    assert changed.min() >= 0 and changed.max() <= 1 and changed.isfinite().all()


def test_the_same_generator_gives_the_same_views(rgba):
    views = [augment.random_views(rgba, 16, generator(s)) for s in (1, 1, 2)]
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])


def test_the_same_generator_gives_the_same_style(pictures):
    changed = [augment.change_style(pictures, generator(s)) for s in (1, 1, 2)]
    assert torch.equal(changed[0], changed[1]) and not torch.equal(*changed[1:])


def test_the_global_stream_neither_matters_nor_moves(rgba):
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        views = augment.random_views(rgba, 16, generator())
        results.append(augment.change_style(views, generator(5)))
        assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(*results)


def test_what_goes_in_is_not_changed(rgba, pictures):
    before = rgba.clone(), pictures.clone()
    augment.random_views(rgba, 16, generator())
    augment.change_style(pictures, generator())
    assert torch.equal(rgba, before[0]) and torch.equal(pictures, before[1])


def test_an_invisible_picture_is_its_background():
    views = augment.random_views(blank(300, 0), 4, generator())
    flat = views.flatten(2)
    assert torch.allclose(flat, flat[..., :1].expand_as(flat), atol=1e-6)
    share = (flat == 1).all(2).all(1).float().mean()
    assert 0.57 < share < 0.77


def test_a_solid_picture_covers_the_middle():
    views = augment.random_views(blank(50, 255), 16, generator())
    assert views[:, :, 7:9, 7:9].max() < 1e-6


def test_without_turn_or_zoom_a_picture_is_moved_at_most():
    rgba = blank(40, 0)
    rgba[:, 6:10, 6:10, 3] = 255
    views = augment.random_views(rgba, 16, generator(), scale=(1, 1), degrees=0.0)
    dark = (1 - views[(views[:, 0, 0, 0] == 1)][:, 0]).sum((1, 2))
    assert torch.allclose(dark, torch.full_like(dark, 16.0), atol=1e-3)


def test_a_larger_scale_shows_a_larger_picture():
    def dark(scale):
        args = blank(30, 255), 32, generator(), (scale, scale), 0.0
        return (augment.random_views(*args) == 0).float().mean()

    assert dark(0.3) < dark(0.6) < dark(0.9)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_plain_picture_has_no_lines(level):
    assert (augment._lines(torch.full((2, 3, 8, 8), level)) == 1).all()


def test_lines_are_drawn_at_edges_in_any_channel():
    images = torch.zeros(3, 3, 8, 8)
    for channel in range(3):
        images[channel, channel, :, 4:] = 1
    lines = augment._lines(images)
    assert lines.shape == (3, 1, 8, 8)
    assert (lines[..., 3:5] == 0).all() and (lines[..., :2] == 1).all()


def test_some_pictures_lose_their_colour_and_most_do_not(pictures):
    changed = augment.change_style(pictures, generator())
    is_grey = (changed.std(1).flatten(1).amax(1) < 1e-6).float().mean()
    assert 0.05 < is_grey < 0.5


def half_dark(batch):
    rgba = blank(batch, 255)
    rgba[:, :, 8:, :3] = 255
    return rgba


def test_only_pictures_that_may_be_flipped_are_flipped():
    may = torch.tensor([True] * 40 + [False] * 40)
    args = half_dark(80), 16, generator(), (1, 1), 0.0
    views = augment.random_views(*args, may_flip=may)
    left_is_dark = views[:, 0, 8, 3] < views[:, 0, 8, 12]
    assert left_is_dark[40:].all() and 8 <= left_is_dark[:40].sum() <= 32


def test_sharp_views_are_neither_turned_nor_scaled():
    rgba = blank(6, 0)
    rgba[:, 4:12, 4:12, 3] = 255
    for seed in range(8):
        views = augment.sharp_views(rgba, 16, generator(seed))
        white = (views.amax(1) == views.amax(1)[:, :1, :1]).flatten(1).sum(1)
        assert ((white == 256 - 64) | (white == 256)).all()


def test_sharp_views_keep_size_and_range_and_follow_the_generator(rgba):
    views = [augment.sharp_views(rgba, 10, generator(s)) for s in (1, 1, 2)]
    assert views[0].shape == (6, 3, 10, 10)
    assert views[0].min() >= 0 and views[0].max() <= 1
    assert torch.equal(views[0], views[1]) and not torch.equal(views[0], views[2])


def test_some_pictures_are_softened_and_the_others_are_as_they_were():
    images = torch.rand(300, 3, 16, 16, generator=generator(3))
    soft = augment.soften(images, generator(), share=0.4)
    assert soft.shape == images.shape and soft.min() >= 0 and soft.max() <= 1
    is_same = (soft == images).flatten(1).all(1)
    assert 0.5 < is_same.float().mean() < 0.7
    assert (soft[~is_same].flatten(1).std(1) < images[~is_same].flatten(1).std(1)).all()

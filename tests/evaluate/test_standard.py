"""torchmetrics' values are those whose intervals we give, from the same features."""

import numpy as np
import pytest
import torch

from commoncanvas.analysis import distances, estimates, kernels, manifolds, matching
from commoncanvas.evaluate import standard
from commoncanvas.evaluate.extractors import FeatureExtractor
from commoncanvas.evaluate.judges import Judge, moved


def draw(n, seed, width=12, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width))
    return rng.normal(size=(n, width)) @ mixing / width + shift


def judge(real, kernel="kd", **words):
    extractor = FeatureExtractor("toy", "fd", kernel, real.shape[1], None, {}, **words)
    return Judge(extractor, real)


@pytest.mark.parametrize(("n", "width"), [(200, 12), (30, 48)])  # rows fewer than width
def test_the_frechet_distance_is_that_of_the_jackknife(n, width):
    a, b = draw(n, 1, width), draw(n + 40, 2, width, shift=0.2)
    frechet = standard.Frechet(b)
    expected = distances.frechet_distance(a, b)
    assert frechet.distance(a) == pytest.approx(expected, rel=1e-5)
    assert frechet.distance(b[::2]) != pytest.approx(expected, rel=0.1)
    assert frechet.distance(a) == pytest.approx(expected, rel=1e-5)  # b is kept
    assert frechet.distance(b) == pytest.approx(0, abs=1e-6)


def test_the_fast_jackknife_of_the_frechet_distance_is_the_plain_one():
    a, b = draw(47, 1), draw(90, 2, shift=0.2)
    slow = estimates.jackknife(distances.frechet_distance, a, b)
    fast = distances.frechet_replicates(a, b).estimate()
    for end in ("value", "low", "high", "n"):
        assert getattr(fast, end) == pytest.approx(getattr(slow, end), rel=1e-9)


def test_the_kernel_distance_of_equally_many_is_that_of_the_jackknife():
    a, b = draw(40, 1), draw(40, 2, shift=0.4)
    value, error = standard.kernel_distance(a, b)
    assert value == pytest.approx(kernels.kernel_distance(a, b), rel=1e-9)
    assert error == 0 and standard.kernel_protocol(40, 40) == (1, 40)


def test_the_draws_of_a_kernel_distance_are_seeded_and_leave_torchs_own_alone():
    a, b = draw(40, 1), draw(170, 2, shift=0.4)
    before = torch.random.get_rng_state()
    value, error = standard.kernel_distance(a, b, seed=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(7)
    assert standard.kernel_distance(a, b, seed=1) == (value, error)
    assert standard.kernel_distance(a, b, seed=2)[0] != value
    # The draws are about the distance of all rows, whose interval is given.
    assert abs(value - kernels.kernel_distance(a, b)) < 4 * error


def test_draws_stay_small_where_there_are_many_rows():
    assert standard.kernel_protocol(30000, 30000) == (20, 1000)
    assert standard.kernel_protocol(160, 1500) == (20, 160)
    assert standard.kernel_protocol(1000, 1000) == (1, 1000)


def test_the_clip_score_is_100_times_the_mean_cosine_and_never_negative():
    images = np.array([[1.0, 0], [1, 0], [3, 4]])
    texts = np.array([[7.0, 0], [-2, 0], [0, 1]])
    assert standard.clip_score(images, texts) == pytest.approx((100 - 100 + 80) / 3)
    assert standard.clip_score(images, -images) == 0
    images, texts = draw(30, 1), draw(30, 2) + 0.2
    expected = estimates.mean_interval(matching.alignment(images, texts)).value
    assert standard.clip_score(images, texts) == pytest.approx(expected, rel=1e-9)


def test_a_judges_values_are_torchmetrics_and_its_intervals_ours():
    a, b = draw(60, 1), draw(150, 2, shift=0.2)
    found = judge(b).estimates(a, "_to_held_out")[0]
    assert list(found) == ["fd_to_held_out", "kd_to_held_out"]
    fd, kd = found.values()
    assert fd.value == standard.Frechet(b).distance(a) and fd.n == kd.n == 60
    ours = distances.frechet_replicates(a, b).estimate()
    assert fd.high - fd.low == pytest.approx(ours.high - ours.low, rel=1e-9)
    assert kd.value == standard.kernel_distance(a, b)[0]
    ours = kernels.kernel_replicates(a, b).estimate()
    assert kd.high - kd.low > ours.high - ours.low  # the draws' noise is in it
    assert kd.low < ours.value < kd.high


def test_cmmd_stands_where_the_kernel_is_gaussian():
    a, b = draw(60, 1), draw(150, 2, shift=0.2)
    found = judge(b, "cmmd", is_gaussian=True).estimates(a)[0]
    assert found["cmmd"] == kernels.clip_mmd_replicates(a, b).estimate()


def test_precision_and_its_like_bear_the_networks_name():
    a, b = draw(60, 1), draw(150, 2, shift=0.2)
    found = judge(b, has_balls=True).estimates(a, "_to_coco")[0]
    names = ["precision", "recall", "density", "coverage"]
    assert list(found)[2:] == [f"{name}_toy_to_coco" for name in names]
    assert list(found.values())[2:] == list(manifolds.manifold_metrics(a, b).values())
    # Six samples have no five neighbours without one of them.
    assert list(judge(b, has_balls=True).estimates(a[:6])[0]) == ["fd", "kd"]


def test_balls_are_made_of_so_many_rows_at_most(monkeypatch):
    monkeypatch.setattr(manifolds, "MOST", 50)
    a, b = draw(60, 1), draw(150, 2, shift=0.2)
    found = judge(b, has_balls=True).estimates(a)[0]
    some = np.delete(np.arange(60), np.arange(5, 60, 6))
    expected = manifolds.manifold_metrics(a[some], b[::3])
    assert found["coverage_toy"] == expected["coverage"] and found["fd"].n == 60


def test_what_is_made_of_the_reference_is_made_once(monkeypatch):
    real, made = draw(90, 2), []
    plain = standard.Frechet
    monkeypatch.setattr(standard, "Frechet", lambda r: made.append(1) or plain(r))
    against = judge(real)
    first, second = (against.estimates(draw(40, k))[0] for k in (1, 3))
    assert made == [1]
    assert first["fd"].value != second["fd"].value
    assert second == judge(real).estimates(draw(40, 3))[0]


def test_an_estimate_moves_with_its_interval():
    found = moved(estimates.Estimate(5.0, 3.0, 8.0, 9), 6.0, half=4.0)
    assert (found.value, found.n) == (6.0, 9)
    assert found.low == pytest.approx(6 - 20**0.5) and found.high == 11

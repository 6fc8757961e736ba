"""Distances agree with independent computations; intervals cover what they claim."""

import json
import math

import numpy as np
import pytest
import scipy.linalg
from scipy.stats import norm

from commoncanvas.analysis import distances, estimates, kernels, matching
from commoncanvas.core.errors import ParameterError, ShapeError


def draw(n, features, seed, shift=0.0):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(features, features))
    return rng.normal(size=(n, features)) @ mixing / features + shift


def scipy_frechet(a, b):
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    gap = np.sum((a.mean(0) - b.mean(0)) ** 2)
    return gap + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root)


class Identity:
    """Builds a feature module that hands its input through, in float64."""

    def __new__(cls, features):
        import torch

        module = torch.nn.Identity()
        module.num_features = features
        return module


@pytest.mark.parametrize("rows", [(300, 250), (12, 14)])  # more than features, fewer
def test_frechet_distance_equals_scipy_matrix_root(rows):
    a, b = draw(rows[0], 16, 1), draw(rows[1], 16, 2, shift=0.3)
    expected = scipy_frechet(a, b)
    assert distances.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_is_exact_with_fewer_rows_than_features():
    a, b = draw(20, 48, 1), draw(70, 48, 2, shift=0.3)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    values, vectors = np.linalg.eigh(cov_a)
    root_a = vectors @ np.diag(np.sqrt(values.clip(0))) @ vectors.T
    # The symmetric product has the same root trace and real eigenvalues.
    inner = np.linalg.eigvalsh(root_a @ cov_b @ root_a).clip(0)
    gap = np.sum((a.mean(0) - b.mean(0)) ** 2)
    expected = gap + np.trace(cov_a + cov_b) - 2 * np.sqrt(inner).sum()
    assert distances.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_equals_torchmetrics_on_the_same_features():
    torch = pytest.importorskip("torch")
    fid = pytest.importorskip("torchmetrics.image.fid")
    a, b = draw(200, 12, 1), draw(220, 12, 2, shift=0.2)
    judge = fid.FrechetInceptionDistance(feature=Identity(12)).set_dtype(torch.float64)
    judge.update(torch.from_numpy(b), real=True)
    judge.update(torch.from_numpy(a), real=False)
    expected = float(judge.compute())
    assert distances.frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_a_shift_is_its_squared_length():
    a = draw(50, 8, 1)
    assert distances.frechet_distance(a, a + 2.0) == pytest.approx(8 * 4.0, rel=1e-9)


@pytest.mark.parametrize("rows", [(30, 90), (90, 30), (30, 30), (90, 95)])
def test_frechet_distance_is_symmetric_and_zero_to_itself(rows):
    a, b = draw(rows[0], 40, 1), draw(rows[1], 40, 2)
    there, back = distances.frechet_distance(a, b), distances.frechet_distance(b, a)
    assert there == pytest.approx(back, rel=1e-9)
    assert distances.frechet_distance(a, a) == pytest.approx(0, abs=1e-9)


def test_frechet_distance_does_not_depend_on_the_order_of_rows():
    a, b = draw(60, 40, 1), draw(50, 40, 2)
    shuffled = distances.frechet_distance(a[::-1], b)
    assert distances.frechet_distance(a, b) == pytest.approx(shuffled, rel=1e-9)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.zeros((5, 3)), np.zeros((5, 4))),
        (np.zeros((1, 3)), np.zeros((5, 3))),
        (np.zeros(5), np.zeros((5, 3))),
    ],
)
def test_frechet_distance_refuses_tables_that_do_not_fit(a, b):
    with pytest.raises(ShapeError, match="expected"):
        distances.frechet_distance(a, b)


def test_frechet_distance_refuses_nan_features():
    broken = draw(10, 3, 1)
    broken[4, 1] = np.nan
    with pytest.raises(ParameterError, match="NaN"):
        distances.frechet_distance(broken, draw(10, 3, 2))


def test_frechet_floor_shrinks_as_n_grows():
    real = draw(2000, 16, 1)
    small, large = (distances.frechet_floor(real, n, seed=3) for n in (50, 1000))
    assert 0 < large.value < small.value / 5
    assert small.n == 50


def test_frechet_floor_uses_disjoint_halves():
    # With all rows used and n = half, a shared row would make this table's floor 0.
    real = np.arange(8.0)[:, None] ** 2
    assert distances.frechet_floor(real, 4, seed=0, num_blocks=2).value > 0
    with pytest.raises(ParameterError, match="lower n"):
        distances.frechet_floor(real, 5, seed=0)


def loop_kernel_distance(a, b):
    def kernel(x, y):
        return (float(np.dot(x, y)) / len(x) + 1) ** 3

    n, m = len(a), len(b)
    within_a = sum(kernel(a[i], a[j]) for i in range(n) for j in range(n) if i != j)
    within_b = sum(kernel(b[i], b[j]) for i in range(m) for j in range(m) if i != j)
    across = sum(kernel(x, y) for x in a for y in b)
    return within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * across / (n * m)


@pytest.mark.parametrize("features", [5, 48])  # fewer than rows, and more
def test_kernel_distance_equals_a_plain_double_loop(features):
    a, b = draw(17, features, 1), draw(23, features, 2, shift=0.5)
    expected = loop_kernel_distance(a, b)
    assert kernels.kernel_distance(a, b) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("n", "m", "num"), [(17, 23, 4), (3, 23, 20), (40, 40, 20)])
def test_kernel_replicates_are_the_jackknife_of_the_distance(n, m, num, monkeypatch):
    a, b = draw(n, 5, 1), draw(m, 5, 2, shift=0.5)
    slow = estimates.jackknife(kernels.kernel_distance, a, b, num_blocks=num)
    monkeypatch.setattr(kernels, "ROWS", 4)
    fast = kernels.kernel_replicates(a, b, num).estimate()
    for end in ("value", "low", "high", "n"):
        assert getattr(fast, end) == pytest.approx(getattr(slow, end), rel=1e-9)


def test_kernel_distance_equals_torchmetrics_on_the_same_features():
    torch = pytest.importorskip("torch")
    kid = pytest.importorskip("torchmetrics.image.kid")
    a, b = draw(40, 6, 1), draw(40, 6, 2, shift=0.4)
    judge = kid.KernelInceptionDistance(
        feature=Identity(6), subsets=3, subset_size=40, normalize=False
    )
    judge = judge.set_dtype(torch.float64)
    judge.update(torch.from_numpy(b), real=True)
    judge.update(torch.from_numpy(a), real=False)
    mean = kernels.kernel_distance(a, b)  # each subset is the whole
    assert mean == pytest.approx(float(judge.compute()[0]), rel=1e-6)


def test_kernel_distance_is_unbiased_around_zero():
    values = [
        kernels.kernel_distance(draw(20, 4, i), draw(20, 4, 500 + i))
        for i in range(200)
    ]
    estimate = estimates.mean_interval(values)
    assert abs(estimate.value) < 2 * (estimate.high - estimate.value)
    assert min(values) < 0


@pytest.mark.parametrize("n", [7, 20, 63, 200])
def test_jackknife_of_one_row_per_block_is_the_interval_of_the_mean(n):
    values = np.random.default_rng(n).normal(size=n)
    ours = estimates.jackknife(np.mean, values, num_blocks=n)
    theirs = estimates.mean_interval(values)
    assert ours.low == pytest.approx(theirs.low, rel=1e-9)
    assert ours.high == pytest.approx(theirs.high, rel=1e-9)


@pytest.mark.parametrize("n", [100, 119])
def test_jackknife_of_blocks_has_the_standard_error_of_the_mean(n):
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(200):
        estimate = estimates.jackknife(np.mean, rng.normal(size=n), num_blocks=20)
        half = (estimate.high - estimate.low) / 2
        ratios.append((half / 2.093024) ** 2 * n)  # Student of 19 degrees
    assert np.mean(ratios) == pytest.approx(1, abs=0.08)


@pytest.mark.parametrize(("n", "features"), [(80, 4), (40, 64)])
def test_jackknife_of_frechet_distance_has_the_spread_of_fresh_draws(n, features):
    pairs = [(draw(n, features, i), draw(n, features, 900 + i, 0.2)) for i in range(60)]
    spread = np.std([distances.frechet_distance(*pair) for pair in pairs], ddof=1)
    halves = [
        estimates.jackknife(distances.frechet_distance, *pair, num_blocks=10)
        for pair in pairs[:15]
    ]
    error = np.mean([(e.high - e.low) / 2 / estimates.Z95 for e in halves])
    assert 0.6 < error / spread < 1.6


def test_paired_jackknife_sees_that_shared_noise_cancels():
    rng = np.random.default_rng(0)
    x = rng.normal(size=200)
    y = x + 0.01 * rng.normal(size=200)

    def gap(x, y):
        return float(np.mean(x) - np.mean(y))

    together = estimates.jackknife(gap, x, y, paired=True)
    apart = estimates.jackknife(gap, x, y)
    assert together.high - together.low < 0.1 * (apart.high - apart.low)


def test_jackknife_refuses_paired_arrays_of_unequal_length():
    with pytest.raises(ShapeError, match="prompts and seeds"):
        estimates.jackknife(lambda x, y: 0.0, np.zeros(4), np.zeros(5), paired=True)


def test_jackknife_refuses_a_single_block_or_a_single_row():
    with pytest.raises(ParameterError, match="blocks"):
        estimates.jackknife(np.mean, np.zeros(4), num_blocks=1)
    with pytest.raises(ShapeError, match="rows"):
        estimates.jackknife(np.mean, np.zeros(1))


@pytest.mark.parametrize("n", [3, 5, 100])  # five are a timing's repeats
def test_mean_interval_covers_the_truth_about_95_times_in_100(n):
    rng = np.random.default_rng(1)
    draws = [estimates.mean_interval(rng.normal(3, 2, size=n)) for _ in range(2000)]
    covered = np.mean([e.low <= 3 <= e.high for e in draws])
    assert 0.935 <= covered <= 0.965


@pytest.mark.parametrize("shift", [0.5, 1.5, 2.5, 3.5])  # areas of 0.64 to 0.993
def test_the_interval_of_an_area_covers_the_truth_about_95_times_in_100(shift):
    rng, truth = np.random.default_rng(5), norm.cdf(shift / np.sqrt(2))
    found = [
        estimates.roc_area(rng.normal(shift, 1, 250), rng.normal(0, 1, 500))
        for _ in range(1000)
    ]
    covered = np.mean([e.low <= truth <= e.high for e in found])
    assert 0.93 <= covered <= 0.99 and all(0 <= e.low <= e.high <= 1 for e in found)


def test_an_area_is_the_share_of_pairs_in_order():
    found = estimates.roc_area([3, 1, 2], [1, 0])
    assert found.value == (2 + 1.5 + 2) / 6 and found.n == 3
    apart = estimates.roc_area([3, 4, 5], [1, 0])
    assert apart.value == apart.high == 1 and apart.low < 0.5
    assert estimates.roc_area([0, 0], [1, 2, 3]).value == 0
    with pytest.raises(ShapeError, match="2 of each"):
        estimates.roc_area([1], [0, 2])


def test_wilson_matches_the_textbook_and_stays_inside_zero_and_one():
    half = estimates.wilson(50, 100)
    assert (half.low, half.high) == pytest.approx((0.4038, 0.5962), abs=1e-4)
    none, every = estimates.wilson(0, 10), estimates.wilson(10, 10)
    assert none.low == 0 and none.high == pytest.approx(0.2775, abs=1e-4)
    assert every.high == 1 and every.low == pytest.approx(0.7225, abs=1e-4)


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (5, 4), (-1, 4)])
def test_wilson_refuses_impossible_counts(successes, n):
    with pytest.raises(ParameterError, match="count again"):
        estimates.wilson(successes, n)


def test_estimate_as_dict_is_stable_json_with_six_digits():
    record = estimates.Estimate(1 / 3, -2e7 / 3, 123456.789, np.int64(5)).as_dict()
    expected = {"value": 0.333333, "interval": [-6666670.0, 123457.0], "n": 5}
    assert json.loads(json.dumps(record)) == expected


def test_estimate_with_nan_never_reaches_json():
    with pytest.raises(ParameterError, match="finite"):
        estimates.Estimate(math.nan, 0, 1, 5).as_dict()


def test_paired_difference_is_narrow_where_values_move_together():
    x = np.random.default_rng(0).normal(size=50)
    estimate = estimates.paired_difference(x + 0.5, x)
    assert (estimate.low, estimate.high) == pytest.approx((0.5, 0.5))
    with pytest.raises(ShapeError):
        estimates.paired_difference(x, x[1:])


def test_replicates_come_back_from_a_file_and_give_the_same_interval():
    reference, near = draw(200, 8, 1), draw(150, 8, 2)
    found = distances.frechet_replicates(near, reference)
    again = estimates.Replicates.from_array(found.as_array())
    assert again.estimate() == found.estimate()
    whole = estimates.jackknife(distances.frechet_distance, near, reference)
    assert found.estimate() == whole and whole.n == 150


def test_alignment_is_100_for_parallel_and_minus_100_for_opposite_rows():
    images = draw(5, 4, 1)
    signs = np.array([1, -1, 1, -1, 1])[:, None]
    scores = matching.alignment(images, images * signs * 7)
    assert scores == pytest.approx([100, -100, 100, -100, 100])


def test_alignment_refuses_an_embedding_without_direction():
    images = draw(5, 4, 1)
    texts = images.copy()
    texts[2] = 0
    with pytest.raises(ParameterError, match="all zero"):
        matching.alignment(images, texts)


@pytest.mark.parametrize("n", [2, 3, 50])
def test_shuffled_captions_are_never_the_own_caption(n):
    assert matching.alignment_shuffled(np.eye(n), np.eye(n)) == pytest.approx(0)
    assert matching.alignment_gap(np.eye(n), np.eye(n)) == pytest.approx(100)


def test_alignment_needs_another_caption_to_shuffle_with():
    with pytest.raises(ShapeError, match="2 rows or more"):
        matching.alignment_shuffled(np.eye(1), np.eye(1))


def test_the_gap_is_matched_less_shuffled_on_average():
    images, texts = draw(40, 16, 1), draw(40, 16, 2)
    matched = matching.alignment(images, texts).mean()
    shuffled = matching.alignment_shuffled(images, texts)
    every = [matching.alignment(images, np.roll(texts, k, 0)) for k in range(1, 40)]
    assert shuffled == pytest.approx(np.mean(every, 0))
    gap = matching.alignment_gap(images, texts).mean()
    assert gap == pytest.approx(matched - shuffled.mean())


def test_alignment_gap_is_positive_for_true_pairs_and_nil_for_noise():
    images, noise = draw(300, 16, 1), draw(300, 16, 2)
    assert estimates.mean_interval(matching.alignment_gap(images, images)).low > 50
    nil = estimates.mean_interval(matching.alignment_gap(images, noise))
    assert nil.low < 0 < nil.high


def test_the_interval_of_the_gap_holds_nil_in_95_of_100_draws_of_noise():
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        images, texts = rng.normal(0.3, 1, (2, 60, 8))  # all alike to some degree
        nil = estimates.mean_interval(matching.alignment_gap(images, texts))
        held += nil.low <= 0 <= nil.high
    assert 180 <= held <= 198


def test_alignment_gap_ignores_what_all_captions_share():
    images, texts = draw(300, 16, 1), draw(300, 16, 2)
    liked = matching.alignment(images + 3, texts + 3)
    gap = estimates.mean_interval(matching.alignment_gap(images + 3, texts + 3))
    assert liked.mean() > 80
    assert abs(gap.value) < 2


def test_retrieval_is_perfect_for_true_pairs_and_chance_for_noise():
    images, noise = draw(400, 16, 1), draw(400, 16, 2)
    right = matching.retrieval(images, images, num_choices=10)
    assert right["image_to_text"].value == right["text_to_image"].value == 1
    lost = matching.retrieval(images, noise, num_choices=10)
    assert lost["chance"] == 0.1
    for side in ("image_to_text", "text_to_image"):
        assert lost[side].value == pytest.approx(0.1, abs=0.06)


def test_retrieval_of_identical_embeddings_scores_exactly_chance():
    same = np.ones((30, 4))
    rates = matching.retrieval(same, same, num_choices=10)
    assert rates["image_to_text"].value == pytest.approx(0.1)


def test_retrieval_tells_its_two_directions_apart():
    # One text fits all pictures best: pictures lose their caption, while among the
    # pictures each text still finds its own.
    images = np.eye(6) + 0.9
    texts = np.eye(6)
    texts[0] = 1
    rates = matching.retrieval(images, texts, num_choices=6)
    assert rates["image_to_text"].value < rates["text_to_image"].value


def test_retrieval_refuses_more_choices_than_pairs():
    with pytest.raises(ParameterError, match="num_choices"):
        matching.retrieval(draw(5, 3, 1), draw(5, 3, 2), num_choices=6)

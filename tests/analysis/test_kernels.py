"""CMMD is the published one, and what is summed once serves all samples."""

import numpy as np
import pytest

from commoncanvas.analysis import kernels
from commoncanvas.analysis.estimates import jackknife
from commoncanvas.core.errors import ShapeError


def draw():
    rng = np.random.default_rng(4)
    return rng.normal(size=(30, 7)), rng.normal(size=(50, 7)) + 0.5


def test_cmmd_is_the_authors():
    # clip-mmd 0.0.2, `mmd`; by the authors' formula in jax 0.10.2, 2.074303899622487.
    assert kernels.clip_mmd(*draw()) == pytest.approx(2.074303899620711, rel=1e-9)


def test_cmmd_does_not_depend_on_the_length_of_embeddings():
    a, b = draw()
    lengths = np.random.default_rng(0).uniform(0.1, 9, (50, 1))
    assert kernels.clip_mmd(3 * a, lengths * b) == pytest.approx(kernels.clip_mmd(a, b))


def test_cmmd_of_equal_embeddings_is_zero():
    a, _ = draw()
    assert kernels.clip_mmd(a, a) == pytest.approx(0, abs=1e-10)


@pytest.mark.parametrize("num", [4, 20])
def test_the_fast_jackknife_of_cmmd_is_the_plain_one(num, monkeypatch):
    a, b = draw()
    slow = jackknife(kernels.clip_mmd, a, b, num_blocks=num)
    monkeypatch.setattr(kernels, "ROWS", 4)
    fast = kernels.clip_mmd_replicates(a, b, num).estimate()
    for end in ("value", "low", "high", "n"):
        assert getattr(fast, end) == pytest.approx(getattr(slow, end), rel=1e-9)


def test_the_reference_summed_once_gives_the_same():
    a, b = draw()
    side = kernels.Side.of(b, kernels.polynomial, 20)
    fast = kernels.kernel_replicates(a, side).estimate()
    assert fast == kernels.kernel_replicates(a, b).estimate()
    side = kernels.Side.of(kernels.unit_rows(b), kernels.gaussian, 20)
    fast = kernels.clip_mmd_replicates(a, side).estimate()
    assert fast == kernels.clip_mmd_replicates(a, b).estimate()


def test_features_of_two_networks_are_refused():
    a, b = draw()
    side = kernels.Side.of(b, kernels.polynomial, 20)
    with pytest.raises(ShapeError, match="equal widths"):
        kernels.kernel_replicates(a[:, :5], side)

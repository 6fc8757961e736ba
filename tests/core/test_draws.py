"""Numbers by counter are SplitMix's, and each depends on its own row alone."""

import pytest
import torch

from commoncanvas.core import draws
from commoncanvas.core.draws import Draws

# The first numbers of SplitMix64 from the seed 1234567, as Java's and others give them.
SEED = 1234567
KNOWN = [
    6457827717110365317,
    3203168211198807973,
    9817491932198370423,
    4593380528125082431,
    16408922859458223821,
]


def test_the_words_are_those_of_splitmix():
    states = torch.arange(1, 6) * draws._GAMMA + SEED
    assert [int(word) % 2**64 for word in draws.splitmix(states)] == KNOWN


@pytest.mark.parametrize("num", [1, 3, 4, 9])
def test_a_row_s_numbers_do_not_depend_on_the_rows_beside_it(num):
    step, rows = Draws(17, "train", 3), torch.arange(7)
    for part in (rows[2:5], rows[[6, 0]]):
        for draw in (step.uniform, lambda *asked: step.normal(*asked, [num])):
            assert torch.equal(draw("noise", part), draw("noise", rows)[part])


def test_another_seed_purpose_step_or_use_is_another_number():
    rows = torch.arange(4)
    kinds = [Draws(1, "a", 0), Draws(2, "a", 0), Draws(1, "b", 0), Draws(1, "a", 1)]
    found = [kind.uniform("x", rows) for kind in kinds]
    found.append(kinds[0].uniform("y", rows))
    flat = torch.cat(found)
    assert len(flat.unique()) == len(flat) == 20


def test_uniform_numbers_lie_evenly_from_0_to_below_1():
    found = Draws(5, "test").uniform("x", torch.arange(100_000))
    assert found.dtype == torch.float64 and 0 <= found.min() and found.max() < 1
    counts = torch.histc(found, 20, 0, 1) / len(found)
    assert (counts - 0.05).abs().max() < 0.003


@pytest.mark.parametrize("shape", [(200,), (4, 5, 5), (201,)])
def test_normal_numbers_have_the_moments_and_tails_of_the_normal(shape):
    found = Draws(5, "test").normal("x", torch.arange(500), shape)
    assert found.shape == (500, *shape) and found.dtype == torch.float32
    values = found.double().flatten()
    assert torch.isfinite(values).all()
    assert values.mean().abs() < 0.02 and (values.std() - 1).abs() < 0.02
    assert (values**3).mean().abs() < 0.06 and ((values**4).mean() - 3).abs() < 0.15
    beyond = (values.abs() > 1.96).double().mean()
    assert abs(beyond - 0.05) < 0.004
    both = torch.corrcoef(found.flatten(1)[:, :8].T.double())
    assert (both - torch.eye(8)).abs().max() < 0.2  # 500 rows

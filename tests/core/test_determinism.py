"""A stream depends on its name, and on nothing that happened before."""

import pytest
import torch

from commoncanvas.core.determinism import make_generator


def draw(*arguments):
    return torch.rand(8, generator=make_generator(*arguments)).tolist()


def test_the_same_name_gives_the_same_stream():
    assert draw(1, "noise", 5) == draw(1, "noise", 5)


@pytest.mark.parametrize("other", [(2, "a", 0), (1, "b", 0), (1, "a", 1), (0, "a", 0)])
def test_each_argument_makes_another_stream(other):
    assert draw(1, "a", 0) != draw(*other)


def test_a_number_moves_neither_between_seed_and_step_nor_into_the_name():
    streams = [draw(1, "a", 11), draw(11, "a", 1), draw(1, "a1", 1), draw(1, "a", 1)]
    assert len({tuple(stream) for stream in streams}) == 4


def test_seed_zero_is_a_seed():
    assert draw(0, "a") == draw(0, "a", 0)


def test_the_global_stream_neither_matters_nor_moves():
    torch.manual_seed(1)
    first, state = draw(3, "a"), torch.get_rng_state()
    torch.manual_seed(2)
    assert draw(3, "a") == first
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_drawn_stream_does_not_move_the_next_step():
    used = make_generator(1, "a", 0)
    torch.rand(100, generator=used)
    assert draw(1, "a", 1) == draw(1, "a", 1)


def test_neighbouring_steps_are_not_alike():
    draws = torch.stack([torch.tensor(draw(1, "a", step)) for step in range(200)])
    assert abs(draws.mean() - 0.5) < 0.05
    assert torch.corrcoef(draws.T).fill_diagonal_(0).abs().max() < 0.3

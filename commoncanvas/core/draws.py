"""Random numbers by counter: each depends on what it is for, not on those drawn before.

A batch shared by any number of processes and passes, on any device, so gets the same
numbers, and each is made where it is used. Source: splitmix, Fig. 17.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from commoncanvas.core.keys import key_of


def _signed(word: int) -> int:
    """Return the int64 of the same 64 bits; torch's sums and products wrap around."""
    return word - 2**64 if word >= 2**63 else word


_GAMMA = _signed(0x9E3779B97F4A7C15)
_FACTORS = _signed(0xBF58476D1CE4E5B9), _signed(0x94D049BB133111EB)
_UNIT = 2.0**-32


def _shifted(words: Tensor, num: int) -> Tensor:
    """Shift right as unsigned words."""
    return (words >> num).bitwise_and_((1 << 64 - num) - 1)


def splitmix(states: Tensor) -> Tensor:
    """Mix int64 states to random int64 words; equal states, equal words."""
    words = states ^ _shifted(states, 30)
    words = words.mul_(_FACTORS[0])
    words = words.bitwise_xor_(_shifted(words, 27)).mul_(_FACTORS[1])
    return words.bitwise_xor_(_shifted(words, 31))


@dataclass(frozen=True)
class Draws:
    """The random numbers of one step, each by purpose and by the row that it is for.

    A draw for one purpose moves no other. Rows are any (n,) int64 numbers from 0, such
    as places in a batch; results lie on their device. Of normal numbers, two kinds of
    device may differ in the last bit.
    """

    seed: int
    purpose: str
    step: int = 0

    def words(self, what: str, rows: Tensor, num: int) -> Tensor:
        """Return (n, num) int64 of 64 random bits each."""
        mixed = key_of(seed=self.seed, draws=[self.purpose, self.step, what])
        # Each row has a sequence of its own, which begins anywhere.
        starts = splitmix((rows + 1) * _GAMMA + _signed(int(mixed, 16)))
        counts = torch.arange(1, num + 1, device=rows.device) * _GAMMA
        return splitmix(starts[:, None] + counts)

    def uniform(self, what: str, rows: Tensor) -> Tensor:
        """Return (n,) float64 in [0, 1), multiples of 2^-53."""
        return _shifted(self.words(what, rows, 1)[:, 0], 11).double() * 2.0**-53

    def normal(self, what: str, rows: Tensor, shape: Sequence[int]) -> Tensor:
        """Return (n, *shape) float32 of the standard normal distribution."""
        num = math.prod(shape)
        words = self.words(what, rows, -(-num // 2))
        # Box and Muller's: of each word, half is a distance and half an angle.
        near = (_shifted(words, 32) + 1).double().mul_(_UNIT)  # never 0, for its log
        distance = near.log_().mul_(-2).sqrt_()
        angle = (words & 0xFFFFFFFF).double().mul_(_UNIT * 2 * math.pi)
        both = torch.cat([distance * angle.cos(), distance.mul_(angle.sin_())], 1)
        return both[:, :num].float().reshape(len(rows), *shape)

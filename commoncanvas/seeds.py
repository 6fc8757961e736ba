"""Random streams: one named generator a purpose and a step, nothing global.

A draw at step 900 is the same whether the run was interrupted or not, and adding a draw
for one purpose moves no other.
"""

import torch

from commoncanvas.checkpoints import key_of


def make_generator(seed, purpose, step=0):
    """Return a CPU `torch.Generator` that depends on the three arguments alone."""
    mixed = int(key_of(seed=seed, purpose=purpose, step=step), 16)
    return torch.Generator().manual_seed(mixed % 2**63)

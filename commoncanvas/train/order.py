"""The order of training: which works make up the batch of a step.

It follows from (seed, epoch, position) alone, so a resumed run and every one of several
processes find it without having seen an earlier batch. Source: sdxl, §2.3, for buckets.
"""

import functools
from collections.abc import Sequence

import torch

from commoncanvas.core.determinism import make_generator


def batch_places(
    works: int | Sequence[torch.Tensor], batch_size: int, seed: int, step: int
) -> torch.Tensor:
    """Return the places of one batch in the order of (seed, epoch, position).

    Every epoch is a fresh permutation; a batch may span two. The order depends on no
    worker, rank or earlier batch.

    Of several buckets, every batch lies in one. An epoch has each bucket's batches, in
    an order drawn over all of them; a bucket's last is filled up from the start of its
    permutation, so that every work comes at least once and every batch is whole.

    Args:
        works: their number; or for each bucket the (n,) int64 places of its works.

    Returns:
        (batch,) int64, 0 … num_works−1.
    """
    if isinstance(works, int):
        return _across_epochs(works, batch_size, seed, step)
    if len(works) == 1:
        return works[0][_across_epochs(len(works[0]), batch_size, seed, step)]
    sizes = tuple(len(places) for places in works)
    counts = torch.tensor([-(-size // batch_size) for size in sizes])
    epoch, position = divmod(step, int(counts.sum()))
    batches, orders = _bucket_orders(sizes, int(counts.sum()), seed, epoch)
    batch, ends = batches[position], counts.cumsum(0)
    bucket = int(torch.searchsorted(ends, batch, right=True))
    # The batch's number within its bucket, times works a batch.
    first = int(batch - ends[bucket] + counts[bucket]) * batch_size
    order = orders[bucket]
    rows = torch.arange(first, first + batch_size) % len(order)  # the last fills up
    return works[bucket][order[rows]]


def _across_epochs(
    num_works: int, batch_size: int, seed: int, step: int
) -> torch.Tensor:
    first = step * batch_size
    epochs = range(first // num_works, (first + batch_size - 1) // num_works + 1)
    pieces = []
    for epoch in epochs:
        start = max(0, first - epoch * num_works)
        stop = first + batch_size - epoch * num_works
        pieces.append(_epoch_order(num_works, seed, epoch)[start:stop])
    return torch.cat(pieces)


@functools.lru_cache(maxsize=2)
def _epoch_order(num_works: int, seed: int, epoch: int) -> torch.Tensor:
    return _permutation(num_works, seed, "order", epoch)


@functools.lru_cache(maxsize=2)
def _bucket_orders(
    sizes: tuple[int, ...], num_batches: int, seed: int, epoch: int
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return an epoch's order of the batches, and each bucket's order of its works."""
    orders = [
        _permutation(size, seed, f"order of bucket {bucket}", epoch)
        for bucket, size in enumerate(sizes)
    ]
    return _permutation(num_batches, seed, "order of batches", epoch), orders


def _permutation(num: int, seed: int, purpose: str, epoch: int) -> torch.Tensor:
    return torch.randperm(num, generator=make_generator(seed, purpose, epoch))

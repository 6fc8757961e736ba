"""Every batch lies in one bucket, every epoch has all works, one bucket is as none."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from commoncanvas.core.determinism import make_generator
from commoncanvas.train.order import batch_places

SEEDS = st.integers(0, 2**32)
SIZES = st.lists(st.integers(1, 12), min_size=2, max_size=4)


def scattered(sizes, seed=0):
    """Return the places of each bucket's works, which lie among one another."""
    generator = torch.Generator().manual_seed(seed)
    parts = torch.randperm(sum(sizes), generator=generator).split(sizes)
    return [part.sort().values for part in parts]


def epoch_of(buckets, batch_size, seed, epoch):
    num = sum(-(-len(places) // batch_size) for places in buckets)
    steps = range(epoch * num, (epoch + 1) * num)
    return [batch_places(buckets, batch_size, seed, step) for step in steps]


def owner(buckets, batch):
    """Return the number of the bucket that holds a batch's works."""
    (found,) = [
        n for n, b in enumerate(buckets) if set(batch.tolist()) <= set(b.tolist())
    ]
    return found


@given(SIZES, st.integers(1, 7), SEEDS, st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_an_epoch_has_all_works_in_batches_of_one_bucket_each(
    sizes, batch, seed, epoch
):
    buckets = scattered(sizes)
    batches = epoch_of(buckets, batch, seed, epoch)
    assert all(len(places) == batch for places in batches)
    owners = [owner(buckets, places) for places in batches]
    for number, bucket in enumerate(buckets):
        own = [b for b, n in zip(batches, owners, strict=True) if n == number]
        assert len(own) == -(-len(bucket) // batch)
        assert sorted(set(torch.cat(own).tolist())) == bucket.tolist()


@given(SIZES, st.integers(1, 7), SEEDS)
@settings(max_examples=40, deadline=None)
def test_a_short_batch_is_filled_from_the_start_of_its_bucket(sizes, batch, seed):
    buckets = scattered(sizes)
    batches = epoch_of(buckets, batch, seed, 0)
    owners = [owner(buckets, places) for places in batches]
    for number, bucket in enumerate(buckets):
        own = [b.tolist() for b, n in zip(batches, owners, strict=True) if n == number]
        if lacking := -len(bucket) % batch:
            starts = [b[:lacking] for b in own]
            assert any(b[-lacking:] in starts for b in own)


@given(SIZES, st.integers(1, 7), SEEDS, st.lists(st.integers(0, 40), max_size=5))
@settings(max_examples=40, deadline=None)
def test_a_batch_depends_on_no_batch_before_it(sizes, batch, seed, earlier):
    buckets = scattered(sizes)
    alone = batch_places(buckets, batch, seed, 7)
    for step in earlier:
        batch_places(buckets, batch, seed, step)
        batch_places(buckets[::-1], batch, seed + 1, step)
    assert torch.equal(alone, batch_places(buckets, batch, seed, 7))


@given(st.integers(1, 20), st.integers(1, 25), SEEDS, st.integers(0, 30))
@settings(max_examples=60, deadline=None)
def test_one_bucket_has_the_order_of_permutations_end_to_end(num, batch, seed, step):
    first, last = step * batch // num, (step * batch + batch - 1) // num
    orders = [
        torch.randperm(num, generator=make_generator(seed, "order", epoch))
        for epoch in range(first, last + 1)
    ]
    start = step * batch - first * num
    wanted = torch.cat(orders)[start : start + batch]
    assert torch.equal(batch_places(num, batch, seed, step), wanted)
    places = torch.arange(num)
    assert torch.equal(batch_places([places], batch, seed, step), wanted)
    assert torch.equal(batch_places([places + 5], batch, seed, step), wanted + 5)


def test_batches_of_all_buckets_are_shuffled_and_anew_each_epoch():
    buckets = scattered([40, 40])
    epochs = [epoch_of(buckets, 4, 3, epoch) for epoch in range(2)]
    owners = [[owner(buckets, places) for places in epoch] for epoch in epochs]
    assert owners[0] != owners[1] and sorted(owners[0]) == sorted(owners[1])
    changes = sum(a != b for a, b in zip(owners[0], owners[0][1:], strict=False))
    assert changes > 4
    works = [torch.cat(epoch).tolist() for epoch in epochs]
    assert works[0] != works[1] and sorted(works[0]) == sorted(works[1])


def test_buckets_of_one_size_have_orders_of_their_own():
    buckets = [torch.arange(30), torch.arange(30, 60)]
    own = {owner(buckets, places): places for places in epoch_of(buckets, 30, 1, 0)}
    assert not torch.equal(own[0], own[1] - 30)


@pytest.mark.parametrize("batch_size", [2, 8])
def test_another_seed_is_another_order(batch_size):
    buckets = scattered([9, 7])
    orders = [torch.cat(epoch_of(buckets, batch_size, seed, 0)) for seed in (0, 1)]
    assert not torch.equal(*orders)

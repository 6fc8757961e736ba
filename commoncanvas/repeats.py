"""Repeats: the same training from another seed, and what several of them show.

A variant named `NAME_seedN` is NAME trained from seed N, and differs in nothing else:
its prompts, starting noise and judges are NAME's. So what differs between the two is
the luck of a training, which no interval over prompts can tell.
"""

import math
import statistics

from scipy.stats import t as student

from commoncanvas.metrics import Estimate

MARK = "_seed"  # between a variant's name and the seed of a repeat


def is_repeat(variant):
    """Tell whether a variant is another's training from another seed."""
    return MARK in variant


def repeat_ends(known, names):
    """Return the ends of names under which all of `names` were trained again.

    Args:
        known: names of the variants that were measured.
        names: of variants that are compared with each other.

    Returns:
        list of str such as "_seed18", in the order of `known`; none where one of
        `names` was trained once.
    """
    ends = dict.fromkeys(MARK + v.partition(MARK)[2] for v in known if is_repeat(v))
    return [end for end in ends if all(name + end in known for name in names)]


def pooled(estimates):
    """Combine what several trainings gave for one quantity.

    The value is their mean. Each end of the interval is as far from it as the mean of
    the same end's distances and Student's interval of the mean over trainings, added in
    squares. That is conservative: averaging takes nothing off the first part, and the
    second holds some of it already. Few trainings make it wide: of three, the second is
    2.5 standard deviations.

    Args:
        estimates: `Estimate`s of the same prompts, one a training; one stays as it is.

    Returns:
        An `Estimate`; n is the least of theirs, prompts and not trainings.
    """
    if len(estimates) == 1:
        return estimates[0]
    values, num = [e.value for e in estimates], len(estimates)
    spread = statistics.stdev(values) / math.sqrt(num)
    spread *= float(student.ppf(0.975, num - 1))
    mean = statistics.fmean(values)
    below = statistics.fmean(e.value - e.low for e in estimates)
    above = statistics.fmean(e.high - e.value for e in estimates)
    low, high = mean - math.hypot(below, spread), mean + math.hypot(above, spread)
    return Estimate(mean, low, high, min(e.n for e in estimates))

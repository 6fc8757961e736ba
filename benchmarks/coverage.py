"""How often the 95 % intervals hold the truth, on made-up data whose truth is known.

Every kind of interval that a verdict uses is drawn many times from data like ours:
skewed scores, repeated prompts, features that pictures share, raters who differ. `make
bench-coverage` writes results/coverage.json and docs/COVERAGE.md, in minutes of a core.
"""

import math
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click
import numpy as np
import pandas as pd
from scipy.special import expit
from scipy.stats import norm

from commoncanvas.analysis.ballots import share
from commoncanvas.analysis.distances import frechet_distance
from commoncanvas.analysis.estimates import (
    Estimate,
    jackknife,
    mean_interval,
    over_trainings,
    paired_difference,
    roc_area,
    wilson,
)
from commoncanvas.analysis.kernels import kernel_distance
from commoncanvas.captions.measures import VARIETY, audit
from commoncanvas.core import paths
from commoncanvas.core.files import write_json, write_text
from commoncanvas.speed.ablation import ATTENTION, PLAIN, ratio

LOW, HIGH = 0.93, 0.99  # what simulated coverage should lie between
NOMINAL = 0.95
Draw = Callable[[np.random.Generator], tuple[Estimate, float]]


@dataclass(frozen=True)
class Kind:
    """A kind of interval, the data that it is tried on, and how often.

    Attributes:
        draw: gives an estimate of new data and the truth, NaN where that is the mean
            of all estimates: the expectation of a statistic at this number of rows.
    """

    interval: str
    used_by: str
    n: str
    data: str
    draw: Draw
    runs: int


def names(rng: np.random.Generator, n: int) -> np.ndarray:
    """Draw n prompts: (n,) each one's name; one in ten has that of another."""
    found = np.arange(n)
    again = rng.random(n) < 0.1
    found[again] = rng.integers(0, n, again.sum())
    return found


def scores(rng: np.random.Generator, n: int, variants: int = 1) -> np.ndarray:
    """Draw (variants, n) skewed scores of mean 0, of which a prompt's share a part.

    A prompt that comes again shares what its name is worth, not what was drawn.
    """
    of_name = rng.gamma(1.0, 1.0, n)[names(rng, n)] - 1
    return of_name + 1.5 * (rng.gamma(1.5, 1.0, (variants, n)) - 1.5)


def mean_of_scores(n: int, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Estimate a mean over prompts."""
    return mean_interval(scores(rng, n)[0]), 0.0


def difference_of_scores(n: int, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Estimate a difference over the same prompts; one side is twice as spread."""
    a, b = scores(rng, n, 2)
    return paired_difference(2 * a, b), 0.0


def share_of(n: int, truth: float, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Estimate a share."""
    return wilson(int(rng.binomial(n, truth)), n), truth


def speedup(n: int, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Estimate a ratio of rates, round by round, which share how busy a machine is.

    Each rate varies by 5 % besides, and now and then something else runs for a while.
    """
    busy = np.exp(rng.normal(0, 0.2, n))
    own = np.exp(rng.normal(0, 0.05, (2, n))) * (1 - 0.15 * (rng.random((2, n)) < 0.1))
    rates = {PLAIN.name: busy * own[0], ATTENTION.name: 2 * busy * own[1]}
    # Of the two rates' independent parts: E(1/x) E(y).
    noise, slow = math.exp(0.05**2), (0.9 + 0.1 / 0.85) * (1 - 0.15 * 0.1)
    return ratio(rates, ATTENTION), 2 * noise * slow


def area(truth: float, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Estimate an area under the ROC of 250 copies and 500 others."""
    apart = norm.ppf(truth) * math.sqrt(2)
    return roc_area(rng.normal(apart, 1, 250), rng.normal(0, 1, 500)), truth


def features(
    rng: np.random.Generator, n: int, m: int, width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw features: (n, 2, width) of two variants and (m, width) of a reference.

    Spectrum and tails are about those of the networks' features of real pictures. A row
    of the variants is one prompt, so that they share a part of it, and the reference
    holds the picture that it names.
    """
    axis = np.arange(1, width + 1)
    real, prompt = rng.normal(size=(m, width)), rng.normal(size=(n, width))
    shared = math.sqrt(0.2) * (real[:n] + prompt)
    pairs = math.sqrt(0.6) * rng.normal(size=(n, 2, width)) + shared[:, None]
    pairs *= np.stack([0.6 + 0.4 * np.exp(-axis / k) for k in (12, 24)])
    pairs += np.stack([0.5 / axis, 0.6 / axis[::-1]])
    of_real, of_pairs = (np.exp(rng.normal(0, 0.25, size)) for size in (m, (n, 2)))
    spectrum = axis**-0.45
    return pairs * spectrum * of_pairs[..., None], real * spectrum * of_real[:, None]


Distance = Callable[[Any, Any], float]


def level(
    distance: Distance, n: int, width: int, rng: np.random.Generator
) -> tuple[Estimate, float]:
    """Estimate a distance of n samples to twice as many reference pictures."""
    pairs, real = features(rng, n, 2 * n, width)
    return jackknife(distance, pairs[:, 0], real), math.nan


def difference_of_distances(
    distance: Distance, n: int, width: int, rng: np.random.Generator
) -> tuple[Estimate, float]:
    """Estimate how two variants' distances differ, leaving out the same prompts."""

    def apart(pairs: np.ndarray, real: np.ndarray) -> float:
        return distance(pairs[:, 0], real) - distance(pairs[:, 1], real)

    return jackknife(apart, *features(rng, n, 2 * n, width)), math.nan


PEOPLE = norm.ppf((np.arange(2000) + 0.5) / 2000)  # quantiles of one person's leaning


def votes(
    num_raters: int, num_pairs: int, spread: float, rng: np.random.Generator
) -> tuple[Estimate, float]:
    """Estimate a share of votes, of raters and pairs that differ on the logit.

    The truth is that of all people on all pairs; of one rater, his on all pairs.
    """
    rater, pair = rng.normal(0, spread, num_raters), rng.normal(-0.5, 0.6, num_pairs)
    odds = rater[:, None] + pair
    cast = (rng.random(odds.shape) < expit(odds)).astype(float)
    index = pd.MultiIndex.from_product(
        [range(num_raters), range(num_pairs)], names=["rater", "key"]
    )
    everyone = math.hypot(spread, 0.6) * PEOPLE if num_raters > 1 else 0.6 * PEOPLE
    middle = -0.5 if num_raters > 1 else rater[0] - 0.5
    found = share(pd.Series(cast.ravel()), index.to_frame(index=False))
    assert found is not None
    return found, float(expit(middle + everyone).mean())


WORDS = np.array([f"w{number}" for number in range(3000)])
COMMON = 1 / np.arange(1, len(WORDS) + 1) ** 1.05
STARTS = [f"a picture of a {word}" for word in ("red", "blue", "small", "round")]


def variety(n: int, rng: np.random.Generator) -> tuple[Estimate, float]:
    """Estimate how captions of few patterns fall behind human ones in 3-grams."""
    said = rng.choice(WORDS, (n, 6), p=COMMON / COMMON.sum())
    few = rng.choice(WORDS[:60], (n, 2), p=COMMON[:60] / COMMON[:60].sum())
    starts = rng.choice(STARTS, n)
    captions = {
        "human": [" ".join(line) for line in said],
        "synthetic": [" ".join([a, *b]) for a, b in zip(starts, few, strict=True)],
    }
    _, apart = audit(captions, [], lambda texts: {"input_ids": texts})
    found = apart["synthetic"][VARIETY]
    return Estimate.from_dict(found), math.nan


def trainings(
    num: int, spread: float, rng: np.random.Generator
) -> tuple[Estimate, float]:
    """Estimate a contrast's mean over `num` trainings, on the same 160 prompts.

    Args:
        spread: standard deviation over trainings, in standard errors of one training's
            mean over prompts.

    The truth is that of all trainings and prompts; of one, its own on all prompts.
    """
    rows = scores(rng, 160, num)
    error = math.sqrt(1 + 1.5**2 * 1.5) / math.sqrt(160)
    luck = rng.normal(0, spread * error, num)
    rows = rows + luck[:, None]
    prompts = mean_interval(rows.mean(0))
    found = over_trainings(prompts, rows.mean(1).tolist())
    return found, float(luck[0]) if num == 1 else 0.0


def kinds() -> list[Kind]:
    """Return every kind with its data."""
    found = []

    def add(
        interval: str, used_by: str, n: object, data: str, draw: Draw, runs: int
    ) -> None:
        found.append(Kind(interval, used_by, str(n), data, draw, runs))

    skewed = "skewed, one prompt in ten repeated"
    for n in (160, 500):
        draw = partial(mean_of_scores, n)
        add("mean over prompts, t", "gaps, levels", n, skewed, draw, 4000)
        draw = partial(difference_of_scores, n)
        add("paired difference, t", "contrasts of scores", n, skewed, draw, 4000)
    for n, truth in ((10_000, 0.3), (500, 0.28), (500, 0.014), (160, 0.05), (30, 0.2)):
        draw = partial(share_of, n, truth)
        add("share, Wilson", "shares, copies, marks", n, f"{truth:.1%}", draw, 10_000)
    add("ratio of timings, t", "speed-ups", 5, "rounds share what slows them, 1 in 10 "
        "slower by 15 %", partial(speedup, 5), 4000)  # fmt: skip
    for truth in (0.9, 0.957, 0.995):
        add("area, DeLong on the logit", "the control of copies", "250, 500",
            f"binormal, {truth}", partial(area, truth), 2000)  # fmt: skip
    distances: list[tuple[str, Distance, int]] = [
        ("Frechet", frechet_distance, 600), ("kernel", kernel_distance, 300)
    ]  # fmt: skip
    for name, distance, runs in distances:
        data = "64 features, partly a prompt's"
        draw = partial(level, distance, 200, 64)
        add(f"{name} distance, jackknife", "levels", "200, 400", data, draw, runs)
        draw = partial(difference_of_distances, distance, 200, 64)
        add(f"difference of {name} distances, jackknife", "contrasts of distances",
            "200, 400", data, draw, runs)  # fmt: skip
    rated = [(1, 150, 0.6), (3, 60, 0.6), (30, 60, 0.6)]
    for num_raters, num_pairs, spread in rated + [(10, 60, s) for s in (0.0, 0.6, 1.0)]:
        what = "Wilson" if num_raters == 1 else "clustered by rater and pair"
        add(f"share of votes, {what}", "preferences, accepted captions",
            f"{num_raters} × {num_pairs}", f"raters differ by {spread}",
            partial(votes, num_raters, num_pairs, spread), 1000)  # fmt: skip
    for n in (200, 1000):
        add("fall of different 3-grams, jackknife", "variety of captions", n,
            "Zipf's words against four patterns", partial(variety, n), 300)  # fmt: skip
    for num in (1, 3, 5):
        for spread in (0.0, 1.0, 3.0):
            add("mean over trainings, t in squares", "every contrast",
                f"{num} × 160", f"trainings differ by {spread:g} errors",
                partial(trainings, num, spread), 2000)  # fmt: skip
    return found


def simulate(kind: Kind, runs: int | None = None) -> dict[str, Any]:
    """Draw a kind's interval many times, from a seed of its own.

    Returns: its words, the runs, the shares of intervals that hold the truth and that
        miss it on either side, and the coverage's Monte Carlo standard error.
    """
    seed = zlib.crc32(f"{kind.interval}{kind.n}{kind.data}".encode())
    rng, runs = np.random.default_rng(seed), runs or kind.runs
    drawn = [kind.draw(rng) for _ in range(runs)]
    middle = np.mean([estimate.value for estimate, _ in drawn])
    truths = np.array([truth for _, truth in drawn])
    truths = np.where(np.isnan(truths), middle, truths)
    above = float(
        np.mean([e.high < t for (e, _), t in zip(drawn, truths, strict=True)])
    )
    below = float(np.mean([e.low > t for (e, _), t in zip(drawn, truths, strict=True)]))
    coverage = 1 - above - below
    likely = (coverage * runs + 1) / (runs + 2)  # or all or none would have no error
    error = math.sqrt(likely * (1 - likely) / runs)
    words = {name: getattr(kind, name) for name in ("interval", "used_by", "n", "data")}
    numbers = {"coverage": coverage, "error": error, "above": above, "below": below}
    return words | {"runs": runs} | {k: round(v, 5) for k, v in numbers.items()}


def verdict(row: dict[str, Any]) -> str:
    """Say on which side of `LOW` to `HIGH` coverage lies, by more than two errors."""
    if row["coverage"] + 2 * row["error"] < LOW:
        return "too narrow"
    return "wide" if row["coverage"] - 2 * row["error"] > HIGH else ""


def as_markdown(rows: Iterable[dict[str, Any]]) -> str:
    """Return the page: a table of all kinds."""
    head = ["interval", "used by", "n", "data", "coverage [%]", "± [%]",
            "truth above, below [%]", "runs", ""]  # fmt: skip
    lines = [" | ".join(head), " | ".join(["---"] * 4 + ["---:"] * 4 + ["---"])]
    for row in rows:
        cells = [row["interval"], row["used_by"], row["n"], row["data"]]
        cells += [f"{100 * row['coverage']:.1f}", f"{100 * row['error']:.1f}"]
        cells += [f"{100 * row['above']:.1f}, {100 * row['below']:.1f}"]
        lines.append(" | ".join([*cells, f"{row['runs']:,}", verdict(row)]))
    table = "\n".join(f"| {line} |" for line in lines)
    return f"""# How often intervals hold the truth

Simulated by `make bench-coverage`, from fixed seeds, on made-up data whose truth is
known. Every interval is a nominal 95 %; ± is the simulation's own standard error. The
aim is {100 * LOW:.0f} to {100 * HIGH:.0f} %: a kind that lies outside by more than two
of these errors is marked.

{table}

- Prompts: one in ten has another's name, as of `full`'s 500, and its worth.
- Timings: five rounds, whose two rates share how busy the machine is.
- Distances: the truth is the statistic's mean at these numbers of samples and reference
  pictures, bias included, as that is what variants are compared in.
- Votes: the truth is the share of all people on all pairs; with one rater, his own.
- Trainings: `n` is trainings × prompts; they differ by so many standard errors of one
  training's mean over prompts. With one the truth is that trained model's, with several
  the recipe's. Where trainings hardly differ, what is new in each is counted twice,
  among prompts and among trainings, so the interval errs on the wide side.
"""


@click.command()
@click.option(
    "--json", "file", default=paths.RESULTS / "coverage.json", help="To keep."
)
@click.option("--markdown", default=paths.DOCS / "COVERAGE.md", help="To write.")
@click.option("--runs", type=click.IntRange(2), help="Of each kind. Default: its own.")
def main(file: Path | str, markdown: Path | str, runs: int | None) -> None:
    """Simulate every kind; write the numbers and the page."""
    rows = []
    for kind in kinds():
        rows.append(row := simulate(kind, runs))
        click.echo(f"{row['interval']}, {row['n']}, {row['data']}: "
                   f"{row['coverage']:.3f} ± {row['error']:.3f}")  # fmt: skip
    write_json(Path(file), rows)
    write_text(Path(markdown), as_markdown(rows))


if __name__ == "__main__":
    main()

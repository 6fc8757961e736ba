"""Human preference: blind pairs on one offline page, and what people chose.

Stage 06 shows samples of two variants for the same prompt and seed, side by side, as
the paper did (Fig. 12): prompts and sides at random, and the share of pairs in which
people chose the variant. The paper does not say how many people voted on how many
pairs, nor what they could answer.
"""

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.analysis import ballots
from commoncanvas.analysis.estimates import Estimate, jackknife
from commoncanvas.analysis.figures import data_uri
from commoncanvas.claims.outcomes import Effect
from commoncanvas.core.errors import ParameterError

COLUMNS = ["rater", "key", "variant", "against", "vote"]
SIDES = ("variant", "against")
SAME = "same"  # the vote "no difference"
NOISE = "noise"  # the other side of an attention check
# Why so few raters' votes are no measurement.
NOT_ENOUGH = ("Nobody has voted yet.", "One person voted; it takes two or more.")
CHECK_EVERY = 10  # pairs for each attention check

Samples = Mapping[str, tuple[np.ndarray, Sequence[str]]]  # variant -> pixels, prompts


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures of one prompt, which the page knows by codes alone."""

    prompt: str
    variants: tuple[str, str]  # (variant, against)
    pixels: np.ndarray  # (2, h, w, 3) uint8, in the order of `variants`

    @property
    def codes(self) -> list[str]:
        """Name the two pictures, in the order of `variants`, by 12 digits each."""
        hashes = [hashlib.sha256(p.tobytes()).hexdigest() for p in self.pixels]
        sides = zip(self.variants, hashes, strict=True)
        return [ballots.digest([self.prompt, *side]) for side in sides]

    @property
    def key(self) -> str:
        """Name the pair, whichever picture comes first."""
        return ballots.digest(sorted(self.codes))

    def as_row(self) -> dict[str, Any]:
        """Return what the page holds: no variant, pictures in the order of codes."""
        sources = [data_uri(pixels) for pixels in self.pixels]
        sides = sorted(zip(self.codes, sources, strict=True))
        pictures = [{"code": code, "src": src} for code, src in sides]
        return {"key": self.key, "prompt": self.prompt, "pictures": pictures}


def draw_pairs(
    drawn: Samples,
    variants: Iterable[str],
    against: str,
    num_pairs: int,
    seed: int,
) -> list[Pair]:
    """Pair each variant's samples with another's, and add attention checks.

    A pair shares one prompt and one starting noise. Each prompt is used for one pair
    only: a reference sample shown beside several variants would be recognised.
    Prompts are assigned in their order, which was drawn at random before any training.

    One pair in eleven is an attention check, a sample of `against` beside uniform
    noise, which nobody prefers however weak the models are. A sample of another
    prompt would not do: it may be the better picture, and a weak model's own sample
    may not show its prompt.

    Args:
        drawn: as `results.read_samples` returns it, by variant.
        variants: those not drawn are left out.
        against: the variant that all are compared with.
        num_pairs: pairs of each variant.
        seed: of the noise.

    Returns:
        Checks come last; empty where nothing can be compared.

    Raises:
        ParameterError: there are fewer prompts than the pairs need.
    """
    names = [v for v in variants if v in drawn and against in drawn]
    num = num_pairs * len(names)
    needed = num + math.ceil(num / CHECK_EVERY)
    prompts = drawn[against][1] if names else []
    if len(prompts) < needed:
        raise ParameterError(
            f"{num_pairs} pairs of each of {len(names)} variants, with their "
            f"checks, need {needed} prompts; {len(prompts)} were sampled. "
            "Lower num_pairs or sample more."
        )
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(needed):
        sides = (names[i % len(names)], against) if i < num else (against, NOISE)
        pixels = [drawn[side][0][i] for side in sides if side != NOISE]
        if i >= num:
            pixels.append(rng.integers(0, 256, pixels[0].shape, np.uint8))
        pairs.append(Pair(prompts[i], sides, np.stack(pixels)))
    return pairs


def sample_id(pairs: Iterable[Pair]) -> str:
    """Name a list of pairs after their pictures and prompts: 12 hexadecimal digits."""
    return ballots.digest(sorted(pair.key for pair in pairs))


def write_page(path: Path, pairs: Sequence[Pair], title: str) -> None:
    """Write the page on which a person votes; the same pairs give the same bytes.

    The page names no variant. Pairs and pictures stand in the order of their codes,
    which are hashes; the page draws order and sides from the rater's name.

    Args:
        path: the HTML file; its folder is made if need be.
        pairs: attention checks among them.
        title: plain text that names no variant.

    Raises:
        ParameterError: there is no pair, or two are the same.
    """
    keys = {pair.key for pair in pairs}
    if not pairs or len(keys) < len(pairs):
        raise ParameterError(
            f"a page has {len(pairs)} pairs, {len(keys)} different ones; one or more, "
            "each once, expected. Draw them again."
        )
    rows = [pair.as_row() for pair in sorted(pairs, key=lambda pair: pair.key)]
    ballots.write_page(path, "preference.html", title, sample_id(pairs), rows)


def read_votes(
    folder: Path, pairs: Sequence[Pair], max_failed: float = 0.2
) -> pd.DataFrame:
    """Read the votes on these pairs from all `*.jsonl` and `*.json` below a folder.

    The last vote of a rater on a pair counts, see `ballots.read_votes`. A rater fails
    an attention check by not choosing the sample. Raters who fail more than
    `max_failed` of the checks that they voted on are left out, with all their votes;
    those who have seen no check yet are kept.

    Args:
        folder: where exported votes lie; it need not exist.
        pairs: those on the page.
        max_failed: the share of failed checks that is allowed, 0 to 1.

    Returns:
        The columns rater, key, variant, against and vote ("variant", "against" or
        "same"), by rater, then as `pairs`, without the checks. `attrs` counts what was
        left out: "other_samples", votes on other pages, and "inattentive", raters.

    Raises:
        ParameterError: a line is malformed, or its key or vote is not one of these
            pairs; the message names file and line.
    """
    by_key = {pair.key: pair for pair in pairs}
    sides = {key: dict(zip(p.codes, SIDES, strict=True)) for key, p in by_key.items()}

    def check(where: str, vote: Mapping[str, str]) -> None:
        known = [*sides[vote["key"]], SAME]
        if vote["vote"] not in known:
            expected = f"one of {', '.join(known)}"
            raise ballots.wrong(where, f"vote {vote['vote']}", expected)

    sample = sample_id(pairs)
    votes, num_others = ballots.read_votes(folder, sample, list(by_key), check)
    for vote in votes:
        vote["vote"] = sides[vote["key"]].get(vote["vote"], SAME)
        vote |= dict(zip(SIDES, by_key[vote["key"]].variants, strict=True))
    frame = pd.DataFrame(votes, columns=COLUMNS, dtype=str)
    is_check = frame["against"] == NOISE
    failed = (frame["vote"] != "variant")[is_check].groupby(frame["rater"]).mean()
    inattentive = failed.index[failed > max_failed]
    kept = ~is_check & ~frame["rater"].isin(inattentive)
    frame = frame[kept].reset_index(drop=True)
    frame.attrs = {"other_samples": num_others, "inattentive": len(inattentive)}
    return frame


def share_preferred(votes: pd.DataFrame, variant: str, against: str) -> Estimate | None:
    """Estimate the share of pairs in which people preferred a variant.

    Ties ("no difference") count half to each side, as a forced choice would on
    average; the paper's raters may have been forced to choose.

    Args:
        votes: from `read_votes`, one vote per rater and pair.

    Returns:
        n counts pairs, see `ballots.share`; None without votes.
    """
    votes = votes[(votes["variant"] == variant) & (votes["against"] == against)]
    scores = votes["vote"].map({"variant": 1.0, "against": 0.0, SAME: 0.5})
    return ballots.share(scores, votes)


def shares_of_votes(
    votes: pd.DataFrame, variants: Iterable[str], against: str, shown: Iterable[str]
) -> dict[str, Effect | str]:
    """Return the share of each variant under the name that docs/paper.yaml gives it.

    Of one person's votes it is none: their interval covers pairs, and nobody else.

    Args:
        votes: from `read_votes`.
        shown: variants of which there are samples.
    """
    found: dict[str, Effect | str] = {}
    there = set(shown)
    for variant in variants:
        ours = share_preferred(votes, variant, against)
        num_raters = votes.loc[votes["variant"] == variant, "rater"].nunique()
        absent = [name for name in (against, variant) if name not in there]
        why = f"`{absent[0]}` is no row of this run's experiment." if absent else ""
        if ours and num_raters > 1:
            found[f"votes.{variant}"] = Effect(ours, "pairs")
        else:
            found[f"votes.{variant}"] = why or NOT_ENOUGH[min(num_raters, 1)]
    return found


def agreement(votes: pd.DataFrame) -> Estimate | None:
    """Estimate Krippendorff's alpha over the pairs with two raters or more.

    Returns:
        The jackknife's interval over pairs, cut at 1; n counts those pairs. None for
        fewer than two, or where too few votes differ to tell agreement from chance.
    """
    counts = pd.crosstab(votes["key"], votes["vote"]).to_numpy()
    counts = counts[counts.sum(1) >= 2]
    if len(counts) < 2:
        return None
    alpha = jackknife(ballots.krippendorff_alpha, counts)
    if not math.isfinite(alpha.high):
        return None
    return Estimate(alpha.value, alpha.low, min(alpha.high, 1.0), alpha.n)


def beside_paper(
    votes: pd.DataFrame, paper: Mapping[str, float], against: str
) -> list[tuple]:
    """Lay the shares beside the paper's, as rows for `plots.point_intervals`.

    Args:
        votes: from `read_votes`.
        paper: variant -> the paper's share, 0 to 1.
        against: the variant that all are compared with.

    Returns:
        (variant, share, interval, the paper's share); NaN and None without votes.
    """
    rows = []
    for variant, share in paper.items():
        ours = share_preferred(votes, variant, against)
        value = ours.value if ours else math.nan
        rows.append((variant, value, (ours.low, ours.high) if ours else None, share))
    return rows


def tally(votes: pd.DataFrame) -> str:
    """Write in words how many voted on what, and how far raters agree."""
    counts = {
        "votes": len(votes),
        "raters": votes["rater"].nunique(),
        "pairs": votes["key"].nunique(),
        "inattentive raters left out": votes.attrs["inattentive"],
        "votes on other pages": votes.attrs["other_samples"],
    }
    words = ", ".join(f"{name}: {number}" for name, number in counts.items())
    alpha = agreement(votes)
    return f"{words}, alpha: {alpha:.2f}" if alpha else words

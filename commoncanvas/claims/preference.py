"""Human preference: blind pairs on one offline page, and what people chose.

Stage 06 shows samples of two variants for the same prompt and seed, side by side, as
the paper did (Fig. 12): prompts by lot, sides by lot, and the share of pairs in which
people chose the variant. How many people and pairs, and what they could answer, the
paper does not say.
"""

import hashlib
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from commoncanvas.analysis import ballots
from commoncanvas.analysis.estimates import Estimate, jackknife
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.images import encode_png

COLUMNS = ["rater", "key", "variant", "against", "vote"]
SIDES = ("variant", "against")
SAME = "same"  # the vote "no difference"
NOISE = "noise"  # what an attention check sets against a sample
CHECK_EVERY = 10  # one attention check for so many pairs


@dataclass(frozen=True, eq=False)
class Pair:
    """Two pictures for one prompt, known to the page by codes alone.

    Args:
        prompt: the words that both were drawn for.
        variants: (variant, against).
        pixels: (2, h, w, 3) uint8, in the order of `variants`.
    """

    prompt: str
    variants: tuple
    pixels: np.ndarray

    @property
    def codes(self):
        """Name the two pictures, in the order of `variants`, by 12 digits each."""
        hashes = [hashlib.sha256(p.tobytes()).hexdigest() for p in self.pixels]
        sides = zip(self.variants, hashes, strict=True)
        return [ballots.digest([self.prompt, *side]) for side in sides]

    @property
    def key(self):
        """Name the pair, whichever picture comes first."""
        return ballots.digest(sorted(self.codes))

    def as_row(self):
        """Return what the page holds: no variant, pictures in the order of codes."""
        sources = [ballots.data_uri(encode_png(pixels)) for pixels in self.pixels]
        sides = sorted(zip(self.codes, sources, strict=True))
        pictures = [{"code": code, "src": src} for code, src in sides]
        return {"key": self.key, "prompt": self.prompt, "pictures": pictures}


def draw_pairs(drawn, variants, against, num_pairs, seed):
    """Pair each variant's samples with another's, and add attention checks.

    A pair is of one prompt and one starting noise. No sample is used twice: one that
    came back beside several variants would be known for the reference. Prompts are
    dealt out in their order, which was drawn by lot before any training.

    One pair in eleven is an attention check, a sample of `against` beside uniform
    noise. Noise is what no taste prefers and no prompt asks for, however badly the
    models draw; a sample of another prompt would not do, for it may be the better
    picture, and a weak model's own does not show its prompt.

    Args:
        drawn: variant -> (pixels, prompts), as `evaluation.read_samples` returns it.
        variants: the variants to compare; those not drawn are left out.
        against: the variant that all are compared with.
        num_pairs: pairs of each variant.
        seed: of the noise.

    Returns:
        list of Pair, checks last; empty where nothing can be compared.

    Raises:
        ParameterError: there are fewer prompts than the pairs need.
    """
    variants = [v for v in variants if v in drawn and against in drawn]
    num = num_pairs * len(variants)
    needed = num + math.ceil(num / CHECK_EVERY)
    prompts = drawn[against][1] if variants else []
    if len(prompts) < needed:
        raise ParameterError(
            f"{num_pairs} pairs of each of {len(variants)} variants, with their "
            f"checks, need {needed} prompts; {len(prompts)} were sampled. "
            "Lower num_pairs or sample more."
        )
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(needed):
        sides = (variants[i % len(variants)], against) if i < num else (against, NOISE)
        pixels = [drawn[side][0][i] for side in sides if side != NOISE]
        if i >= num:
            pixels.append(rng.integers(0, 256, pixels[0].shape, np.uint8))
        pairs.append(Pair(prompts[i], sides, np.stack(pixels)))
    return pairs


def sample_id(pairs):
    """Name a list of pairs after their pictures and prompts: 12 hexadecimal digits."""
    return ballots.digest(sorted(pair.key for pair in pairs))


def write_page(path, pairs, title):
    """Write the page on which a person votes; the same pairs give the same bytes.

    The page names no variant. Pairs and pictures stand in the order of their codes,
    which are hashes; the page draws order and sides from the rater's name.

    Args:
        path: the HTML file; its folder is made if need be.
        pairs: list of Pair, attention checks among them.
        title: the heading, plain text that names no variant.

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


def read_votes(folder, pairs, max_failed=0.2):
    """Read the votes on these pairs from all `*.jsonl` below a folder.

    The last vote of a rater on a pair counts, see `ballots.read_votes`. A rater fails
    an attention check by not choosing the sample, and who fails more than
    `max_failed` of the checks voted on is left out, with all votes. Who has met no
    check yet stays: nothing speaks against them.

    Args:
        folder: where exported votes lie; it need not exist.
        pairs: list of Pair, those on the page.
        max_failed: the share of failed checks that is forgiven, 0 to 1.

    Returns:
        DataFrame with the columns rater, key, variant, against and vote ("variant",
        "against" or "same"), by rater, then as `pairs`, without the checks.
        `attrs` counts what was left out: "other_samples", votes on other pages, and
        "inattentive", raters.

    Raises:
        ParameterError: a line is malformed, or its key or vote is not one of these
            pairs; the message names file and line.
    """
    by_key = {pair.key: pair for pair in pairs}
    sides = {key: dict(zip(p.codes, SIDES, strict=True)) for key, p in by_key.items()}

    def check(where, vote):
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


def share_preferred(votes, variant, against):
    """Estimate the share of pairs in which people preferred a variant.

    "No difference" counts half to each side: so does, on average, the choice of one
    who is made to choose, as the paper's raters may have been.

    Args:
        votes: DataFrame from `read_votes`, one vote per rater and pair.
        variant, against: the two sides.

    Returns:
        Estimate whose n counts pairs, see `ballots.share`; None without votes.
    """
    votes = votes[(votes["variant"] == variant) & (votes["against"] == against)]
    scores = votes["vote"].map({"variant": 1.0, "against": 0.0, SAME: 0.5})
    return ballots.share(scores, votes)


def agreement(votes):
    """Estimate Krippendorff's alpha over the pairs with two raters or more.

    Args:
        votes: DataFrame from `read_votes`, one vote per rater and pair.

    Returns:
        Estimate with the jackknife's interval over pairs, cut at 1; n counts those
        pairs. None for fewer than two, or where too few votes differ to tell
        agreement from chance.
    """
    counts = pd.crosstab(votes["key"], votes["vote"]).to_numpy()
    counts = counts[counts.sum(1) >= 2]
    if len(counts) < 2:
        return None
    alpha = jackknife(ballots.krippendorff_alpha, counts)
    if not math.isfinite(alpha.high):
        return None
    return Estimate(alpha.value, alpha.low, min(alpha.high, 1.0), alpha.n)


def beside_paper(votes, paper, against):
    """Lay the shares beside the paper's, as rows for `plots.point_intervals`.

    Args:
        votes: DataFrame from `read_votes`.
        paper: variant -> the paper's share, 0 to 1.
        against: the variant that all are compared with.

    Returns:
        list of (variant, share, interval, the paper's share); NaN and None where
        nobody has voted.
    """
    rows = []
    for variant, said in paper.items():
        ours = share_preferred(votes, variant, against)
        dot = (ours.value, (ours.low, ours.high)) if ours else (math.nan, None)
        rows.append((variant, *dot, said))
    return rows


def tally(votes):
    """Tell in words who voted on what, and how far raters agree.

    Args:
        votes: DataFrame from `read_votes`.
    """
    counts = {
        "votes": len(votes),
        "raters": votes["rater"].nunique(),
        "pairs": votes["key"].nunique(),
        "inattentive raters left out": votes.attrs["inattentive"],
        "votes on other pages": votes.attrs["other_samples"],
    }
    told = ", ".join(f"{name}: {number}" for name, number in counts.items())
    if alpha := agreement(votes):
        told += f", alpha: {alpha.value:.2f} [{alpha.low:.2f}, {alpha.high:.2f}]"
    return told

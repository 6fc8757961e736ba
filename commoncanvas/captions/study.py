"""The study of what captioning loses: names, trademarks, variety, the way back.

Stage 02 compares captions, human names and alt text of the same pictures. The scorer
that the profile names measures whether a caption still identifies its picture. The open
world's was not trained on licensed pictures, but on the same web names as the open
captioner, which favours the captioner; CLIP is for photographs.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.analysis.estimates import mean_interval, wilson
from commoncanvas.analysis.matching import retrieval
from commoncanvas.analysis.tables import Line, as_line
from commoncanvas.captions.text import (
    exact_match,
    leak_rate,
    leaks,
    unique_ngrams,
    word_f1,
)
from commoncanvas.core.paths import PRETRAINED
from commoncanvas.core.settings import call_named
from commoncanvas.models.scorer import load_scorer, sentence_embeds, text_encoder

Scores = dict[str, dict]  # by name, each an `Estimate.as_dict`


def agree(
    texts: Sequence[str], names: Sequence[str], sets: Sequence[str]
) -> tuple[Scores, Scores]:
    """Compare captions with human names, over all and set by set.

    Args:
        texts, names: n captions and n human names.
        sets: n names of the sets that the pictures come from.

    Returns:
        (overall, by_set): {"exact", "word_f1"} and {set: word F1, best first}, all as
        `Estimate.as_dict`.
    """
    pairs = list(zip(texts, names, strict=True))
    exact = [exact_match(*pair) for pair in pairs]
    scores = pd.Series([word_f1(*pair) for pair in pairs])
    overall = {
        "exact": wilson(sum(exact), len(exact)).as_dict(),
        "word_f1": mean_interval(scores).as_dict(),
    }
    groups = scores.groupby(np.asarray(sets))
    means = groups.mean().sort_values(ascending=False)
    by_set = {
        name: mean_interval(groups.get_group(name)).as_dict() for name in means.index
    }
    return overall, by_set


def leaked_names(
    texts: np.ndarray, names: np.ndarray, groups: Mapping[str, np.ndarray]
) -> dict[str, Scores]:
    """Estimate how often human names and captions contain words of protected names.

    Args:
        texts, names: n captions and n human names.
        groups: {group: (n,) bool, the pictures whose names are the group's}.

    Returns:
        {group: {"human", "synthetic", "synthetic, own name"}} as `Estimate.as_dict`,
        for groups that have pictures. A caption counts if it has a distinctive word of
        any name of its group, which is an upper bound: "moon" is a coin too. The last
        entry counts words of the picture's own name alone.
    """
    found = {}
    for group, chosen in groups.items():
        captions, marks = texts[chosen], names[chosen]
        own = [leaks(text, mark) for text, mark in zip(captions, marks, strict=True)]
        counts = {
            "human": leak_rate(marks, marks),
            "synthetic": leak_rate(captions, marks),
            "synthetic, own name": (sum(own), len(own)),
        }
        if len(own):
            found[group] = {s: wilson(*count).as_dict() for s, count in counts.items()}
    return found


@dataclass(frozen=True)
class Judge:
    """What embeds pictures and captions in one space, to find one by the other.

    Attributes:
        size: edge of the squares that it is handed [pixels].
        image_embeds: maps (h, w, 3) uint8 pictures to (n, width) unit vectors.
        text_embeds: maps texts to the same.
        tokenizer: of its text encoder.
    """

    size: int
    image_embeds: Callable[[np.ndarray], np.ndarray]
    text_embeds: Callable[[Sequence[str]], np.ndarray]
    tokenizer: Any


def judge_open() -> Judge:
    """Return the open world's scorer, from `pretrained/scorer`, for drawings."""
    scorer = load_scorer(PRETRAINED / "scorer")
    return Judge(96, scorer.image_embeds, sentence_embeds, text_encoder()[0])


def judge_clip(model: str, revision: str | None = None) -> Judge:
    """Return a CLIP, for photographs; see `clip.Clip`."""
    # Importing it takes seconds, which those who study drawings need not wait.
    from commoncanvas.models.clip import Clip

    clip = Clip(model, revision)
    return Judge(
        clip.size,
        lambda pictures: _unit(clip.image_embeds(pictures)),
        lambda texts: _unit(clip.text_embeds(texts)),
        clip.tokenizer,
    )


def _unit(rows: np.ndarray) -> np.ndarray:
    """Scale rows to length one."""
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


JUDGES: dict[str, Callable[..., Judge]] = {"open": judge_open, "clip": judge_clip}


def load_judge(settings: Mapping[str, Any]) -> Judge:
    """Load a profile's scorer, {"scorer": "open" | "clip", and its arguments}.

    Raises:
        ParameterError: the name or an argument is unknown or missing.
    """
    words = {key: value for key, value in settings.items() if key != "scorer"}
    return call_named(JUDGES, "scorer", settings.get("scorer"), words)


def embed_captions(
    captions_by_source: Mapping[str, Sequence[str]], judge: Judge
) -> dict[str, np.ndarray]:
    """Return {source: (n, width) embeddings}; equal texts are read once."""
    distinct = sorted({text for texts in captions_by_source.values() for text in texts})
    embeds = judge.text_embeds(distinct)
    row = {text: i for i, text in enumerate(distinct)}
    return {
        source: embeds[[row[text] for text in texts]]
        for source, texts in captions_by_source.items()
    }


def find_pictures(image_embeds: np.ndarray, text_embeds: np.ndarray) -> dict:
    """Estimate how often a caption's own picture is the nearest among all given.

    Row i of both (n, width) arrays belongs to picture i. Ties are shared out: a hundred
    pictures that are all called "circle" count as one found.

    Returns:
        The share found, with Wilson's interval, as `Estimate.as_dict`; chance is 1/n.
    """
    found = retrieval(image_embeds, text_embeds, num_choices=len(image_embeds))
    return found["text_to_image"].as_dict()


def mistaken_pictures(
    image_embeds: np.ndarray, text_embeds: np.ndarray
) -> pd.DataFrame:
    """Return the picture that each caption finds instead of its own.

    Returns:
        DataFrame with row (whose caption it is) and found (the nearest picture), for
        the captions that miss, in the order of rows.
    """
    found = (np.asarray(text_embeds) @ np.asarray(image_embeds).T).argmax(1)
    rows = np.flatnonzero(found != np.arange(len(found)))
    return pd.DataFrame({"row": rows, "found": found[rows]})


def cut_captions(
    captions_by_source: Mapping[str, Iterable[str]],
    limits: Sequence[int],
    tokenizer: Any,
) -> pd.DataFrame:
    """Measure how long captions are in the text encoder's tokens, and how many are cut.

    Limits are lengths that an encoder reads, begin and end included (77 for CLIP).

    Returns:
        DataFrame by source: mean and longest [tokens], and for every limit the share
        of captions that are longer and lose their end. A source without captions is
        left out.
    """
    rows = {}
    for source, texts in captions_by_source.items():
        if not (texts := list(texts)):
            continue
        ids = tokenizer(texts, truncation=False)["input_ids"]
        lengths = np.array([len(row) for row in ids])
        row = {"mean tokens": lengths.mean(), "longest": int(lengths.max())}
        for limit in limits:
            row[f"cut at {limit}"] = float((lengths > limit).mean())
        rows[source] = row
    return pd.DataFrame(rows).T.rename_axis("captions")


def combine_captioners(
    first: Sequence[str],
    second: Sequence[str],
    names: Sequence[str],
    image_embeds: np.ndarray,
    embeds: tuple[np.ndarray, np.ndarray],
    shares: Sequence[float],
    seed: int,
) -> pd.DataFrame:
    """Mix two captioners picture by picture: what variety is gained, and at what price.

    A picture that has the second captioner's caption at one share keeps it at every
    larger one, so neighbouring shares are compared on the same random numbers.

    Args:
        first, second, names: n captions, n other captions and n human names.
        image_embeds: (n, 384) of the pictures.
        embeds: the (n, 384) embeddings of `first` and of `second`.
        shares: shares of pictures with the second captioner's captions, 0 to 1.

    Returns:
        DataFrame by share: distinct captions and distinct pairs of words (counts);
        word_f1 with human names and found (see `find_pictures`), as
        `Estimate.as_dict`.
    """
    draws = np.random.default_rng(seed).random(len(first))
    rows = []
    for share in shares:
        is_second = draws < share
        texts = np.where(is_second, second, first).tolist()
        mixed = np.where(is_second[:, None], embeds[1], embeds[0])
        scores = [word_f1(text, name) for text, name in zip(texts, names, strict=True)]
        row = {
            "share": share,
            "distinct": len(set(texts)),
            "pairs": unique_ngrams(texts, 2),
            "word_f1": mean_interval(scores).as_dict(),
            "found": find_pictures(image_embeds, mixed),
        }
        rows.append(row)
    return pd.DataFrame(rows)


def mixture_lines(mixed: pd.DataFrame) -> dict[str, Line]:
    """Return fidelity by variety of what `combine_captioners` found, as curves."""
    ways = {"word F1": "word_f1", "own picture": "found"}
    different = mixed["distinct"].tolist()
    return {way: as_line(different, list(mixed[name])) for way, name in ways.items()}


def answers(
    found: Mapping[str, dict],
    main: str,
    leaks: Mapping[str, Scores],
    agreement: Scores,
    judged: Scores,
) -> pd.DataFrame:
    """Return the stage's questions and the estimates that answer them, one a row.

    Args:
        found: `find_pictures` of "human names" and of `main`, the captioner's.
        leaks: see `leaked_names`.
        agreement: see `agree`.
        judged: see `review.tally`.
    """
    rows = [
        ("loses", "names that find their picture", found["human names"]),
        ("loses", "captions that find theirs", found[main]),
    ]
    for group, sides in leaks.items():
        for side, estimate in sides.items():
            rows.append(("hides", f"captions that name {group}: {side}", estimate))
    good = {f"{name} with the name": m for name, m in agreement.items()} | {**judged}
    rows += [("good enough?", name, estimate) for name, estimate in good.items()]
    return pd.DataFrame(
        [(q, what, m["value"], *m["interval"], m["n"]) for q, what, m in rows],
        columns=["question", "share of", "value", "low", "high", "n"],
    )

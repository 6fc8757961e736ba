"""What telephoning loses: can a caption still find its picture, and is it read whole?

Stage 02 asks this of the captioner, of human names and of alt text alike, on the same
pictures. The judge is the scorer, who never saw a licensed picture, but who learnt the
same web names as the open captioner and so understands its words best.
"""

import numpy as np
import pandas as pd

from commoncanvas.analysis.estimates import mean_interval, wilson
from commoncanvas.analysis.matching import retrieval
from commoncanvas.captions.text import (
    exact_match,
    leak_rate,
    leaks,
    unique_ngrams,
    word_f1,
)
from commoncanvas.models.scorer import sentence_embeds, text_encoder


def agree(texts, names, sets):
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


def leaked_names(texts, names, groups):
    """Estimate how often captions give away names, before and after telephoning.

    Args:
        texts, names: arrays of n captions and n human names.
        groups: {group: (n,) bool, the pictures whose names are the group's}.

    Returns:
        {group: {"human", "synthetic", "synthetic, own name"}} as `Estimate.as_dict`,
        for groups that have pictures. A caption counts that holds a distinctive word
        of any name of its group, which is an upper bound: "moon" is a coin too; the
        last side counts words of the picture's own name alone.
    """
    found = {}
    for group, chosen in groups.items():
        said, told = texts[chosen], names[chosen]
        own = [leaks(text, name) for text, name in zip(said, told, strict=True)]
        counts = {
            "human": leak_rate(told, told),
            "synthetic": leak_rate(said, told),
            "synthetic, own name": (sum(own), len(own)),
        }
        if len(own):
            found[group] = {s: wilson(*count).as_dict() for s, count in counts.items()}
    return found


def embed_captions(captions_by_source):
    """Return {source: (n, 384) unit sentence embeddings}; equal texts are read once.

    Args:
        captions_by_source: {source: n texts}.
    """
    distinct = sorted({text for texts in captions_by_source.values() for text in texts})
    embeds = sentence_embeds(distinct)
    row = {text: i for i, text in enumerate(distinct)}
    return {
        source: embeds[[row[text] for text in texts]]
        for source, texts in captions_by_source.items()
    }


def find_pictures(image_embeds, text_embeds):
    """Estimate how often a caption's own picture is the nearest among all given.

    Equal captions share a hit: a hundred pictures that are all called "circle" count
    as one found.

    Args:
        image_embeds, text_embeds: (n, width), row i of one belonging to row i of the
            other.

    Returns:
        The share found, with Wilson's interval, as `Estimate.as_dict`; chance is 1/n.
    """
    found = retrieval(image_embeds, text_embeds, num_choices=len(image_embeds))
    return found["text_to_image"].as_dict()


def mistaken_pictures(image_embeds, text_embeds):
    """Return the picture that each caption finds instead of its own.

    Args: as `find_pictures`.

    Returns:
        DataFrame with row (whose caption it is) and found (the nearest picture), for
        the captions that miss, in the order of rows.
    """
    found = (np.asarray(text_embeds) @ np.asarray(image_embeds).T).argmax(1)
    rows = np.flatnonzero(found != np.arange(len(found)))
    return pd.DataFrame({"row": rows, "found": found[rows]})


def cut_captions(captions_by_source, limits):
    """Tell how long captions are in the text encoder's tokens, and how many are cut.

    Args:
        captions_by_source: {source: texts}.
        limits: lengths that an encoder reads, begin and end included (77 for CLIP).

    Returns:
        DataFrame by source: mean and longest [tokens], and for every limit the share
        of captions that are longer and lose their end.
    """
    tokenizer, _ = text_encoder()
    rows = {}
    for source, texts in captions_by_source.items():
        ids = tokenizer(list(texts), truncation=False)["input_ids"]
        lengths = np.array([len(row) for row in ids])
        shares = {
            f"cut at {limit}": float((lengths > limit).mean()) for limit in limits
        }
        means = {"mean tokens": lengths.mean(), "longest": int(lengths.max())}
        rows[source] = {**means, **shares}
    return pd.DataFrame(rows).T.rename_axis("captions")


def combine_captioners(first, second, names, image_embeds, embeds, shares, seed):
    """Mix two captioners picture by picture: what variety is bought, and at what price.

    A picture that has the second captioner's words at one share keeps them at every
    larger one, so neighbouring shares are compared on the same draw.

    Args:
        first, second: n captions each, of the same pictures.
        names: n human names.
        image_embeds: (n, 384) of the pictures.
        embeds: ((n, 384), (n, 384)), the embeddings of `first` and `second`.
        shares: shares of pictures with the second captioner's words, 0 to 1.
        seed: of the draw.

    Returns:
        DataFrame by share: distinct captions and distinct pairs of words (counts);
        word_f1 with human names and found (see `find_pictures`), as
        `Estimate.as_dict`.
    """
    lot = np.random.default_rng(seed).random(len(first))
    rows = []
    for share in shares:
        takes = lot < share
        texts = np.where(takes, second, first).tolist()
        mixed = np.where(takes[:, None], embeds[1], embeds[0])
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

"""The captioned web sets of stage 00: drawings with names that can be read as words."""

import torch

from commoncanvas.catalog import draw_rows, iconify_rows
from commoncanvas.seeds import make_generator


def load_pictures(sources, size):
    """Draw the named sets without hidden pictures and skin-tone variants.

    Returns:
        (rows, rgba): the rows that could be drawn, and (n, size, size, 4) uint8.
    """
    rows = [r for name in sources for r in iconify_rows(name)]
    rows = [r for r in rows if not (r["is_hidden"] or r["is_skin_tone"])]
    rgba, reasons = draw_rows(rows, size)
    drawn = [i for i, reason in enumerate(reasons) if not reason]
    return [rows[i] for i in drawn], rgba[drawn]


def split_words(title, vocabulary):
    """Split a run-together name ("brokenheart") into known words.

    Args:
        title: one word.
        vocabulary: words that may occur.

    Returns:
        The split with the fewest words, or None where none covers the name.
    """
    best = {0: []}
    for end in range(1, len(title) + 1):
        options = [
            best[start] + [title[start:end]]
            for start in range(end)
            if start in best and title[start:end] in vocabulary
        ]
        if options:
            best[end] = min(options, key=len)
    return " ".join(best[len(title)]) if len(title) in best else None


def captioned(rows):
    """Return (indices, titles) of the rows whose names can be read as words.

    One of the sets writes its names without spaces; they are split into words that the
    other sets use, and left out of the captions where that fails.
    """
    spaced = [r["title"] for r in rows if " " in r["title"]]
    known = [r["title"] for r in rows if r["source"] != "fxemoji"]
    vocabulary = {
        w for t in spaced + known for w in t.split() if len(w) > 1 or w in "ao"
    }
    titles = [
        split_words(r["title"], vocabulary) if r["source"] == "fxemoji" else r["title"]
        for r in rows
    ]
    kept = [i for i, title in enumerate(titles) if title]
    return kept, [titles[i] for i in kept]


def sample_of(rows, size, seed):
    """Draw by lot up to `size` rows of each set, no flags.

    Returns:
        Sorted indices into `rows`.
    """
    by_source = {}
    for i, row in enumerate(rows):
        if not row["title"].startswith("flag"):
            by_source.setdefault(row["source"], []).append(i)
    chosen = []
    for source, places in sorted(by_source.items()):
        lot = torch.randperm(len(places), generator=make_generator(seed, source))[:size]
        chosen += [places[i] for i in lot.tolist()]
    return sorted(chosen)

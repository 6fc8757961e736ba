"""The captioned web sets of stage 00: drawings with names that can be read as words.

Read once, then drawn by lot in changed styles while captioner and scorer are trained.
"""

import re

import torch

from commoncanvas.catalog import iconify
from commoncanvas.catalog.catalog import draw_rows
from commoncanvas.core.determinism import make_generator
from commoncanvas.licenses import takedown
from commoncanvas.models.scorer import sentence_embeds
from commoncanvas.pretrain.augment import change_style, random_views

JOINED = "fxemoji"  # writes names without spaces ("brokenheart")
NUMBERED = "icon-park"  # numbers its variants ("anchor two")
VARIANT = re.compile(r" (one|two|three|four|five|six)$")
# Words whose meaning a mirror changes; pictures so named are never flipped.
SIDED = frozenset(
    "left right clockwise counterclockwise anticlockwise east west northeast northwest "
    "southeast southwest oclock thirty button keycap number letter letters abc abcd "
    "latin text symbol sign japanese squared flag".split()
)


def load_pictures(sources, size):
    """Draw the named sets without hidden pictures, skin tones and works taken down.

    Returns:
        (rows, rgba): the rows that could be drawn, and (n, size, size, 4) uint8.
    """
    taken = takedown.read_list()
    rows = [r for name in sources for r in iconify.read_set(name)]
    rows = [r for r in rows if r["key"] not in taken]
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

    Two sets name pictures in their own way: one without spaces, one in designers'
    words with numbered variants ("anchor two"). Their names are kept where they can be
    written in words that the other sets use; the other pictures have no caption.
    """
    plain = [r["title"] for r in rows if r["source"] not in {JOINED, NUMBERED}]
    spaced = [r["title"] for r in rows if r["source"] != NUMBERED and " " in r["title"]]
    vocabulary = {
        w for t in spaced + plain for w in t.split() if len(w) > 1 or w in "ao"
    }
    titles = [_readable(r, vocabulary) for r in rows]
    kept = [i for i, title in enumerate(titles) if title]
    return kept, [titles[i] for i in kept]


def _readable(row, vocabulary):
    """Return the row's name in words of the vocabulary, or None."""
    if row["source"] == JOINED:
        return split_words(row["title"], vocabulary)
    if row["source"] == NUMBERED:
        title = VARIANT.sub("", row["title"])
        return title if vocabulary.issuperset(title.split()) else None
    return row["title"]


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


class NamedPictures:
    """Captioned drawings as training draws them: views, styles, names, targets.

    Args:
        rgba: (n, h, w, 4) uint8 drawings.
        titles: their names.
    """

    def __init__(self, rgba, titles):
        self.rgba, self.titles = torch.from_numpy(rgba), list(titles)
        self.distinct = sorted(set(titles))
        place = {title: i for i, title in enumerate(self.distinct)}
        self.names = torch.tensor([place[title] for title in titles])
        self.targets = torch.from_numpy(sentence_embeds(self.distinct))
        self.may_flip = torch.tensor([SIDED.isdisjoint(t.split()) for t in titles])

    def draw(self, batch_size, size, generator):
        """Return (places, images): by lot, in changed styles, in [−1, 1]."""
        places = torch.randint(len(self.rgba), (batch_size,), generator=generator)
        views = random_views(
            self.rgba[places], size, generator, may_flip=self.may_flip[places]
        )
        return places, change_style(views, generator) * 2 - 1

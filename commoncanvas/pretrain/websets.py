"""The captioned web sets of stage 00: drawings with names that can be read as words.

They are read once, then sampled at random in changed styles while captioner and scorer
are trained.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from commoncanvas.catalog.catalog import read_sources
from commoncanvas.catalog.drawing import draw_rows
from commoncanvas.catalog.originals import source_sha256
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import SourceError
from commoncanvas.core.images import flatten
from commoncanvas.licenses import takedown
from commoncanvas.models.scorer import sentence_embeds
from commoncanvas.pretrain.augment import change_style, random_views

JOINED = "fxemoji"  # writes names without spaces ("brokenheart")
NUMBERED = "icon-park"  # numbers its variants ("anchor two")
VARIANT = re.compile(r" (one|two|three|four|five|six)$")
# Words that a mirror makes untrue; pictures so named are never flipped.
SIDED = frozenset(
    "left right clockwise counterclockwise anticlockwise east west northeast northwest "
    "southeast southwest oclock thirty button keycap number letter letters abc abcd "
    "latin text symbol sign japanese squared flag".split()
)


def load_pictures(
    sources: Iterable[str], size: int
) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Draw the named sets without hidden pictures, skin tones and works taken down.

    Returns:
        (rows, rgba): the rows that could be drawn, and (n, size, size, 4) uint8.

    Raises:
        ParameterError: a set is named twice.
        SourceError: a set cannot be read, or nothing of them can be drawn.
    """
    listed = takedown.read_list()
    rows = [r for r in read_sources(list(sources)) if not r["reason"]]
    rows = [r for r in rows if not (r.get("is_hidden") or r.get("is_skin_tone"))]
    rgba, reasons = draw_rows(rows, size)
    sums = [hashlib.sha256(flatten(p).tobytes()).hexdigest() for p in rgba]
    works = pd.DataFrame({"key": [r["key"] for r in rows], "sha256": sums})
    works["source_sha256"] = [source_sha256(r) for r in rows]
    is_out = takedown.is_listed(works, listed).to_numpy() | (np.array(reasons) != "")
    kept = np.flatnonzero(~is_out)
    if not len(kept):
        raise SourceError(
            "there are no pictures to train on; expected a set or more; name some in "
            "web_sources and test_sources of the profile."
        )
    return [rows[i] for i in kept], rgba[kept]


def split_words(title: str, vocabulary: Collection[str]) -> str | None:
    """Split a run-together name ("brokenheart") into words of the vocabulary.

    Returns:
        The split with the fewest words, or None where none covers the name.
    """
    best: dict[int, list[str]] = {0: []}  # of the first n letters
    for end in range(1, len(title) + 1):
        options = [
            best[start] + [title[start:end]]
            for start in range(end)
            if start in best and title[start:end] in vocabulary
        ]
        if options:
            best[end] = min(options, key=len)
    return " ".join(best[len(title)]) if len(title) in best else None


def captioned(rows: Sequence[dict[str, Any]]) -> tuple[list[int], list[str]]:
    """Return (indices, titles) of the rows whose names can be read as words.

    Two sets name pictures in their own way: one without spaces, one in designers'
    words with numbered variants ("anchor two"). Their names are kept where they can be
    written in words that the other sets use; the other pictures have no caption.
    """
    plain = [r["title"] for r in rows if r["source"] not in {JOINED, NUMBERED}]
    spaced = [r["title"] for r in rows if r["source"] != NUMBERED and " " in r["title"]]
    found = {word for title in spaced + plain for word in title.split()}
    vocabulary = {word for word in found if len(word) > 1 or word in "ao"}
    titles = [_readable(r, vocabulary) for r in rows]
    kept = [i for i, title in enumerate(titles) if title]
    return kept, [title for title in titles if title]


def _readable(row: dict[str, Any], vocabulary: set[str]) -> str | None:
    """Return the row's name in words of the vocabulary, or None."""
    if row["source"] == JOINED:
        return split_words(row["title"], vocabulary)
    if row["source"] == NUMBERED:
        title = VARIANT.sub("", row["title"])
        return title if vocabulary.issuperset(title.split()) else None
    return row["title"]


def sample_of(rows: Sequence[dict[str, Any]], size: int, seed: int) -> list[int]:
    """Choose up to `size` rows of each set at random, without flags: sorted indices."""
    by_source: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        if not row["title"].startswith("flag"):
            by_source.setdefault(row["source"], []).append(i)
    chosen = []
    for source, places in sorted(by_source.items()):
        order = torch.randperm(len(places), generator=make_generator(seed, source))
        chosen += [places[i] for i in order[:size].tolist()]
    return sorted(chosen)


class NamedPictures:
    """(n, h, w, 4) uint8 drawings with their names, to sample training batches from.

    `distinct` holds the k different names, `names` (n,) the place of each picture's
    among them, `targets` (k, 384) their sentence embeddings.
    """

    def __init__(self, rgba: np.ndarray, titles: Sequence[str]) -> None:
        self.rgba, self.titles = torch.from_numpy(rgba), list(titles)
        self.distinct = sorted(set(titles))
        place = {title: i for i, title in enumerate(self.distinct)}
        self.names = torch.tensor([place[title] for title in titles])
        self.targets = torch.from_numpy(sentence_embeds(self.distinct))
        self.may_flip = torch.tensor([SIDED.isdisjoint(t.split()) for t in titles])

    def draw(
        self, batch_size: int, size: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Sample (places, images) at random, in changed styles, in [−1, 1]."""
        places = torch.randint(len(self.rgba), (batch_size,), generator=generator)
        views = random_views(
            self.rgba[places], size, generator, may_flip=self.may_flip[places]
        )
        return places, change_style(views, generator) * 2 - 1

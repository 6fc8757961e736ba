"""How well pictures and words find each other: alignment, its gap, retrieval."""

from typing import Any

import numpy as np

from commoncanvas.analysis.estimates import as_features, same_rows, wilson
from commoncanvas.core.errors import ParameterError


def _unit(*embeds: Any) -> list[np.ndarray]:
    """Return the tables as float64 rows of length 1."""
    tables = as_features(*embeds)
    same_rows(*tables)
    norms = [np.linalg.norm(table, axis=1, keepdims=True) for table in tables]
    if not all((norm > 0).all() for norm in norms):
        raise ParameterError(
            "An embedding is all zero; a direction expected; find the empty caption."
        )
    return [table / norm for table, norm in zip(tables, norms, strict=True)]


def alignment(image_embeds: Any, text_embeds: Any) -> np.ndarray:
    """Score each picture against its own caption: 100 times the cosine.

    Returns: (n,) float64 in [-100, 100]; give it to `mean_interval`.
    Raises: ShapeError if shapes differ; ParameterError if a row is zero or NaN.
    """
    images, texts = _unit(image_embeds, text_embeds)
    return 100 * np.sum(images * texts, axis=1)


def alignment_shuffled(image_embeds: Any, text_embeds: Any) -> np.ndarray:
    """Score each picture against all other pictures' captions on average, (n,)."""
    images, texts = _unit(image_embeds, text_embeds)
    # The sum of all scores of a picture is its score against the sum of all captions.
    others = images @ texts.sum(0) - np.sum(images * texts, axis=1)
    return 100 * others / (len(images) - 1)


def alignment_gap(image_embeds: Any, text_embeds: Any) -> np.ndarray:
    """Score matched minus shuffled, picture by picture; (n,) in [-400, 400].

    What a picture gets from any caption, or a caption from any picture, is taken off.
    The mean is that of `alignment` less that of `alignment_shuffled`.
    """
    pictures = alignment_shuffled(image_embeds, text_embeds)
    captions = alignment_shuffled(text_embeds, image_embeds)
    matched = alignment(image_embeds, text_embeds)
    return matched - pictures - captions + pictures.mean()


def retrieval(
    image_embeds: Any, text_embeds: Any, num_choices: int = 100, seed: int = 0
) -> dict[str, Any]:
    """Find the right caption of a picture, and the reverse, among `num_choices`.

    Each row is ranked among its own partner and others drawn from `seed`. Ties are
    shared out, so embeddings that are all alike score exactly chance.

    Returns: {"image_to_text": Estimate, "text_to_image": Estimate, "chance": float}.
    Raises: ParameterError if num_choices is outside 2 to n.
    """
    images, texts = _unit(image_embeds, text_embeds)
    n = len(images)
    if not 2 <= num_choices <= n:
        raise ParameterError(
            f"{num_choices} choices, {n} pairs; 2 to {n} expected; lower num_choices."
        )
    rng = np.random.default_rng(seed)
    sides = {"image_to_text": (images, texts), "text_to_image": (texts, images)}
    hits = dict.fromkeys(sides, 0.0)
    for row in range(n):
        others = rng.choice(n - 1, num_choices - 1, replace=False)
        others += others >= row  # skips the row itself
        for name, (query, keys) in sides.items():
            margin = keys[others] @ query[row] - keys[row] @ query[row]
            ties = np.count_nonzero(np.abs(margin) <= 1e-9)
            hits[name] += 0.0 if (margin > 1e-9).any() else 1 / (1 + ties)
    rates = {name: wilson(min(count, n), n) for name, count in hits.items()}
    return {**rates, "chance": 1 / num_choices}

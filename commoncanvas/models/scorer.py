"""The image-text scorer behind `alignment`, the open world's stand-in for CLIP score.

An EfficientNet-Lite0 trained further embeds pictures, all-MiniLM-L6-v2 embeds captions,
and the cosine of the two is the score. It is trained apart from the captioner, from
other random numbers and at another size, so that their errors are less alike.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

from commoncanvas.core.images import pixels_to_images
from commoncanvas.models.efficientnet import NUM_FEATURES, Trunk
from commoncanvas.models.weights import (
    OPEN_TEXT_ENCODER,
    check_folder,
    only_errors,
    weights_path,
)


@functools.cache
def text_encoder() -> tuple[Any, torch.nn.Module]:
    """Return (tokenizer, model) of all-MiniLM-L6-v2 from verified weights, frozen."""
    folder = weights_path(OPEN_TEXT_ENCODER).parent
    words: dict[str, Any] = {"trust_remote_code": False}
    with only_errors():  # it reports the weights of the layer that is left out
        model = AutoModel.from_pretrained(folder, add_pooling_layer=False, **words)
    return AutoTokenizer.from_pretrained(folder, **words), model.eval().requires_grad_(
        False
    )


@torch.no_grad()
def sentence_embeds(texts: Sequence[str], batch_size: int = 256) -> np.ndarray:
    """Return (n, 384) float32 unit sentence embeddings: masked mean of MiniLM states.

    All are cut or padded to the same length, at most 32 tokens.
    """
    tokenizer, model = text_encoder()
    if len(texts) == 0:
        return np.zeros((0, 384), np.float32)
    ids = tokenizer(list(texts), truncation=True, max_length=32)["input_ids"]
    length = max(map(len, ids))
    rows = []
    for i in range(0, len(texts), batch_size):
        batch = tokenizer.pad(
            {"input_ids": ids[i : i + batch_size]},
            padding="max_length",
            max_length=length,
            return_tensors="pt",
        )
        states = model(**batch).last_hidden_state  # (batch, tokens, 384)
        mask = batch["attention_mask"][..., None]  # (batch, tokens, 1)
        rows.append((states * mask).sum(1) / mask.sum(1))
    return torch.nn.functional.normalize(torch.cat(rows), dim=-1).numpy()


class ImageScorer(torch.nn.Module):
    """Image side of the scorer: pictures to unit vectors in MiniLM's sentence space."""

    size = 64  # edge of the pictures it was trained on [pixels]

    def __init__(self, pretrained: bool = True) -> None:
        super().__init__()
        self.trunk = Trunk(pretrained)
        self.head = torch.nn.Linear(NUM_FEATURES, 384)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (batch, 3, 64, 64) images in [−1, 1] to (batch, 384) unit vectors."""
        pooled = self.trunk(images).mean((2, 3))
        return torch.nn.functional.normalize(self.head(pooled), dim=-1)

    @torch.no_grad()
    def image_embeds(self, pixels: np.ndarray, batch_size: int = 64) -> np.ndarray:
        """Return (n, 384) float64 unit vectors of (n, h, w, 3) uint8 pixels."""
        rows = [
            self(pixels_to_images(pixels[i : i + batch_size], self.size))
            for i in range(0, len(pixels), batch_size)
        ]
        return torch.cat(rows).double().numpy() if rows else np.zeros((0, 384))


def load_scorer(folder: Path | str) -> ImageScorer:
    """Load the scorer's image side from a folder such as `pretrained/scorer`."""
    check_folder(Path(folder))
    scorer = ImageScorer(pretrained=False)
    state = load_file(Path(folder) / "model.safetensors")
    scorer.load_state_dict({k: v.float() for k, v in state.items()})
    return scorer.eval()

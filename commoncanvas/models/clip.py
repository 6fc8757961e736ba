"""CLIP through transformers: pictures and texts in one space, for CLIP-FID and score.

Model and revision are the profile's; a local folder loads in the same way as the Hub.
Pictures are prepared by the model's own processor, in Pillow.
Source: clip; clip-fid; mosaicml-diffusion, clean_fid_eval.
"""

from collections.abc import Callable, Iterable

import numpy as np
import torch
from PIL import Image
from transformers import AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from commoncanvas.core.errors import ParameterError
from commoncanvas.models.efficientnet import in_batches
from commoncanvas.models.loading import load_network
from commoncanvas.models.weights import identity_of


class Clip:
    """A frozen `CLIPModel` with its processor and tokenizer, in float32.

    Args:
        model: a Hub id, or a folder absolute or from the project's root.
        revision: the Hub commit; a folder needs none.

    Raises:
        ParameterError: a Hub id without a revision, or no CLIP of both towers with
            its processor and tokenizer.
    """

    def __init__(self, model: str, revision: str | None = None) -> None:
        self.model, name, words = load_network(CLIPModel, "clip", model, revision)
        try:
            self.processor = CLIPImageProcessorPil.from_pretrained(name, **words)
            self.tokenizer = AutoTokenizer.from_pretrained(
                name, trust_remote_code=False, **words
            )
            # transformers would go on without words.
            if len(self.tokenizer) != self.model.config.text_config.vocab_size:
                raise ValueError(f"a tokenizer of {len(self.tokenizer)} words")
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ParameterError(
                f"{model!r} is no whole CLIP ({reason}); expected weights, processor "
                "and tokenizer; name another in the profile."
            ) from None
        self.num_features = self.model.config.projection_dim
        self.max_tokens = self.model.config.text_config.max_position_embeddings
        self.identity = identity_of("clip", model, revision)

    @property
    def size(self) -> int:
        """Edge of the squares that the model looks at [pixels]."""
        return self.processor.crop_size["height"]

    @property
    def resize(self) -> str:
        """What the processor does to a picture, in words."""
        rule = self.processor
        how = Image.Resampling(rule.resample).name
        edges = f"{rule.size['shortest_edge']} px, centre {rule.crop_size['height']} px"
        return f"{how.lower()} (Pillow), shortest edge {edges}"

    def embed_pictures(self, pictures: list[np.ndarray]) -> torch.Tensor:
        """Map a list of (h, w, 3) uint8 pictures, of any sizes, to (n, width) rows."""
        opened = [Image.fromarray(np.asarray(picture)) for picture in pictures]
        images = self.processor(opened, return_tensors="pt")["pixel_values"]
        return self.model.get_image_features(images.to(self.model.device)).pooler_output

    def embed_texts(self, texts: list[str]) -> torch.Tensor:
        """Map texts, padded or cut to `max_tokens`, to (n, width) rows."""
        tokens = self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self.max_tokens,
            return_tensors="pt",
        ).to(self.model.device)
        return self.model.get_text_features(
            tokens.input_ids, attention_mask=tokens.attention_mask
        ).pooler_output

    def image_embeds(self, pictures: Iterable[np.ndarray]) -> np.ndarray:
        """Return (n, width) float64 embeddings of pictures."""
        return self._rows(self.embed_pictures, pictures)

    def text_embeds(self, texts: Iterable[str]) -> np.ndarray:
        """Return (n, width) float64 embeddings of texts."""
        return self._rows(self.embed_texts, texts)

    def _rows(self, embed: Callable, items: Iterable) -> np.ndarray:
        rows = in_batches(embed, items)
        return np.concatenate([np.zeros((0, self.num_features)), *rows])

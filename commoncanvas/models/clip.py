"""CLIP through transformers: pictures and texts in one space, for CLIP-FID and score.

Model and revision are the profile's; a local folder loads in the same way as the Hub.
Pictures are prepared by the model's own processor, in Pillow.
Source: clip; clip-fid; mosaicml-diffusion, clean_fid_eval.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import AutoConfig, AutoTokenizer, CLIPImageProcessorPil, CLIPModel

from commoncanvas.core.errors import ParameterError, brief
from commoncanvas.models.efficientnet import in_batches
from commoncanvas.models.encoders import frozen
from commoncanvas.models.weights import find_part, identity_of


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
        name, words = find_part(model, revision or None, "clip")
        try:  # without a word, transformers asks whether to run a stranger's code
            config = AutoConfig.from_pretrained(name, trust_remote_code=False, **words)
        except (OSError, ValueError, RecursionError) as error:
            raise ParameterError(
                f"the model {model!r} has no configuration that transformers reads "
                f"({brief(error)}); expected CLIP's; name another in the profile."
            ) from None
        kind = config.model_type
        if kind != "clip":
            raise ParameterError(
                f"the model {model!r} is a {kind!r}; expected 'clip', both towers; "
                "name another in the profile."
            )
        try:
            self.processor = CLIPImageProcessorPil.from_pretrained(name, **words)
            self.tokenizer = AutoTokenizer.from_pretrained(
                name, trust_remote_code=False, **words
            )
            loaded: Any = (
                CLIPModel.from_pretrained(  # else a model alone, says its stub
                    name, output_loading_info=True, **words
                )
            )
            network, loading = loaded
            # transformers would fill either gap by itself: random weights, no words.
            if loading["missing_keys"]:
                raise ValueError(f"no weights for {min(loading['missing_keys'])}")
            if len(self.tokenizer) != network.config.text_config.vocab_size:
                raise ValueError(f"a tokenizer of {len(self.tokenizer)} words")
        except (OSError, ValueError) as error:
            reason = str(error).splitlines()[0]
            raise ParameterError(
                f"{model!r} is no whole CLIP ({reason}); expected weights, processor "
                "and tokenizer; name another in the profile."
            ) from None
        self.model = frozen(network)
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

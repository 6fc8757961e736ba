"""The open world's captioner: a small network that turns a picture into words.

Stage 00 trains it on captioned web pictures; stage 02 captions licensed ones with it.
The paper's BLIP-2 is in `captions.blip2`; `captions.telephoning` loads either.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from commoncanvas.core import paths
from commoncanvas.core.ahead import ahead
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.files import read_json
from commoncanvas.core.images import pixels_to_images, stored_pixels
from commoncanvas.models.efficientnet import NUM_FEATURES, Trunk
from commoncanvas.models.weights import identity_of


class SmallCaptioner(torch.nn.Module):
    """EfficientNet-Lite0, trained further, and a two-layer Transformer decoder.

    The decoder attends to the picture's grid of features and to one token that holds
    the predicted sentence embedding of the name (all-MiniLM-L6-v2), a training aid that
    `encode` also returns.
    """

    def __init__(
        self,
        vocab_size: int,
        width: int = 256,
        num_layers: int = 2,
        max_length: int = 20,
        pretrained: bool = True,
    ) -> None:
        super().__init__()
        self.config = {
            "vocab_size": vocab_size,
            "width": width,
            "num_layers": num_layers,
            "max_length": max_length,
        }
        self.trunk = Trunk(pretrained)
        self.embed_head = torch.nn.Linear(NUM_FEATURES, 384)
        self.grid_proj = torch.nn.Linear(NUM_FEATURES, width)
        self.embed_proj = torch.nn.Linear(384, width)
        self.tokens = torch.nn.Embedding(vocab_size, width)
        self.positions = torch.nn.Embedding(max_length, width)
        layer = torch.nn.TransformerDecoderLayer(
            width, 4, 2 * width, dropout=0.1, batch_first=True, norm_first=True
        )
        self.decoder = torch.nn.TransformerDecoder(layer, num_layers)
        self.norm = torch.nn.LayerNorm(width)
        # The layers normalise their own input, not the memory, where a unit vector of
        # 384 numbers would be too small to matter.
        self.memory_norm = torch.nn.LayerNorm(width)
        # Tied to the output layer: larger weights would start at a loss of 20.
        torch.nn.init.normal_(self.tokens.weight, std=0.02)
        torch.nn.init.normal_(self.positions.weight, std=0.02)

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the decoder's memory of images, and (batch, 384) unit embeddings."""
        grid = self.trunk(images).flatten(2).transpose(1, 2)  # (batch, places, 1280)
        embeds = torch.nn.functional.normalize(self.embed_head(grid.mean(1)), dim=-1)
        return self.remember(embeds, self.grid_proj(grid)), embeds

    def remember(self, embeds: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """Return the decoder's memory: the embedding's token, then the grid's.

        Embeddings (batch, 384) are of unit length; the grid (batch, places, width) is
        already projected, and has 0 places where there is no picture.
        """
        memory = torch.cat([self.embed_proj(embeds)[:, None], grid], 1)
        return self.memory_norm(memory)

    def decode(self, memory: torch.Tensor, token_ids: torch.Tensor) -> torch.Tensor:
        """Return (batch, tokens, vocab) logits of the next token at every place."""
        places = torch.arange(token_ids.shape[1], device=token_ids.device)
        hidden = self.tokens(token_ids) + self.positions(places)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(
            token_ids.shape[1], device=token_ids.device
        )
        hidden = self.decoder(hidden, memory, tgt_mask=mask, tgt_is_causal=True)
        return self.norm(hidden) @ self.tokens.weight.T

    @torch.no_grad()
    def generate(
        self,
        images: torch.Tensor,
        bos_id: int,
        eos_id: int,
        uniforms: torch.Tensor | None = None,
        top_p: float = 1.0,
    ) -> torch.Tensor:
        """Decode (batch, tokens) int64 ids, `eos_id` after the end.

        Args:
            uniforms: None decodes greedily; (batch, tokens) numbers in [0, 1) choose
                each token by `nucleus_choice`, so that a row depends on its own alone.
        """
        memory, _ = self.encode(images)
        token_ids = torch.full((len(images), 1), bos_id)
        ended = torch.zeros(len(images), dtype=torch.bool)
        while token_ids.shape[1] < self.config["max_length"] and not ended.all():
            logits = self.decode(memory, token_ids)[:, -1]
            if uniforms is None:
                best = logits.argmax(-1)
            else:
                draws = uniforms[:, token_ids.shape[1] - 1]
                best = nucleus_choice(logits, draws, top_p)
            best = torch.where(ended, eos_id, best)
            ended |= best == eos_id
            token_ids = torch.cat([token_ids, best[:, None]], 1)
        return token_ids[:, 1:]


def nucleus_choice(
    logits: torch.Tensor, draws: torch.Tensor, top_p: float
) -> torch.Tensor:
    """Choose among the likeliest tokens that together reach probability `top_p`.

    Takes (batch, vocab) logits and (batch,) uniform draws in [0, 1), returns (batch,)
    int64 token ids. 0 always chooses the likeliest. Source: nucleus-sampling, §3.1.
    """
    probs, ids = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    # A token counts if those before it do not reach top_p; the first always does. Then
    # the draw falls into one token's part of the cumulated probability.
    before = probs.cumsum(-1) - probs
    probs = torch.where((before < top_p) | (before == 0), probs, 0)
    reached = probs.cumsum(-1)
    places = (reached <= draws[:, None] * reached[:, -1:]).sum(-1)
    return ids.gather(1, places.clamp(max=ids.shape[1] - 1)[:, None])[:, 0]


def write_captions(
    model: SmallCaptioner,
    tokenizer: Any,
    pixels: np.ndarray,
    batch_size: int = 64,
    uniforms: torch.Tensor | None = None,
    top_p: float = 1.0,
) -> list[str]:
    """Caption (n, h, w, 3) uint8 pixels; see `SmallCaptioner.generate`."""
    texts: list[str] = []
    for i in range(0, len(pixels), batch_size):
        ids = model.generate(
            pixels_to_images(pixels[i : i + batch_size], OpenCaptioner.size),
            tokenizer.bos_token_id,
            tokenizer.eos_token_id,
            None if uniforms is None else uniforms[i : i + batch_size],
            top_p,
        )
        texts += tokenizer.batch_decode(ids.tolist(), skip_special_tokens=True)
    return texts


class OpenCaptioner:
    """The open world's captioner, from a folder; weights are loaded when first used.

    Args:
        folder: as stage 00 wrote it; None takes `pretrained/captioner`.
        batch_size: pictures a forward pass, on which no caption depends.
        top_p: None decodes greedily; else tokens are drawn from the likeliest ones
            that together reach this probability.
        seed: of these draws, which depend on a picture's key and on nothing else.
    """

    size = 96  # edge of the pictures it looks at [pixels]

    def __init__(
        self,
        folder: Path | str | None = None,
        batch_size: int = 32,
        top_p: float | None = None,
        seed: int = 0,
    ) -> None:
        folder = Path(folder or paths.PRETRAINED / "captioner")
        self.identity = f"open:{identity_of('captioner', folder)}"  # verifies the files
        config = read_json(folder / "config.json")
        self.folder, self.config = folder, config
        self.batch_size, self.top_p, self.seed = batch_size, top_p, seed
        self.decoding: dict[str, Any] = {"decoding": "greedy"}
        if top_p is not None:
            self.decoding = {"decoding": "nucleus", "top_p": top_p, "seed": seed}
        self.decoding["max_length"] = config["max_length"]

    @functools.cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        return PreTrainedTokenizerFast.from_pretrained(self.folder)

    @functools.cached_property
    def model(self) -> SmallCaptioner:
        model = SmallCaptioner(**self.config, pretrained=False)
        state = load_file(self.folder / "model.safetensors")
        model.load_state_dict({k: v.float() for k, v in state.items()})
        return model.eval()

    def caption(self, pixels: np.ndarray, keys: Sequence[str] = ()) -> list[str]:
        """Caption (n, h, w, 3) uint8 pixels; draws, if any, depend on their keys."""
        write = functools.partial(write_captions, self.model, self.tokenizer, pixels)
        if self.top_p is None:
            return write(self.batch_size)
        length = self.model.config["max_length"]
        streams = [make_generator(self.seed, "captions", key) for key in keys]
        uniforms = torch.stack([torch.rand(length, generator=g) for g in streams])
        return write(self.batch_size, uniforms, self.top_p)

    def table(self, rows: Sequence[tuple[str, bytes]]) -> pa.Table:
        """Caption rows of (key, picture bytes) to a table of key and caption_raw."""
        keys = [key for key, _ in rows]
        cut = functools.partial(stored_pixels, width=self.size)
        pixels = np.stack(list(ahead(cut, [data for _, data in rows])))
        return pa.table({"key": keys, "caption_raw": self.caption(pixels, keys)})

    @torch.no_grad()
    def embed(self, pixels: np.ndarray) -> np.ndarray:
        """Return (batch, 384) predicted sentence embeddings of unit length."""
        return self.model.encode(pixels_to_images(pixels, self.size))[1].numpy()


def save_half(model: torch.nn.Module, path: Path) -> None:
    """Write a model's weights as float16 safetensors (integers stay as they are)."""
    state = {
        k: (v.half() if v.is_floating_point() else v).contiguous()
        for k, v in model.state_dict().items()
    }
    save_file(state, path)

"""The open world's captioner: a small network that turns a picture into words.

Stage 00 trains it on captioned web pictures, stage 02 telephones with it. The paper's
BLIP-2 is in `blip2`, and `telephoning` chooses between them.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedTokenizerFast

from commoncanvas.core import paths
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.files import sha256_of
from commoncanvas.core.images import pixels_to_images, stored_pixels
from commoncanvas.models.efficientnet import NUM_FEATURES, Trunk


class SmallCaptioner(torch.nn.Module):
    """A tuned EfficientNet-Lite0 and a two-layer Transformer decoder.

    The decoder reads the picture's grid of features and one token that holds the
    predicted sentence embedding of the name (all-MiniLM-L6-v2), a training aid that
    `embed` also returns.
    """

    def __init__(
        self, vocab_size, width=256, num_layers=2, max_length=20, pretrained=True
    ):
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
        # The layers norm their own input, not the memory: a unit vector of 384 numbers
        # would be too faint to be heard.
        self.memory_norm = torch.nn.LayerNorm(width)
        # Tied to the output layer: larger weights would start at a loss of twenty.
        torch.nn.init.normal_(self.tokens.weight, std=0.02)
        torch.nn.init.normal_(self.positions.weight, std=0.02)

    def encode(self, images):
        """Map (batch, 3, h, w) images to memory (batch, tokens, width) and embedding.

        Returns:
            The decoder's memory, and (batch, 384) unit-length sentence embeddings.
        """
        grid = self.trunk(images).flatten(2).transpose(1, 2)
        embeds = torch.nn.functional.normalize(self.embed_head(grid.mean(1)), dim=-1)
        return self.remember(embeds, self.grid_proj(grid)), embeds

    def remember(self, embeds, grid):
        """Return the decoder's memory: the embedding's token, then the grid's.

        Args:
            embeds: (batch, 384), of unit length.
            grid: (batch, places, width), already projected; no places, nothing seen.
        """
        memory = torch.cat([self.embed_proj(embeds)[:, None], grid], 1)
        return self.memory_norm(memory)

    def decode(self, memory, token_ids):
        """Return (batch, tokens, vocab) logits of the next token at every place."""
        places = torch.arange(token_ids.shape[1], device=token_ids.device)
        hidden = self.tokens(token_ids) + self.positions(places)
        mask = torch.nn.Transformer.generate_square_subsequent_mask(
            token_ids.shape[1], device=token_ids.device
        )
        hidden = self.decoder(hidden, memory, tgt_mask=mask, tgt_is_causal=True)
        return self.norm(hidden) @ self.tokens.weight.T

    @torch.no_grad()
    def generate(self, images, bos_id, eos_id, uniforms=None, top_p=1.0):
        """Decode (batch, tokens) int64 ids, `eos_id` after the end.

        Args:
            images: (batch, 3, h, w) in [−1, 1].
            bos_id, eos_id: the tokens of begin and end.
            uniforms: None decodes greedily; (batch, tokens) numbers in [0, 1) choose
                each token from the likeliest ones, so that no other row matters.
            top_p: the share of probability that these must reach.
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


def nucleus_choice(logits, draws, top_p):
    """Choose among the likeliest tokens that together reach probability `top_p`.

    Source: nucleus-sampling, §3.1.

    Args:
        logits: (batch, vocab).
        draws: (batch,) uniform numbers in [0, 1).
        top_p: 0 to 1; 0 leaves the likeliest token alone.

    Returns:
        (batch,) int64 token ids.
    """
    probs, ids = logits.softmax(-1).sort(dim=-1, descending=True, stable=True)
    before = probs.cumsum(-1) - probs
    probs = torch.where((before < top_p) | (before == 0), probs, 0)
    reached = probs.cumsum(-1)
    places = (reached <= draws[:, None] * reached[:, -1:]).sum(-1)
    return ids.gather(1, places.clamp(max=ids.shape[1] - 1)[:, None])[:, 0]


def write_captions(model, tokenizer, pixels, batch_size=64, uniforms=None, top_p=1.0):
    """Caption (n, h, w, 3) uint8 pixels with a `SmallCaptioner`; n strings.

    Args: see `SmallCaptioner.generate`; without `uniforms` decoding is greedy.
    """
    texts = []
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
    """The open world's captioner, loaded from a folder.

    Args:
        folder: as stage 00 wrote it; None takes `pretrained/captioner`.
        batch_size: pictures a forward pass; changes no caption.
        top_p: None decodes greedily; else tokens are drawn from the likeliest ones
            that together reach this probability.
        seed: of these draws, which depend on a picture's key and on nothing else.
    """

    size = 96  # edge of the pictures it looks at [pixels]

    def __init__(self, folder=None, batch_size=32, top_p=None, seed=0):
        folder = Path(folder or paths.PRETRAINED / "captioner")
        config = json.loads((folder / "config.json").read_text())
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.model = SmallCaptioner(**config, pretrained=False)
        state = load_file(folder / "model.safetensors")
        self.model.load_state_dict({k: v.float() for k, v in state.items()})
        self.model.eval()
        self.batch_size, self.top_p, self.seed = batch_size, top_p, seed
        self.identity = f"open:{sha256_of(folder / 'model.safetensors')[:16]}"
        how = {"top_p": top_p, "seed": seed} if top_p is not None else {}
        self.decoding = {"decoding": "nucleus" if how else "greedy", **how}
        self.decoding["max_length"] = config["max_length"]

    def caption(self, pixels, keys=None):
        """Caption (n, h, w, 3) uint8 pixels, whose keys choose the draws; n strings."""
        uniforms = None
        if self.top_p is not None:
            length = self.model.config["max_length"]
            streams = [make_generator(self.seed, "captions", key) for key in keys]
            uniforms = torch.stack([torch.rand(length, generator=g) for g in streams])
        return write_captions(
            self.model, self.tokenizer, pixels, self.batch_size, uniforms, self.top_p
        )

    def table(self, rows):
        """Caption rows of (key, png) to a table of key and caption_raw."""
        keys = [key for key, _ in rows]
        pixels = np.stack([stored_pixels(png, self.size) for _, png in rows])
        return pa.table({"key": keys, "caption_raw": self.caption(pixels, keys)})

    @torch.no_grad()
    def embed(self, pixels):
        """Return (batch, 384) predicted sentence embeddings of unit length."""
        return self.model.encode(pixels_to_images(pixels, self.size))[1].numpy()


def save_half(model, path):
    """Write a model's weights as float16 safetensors (integers stay as they are)."""
    state = {
        k: (v.half() if v.is_floating_point() else v).contiguous()
        for k, v in model.state_dict().items()
    }
    save_file(state, path)

"""Telephoning: captioners that turn a picture into words.

Two captioners behind one method, `caption(pixels) -> list of str`: BLIP-2 as in the
paper, and the open world's small captioner from `pretrained/`. Stage 02 calls either;
stage 00 trains the small one. Source: commoncanvas-cvpr, §4.2.
"""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from commoncanvas.features import NUM_FEATURES, Trunk
from commoncanvas.images import pixels_to_images, stored_pixels
from commoncanvas.manifest import sha256_of


def train_tokenizer(titles, vocab_size, max_length):
    """Train a byte-level BPE tokenizer, which can write every string."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=["<pad>", "<bos>", "<eos>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sorted(titles), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A <eos>", special_tokens=[("<bos>", 1), ("<eos>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<bos>",
        eos_token="<eos>",
        model_max_length=max_length,
    )


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
    def generate(self, images, bos_id, eos_id):
        """Decode greedily: (batch, tokens) int64, `eos_id` after the end."""
        memory, _ = self.encode(images)
        token_ids = torch.full((len(images), 1), bos_id)
        ended = torch.zeros(len(images), dtype=torch.bool)
        while token_ids.shape[1] < self.config["max_length"] and not ended.all():
            best = self.decode(memory, token_ids)[:, -1].argmax(-1)
            best = torch.where(ended, eos_id, best)
            ended |= best == eos_id
            token_ids = torch.cat([token_ids, best[:, None]], 1)
        return token_ids[:, 1:]


def write_greedily(model, tokenizer, pixels, batch_size=64):
    """Caption (n, h, w, 3) uint8 pixels with a `SmallCaptioner`; n strings."""
    texts = []
    for i in range(0, len(pixels), batch_size):
        images = pixels_to_images(pixels[i : i + batch_size], OpenCaptioner.size)
        ids = model.generate(images, tokenizer.bos_token_id, tokenizer.eos_token_id)
        texts += tokenizer.batch_decode(ids.tolist(), skip_special_tokens=True)
    return texts


class OpenCaptioner:
    """The open world's captioner, loaded from a folder (`pretrained/captioner`)."""

    size = 96  # edge of the pictures it looks at [pixels]

    def __init__(self, folder):
        folder = Path(folder)
        config = json.loads((folder / "config.json").read_text())
        self.tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
        self.model = SmallCaptioner(**config, pretrained=False)
        state = load_file(folder / "model.safetensors")
        self.model.load_state_dict({k: v.float() for k, v in state.items()})
        self.model.eval()
        self.identity = f"open:{sha256_of(folder / 'model.safetensors')[:16]}"
        self.decoding = {"decoding": "greedy", "max_length": config["max_length"]}

    def caption(self, pixels):
        """Caption (batch, h, w, 3) uint8 pixels greedily; one string a picture."""
        return write_greedily(self.model, self.tokenizer, pixels)

    @torch.no_grad()
    def embed(self, pixels):
        """Return (batch, 384) predicted sentence embeddings of unit length."""
        return self.model.encode(pixels_to_images(pixels, self.size))[1].numpy()


class Blip2Captioner:
    """BLIP-2 through transformers, as the paper used it.

    Decoding is LAVIS's default for this class where the paper is silent: five beams, at
    most 30 new tokens, empty prompt. Source: commoncanvas-cvpr, §4.2; lavis, blip2_opt.

    Args:
        model: a Hub id or a local folder.
        revision: the Hub commit; ignored for a folder.
        device: where to run.
        dtype: weights' type, float16 on a GPU.
        num_beams, max_new_tokens: decoding.
    """

    size = 512  # edge of the square it is handed [pixels]; CVPR, §4.2

    def __init__(
        self,
        model,
        revision=None,
        device="cpu",
        dtype=torch.float32,
        num_beams=5,
        max_new_tokens=30,
    ):
        from transformers import Blip2ForConditionalGeneration, Blip2Processor

        self.processor = Blip2Processor.from_pretrained(model, revision=revision)
        # Decoder-only language models must be padded on the left, or a batch's shorter
        # rows are continued from padding.
        self.processor.tokenizer.padding_side = "left"
        self.model = Blip2ForConditionalGeneration.from_pretrained(
            model, revision=revision, dtype=dtype
        ).to(device)
        self.model.eval()
        self.identity = f"{model}@{revision or 'local'}"
        self.decoding = {"num_beams": num_beams, "max_new_tokens": max_new_tokens}

    @torch.no_grad()
    def caption(self, pixels):
        """Caption (batch, h, w, 3) uint8 pixels; one string a picture."""
        inputs = self.processor(images=list(pixels), return_tensors="pt")
        inputs = inputs.to(self.model.device, self.model.dtype)
        ids = self.model.generate(**inputs, **self.decoding)
        texts = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]


def load_captioner(name, folder, revision=None, **options):
    """Return the captioner called `name`: "open" or "blip2".

    Raises:
        ValueError: another name.
    """
    if name == "open":
        return OpenCaptioner(folder)
    if name == "blip2":
        return Blip2Captioner(folder, revision, **options)
    raise ValueError(
        f"captioner is {name!r}; expected 'open' or 'blip2'; edit profiles/"
    )


def caption_table(captioner, rows):
    """Caption rows of (key, png) to a table of key and caption_raw."""
    pixels = np.stack([stored_pixels(png, captioner.size) for _, png in rows])
    return pa.table(
        {"key": [key for key, _ in rows], "caption_raw": captioner.caption(pixels)}
    )


def save_half(model, path):
    """Write a model's weights as float16 safetensors (integers stay as they are)."""
    state = {
        k: (v.half() if v.is_floating_point() else v).contiguous()
        for k, v in model.state_dict().items()
    }
    save_file(state, path)

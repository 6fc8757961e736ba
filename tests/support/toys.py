"""Small things that several tests play with: works, latents, estimates, networks."""

import hashlib
import json
import string

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from diffusers import AutoencoderKL
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2Processor,
    BlipImageProcessorPil,
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
)

from commoncanvas.catalog import catalog, drawing
from commoncanvas.catalog.duplicates import mark_duplicates
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.images import encode_png, flatten
from commoncanvas.core.picture_store import write_pictures
from commoncanvas.evaluate import inception
from commoncanvas.latents import mixing
from commoncanvas.latents.store import write_index, write_latents
from commoncanvas.models import captioner
from commoncanvas.models.efficientnet import NUM_FEATURES
from commoncanvas.pretrain import training
from commoncanvas.train.recipe import TrainRecipe

NUM = 24
CLIP_SIZE = 16  # edge at which `save_clip`'s model looks at pictures [pixels]
CATALOG = pd.DataFrame(
    {
        "key": [f"toy/{i:02d}" for i in range(NUM)][::-1],
        "title": ["cat", "dog", "cat", ""] * (NUM // 4),
        "alt_text": "",
        "source": ["a", "b"] * (NUM // 2),
        "split": ["c", "c", "nc"] * (NUM // 3),
        "license_slug": ["by", "cc0", "by-nc"] * (NUM // 3),
        "is_holdout": [i % 4 == 1 for i in range(NUM)],
        "order": np.random.default_rng(0).permutation(NUM) / NUM,
    }
)
SAID = {key: f"a {key[-1]}" for key in CATALOG["key"][4:]}
CAPTIONS = pd.DataFrame(
    {"key": list(SAID), "source": "synthetic", "caption": list(SAID.values())}
)

# The smallest `UNet2DConditionModel` that reads text.
UNET = {
    "down_block_types": ["CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D"],
    "mid_block_type": None,
    "block_out_channels": [8],
    "layers_per_block": 1,
    "attention_head_dim": 4,
    "norm_num_groups": 4,
}


def make_recipe(**changes):
    """Return a recipe of few steps, of which some fields are changed."""
    recipe = {
        "seed": 5,
        "num_train_steps": 7,
        "train_batch_size": 3,
        "micro_batch_size": 3,
        "learning_rate": 1e-2,
        "lr_warmup_steps": 2,
        "lr_schedule": "cosine",
        "weight_decay": 0.01,
        "caption_drop_prob": 0.3,
        "ema_fraction": 0.5,
        "ema_decay": 0.9,
        "prediction_type": "epsilon",
        "weighting_scheme": "none",
        "logit_mean": 0.0,
        "scheduler": ["", ""],
        "scaling_factor": 0.5,
        "checkpoint_steps": 2,
        "mixed_precision": "no",
        "attention": "sdpa",
        "compile": False,
    }
    return TrainRecipe(**(recipe | changes))


class FakeLatents:
    """Random latents and captions of a few works, and a record of what was asked."""

    def __init__(self, num=8, seed=0, level=1.0):
        generator = make_generator(seed, "fake")
        self.mean = torch.randn(num, 4, 4, 4, generator=generator) * level
        self.states = torch.randn(num + 1, 3, 8, generator=generator)
        self.dropped, self.asked = [], []
        self.keys = [f"toy/{i}" for i in range(num)]
        self.buckets = [torch.arange(num)]

    def __len__(self):
        return len(self.mean)

    def shape_of(self, places):
        return self.mean.shape[1:]

    def posterior(self, places):
        self.asked += places.tolist()
        return self.mean[places], torch.full_like(self.mean[places], 0.1)

    def prompt_embeds(self, places, is_dropped, draws=None):
        self.dropped += is_dropped.tolist()
        return self.states[torch.where(is_dropped, 0, places + 1)]


def estimate(value, low, high, n=1000):
    """Return an estimate as metrics files hold it."""
    return {"value": value, "interval": [low, high], "n": n}


def raw(array, dtype="float16"):
    """Return each row's bytes, as shards of latents hold them."""
    return [row.tobytes() for row in array.astype(dtype)]


def make_vae():
    """Build a small `AutoencoderKL` of random weights, of 32 pixels."""
    torch.manual_seed(0)
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=[8] * 4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=32,
    ).eval()


def write_store(folder, catalog, captions, shape, text_shape, rng):
    """Write random latents as stage 03 does; return index, texts and the arrays."""
    index, texts = mixing.make_index(catalog, captions)
    arrays = {
        name: rng.normal(size=(len(index), *shape)) for name in ("mean", "logvar")
    }
    arrays["features"] = rng.normal(size=(len(index), NUM_FEATURES))
    arrays["states"] = rng.normal(size=(len(texts), *text_shape))
    table = pa.table(
        {
            "key": index["key"],
            "mean": raw(arrays["mean"]),
            "logvar": raw(arrays["logvar"]),
            "features": raw(arrays["features"], "float32"),
        }
    )
    states = pa.table({"text": texts, "states": raw(arrays["states"])})
    write_index(folder, [(index, texts)])
    write_latents(folder, [table], [states], shape, text_shape)
    return index.to_pandas(), texts, arrays


def save_captioner(folder):
    """Save an open captioner of random weights as stage 00 saves the trained one."""
    torch.manual_seed(0)
    tokenizer = training.train_tokenizer(["red cat", "blue dog", "sun"], 300, 8)
    model = captioner.SmallCaptioner(
        len(tokenizer), width=16, num_layers=1, max_length=8, pretrained=False
    )
    # Random networks see all pictures alike; these let the picture choose the word.
    model.embed_proj.weight.data.mul_(30)
    model.tokens.weight.data.mul_(30)
    captioner.save_half(model, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config))
    tokenizer.save_pretrained(folder)
    return folder


def save_tokenizer(folder):
    """Write a CLIP tokenizer of letters as SD2's lies on the Hub; it pads with `!`."""
    folder.mkdir(parents=True, exist_ok=True)
    letters = "!" + string.ascii_lowercase
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: i for i, word in enumerate(words)}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "!",
        "model_max_length": 77,
    }
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return vocabulary


def random_inception(seed=0):
    """Return FID's Inception-v3 of random weights that let every picture through."""
    torch.manual_seed(seed)
    network = inception.make_inception().eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.5, 1.5)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    return network


def save_clip(folder, seed=0):
    """Save a whole CLIP of random weights as one lies on the Hub."""
    words = save_tokenizer(folder)
    layers = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    ids = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1}
    config = CLIPConfig(
        text_config={**layers, **ids, "vocab_size": len(words), "pad_token_id": 0},
        vision_config={**layers, "image_size": CLIP_SIZE, "patch_size": 4},
        projection_dim=8,
    )
    torch.manual_seed(seed)
    model = CLIPModel(config)
    for weight in model.parameters():  # else all pictures look alike to it
        weight.data += 0.1 * torch.randn_like(weight)
    model.save_pretrained(folder)
    edges = {"height": CLIP_SIZE, "width": CLIP_SIZE}
    rule = {"size": {"shortest_edge": CLIP_SIZE}, "crop_size": edges}
    CLIPImageProcessorPil(**rule).save_pretrained(folder)
    return folder


def save_dinov2(folder):
    """Save a small DINOv2 as one lies on the Hub, of weights that need no seed."""
    model = Dinov2Model(
        Dinov2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            mlp_ratio=2,
            image_size=224,
            patch_size=56,
        )
    )
    fill(model)
    model.save_pretrained(folder)
    return folder


def fill(model):
    """Write weights by a formula, so that another library can be given the same."""
    for name, weight in sorted(model.named_parameters()):
        waves = torch.sin(1 + torch.arange(weight.numel(), dtype=torch.float64) * 1.7)
        scale = 0.3 if weight.ndim > 1 else 0.1
        base = 1.0 if "norm" in name and name.endswith("weight") else 0.0
        weight.data = (base + scale * waves).reshape(weight.shape).float()


def save_blip2(folder, said):
    """Save a BLIP-2 with an OPT, of random weights, that says some words."""
    words = ["<pad>", "<s>", "</s>", "<image>", *dict.fromkeys(said)]
    words = {word: i for i, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    # As OPT's: a begin before the words, padding elsewhere.
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<image>"],
    )
    layers = {"hidden_size": 16, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config={
            **layers,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "image_size": 32,
            "patch_size": 16,
        },
        qformer_config={
            **layers,
            "vocab_size": len(words),
            "num_hidden_layers": 2,
            "intermediate_size": 16,
            "encoder_hidden_size": 16,
            "cross_attention_frequency": 1,
        },
        text_config={
            **layers,
            "model_type": "opt",
            "vocab_size": len(words),
            "num_hidden_layers": 1,
            "ffn_dim": 16,
            "word_embed_proj_dim": 16,
            "max_position_embeddings": 64,
            "pad_token_id": 0,
            "bos_token_id": 1,
            "eos_token_id": 2,
        },
        num_query_tokens=4,
        image_token_index=3,
    )
    torch.manual_seed(0)
    model = Blip2ForConditionalGeneration(config)
    # Random networks say the same of all pictures; this lets them be heard.
    for name, weight in model.language_model.named_parameters():
        if weight.ndim == 2 and "embed" not in name:
            weight.data.mul_(30)
    model.save_pretrained(folder)
    size = {"height": 32, "width": 32}
    image_processor = BlipImageProcessorPil(size=size)
    Blip2Processor(image_processor, tokenizer, 4).save_pretrained(folder)
    return folder


def write_all_pictures(folder, keys, splits, pictures, works_per_file=1024):
    """Write works in their order as stage 01 does; return the file's number of each."""
    rows = list(zip(keys, splits, pictures, strict=True))
    for first in range(0, len(rows), works_per_file):
        number = first // works_per_file
        write_pictures(folder, number, rows[first : first + works_per_file])
    return np.arange(len(rows)) // works_per_file


def write_real_world(folder, sets=("twemoji", "emojione", "openmoji"), num=120):
    """Write some real drawings of a few sets as stage 01 does; return the catalogue."""
    rows = [row for name in sets for row in catalog.read_source(name)]
    frame = catalog.choose(catalog.assign_splits(rows, [], 17), num, False, 0.2)
    frame = frame[frame["split"] != "rejected"]
    pixels, _ = drawing.draw_rows(frame.to_dict("records"), 64, 1)
    pixels = flatten(pixels)
    frame["sha256"] = [hashlib.sha256(p.tobytes()).hexdigest() for p in pixels]
    frame = mark_duplicates(frame, np.array([drawing.thumbnail(p) for p in pixels]))
    pngs = [encode_png(p) for p in pixels]
    frame["file"] = write_all_pictures(folder, frame["key"], frame["split"], pngs)
    frame.drop(columns="svg").to_parquet(folder / "catalog.parquet")
    return frame

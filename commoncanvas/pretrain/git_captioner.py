"""Stage 00: a second captioner of another family, trained from random weights.

GIT, the generative image-to-text transformer: a vision transformer turns the picture
into tokens, and one stack of layers reads these and then writes the name behind them.
It shares no weight with the small captioner, neither ImageNet's nor a decoder that
attends across; stage 02 loads it as any captioner of transformers. Source: git.

`make second-captioner` trains it alone, goes on where it was stopped, and leaves the
other parts as they are.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    CLIPImageProcessorPil,
    GitConfig,
    GitForCausalLM,
    GitProcessor,
    PreTrainedTokenizerFast,
)

from commoncanvas.analysis.estimates import mean_interval, wilson
from commoncanvas.captions.text import exact_match, word_f1
from commoncanvas.core import paths
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.images import flatten, pixels_to_images
from commoncanvas.core.keys import key_of
from commoncanvas.core.settings import load_yaml
from commoncanvas.pretrain.parts import share_exact
from commoncanvas.pretrain.training import (
    MAX_TOKENS,
    History,
    contrast,
    fit,
    padded_ids,
    train_tokenizer,
    write_part_manifest,
)
from commoncanvas.pretrain.websets import (
    NamedPictures,
    captioned,
    load_pictures,
    sample_of,
)

FOLDER = "second_captioner"  # in `pretrained/`
SIZE = 96  # edge of the pictures it looks at [pixels]
# Not in the profile: the notebook of stage 00 is frozen, and so are its parameters.
RECIPE = {"num_steps": 4000, "batch_size": 64, "learning_rate": 1.0e-3}
SIZES = {"width": 192, "vision_layers": 5, "text_layers": 3, "patch_size": 12}


class Learner(torch.nn.Module):
    """GIT with a training aid, which is not kept: the name's predicted embedding."""

    def __init__(self, git: Any) -> None:
        super().__init__()
        self.git = git
        self.head = torch.nn.Linear(git.config.hidden_size, 384)

    def forward(
        self, images: torch.Tensor, token_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (batch, tokens, vocab) logits, and (batch, 384) unit embeddings."""
        out = self.git(
            input_ids=token_ids, pixel_values=images, output_hidden_states=True
        )
        num = out.logits.shape[1] - token_ids.shape[1]  # tokens of the picture
        seen = out.hidden_states[0][:, :num].mean(1)
        embeds = torch.nn.functional.normalize(self.head(seen), dim=-1)
        return out.logits[:, num:], embeds


def make_git(
    vocab_size: int, width: int, vision_layers: int, text_layers: int, patch_size: int
) -> Any:
    """Build a GIT of random weights for (batch, 3, 96, 96) pictures.

    Tokens are those of `training.train_tokenizer`: 0 pads, 1 begins, 2 ends.
    """
    shared = {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": max(1, width // 32),
    }
    vision = {
        **shared,
        "num_hidden_layers": vision_layers,
        "image_size": SIZE,
        "patch_size": patch_size,
    }
    config = GitConfig(
        vision_config=vision,
        **shared,
        num_hidden_layers=text_layers,
        vocab_size=vocab_size,
        max_position_embeddings=256,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return GitForCausalLM(config)


def train_git(
    data: NamedPictures,
    seed: int,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    vocab_size: int,
    score: Callable[[Any, Any], float] | None = None,
    sizes: dict[str, int] = SIZES,
) -> tuple[Any, PreTrainedTokenizerFast, History]:
    """Train GIT to write each picture's name; an interrupted training goes on.

    As for the small captioner, the picture is also compared with the sentence
    embeddings of all names, without which so few pictures teach a transformer little.

    Args:
        score: model, tokenizer -> number on a style that is not in `data`; see `fit`.
        sizes: of `make_git`.
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(data.titles, vocab_size, MAX_TOKENS)
    learner = Learner(make_git(len(tokenizer), **sizes))
    token_ids = padded_ids(tokenizer, data.distinct)

    def loss_at(step: int) -> torch.Tensor:
        generator = make_generator(seed, "git", step)
        places, images = data.draw(batch_size, SIZE, generator)
        names = data.names[places]
        ids = token_ids[names]
        ids = ids[:, : int((ids != 0).sum(1).max())]  # without needless padding
        logits, embeds = learner(images, ids[:, :-1])
        written = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), ids[:, 1:], ignore_index=0, label_smoothing=0.1
        )
        return written + contrast(embeds, names, data.targets, 0.04)

    facts = {"part": "git", "seed": seed, "steps": num_steps, "batch": batch_size}
    facts |= {"lr": learning_rate, "vocab": vocab_size, "titles": data.titles}
    scored = (lambda model: score(model.git, tokenizer)) if score else None
    told = "second captioner", scored, data.rgba.numpy()
    key = key_of(**facts, sizes=sizes)
    history = fit(key, learner, loss_at, num_steps, learning_rate, *told)
    return learner.git.eval(), tokenizer, history


@torch.no_grad()
def write_names(
    git: Any, tokenizer: Any, pixels: np.ndarray, batch_size: int = 64
) -> list[str]:
    """Name (n, h, w, 3) uint8 pixels, greedily."""
    texts: list[str] = []
    for start in range(0, len(pixels), batch_size):
        images = pixels_to_images(pixels[start : start + batch_size], SIZE)
        ids = git.generate(
            pixel_values=images, max_new_tokens=MAX_TOKENS, do_sample=False
        )
        texts += tokenizer.batch_decode(ids, skip_special_tokens=True)
    return [text.strip() for text in texts]


def measure(
    git: Any, tokenizer: Any, pixels: np.ndarray, titles: Sequence[str]
) -> dict[str, dict]:
    """Return exact and word_f1 on n pictures, as `parts.measures_of` has them."""
    pairs = list(zip(write_names(git, tokenizer, pixels), titles, strict=True))
    exact = wilson(sum(exact_match(*pair) for pair in pairs), len(pairs))
    shared = mean_interval([word_f1(*pair) for pair in pairs])
    return {"exact": exact.as_dict(), "word_f1": shared.as_dict()}


def save_git(
    git: Any, tokenizer: Any, folder: Path, measured: dict[str, dict[str, dict]]
) -> None:
    """Save it in float16, with its processor and what it reaches, by set."""
    folder.mkdir(parents=True, exist_ok=True)
    git.half().save_pretrained(folder)
    edges = {"height": SIZE, "width": SIZE}
    # What training saw: [−1, 1], nothing cut off.
    pictures = CLIPImageProcessorPil(
        size=edges, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    GitProcessor(pictures, tokenizer).save_pretrained(folder)
    (folder / "metrics.json").write_text(json.dumps(measured, indent=1) + "\n")
    write_part_manifest(folder)
    git.float()


def train_beside(
    settings: dict[str, Any],
    seed: int,
    folder: Path,
    recipe: dict[str, Any] = RECIPE,
    sizes: dict[str, int] = SIZES,
) -> History:
    """Train, measure and save it on the pictures that stage 00 has.

    Args:
        settings: the section `pretrain` of its profile: sets, held-out style, size of
            the pictures and of the vocabulary.
        folder: where it goes; what lies beside it stays.
        recipe: of `train_git`.
        sizes: of `make_git`.
    """
    size = settings["picture_size_px"]
    rows, rgba = load_pictures(settings["web_sources"], size)
    kept, titles = captioned(rows)
    is_held = [rows[i]["source"] == settings["held_out_style"] for i in kept]
    named = list(zip(kept, titles, is_held, strict=True))
    taught = [(i, title) for i, title, held in named if not held]
    aside = [(i, title) for i, title, held in named if held]
    data = NamedPictures(rgba[[i for i, _ in taught]], [title for _, title in taught])
    pixels, wanted = flatten(rgba[[i for i, _ in aside]]), [title for _, title in aside]
    git, tokenizer, history = train_git(
        data,
        seed,
        **recipe,
        vocab_size=settings["vocab_size"],
        score=lambda git, tokens: share_exact(write_names(git, tokens, pixels), wanted),
        sizes=sizes,
    )
    measured = {}
    cc_rows, cc_rgba = load_pictures(settings["test_sources"], size)
    chosen = sample_of(cc_rows, settings["test_size"], seed)
    for source in settings["test_sources"]:
        own = [i for i in chosen if cc_rows[i]["source"] == source]
        names = [cc_rows[i]["title"] for i in own]
        measured[source] = measure(git, tokenizer, flatten(cc_rgba[own]), names)
    save_git(git, tokenizer, folder, measured)
    return history


def train_into_place() -> None:
    """Train it by `RECIPE` into `pretrained/`, and say how well it does."""
    profile = load_yaml(paths.PROFILES / "pretrain.yaml")
    torch.set_num_threads(profile["common"]["num_threads"])
    folder = paths.PRETRAINED / FOLDER
    seed = profile["common"]["seed"]
    history = train_beside(profile["pretrain"], seed, folder)
    best = max(value for _, value in history.scores)
    print(f"{folder.name}: {best:.3f} of the held-out style's names exact,", end=" ")
    print(
        f"after {history.minutes:.0f} minutes; {folder / 'metrics.json'} has the rest"
    )

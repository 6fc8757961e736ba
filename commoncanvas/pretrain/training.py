"""Stage 00: the training of captioner and scorer, which the paper takes ready-made.

They are trained on captioned web pictures only, never on a Creative Commons picture.
One small loop trains every part: it can be resumed, draws from (seed, step), and keeps
the weights that score best on a style that is not trained on.
"""

import functools
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from commoncanvas.core.determinism import make_generator
from commoncanvas.core.keys import code_hash, key_of, work_folder
from commoncanvas.core.manifest import write_manifest
from commoncanvas.models.captioner import SmallCaptioner, save_half
from commoncanvas.models.scorer import ImageScorer
from commoncanvas.pretrain.augment import soften
from commoncanvas.pretrain.websets import NamedPictures
from commoncanvas.train.snapshots import newest_snapshot, save_state, write_snapshot

MAX_TOKENS = 20  # of a caption, begin and end included
CHECKPOINT_STEPS = 250
SHARE_SMALL = 0.6  # of the captioner's steps, with pictures of 64 pixels, not of 96


@dataclass
class History:
    """What happened in `fit`."""

    losses: list[float] = field(default_factory=list)  # means of 20 steps each
    scores: list[tuple[int, float]] = field(default_factory=list)  # by step
    minutes: float = 0.0

    def __add__(self, later: "History") -> "History":
        """Join two rounds of training; the later one's steps count on."""
        done = self.scores[-1][0] if self.scores else 0
        return History(
            self.losses + later.losses,
            self.scores + [(done + step, score) for step, score in later.scores],
            self.minutes + later.minutes,
        )


def fit(
    key: str,
    model: torch.nn.Module,
    loss_at: Callable[[int], torch.Tensor],
    num_steps: int,
    learning_rate: float,
    description: str,
    score: Callable[[Any], float] | None = None,
    pictures: np.ndarray | None = None,
) -> History:
    """Train with AdamW, a short warm-up and a cosine decay; resume where it stopped.

    Args:
        key: seeds every step and, with pictures and code, names the work folder; a
            finished one returns at once.
        model: trained in place; frozen parameters stay as they are.
        loss_at: step -> scalar loss; must draw only from (seed, step), or from the
            global stream, which is seeded anew before every step.
        learning_rate: the peak.
        description: label of the progress bar.
        score: model -> number, higher is better; the model ends with the weights of the
            best one (early stopping). None keeps the last weights.
        pictures: those that `loss_at` draws from.
    """
    read = "" if pictures is None else hashlib.sha256(pictures.tobytes()).hexdigest()
    code = code_hash("pretrain.training", "pretrain.autoencoder")
    folder = work_folder(key_of(key=key, pictures=read, code=code))
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.01)
    state: dict[str, Any] = {"step": 0, "losses": [], "scores": [], "seconds": 0.0}
    found, refused = newest_snapshot(folder)
    for line in refused:
        print(line, file=sys.stderr)
    if found:
        state = torch.load(found / "state.pt", weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    first, losses, scores = state["step"], state["losses"], state["scores"]
    best, began = state.get("best"), time.monotonic() - state["seconds"]
    bar = tqdm(
        range(first, num_steps), description, num_steps, initial=first, file=sys.stderr
    )
    model.train()
    for step in bar:
        warm = min(1.0, (step + 1) / 200)
        rate = learning_rate * warm * 0.5 * (1 + np.cos(np.pi * step / num_steps))
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        # Dropout draws from the global stream: a resumed run must draw the same.
        torch.manual_seed(int(key_of(key=key, step=step), 16) % 2**63)
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 20 == 19:
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}")
        if (step + 1) % CHECKPOINT_STEPS == 0 or step + 1 == num_steps:
            if score:
                model.eval()
                scores.append((step + 1, float(score(model))))
                model.train()
                if scores[-1][1] >= max(value for _, value in scores):
                    best = {k: v.clone() for k, v in model.state_dict().items()}
            state = {
                "step": step + 1,
                "losses": losses,
                "scores": scores,
                "seconds": time.monotonic() - began,
                "best": best,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            writers = {"state.pt": functools.partial(save_state, state)}
            write_snapshot(folder, step + 1, writers)
    if best:
        model.load_state_dict(best)
    model.eval()
    blocks = [float(np.mean(losses[i : i + 20])) for i in range(0, len(losses), 20)]
    return History(blocks, scores, state["seconds"] / 60)


def padded_ids(tokenizer: Any, texts: Sequence[str]) -> torch.Tensor:
    """Return (texts, `MAX_TOKENS`) int64 ids of tokens, padded or cut."""
    words = {"padding": "max_length", "truncation": True, "max_length": MAX_TOKENS}
    return tokenizer(texts, return_tensors="pt", **words).input_ids


def contrast(
    embeds: torch.Tensor,
    names: torch.Tensor,
    targets: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """Return the cross-entropy of (batch, 384) embeddings against all names.

    `names` (batch,) holds the row of each picture's name in `targets` (k, 384).
    """
    return torch.nn.functional.cross_entropy(embeds @ targets.T / temperature, names)


def train_captioner(
    data: NamedPictures,
    seed: int,
    num_steps: int,
    num_polish_steps: int,
    batch_size: int,
    learning_rate: float,
    vocab_size: int,
    score: Callable[[SmallCaptioner, Any], float] | None = None,
) -> tuple[SmallCaptioner, PreTrainedTokenizerFast, History]:
    """Train the small captioner to write each picture's name.

    First the decoder alone learns to write every name from its own blurred sentence
    embedding. Then pictures are added: half of the names are written from the picture,
    half from its predicted embedding alone, which generalises to new styles better than
    the picture's grid. And that embedding is compared with those of all names.

    Args:
        num_steps: with pictures; without, half as many.
        num_polish_steps: after those, from half the rate down to zero once more.
        score: model, tokenizer -> number on a style that is not in `data`; see `fit`.
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(data.titles, vocab_size, MAX_TOKENS)
    model = SmallCaptioner(len(tokenizer), max_length=MAX_TOKENS)
    token_ids = padded_ids(tokenizer, data.distinct)
    facts = {"part": "captioner", "seed": seed, "steps": num_steps, "batch": batch_size}
    facts |= {"lr": learning_rate, "vocab": vocab_size, "titles": data.titles}

    def loss_of_writing(memory: torch.Tensor, names: torch.Tensor) -> torch.Tensor:
        ids = token_ids[names]
        ids = ids[:, : int((ids != 0).sum(1).max())]  # without needless padding
        logits = model.decode(memory, ids[:, :-1]).transpose(1, 2)
        return torch.nn.functional.cross_entropy(
            logits, ids[:, 1:], ignore_index=0, label_smoothing=0.1
        )

    def sample_names(
        num: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        names = torch.randint(len(data.targets), (num,), generator=generator)
        blurred = blur(data.targets[names], generator)
        no_grid = torch.zeros(num, 0, model.config["width"])
        return names, model.remember(blurred, no_grid)

    def loss_of_names(step: int) -> torch.Tensor:
        generator = make_generator(seed, "names", step)
        names, memory = sample_names(2 * batch_size, generator)
        return loss_of_writing(memory, names)

    def loss_of_pictures(step: int) -> torch.Tensor:
        generator = make_generator(seed, "captioner", step)
        size = 64 if step < SHARE_SMALL * num_steps else 96
        places, images = data.draw(batch_size, size, generator)
        memory, embeds = model.encode(images)
        names = data.names[places]
        # Pictures come in random order, so the second half is a random one.
        half = batch_size // 2
        more_names, more_memory = sample_names(batch_size // 4, generator)
        without_grid = torch.cat([memory[half:, :1], more_memory])
        return (
            0.5 * loss_of_writing(memory[:half], names[:half])
            + 0.5 * loss_of_writing(without_grid, torch.cat([names[half:], more_names]))
            + contrast(embeds, names, data.targets, 0.04)
        )

    def loss_of_polish(step: int) -> torch.Tensor:
        return loss_of_pictures(num_steps + step)

    rgba = data.rgba.numpy()
    key, half = key_of(**facts, only="names"), num_steps // 2
    fit(key, model, loss_of_names, half, learning_rate, "names", pictures=rgba)
    scored = (lambda model: score(model, tokenizer)) if score else None
    train = functools.partial(fit, description="captioner", score=scored, pictures=rgba)
    key = key_of(**facts)
    history = train(key, model, loss_of_pictures, num_steps, learning_rate)
    key, rate = key_of(**facts, polish=num_polish_steps), learning_rate / 2
    history += train(key, model, loss_of_polish, num_polish_steps, rate)
    return model, tokenizer, history


def blur(embeds: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Return unit embeddings as far from their names as a picture's own would be.

    The cosine with the name is between 0.6 and 1.
    """
    noise = torch.randn(embeds.shape, generator=generator) / embeds.shape[1] ** 0.5
    distance = 1.3 * torch.rand(len(embeds), 1, generator=generator)
    return torch.nn.functional.normalize(embeds + distance * noise, dim=-1)


def train_scorer(
    data: NamedPictures,
    seed: int,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    score: Callable[[ImageScorer], float] | None = None,
) -> tuple[ImageScorer, History]:
    """Train the scorer's image side at 64 px against the names' sentence embeddings.

    Two fifths of the pictures are blurred, as the samples of a model early in training
    are. `score` rates it on a style that is not in `data`; see `fit`.
    """
    torch.manual_seed(seed)
    scorer = ImageScorer()

    def loss_at(step: int) -> torch.Tensor:
        generator = make_generator(seed, "scorer", step)
        places, images = data.draw(batch_size, ImageScorer.size, generator)
        embeds = scorer(soften(images, generator))
        return contrast(embeds, data.names[places], data.targets, 0.05)

    facts = {"part": "scorer", "seed": seed, "steps": num_steps, "batch": batch_size}
    key = key_of(**facts, lr=learning_rate, titles=data.titles)
    told = "scorer", score, data.rgba.numpy()
    return scorer, fit(key, scorer, loss_at, num_steps, learning_rate, *told)


def save_captioner(model: SmallCaptioner, tokenizer: Any, folder: Path) -> None:
    """Save the captioner: float16 weights, configuration and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_half(model, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config, indent=1) + "\n")
    tokenizer.save_pretrained(folder)
    write_part_manifest(folder)


def save_scorer(scorer: ImageScorer, folder: Path) -> None:
    """Save the scorer's image side in float16; its text side is all-MiniLM-L6-v2."""
    folder.mkdir(parents=True, exist_ok=True)
    save_half(scorer, folder / "model.safetensors")
    write_part_manifest(folder)


def write_part_manifest(folder: Path) -> None:
    """List a part's files with their hashes, by which later stages know them again."""
    write_manifest(folder, "00_pretrain", None, None, 0, 0, {}, {"part": folder.name})


def train_tokenizer(
    titles: Sequence[str], vocab_size: int, max_length: int
) -> PreTrainedTokenizerFast:
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

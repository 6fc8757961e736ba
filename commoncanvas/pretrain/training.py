"""Stage 00: captioner and scorer, which the paper takes ready-made, trained here.

They see the captioned web pictures alone, never a Creative Commons picture. One small
loop trains every part: resumable, drawn from (seed, step), stopped where a style that
it never learns from is read best.
"""

import json
import sys
import time
from dataclasses import dataclass, field

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from commoncanvas.core.determinism import make_generator
from commoncanvas.core.files import write_atomically
from commoncanvas.core.keys import key_of, work_folder
from commoncanvas.models.captioner import SmallCaptioner, save_half
from commoncanvas.models.scorer import ImageScorer
from commoncanvas.pretrain.augment import soften

MAX_TOKENS = 20  # of a caption, begin and end included
CHECKPOINT_STEPS = 250
SHARE_SMALL = 0.6  # of the captioner's steps, looked at with 64 pixels instead of 96


@dataclass
class History:
    """What `fit` saw: losses in blocks of 20 steps, (step, score) pairs, minutes."""

    losses: list = field(default_factory=list)
    scores: list = field(default_factory=list)
    minutes: float = 0.0

    def __add__(self, later):
        """Join two rounds of training; the later one's steps count on."""
        done = self.scores[-1][0] if self.scores else 0
        return History(
            self.losses + later.losses,
            self.scores + [(done + step, score) for step, score in later.scores],
            self.minutes + later.minutes,
        )


def fit(key, model, loss_at, num_steps, learning_rate, description, score_at=None):
    """Train with AdamW, a short warm-up and a cosine decay; resume where it stopped.

    Args:
        key: names the work folder; a finished one returns at once.
        model: trained in place; frozen parameters stay as they are.
        loss_at: step -> scalar loss; must draw only from (seed, step), or from the
            global stream, which is seeded anew before every step.
        num_steps: optimiser steps in all.
        learning_rate: the peak.
        description: label of the progress bar.
        score_at: None, or a call that scores the model as it is, higher is better; the
            model ends as it was at the best score (early stopping).

    Returns:
        `History`.
    """
    path = work_folder(key) / "state.pt"
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.01)
    state = {"step": 0, "losses": [], "scores": [], "seconds": 0.0, "best": None}
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    first, losses, scores = state["step"], state["losses"], state["scores"]
    best, began = state["best"], time.monotonic() - state["seconds"]
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
            if score_at:
                model.eval()
                scores.append((step + 1, float(score_at())))
                model.train()
                if scores[-1][1] >= max(score for _, score in scores):
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
            write_atomically(
                path, lambda temporary, state=state: torch.save(state, temporary)
            )
    if best:
        model.load_state_dict(best)
    model.eval()
    blocks = [float(np.mean(losses[i : i + 20])) for i in range(0, len(losses), 20)]
    return History(blocks, scores, state["seconds"] / 60)


def contrast(embeds, names, targets, temperature):
    """Cross-entropy of each picture's embedding against all distinct names."""
    return torch.nn.functional.cross_entropy(embeds @ targets.T / temperature, names)


def train_captioner(
    data,
    seed,
    num_steps,
    num_polish_steps,
    batch_size,
    learning_rate,
    vocab_size,
    score=None,
):
    """Train the small captioner to write each picture's name.

    First the decoder alone learns to write every name from its own blurred sentence
    embedding. Then pictures come: the name is written from the picture, half the time
    from its predicted embedding alone, which carries over to unknown styles better than
    the picture's grid; and that embedding is compared with all names'.

    Args:
        data: `NamedPictures`.
        num_steps: with pictures; the decoder's own are half as many.
        num_polish_steps: after those, from half the rate down to nothing once more.
        score: model, tokenizer -> number on a style that is not in `data`, for early
            stopping; None trains to the end.

    Returns:
        (captioner model, tokenizer, `History`).
    """
    torch.manual_seed(seed)
    tokenizer = train_tokenizer(data.titles, vocab_size, MAX_TOKENS)
    model = SmallCaptioner(len(tokenizer), max_length=MAX_TOKENS)
    token_ids = tokenizer(
        data.distinct,
        padding="max_length",
        truncation=True,
        max_length=MAX_TOKENS,
        return_tensors="pt",
    ).input_ids
    parts = dict(
        part="captioner",
        seed=seed,
        steps=num_steps,
        batch=batch_size,
        lr=learning_rate,
        vocab=vocab_size,
        titles=data.titles,
    )

    def written(memory, names):
        ids = token_ids[names]
        ids = ids[:, : int((ids != 0).sum(1).max())]
        logits = model.decode(memory, ids[:, :-1]).transpose(1, 2)
        return torch.nn.functional.cross_entropy(
            logits, ids[:, 1:], ignore_index=0, label_smoothing=0.1
        )

    def read(num, generator):
        names = torch.randint(len(data.targets), (num,), generator=generator)
        blurred = blur(data.targets[names], generator)
        nothing = torch.zeros(num, 0, model.config["width"])
        return names, model.remember(blurred, nothing)

    def loss_of_names(step):
        names, memory = read(2 * batch_size, make_generator(seed, "names", step))
        return written(memory, names)

    def loss_of_pictures(step):
        generator = make_generator(seed, "captioner", step)
        size = 64 if step < SHARE_SMALL * num_steps else 96
        places, images = data.draw(batch_size, size, generator)
        memory, embeds = model.encode(images)
        half = batch_size // 2  # pictures come by lot, so any half is a random one
        names, known = read(batch_size // 4, generator)
        names = torch.cat([data.names[places[half:]], names])
        blind = torch.cat([memory[half:, :1], known])
        seen = data.names[places]
        return (
            0.5 * written(memory[:half], seen[:half])
            + 0.5 * written(blind, names)
            + contrast(embeds, seen, data.targets, 0.04)
        )

    fit(
        key_of(**parts, only="names"),
        model,
        loss_of_names,
        num_steps // 2,
        learning_rate,
        "names",
    )
    scored = score and (lambda: score(model, tokenizer))
    rounds = (
        (dict(), 0, num_steps, learning_rate),
        (dict(polish=num_polish_steps), num_steps, num_polish_steps, learning_rate / 2),
    )
    history = History()
    for more, first, num, rate in rounds:
        history += fit(
            key_of(**parts, **more),
            model,
            lambda step, first=first: loss_of_pictures(first + step),
            num,
            rate,
            "captioner",
            scored,
        )
    return model, tokenizer, history


def blur(embeds, generator):
    """Return unit embeddings moved off their names, as a picture's own would be.

    The cosine with the name lies between 0.6 and 1.
    """
    noise = torch.randn(embeds.shape, generator=generator) / embeds.shape[1] ** 0.5
    far = 1.3 * torch.rand(len(embeds), 1, generator=generator)
    return torch.nn.functional.normalize(embeds + far * noise, dim=-1)


def train_scorer(data, seed, num_steps, batch_size, learning_rate, score=None):
    """Train the scorer's image side at 64 px against the names' sentence embeddings.

    Two fifths of the pictures are blurred: it will judge samples of young models.

    Args:
        data: `NamedPictures`.
        score: model -> number on a style that is not in `data`, or None.

    Returns:
        (scorer, `History`).
    """
    torch.manual_seed(seed)
    scorer = ImageScorer()

    def loss_at(step):
        generator = make_generator(seed, "scorer", step)
        places, images = data.draw(batch_size, ImageScorer.size, generator)
        embeds = scorer(soften(images, generator))
        return contrast(embeds, data.names[places], data.targets, 0.05)

    key = key_of(
        part="scorer",
        seed=seed,
        steps=num_steps,
        batch=batch_size,
        lr=learning_rate,
        titles=data.titles,
    )
    history = fit(
        key,
        scorer,
        loss_at,
        num_steps,
        learning_rate,
        "scorer",
        score and (lambda: score(scorer)),
    )
    return scorer, history


def save_captioner(model, tokenizer, folder):
    """Save the captioner: float16 weights, configuration and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    save_half(model, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(model.config, indent=1) + "\n")
    tokenizer.save_pretrained(folder)


def save_scorer(scorer, folder):
    """Save the scorer's image side in float16; its text side is all-MiniLM-L6-v2."""
    folder.mkdir(parents=True, exist_ok=True)
    save_half(scorer, folder / "model.safetensors")


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

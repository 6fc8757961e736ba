"""Stage 00: the parts that the paper takes from elsewhere, trained on other data.

VAE, captioner and scorer see the captioned web pictures alone, never a Creative Commons
picture. Each is trained by the same small loop, resumable and drawn from (seed, step).
"""

import json
import sys

import numpy as np
import torch
from diffusers import AutoencoderKL
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from commoncanvas.augment import change_style, random_views
from commoncanvas.captioner import SmallCaptioner, save_half
from commoncanvas.checkpoints import key_of, work_folder, write_atomically
from commoncanvas.images import images_to_pixels, pixels_to_images
from commoncanvas.scorer import ImageScorer, sentence_embeds
from commoncanvas.seeds import make_generator


def fit(key, model, loss_at, num_steps, learning_rate, description):
    """Train with AdamW, a short warm-up and a cosine decay; resume where it stopped.

    Args:
        key: names the work folder; a finished one returns at once.
        model: trained in place.
        loss_at: step -> scalar loss; must draw only from (seed, step).
        num_steps: optimiser steps in all.
        learning_rate: the peak.
        description: label of the progress bar.

    Returns:
        The losses, one a step, averaged in blocks of 20.
    """
    path = work_folder(key) / "state.pt"
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=learning_rate, weight_decay=0.01
    )
    state = {"step": 0, "losses": []}
    if path.exists():
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    first, losses = state["step"], state["losses"]
    bar = tqdm(
        range(first, num_steps), description, num_steps, initial=first, file=sys.stderr
    )
    model.train()
    for step in bar:
        warm = min(1.0, (step + 1) / 200)
        rate = learning_rate * warm * 0.5 * (1 + np.cos(np.pi * step / num_steps))
        for group in optimizer.param_groups:
            group["lr"] = float(rate)
        loss = loss_at(step)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if step % 20 == 19:
            bar.set_postfix(loss=f"{np.mean(losses[-20:]):.4f}")
        if (step + 1) % 250 == 0 or step + 1 == num_steps:
            state = {
                "step": step + 1,
                "losses": losses,
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
            }
            write_atomically(
                path, lambda temporary, state=state: torch.save(state, temporary)
            )
    model.eval()
    return [float(np.mean(losses[i : i + 20])) for i in range(0, len(losses), 20)]


def make_vae(latent_channels, widths):
    """Return an untrained `AutoencoderKL` with a downsampling factor of 8."""
    return AutoencoderKL(
        down_block_types=["DownEncoderBlock2D"] * 4,
        up_block_types=["UpDecoderBlock2D"] * 4,
        block_out_channels=widths,
        layers_per_block=1,
        latent_channels=latent_channels,
        norm_num_groups=8,
        sample_size=64,
    )


def train_vae(
    rgba, seed, num_steps, batch_size, learning_rate, latent_channels, widths, kl
):
    """Train the VAE at 64 px on squared and absolute error, colours weighed apart.

    Source: ldm, §3.1, without its adversarial and perceptual terms.

    Returns:
        (vae, losses).
    """
    torch.manual_seed(seed)
    vae = make_vae(latent_channels, widths)
    rgba = torch.from_numpy(rgba)

    def loss_at(step):
        generator = make_generator(seed, "vae", step)
        chosen = torch.randint(len(rgba), (batch_size,), generator=generator)
        images = random_views(rgba[chosen], 64, generator, (0.6, 1.2), 20.0) * 2 - 1
        posterior = vae.encode(images).latent_dist
        noise = torch.randn(posterior.mean.shape, generator=generator)
        decoded = vae.decode(posterior.mean + posterior.std * noise).sample
        error = decoded - images
        coarse = torch.nn.functional.avg_pool2d(error, 8)
        return (
            error.square().mean()
            + 0.2 * error.abs().mean()
            + coarse.abs().mean()
            + kl * posterior.kl().mean()
        )

    key = key_of(
        part="vae",
        seed=seed,
        steps=num_steps,
        batch=batch_size,
        lr=learning_rate,
        channels=latent_channels,
        widths=list(widths),
        kl=kl,
        pictures=len(rgba),
    )
    return vae, fit(key, vae, loss_at, num_steps, learning_rate, "vae")


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


def contrast(embeds, names, targets, temperature):
    """Cross-entropy of each picture's embedding against all distinct names."""
    return torch.nn.functional.cross_entropy(embeds @ targets.T / temperature, names)


def train_captioner(
    rgba, titles, seed, num_steps, batch_size, learning_rate, vocab_size
):
    """Train the small captioner to write each picture's name.

    Returns:
        (captioner model, tokenizer, losses).
    """
    torch.manual_seed(seed)
    distinct = sorted(set(titles))
    tokenizer = train_tokenizer(titles, vocab_size, 20)
    model = SmallCaptioner(len(tokenizer))
    names = torch.tensor([distinct.index(title) for title in titles])
    targets = torch.from_numpy(sentence_embeds(distinct))
    token_ids = tokenizer(
        titles,
        padding="max_length",
        truncation=True,
        max_length=20,
        return_tensors="pt",
    ).input_ids
    rgba = torch.from_numpy(rgba)

    def loss_at(step):
        generator = make_generator(seed, "captioner", step)
        chosen = torch.randint(len(rgba), (batch_size,), generator=generator)
        images = (
            change_style(random_views(rgba[chosen], 96, generator), generator) * 2 - 1
        )
        memory, embeds = model.encode(images)
        torch.manual_seed(seed + step)  # dropout, so that a resumed run is the same
        logits = model.decode(memory, token_ids[chosen, :-1])
        written = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2),
            token_ids[chosen, 1:],
            ignore_index=0,
            label_smoothing=0.1,
        )
        return written + 0.5 * contrast(embeds, names[chosen], targets, 0.05)

    key = key_of(
        part="captioner",
        seed=seed,
        steps=num_steps,
        batch=batch_size,
        lr=learning_rate,
        vocab=vocab_size,
        titles=titles,
    )
    losses = fit(key, model, loss_at, num_steps, learning_rate, "captioner")
    return model, tokenizer, losses


def train_scorer(rgba, titles, seed, num_steps, batch_size, learning_rate):
    """Train the scorer's image side at 64 px against the names' sentence embeddings.

    Returns:
        (scorer, losses).
    """
    torch.manual_seed(seed)
    distinct = sorted(set(titles))
    scorer = ImageScorer()
    names = torch.tensor([distinct.index(title) for title in titles])
    targets = torch.from_numpy(sentence_embeds(distinct))
    rgba = torch.from_numpy(rgba)

    def loss_at(step):
        generator = make_generator(seed, "scorer", step)
        chosen = torch.randint(len(rgba), (batch_size,), generator=generator)
        images = (
            change_style(random_views(rgba[chosen], 64, generator), generator) * 2 - 1
        )
        return contrast(scorer(images), names[chosen], targets, 0.05)

    key = key_of(
        part="scorer",
        seed=seed,
        steps=num_steps,
        batch=batch_size,
        lr=learning_rate,
        titles=titles,
    )
    return scorer, fit(key, scorer, loss_at, num_steps, learning_rate, "scorer")


def save_vae(vae, pixels, folder, seed):
    """Save the VAE with the scaling factor that gives its latents unit variance.

    Source: ldm, §3.3 and Appendix G (rescaling by the latents' standard deviation).

    Args:
        vae: a trained `AutoencoderKL`; its config gets the factor.
        pixels: (n, h, w, 3) uint8 training pictures; 512 by lot are measured.
        folder: where it goes.
        seed: of the lot.
    """
    lot = torch.randperm(len(pixels), generator=make_generator(seed, "scaling"))[:512]
    with torch.no_grad():
        images = pixels_to_images(pixels[lot.numpy()], 64)
        spread = torch.cat([vae.encode(b).latent_dist.mean for b in images.split(64)])
    vae.register_to_config(scaling_factor=round(1 / spread.std().item(), 6))
    vae.save_pretrained(folder)


@torch.no_grad()
def reconstruct(vae, pixels):
    """Encode and decode (n, 64, 64, 3) uint8 pixels through the posterior's mean."""
    batches = pixels_to_images(pixels).split(64)
    means = [vae.encode(batch).latent_dist.mean for batch in batches]
    return np.concatenate([images_to_pixels(vae.decode(m).sample) for m in means])


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

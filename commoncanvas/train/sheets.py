"""Notebook 04's sheets of pictures, each with a sentence made from its values.

Every function returns a `Finding`; where there is nothing to show, its sentence says
why. Pictures are (n, h, w, 3) uint8.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from commoncanvas.analysis import figures
from commoncanvas.analysis.figures import Finding
from commoncanvas.core.draws import Draws
from commoncanvas.models.encoders import decode_latents
from commoncanvas.train import lesson
from commoncanvas.train.lesson import Example

MARKS = (0, 250, 500, 750, 999)  # timesteps at which the example is shown
TRIED = (250, 500, 750)  # of these, those at which the UNet predicts it
TILE = 128  # edge of a shown picture [pixels]


def noised_work(
    example: Example, vae: Any, noise_scheduler: Any, draws: Draws
) -> Finding:
    """Show a work at five timesteps, noised as latents and decoded by the VAE."""
    marks = _within(MARKS, noise_scheduler)
    scale = vae.config.scaling_factor
    noisy, _, _ = lesson.noised(example.part, noise_scheduler, marks, draws, scale)
    pictures = decode_latents(vae, noisy / scale)
    signal, noise = lesson.levels(noise_scheduler)
    labels = [f"{signal[t]:.2f} work + {noise[t]:.2f} noise" for t in marks]
    figure = figures.sheet(
        pictures,
        labels,
        columns=len(marks),
        alt=f"{example.caption}, noised at {len(marks)} timesteps",
        caption=f"{example.credit}. A held-out work, the first in random order.",
        tile_px=TILE,
        heads=[f"t = {t}" for t in marks],
    )
    apart = [_apart(picture, pictures[0]) for picture in pictures[1:]]
    return Finding(
        figure,
        f"Decoded, the noised work differs from the clean one by {_listed(apart)} of "
        f"255 a pixel at t = {_listed(marks[1:])}.",
    )


def before_and_after(
    example: Example,
    unets: Mapping[str, Any],
    vae: Any,
    noise_scheduler: Any,
    draws: Draws,
) -> Finding:
    """Show what UNets predict of one work at three timesteps, and their errors.

    Args:
        unets: {name: UNet}, the untrained one first; both are moved to the VAE's
            device.
    """
    marks, scale = _within(TRIED, noise_scheduler), vae.config.scaling_factor
    noisy, clean, _ = lesson.noised(example.part, noise_scheduler, marks, draws, scale)
    work = decode_latents(vae, clean[:1] / scale)[0]
    columns = [decode_latents(vae, noisy / scale)]
    texts: list[list[Any]] = [[f"t = {t}" for t in marks]]
    losses = []
    for unet in unets.values():
        unet.to(vae.device)
        latents, found = lesson.predict(
            unet, noise_scheduler, example.part, marks, draws, scale
        )
        pictures = decode_latents(vae, latents / scale)
        columns += [pictures, _difference(pictures, work)]
        texts += [[f"loss {loss:.3f}" for loss in found], [()] * len(marks)]
        losses.append(found)
    heads = ["noised"]
    heads += [text for name in unets for text in (name, "error")]
    # (columns, timesteps, h, w, 3) -> one row a timestep
    tiles = np.stack(columns).swapaxes(0, 1).reshape(-1, *work.shape)
    labels = [text for row in zip(*texts, strict=True) for text in row]
    figure = figures.sheet(
        tiles,
        labels,
        columns=len(heads),
        alt=f"{example.caption}: noised, and the clean picture that each UNet predicts",
        caption="An error is the difference to the work: white is none, black is 255. "
        f"{example.credit}",
        tile_px=TILE,
        heads=heads,
    )
    middle = len(marks) // 2
    first, last = losses[0][middle], losses[-1][middle]
    went = "falls" if last < first else "does not fall"
    return Finding(
        figure,
        f"On this held-out work, “{example.caption}”, at t = {marks[middle]} the loss "
        f"{went} by training: {first:.3f} before, {last:.3f} after.",
    )


def guided(
    drawn: Mapping[float, np.ndarray], prompts: Sequence[str], steps: int
) -> Finding:
    """Show the same prompts from the same noise at several guidance scales.

    Args:
        drawn: {guidance_scale: (prompts, h, w, 3) uint8}, rising.
    """
    scales = list(drawn)
    tiles, labels = _rows(list(drawn.values()), prompts)
    figure = figures.sheet(
        tiles,
        labels,
        columns=len(scales),
        alt="Samples of the same prompts and noise at several guidance scales",
        caption=f"One row a prompt, one noise a row, {steps} steps",
        tile_px=TILE,
        heads=[f"w = {scale:g}" for scale in scales],
    )
    first, last = (float(drawn[scale].std()) for scale in (scales[0], scales[-1]))
    apart = _apart(drawn[scales[-1]], drawn[scales[0]])
    return Finding(
        figure,
        f"From guidance w = {scales[0]:g} to {scales[-1]:g} a pixel changes by "
        f"{apart:.0f} of 255, and the pixels' standard deviation, their contrast, goes "
        f"from {first:.0f} to {last:.0f}.",
    )


def denoising(
    timesteps: Sequence[int], pictures: np.ndarray, prompt: str, most: int = 8
) -> Finding:
    """Show the picture that the UNet expects at some steps of drawing one sample.

    Args:
        timesteps, pictures: of `lesson.denoise`.
    """
    shown = lesson.spread(len(timesteps), most)
    figure = figures.sheet(
        pictures[shown],
        [f"t = {timesteps[place]}" for place in shown],
        columns=len(shown),
        alt=f"{prompt}: the expected picture, step by step",
        caption=f"{prompt}; the picture that the UNet expects at {len(shown)} of "
        f"{len(timesteps)} steps, the last of them the sample",
        tile_px=TILE,
    )
    apart = np.array([_apart(picture, pictures[-1]) for picture in pictures])
    near = int(np.argmax(apart <= apart[0] / 2))
    return Finding(
        figure,
        f"The first guess differs from the sample by {apart[0]:.0f} of 255 a pixel; "
        f"half of that is gone by step {near + 1} of {len(pictures)}, "
        f"t = {timesteps[near]}.",
    )


def filmstrip(
    previews: Mapping[int, np.ndarray], prompts: Sequence[str], most: int = 10
) -> Finding:
    """Show the same prompts through training, one row a prompt, one column a step.

    Args:
        previews: of `launch.read_previews`; {step: (prompts, h, w, 3) uint8}.
        most: columns; of more steps some are left out, the first and last are not.
    """
    steps = list(previews)
    shown = [steps[place] for place in lesson.spread(len(steps), most)]
    if not shown:
        return Finding(
            None,
            "No pictures were kept while this model was trained: its profile asks for "
            "none (preview_steps is 0), or it was trained before they were kept.",
        )
    tiles, labels = _rows([previews[step] for step in shown], prompts)
    figure = figures.sheet(
        tiles,
        labels,
        columns=len(shown),
        alt="The same prompts drawn at several steps of the training",
        caption="One row a prompt and noise, guidance_scale 3; the weights of the "
        "moment, not their average",
        heads=[f"{step:,}" for step in shown],
    )
    if len(shown) == 1:
        return Finding(figure, f"One picture a prompt was kept, at step {shown[0]:,}.")
    first, *_ = shown
    early = _apart(previews[shown[1]], previews[first])
    late = _apart(previews[shown[-1]], previews[shown[-2]])
    return Finding(
        figure,
        f"Between training steps {first:,} and {shown[1]:,} a pixel of the drawn "
        f"prompts changes by {early:.0f} of 255, between {shown[-2]:,} and "
        f"{shown[-1]:,} by {late:.0f}.",
    )


def _rows(
    columns: Sequence[np.ndarray], prompts: Sequence[str]
) -> tuple[np.ndarray, list[Any]]:
    """Lay columns of pictures out by rows, each named below its first picture."""
    tiles = np.stack(columns).swapaxes(0, 1)  # (prompts, columns, h, w, 3)
    labels: list[Any] = []
    for prompt, _ in zip(prompts, tiles, strict=True):
        labels += [prompt, *[()] * (len(columns) - 1)]
    return tiles.reshape(-1, *tiles.shape[2:]), labels


def _within(marks: Sequence[int], noise_scheduler: Any) -> list[int]:
    """Return timesteps meant for a schedule of 1,000 on a schedule of any length."""
    num = noise_scheduler.config.num_train_timesteps
    return [min(round(mark * num / 1000), num - 1) for mark in marks]


def _apart(pictures: np.ndarray, others: np.ndarray) -> float:
    """Return the mean difference of two pictures' values, 0 to 255."""
    return float(np.abs(pictures.astype(float) - others.astype(float)).mean())


def _difference(pictures: np.ndarray, work: np.ndarray) -> np.ndarray:
    """Return differences from a work as grey pictures, white where there is none."""
    error = np.abs(pictures.astype(float) - work.astype(float)).mean(-1, keepdims=True)
    return np.repeat(255 - error.round(), 3, axis=-1).astype(np.uint8)


def _listed(numbers: Sequence[float]) -> str:
    """Write numbers as words do: 1, 2 and 3."""
    words = [f"{number:,.0f}" for number in numbers]
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)

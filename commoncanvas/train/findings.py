"""Notebook 04's plots and tables, each with a sentence made from its values.

Every function returns a `Finding`; where there is nothing to show, its sentence says
why. What shows pictures is in `sheets`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from IPython.display import Markdown
from torch import Tensor

from commoncanvas.analysis import figures, plots
from commoncanvas.analysis.figures import Finding
from commoncanvas.core.draws import Draws
from commoncanvas.train import lesson
from commoncanvas.train.loop import ema_start
from commoncanvas.train.recipe import TrainRecipe


def start(
    num_works: int,
    num_held_out: int,
    recipe_steps: int,
    batch_size: int,
    ancestor: Mapping[str, Any] | None,
    num_inherited: int,
) -> Finding:
    """Say on how many works a training runs, how long, and from what it begins.

    Args:
        recipe_steps: optimiser steps, of `batch_size` works each.
        ancestor: of `ancestry.read_ancestor`; None begins from noise.
        num_inherited: works behind the ancestor.
    """
    one = ancestor or {"model": "random weights", "license": "", "num_works": 0}
    row = {
        "works": num_works,
        "held-out works": num_held_out,
        "steps": recipe_steps,
        "works a step": batch_size,
        "starts from": one["model"],
    }
    if ancestor:
        unknown = one["num_works"] is None
        row["works behind it"] = "unknown" if unknown else f"{num_inherited:,}"
        row["its licence, if given"] = one["license"] or "–"
    epochs = recipe_steps * batch_size / num_works
    return Finding(
        figures.table(pd.DataFrame([row])),
        f"On average the training meets each of its {num_works:,} works "
        f"{plots.as_text(epochs, 3)} times, each time with other noise.",
    )


def noise_levels(noise_scheduler: Any) -> Finding:
    """Draw the noise schedule: the factors of the work and of the noise by timestep."""
    signal, noise = lesson.levels(noise_scheduler)
    steps = list(range(len(signal)))
    even, last = int(np.argmax(noise >= signal)), len(signal) - 1
    figure = plots.curves(
        {
            "the work, √ᾱ": (steps, signal.tolist()),
            "the noise, √(1 − ᾱ)": (steps, noise.tolist()),
        },
        alt="Factors of the work and of the noise by timestep",
        x_label="timestep t",
        y_label="factor",
    )
    return Finding(
        figure,
        f"The noise outweighs the work from t = {even} of {len(signal):,} on; at the "
        f"last timestep, t = {last}, the work's factor is {signal[last]:.3f}.",
    )


def first_step(
    loss: Tensor, again: Tensor, target: Tensor, timesteps: Tensor
) -> Finding:
    """Read one step before training, beside what zeros would score.

    Args:
        loss: of the step as the notebook writes it out, a scalar.
        again: (1,) the same by `denoising_losses`.
        target: what the UNet was to predict, (1, channels, h/8, w/8).
        timesteps: (1,) the drawn one.
    """
    found, zeros = loss.item(), target.square().mean().item()
    than = "less than" if found < 0.995 * zeros else "no less than"
    return Finding(
        None,
        f"The step drew t = {timesteps.item()}. Its loss is {found:.3f}, {than} the "
        f"{zeros:.3f} of a network that always answers zero. The function with which "
        f"every training here computes it gives {again.item():.3f}.",
    )


def losses(
    unets: Mapping[str, Any],
    noise_scheduler: Any,
    data: Any,
    draws: Draws,
    scaling_factor: float,
) -> Finding:
    """Draw the held-out loss at ten timesteps, a line a UNet; see `losses_by_timestep`.

    Args:
        unets: {name: UNet}, the untrained one first, the trained one last.
        data: the held-out `Latents`.
    """
    num = noise_scheduler.config.num_train_timesteps
    timesteps = [(2 * i + 1) * num // 20 for i in range(10)]
    by_unet = {
        name: lesson.losses_by_timestep(
            unet, noise_scheduler, data, timesteps, draws, scaling_factor
        )
        for name, unet in unets.items()
    }
    found = list(by_unet.values())
    if not found[-1]:
        return Finding(
            None, "Fewer than two works are held out, so no loss has an interval."
        )
    lines = {
        name: (
            timesteps,
            [e.value for e in estimates],
            [e.low for e in estimates],
            [e.high for e in estimates],
        )
        for name, estimates in by_unet.items()
    }
    figure = plots.curves(
        lines,
        alt="Held-out loss by timestep, before and after training",
        x_label="timestep t",
        y_label="mean squared error",
        caption=f"Mean over {found[-1][0].n} held-out works with 95 % intervals; the "
        "same noise at every timestep",
    )
    after = [e.value for e in found[-1]]
    low, high = int(np.argmin(after)), int(np.argmax(after))
    before = [e.value for e in found[0]]
    change = 1 - float(np.mean(after)) / float(np.mean(before))
    went = f"{'takes away' if change > 0 else 'adds'} {100 * abs(change):.0f} % of it"
    return Finding(
        figure,
        f"By timestep, the loss after training is least at t = {timesteps[low]} "
        f"({after[low]:.3f}) and greatest at t = {timesteps[high]} "
        f"({after[high]:.3f}); over all of them training {went}.",
    )


def timesteps_drawn(
    num_timesteps: int, weighting_scheme: str, logit_mean: float, seed: int
) -> Finding:
    """Draw how often a training meets each timestep; see `draw_timesteps`."""
    scheme = weighting_scheme
    drawn = lesson.drawn_timesteps(num_timesteps, scheme, logit_mean, seed)
    edges = np.linspace(0, num_timesteps, 26)
    counts, _ = np.histogram(drawn, edges)
    middles = ((edges[1:] + edges[:-1]) / 2).tolist()
    share = (counts / counts.mean()).tolist()
    figure = plots.curves(
        {scheme: (middles, share), "every one as often": (middles, [1.0] * 25)},
        alt="How often training draws each timestep",
        x_label="timestep t",
        y_label="times as often as evenly",
        caption=f"weighting_scheme {scheme}; {len(drawn):,} draws",
    )
    low, high = np.quantile(drawn, [0.25, 0.75]).round().astype(int).tolist()
    even = round(num_timesteps / 4), round(3 * num_timesteps / 4)
    return Finding(
        figure,
        f"Half of the timesteps that training draws lie between {low} and {high}; were "
        f"every one as likely, it would be {even[0]} and {even[1]}.",
    )


def loss_curve(log: Sequence[Mapping[str, Any]], variant: str) -> Finding:
    """Draw training and held-out loss by step, of a training's log."""
    steps = [entry["step"] for entry in log]
    lines = {
        name: (steps, [entry[key] for entry in log])
        for name, key in (("training", "loss"), ("held out", "validation_loss"))
    }
    figure = plots.curves(
        lines,
        alt="Training and held-out loss by step",
        x_label="step",
        y_label="mean squared error",
        caption=f"Loss of {variant}; attention: {log[-1]['attention']}",
    )
    first, last = log[0], log[-1]
    least = min(log, key=lambda entry: entry["validation_loss"])
    said = (
        f"The loss on held-out works is {first['validation_loss']:.3f} at step "
        f"{first['step']:,} and {last['validation_loss']:.3f} at step {last['step']:,}"
    )
    value, step = least["validation_loss"], least["step"]
    end = f"; its least was {value:.3f}, at step {step:,}."
    if least is last:
        end = ", its least."
    return Finding(figure, f"{said}{end} {overfitting(first, last)}".strip())


def overfitting(first: Mapping[str, Any], last: Mapping[str, Any]) -> str:
    """Say what held-out loss beside training loss tells about overfitting.

    It is how each of them changed that is compared: their levels differ anyway, as
    training draws other timesteps and captions.

    Args:
        first, last: entries of a training's log; "" where they are the same one.
    """
    if first["step"] == last["step"]:
        return ""
    own, held = (last[key] / first[key] - 1 for key in ("loss", "validation_loss"))
    changes = [
        f"{'rises' if change > 0 else 'falls'} by {100 * abs(change):.0f} %"
        for change in (own, held)
    ]
    told = (
        f"From step {first['step']:,} to {last['step']:,} the training loss "
        f"{changes[0]} and the held-out loss {changes[1]}: "
    )
    if own >= 0:
        return told + "where the first does not fall, nothing can overfit."
    if held > 0:
        return told + (
            "the model overfits, since what it still learns about its training works "
            "does not hold for others."
        )
    if held > own / 2:
        return told + (
            "works that it never saw share less than half of the fall, which is how "
            "overfitting begins."
        )
    return told + "works that it never saw share half of the fall or more."


# What a UNet predicts by `prediction_type`: in words, as a symbol, and whose formula.
PREDICTED = {
    "epsilon": ("the noise", r"\varepsilon", " (Ho et al., 2020, Eq. 14)"),
    "sample": ("the clean latents", "x_0", ""),
    "v_prediction": ("the velocity", "v", ""),
}


def objective(prediction_type: str) -> Markdown:
    """Return the loss of what a run's UNet predicts, as a formula.

    Source: ddpm, Eq. 14, for epsilon; the others are the same error of their target.
    """
    what, symbol, source = PREDICTED[prediction_type]
    guess = f"{symbol.partition('_')[0]}_\\theta(x_t, t, c)"
    return Markdown(
        f"The UNet of this run predicts {what}, ${symbol}$ (`prediction_type: "
        f"{prediction_type}`), so its loss is{source}\n\n"
        f"$$L = \\left\\| {symbol} - {guess} \\right\\|^2$$\n\n"
        "where $c$ is the caption."
    )


def average(recipe: TrainRecipe) -> str:
    """Say over which steps the moving average runs, and how far it looks back."""
    steps = recipe.num_train_steps
    averaged = steps - ema_start(steps, recipe.ema_fraction)
    if not averaged:
        return "Here no average is taken: the last weights are the result."
    back = 1 / (1 - recipe.ema_decay) if recipe.ema_decay < 1 else np.inf
    return (
        f"Here the average runs from step {steps - averaged + 1:,} to {steps:,}, the "
        f"last, with d = {recipe.ema_decay:g}, so that it looks back over about "
        f"{min(back, averaged):,.0f} of them."
    )


def unet_levels(unet: Any, name: str, recipe: TrainRecipe) -> Finding:
    """Tabulate a UNet's levels, and say its size and what is averaged."""
    size = sum(p.numel() for p in unet.parameters())
    table = lesson.unet_levels(unet.config)
    attending = int((table["cross-attention"] == "yes").sum())
    return Finding(
        figures.table(table, f"UNet {name}, from input to output"),
        f"It has {size:,} parameters; {attending} of its {len(table)} blocks attend to "
        f"the caption. {average(recipe)}",
    )

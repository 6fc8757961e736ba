"""What a training is asked for, as notebook 04 says it and every process reads it."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import read_json, shown


@dataclass(frozen=True)
class TrainRecipe:
    """How a UNet is trained, whatever the works and the machines."""

    seed: int  # of weights, order, noise and dropped captions
    num_train_steps: int  # optimiser steps
    train_batch_size: int  # works a step, over all processes
    micro_batch_size: int  # works a forward pass
    learning_rate: float  # peak rate of AdamW
    lr_warmup_steps: int  # steps to reach it
    lr_schedule: str  # after the warm-up; a name of diffusers' `get_scheduler`
    weight_decay: float  # of AdamW
    caption_drop_prob: float  # probability of the empty caption
    ema_fraction: float  # last share of the steps, averaged over
    ema_decay: float  # of the moving average, a step
    prediction_type: str  # what the UNet predicts: epsilon, v_prediction or sample
    weighting_scheme: str  # of timesteps; see `draw_timesteps`
    logit_mean: float  # of logit_normal
    scheduler: list[str]  # [folder, revision]; see `make_noise_scheduler`
    checkpoint_steps: int  # steps between snapshots and validations
    scaling_factor: float  # brings raw latents to about unit variance
    mixed_precision: str  # no, fp16 or bf16
    attention: str  # kernel: sdpa or flash; see `set_attention`
    compile: bool  # the UNet, in channels-last


@dataclass(frozen=True)
class Previews:
    """Pictures drawn at each snapshot, for TensorBoard."""

    prompts: list[str]
    num_inference_steps: int  # denoising steps
    vae: list[str]  # [folder, revision]
    text_encoder: list[str]  # [folder, revision]
    max_tokens: int  # length of a caption


@dataclass(frozen=True)
class TrainSpec:
    """One training: recipe, works, UNet, and where it goes on."""

    key: str  # names the work folder, from `key_of`
    folder: str  # of stage 03, or its address
    works: dict[str, Any]  # licenses, caption_source, fraction, sources of `Latents`
    unet_config: dict[str, Any]  # arguments of UNet2DConditionModel
    text_width: int  # of the text states
    recipe: TrainRecipe
    description: str  # for the progress bar and TensorBoard's folder
    init_from: str = ""  # warm start: the pipeline whose UNet it starts from
    shard: bool = False  # whether processes share the UNet's weights too (FSDP)
    previews: Previews | None = None
    latent_shape: list[int] | None = None  # of samples, if works are of several shapes
    inputs: str = ""  # from `inputs_of`; other machines may start much later


def read_spec(file: Path | str) -> TrainSpec:
    """Read a `TrainSpec` from its JSON.

    Raises:
        ManifestError: the file cannot be read.
        ParameterError: names are unknown or missing.
    """
    found = read_json(file)
    _check_names(TrainSpec, found, shown(file))
    _check_names(TrainRecipe, found["recipe"], f"recipe of {shown(file)}")
    recipe = TrainRecipe(**found.pop("recipe"))
    if previews := found.pop("previews", None):
        _check_names(Previews, previews, f"previews of {shown(file)}")
        previews = Previews(**previews)
    return TrainSpec(**found, recipe=recipe, previews=previews)


def _check_names(kind: type, found: Any, where: str) -> None:
    names = {field.name for field in fields(kind)}
    given = set(found) if isinstance(found, dict) else set()
    if given != names:
        raise ParameterError(
            f"{where} lacks {sorted(names - given)} and has the unknown "
            f"{sorted(given - names)}; expected all names of {kind.__name__} and no "
            "other; run 04_train again, which writes it."
        )

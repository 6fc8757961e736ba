"""The noise schedule: how training adds noise, and how sampling takes it away again."""

from diffusers import DDIMScheduler, DDPMScheduler

from commoncanvas.hub import find_part

# Of stabilityai/stable-diffusion-2-base.
SD2 = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
}


def make_noise_scheduler(prediction_type="epsilon", folder="", revision=""):
    """Return the training's noise schedule.

    Args:
        prediction_type: what the UNet predicts.
        folder: pipeline whose schedule is taken, a folder or a Hub id; "" is SD2's,
            from the constants above.
        revision: its commit on the Hub.

    Raises:
        ParameterError: the folder holds no schedule, or a Hub id has no revision.
    """
    if not folder:
        return DDPMScheduler(prediction_type=prediction_type, **SD2)
    name, words = find_part(folder, revision, "scheduler")
    return DDPMScheduler.from_pretrained(name, prediction_type=prediction_type, **words)


def make_sampler(noise_scheduler):
    """Return the DDIM sampler of a noise schedule. Source: ddim."""
    return DDIMScheduler.from_config(
        noise_scheduler.config,
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )

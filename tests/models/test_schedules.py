"""Training and sampling share one noise schedule, SD2's or that of a pipeline."""

import pytest
import torch
from diffusers import DDPMScheduler, PNDMScheduler

from commoncanvas.core.errors import ParameterError
from commoncanvas.models.pipelines import make_noise_scheduler, make_sampler


def test_a_pipeline_s_schedule_is_taken_whatever_its_sampler(tmp_path):
    # Stable Diffusion pipelines on the Hub carry a PNDM scheduler.
    theirs = PNDMScheduler(
        num_train_timesteps=500, beta_start=0.001, beta_end=0.02, beta_schedule="linear"
    )
    theirs.save_pretrained(tmp_path / "scheduler")
    found = make_noise_scheduler("v_prediction", str(tmp_path))
    assert isinstance(found, DDPMScheduler)
    assert found.config.prediction_type == "v_prediction"
    assert torch.equal(found.alphas_cumprod, theirs.alphas_cumprod)
    sampler = make_sampler(found)
    assert torch.equal(sampler.alphas_cumprod, theirs.alphas_cumprod)
    assert sampler.config.prediction_type == "v_prediction"


def test_sd2_s_constants_are_those_that_its_pipeline_would_hold(tmp_path):
    ours = make_noise_scheduler()
    PNDMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
    ).save_pretrained(tmp_path / "scheduler")
    theirs = make_noise_scheduler("epsilon", str(tmp_path))
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)


@pytest.mark.parametrize(
    ("folder", "told"),
    [("somebody/model", "no folder here and has no revision"), (".", "has neither")],
)
def test_a_schedule_that_is_not_there_or_not_pinned_is_refused(folder, told):
    with pytest.raises(ParameterError, match=told):
        make_noise_scheduler("epsilon", folder)

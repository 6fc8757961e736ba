"""Samples are drawn once: resumed or found again, they are the same bytes."""

import zlib
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from commoncanvas.core import keys, paths
from commoncanvas.evaluate.samples import draw_requests
from commoncanvas.models.pipelines import draw_samples

FILES = {
    "pipeline/unet/weights.safetensors": {"sha256": "aa", "bytes": 3},
    "pipeline/README.md": {"sha256": "bb", "bytes": 3},
    "metrics.json": {"sha256": "cc", "bytes": 3},
}
REQUESTS = {
    ("human", 1.0): ["cat", "dog", "sun", "café", "cat"],
    ("human", 3.0): ["cat", "dog", "sun", "café", "cat"],
    ("gate", 3.0): ["red apple"],
}
SETTINGS = {"num_inference_steps": 4, "seed": 7, "batch_size": 2}
NUM_BATCHES = 7  # 3 + 3 + 1


class Pipeline:
    """Stands for diffusers': noise of each generator, prompt, guidance and steps."""

    def __init__(self, num_calls=99):
        self.num_left = num_calls
        self.asked = []

    def set_progress_bar_config(self, disable):
        assert disable

    def __call__(
        self, prompts, guidance_scale, generator, num_inference_steps, output_type
    ):
        if not self.num_left:
            raise KeyboardInterrupt
        self.num_left -= 1
        self.asked.append((tuple(prompts), guidance_scale))
        images = [
            torch.rand(6, 4, 3, generator=noise).numpy() / guidance_scale
            + zlib.crc32(prompt.encode()) % 7 / 20
            for prompt, noise in zip(prompts, generator, strict=True)
        ]
        images = np.stack(images) / num_inference_steps
        return SimpleNamespace(images=images)


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished")


def draw(pipeline, files=FILES, requests=REQUESTS, **changed):
    return draw_requests(pipeline, files, requests, **SETTINGS | changed)


def expected():
    """Draw every request whole, without any key."""
    return {
        request: draw_samples(
            Pipeline(), prompts, request[1], *SETTINGS.values(), description="x"
        )
        for request, prompts in REQUESTS.items()
    }


def assert_same(found):
    assert list(found) == list(REQUESTS)
    for request, pixels in expected().items():
        assert found[request].dtype == np.uint8
        np.testing.assert_array_equal(found[request], pixels)


def test_keyed_samples_are_those_that_are_drawn_whole():
    pipeline = Pipeline()
    assert_same(draw(pipeline)[1])
    assert len(pipeline.asked) == NUM_BATCHES


@pytest.mark.parametrize("num_calls", range(NUM_BATCHES))
def test_an_interrupted_drawing_goes_on_where_it_stopped(num_calls):
    first, second = Pipeline(num_calls), Pipeline()
    with pytest.raises(KeyboardInterrupt):
        draw(first)
    assert_same(draw(second)[1])
    assert len(second.asked) == NUM_BATCHES - num_calls
    whole = Pipeline()
    expected_calls = draw(whole, seed=8) and whole.asked
    assert first.asked + second.asked == expected_calls


def test_finished_samples_are_found_again_without_the_pipeline():
    key, _ = draw(Pipeline())
    keys.finish(key)
    again, found = draw(Pipeline(num_calls=0))
    assert again == key and not (paths.CHECKPOINTS / key).exists()
    assert_same(found)


@pytest.mark.parametrize("name", ["pipeline/README.md", "metrics.json"])
def test_a_file_that_draws_nothing_is_not_in_the_key(name):
    draw(Pipeline())
    assert_same(draw(Pipeline(0), FILES | {name: {"sha256": "x", "bytes": 1}})[1])


@pytest.mark.parametrize(
    "changed",
    [
        {"files": FILES | {"pipeline/unet/weights.safetensors": {"sha256": "x"}}},
        {"requests": REQUESTS | {("gate", 3.0): ["red pear"]}},
        {"requests": {(name, 2 * scale): w for (name, scale), w in REQUESTS.items()}},
        {"num_inference_steps": 5},
        {"seed": 8},
        {"batch_size": 3},
    ],
)
def test_whatever_changes_a_picture_draws_anew(changed):
    key, _ = draw(Pipeline())
    pipeline = Pipeline()
    other, _ = draw(pipeline, **changed)
    assert other != key
    assert sum(len(prompts) for prompts, _ in pipeline.asked) == 11


def test_a_change_of_the_code_that_draws_draws_anew(monkeypatch):
    key, _ = draw(Pipeline())
    monkeypatch.setattr("commoncanvas.evaluate.samples.code_hash", lambda name: name)
    assert draw(Pipeline())[0] != key

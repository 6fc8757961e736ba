"""Samples are drawn once: resumed or found again, they are the same bytes."""

import pickle
import zlib
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from commoncanvas.core import keys, paths
from commoncanvas.core.errors import ParameterError, PictureError
from commoncanvas.evaluate import samples
from commoncanvas.evaluate.samples import draw_requests
from commoncanvas.models import pipelines
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
SIZE = 6
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
            torch.rand(SIZE, SIZE, 3, generator=noise).numpy() / guidance_scale
            + zlib.crc32(prompt.encode()) % 7 / 20
            for prompt, noise in zip(prompts, generator, strict=True)
        ]
        images = np.stack(images) / num_inference_steps
        return SimpleNamespace(images=images)


@pytest.fixture(autouse=True)
def checkpoints(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished")


@pytest.fixture
def draw(monkeypatch):
    """Draw with a stand-in, which the folder's name would load."""

    def do(pipeline, files=FILES, requests=REQUESTS, **changed):
        monkeypatch.setattr(samples, "load_pipeline", lambda *_: pipeline)
        words = {**SETTINGS, "size": SIZE, **changed}
        return draw_requests("folder", files, requests, **words)

    return do


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
        drawn = found[request]
        assert drawn[:].dtype == np.uint8 and len(drawn) == len(pixels)
        np.testing.assert_array_equal(drawn[:], pixels)
        np.testing.assert_array_equal(np.stack(list(drawn)), pixels)
        np.testing.assert_array_equal(drawn[-1], pixels[-1])
        places = [len(pixels) - 1, 0, 0]
        np.testing.assert_array_equal(drawn[places], pixels[places])


def test_every_set_is_asked_for_at_every_scale_and_nothing_is_nothing(draw):
    sets = {n: pd.DataFrame({"prompt": [n, "x"]}) for n in "ab"}
    asked = samples.requests_of(sets, [1.0, 3.0])
    assert list(asked) == [("a", 1.0), ("a", 3.0), ("b", 1.0), ("b", 3.0)]
    assert asked["b", 1.0] == ["b", "x"] and samples.requests_of(sets, []) == {}
    key, found = draw(Pipeline(num_calls=0), requests={})
    assert found == {}
    keys.finish(key)  # there is no folder to move


def test_keyed_samples_are_those_that_are_drawn_whole(draw):
    pipeline = Pipeline()
    assert_same(draw(pipeline)[1])
    assert len(pipeline.asked) == NUM_BATCHES


@pytest.mark.parametrize("num_calls", range(NUM_BATCHES))
def test_an_interrupted_drawing_goes_on_where_it_stopped(draw, num_calls):
    first, second = Pipeline(num_calls), Pipeline()
    with pytest.raises(KeyboardInterrupt):
        draw(first)
    assert_same(draw(second)[1])
    assert len(second.asked) == NUM_BATCHES - num_calls
    whole = Pipeline()
    expected_calls = draw(whole, seed=8) and whole.asked
    assert first.asked + second.asked == expected_calls


def test_finished_samples_are_found_again_without_the_pipeline(draw):
    key, _ = draw(Pipeline())
    keys.finish(key)
    again, found = draw(Pipeline(num_calls=0))
    assert again == key and not (paths.CHECKPOINTS / key).exists()
    assert_same(found)


@pytest.mark.parametrize("name", ["pipeline/README.md", "metrics.json"])
def test_a_file_that_draws_nothing_is_not_in_the_key(draw, name):
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
        {"size": 3},
        {"dtype": "float16"},
    ],
)
def test_whatever_changes_a_picture_draws_anew(draw, changed):
    key, _ = draw(Pipeline())
    pipeline = Pipeline()
    other, _ = draw(pipeline, **changed)
    assert other != key
    assert sum(len(prompts) for prompts, _ in pipeline.asked) == 11


def test_a_change_of_the_code_that_draws_draws_anew(draw, monkeypatch):
    key, _ = draw(Pipeline())
    monkeypatch.setattr("commoncanvas.evaluate.samples.code_hash", lambda name: name)
    assert draw(Pipeline())[0] != key


def test_a_pipeline_that_draws_at_another_size_is_brought_to_the_one_asked(draw):
    found = draw(Pipeline(), size=3)[1]
    whole = expected()
    for request, drawn in found.items():
        assert drawn.size == 3 and drawn[:].shape == (len(whole[request]), 3, 3, 3)
        means = [pixels[:].mean((1, 2)) for pixels in (drawn, whole[request])]
        assert np.abs(means[0] - means[1]).max() < 40


def test_a_worker_can_be_sent_what_draws():
    draw = partial(samples._table, "folder", "float32", 4, 7, SIZE)
    assert pickle.loads(pickle.dumps(draw)).args == draw.args


def test_half_precision_without_a_gpu_is_one_line():
    if not torch.cuda.is_available():
        with pytest.raises(ParameterError, match="sample_dtype is 'float16'; .* GPU"):
            pipelines.load_pipeline("folder", "float16")
    with pytest.raises(ParameterError, match="sample_dtype is 'bfloat'"):
        pipelines.load_pipeline("folder", "bfloat")


def test_a_picture_that_is_not_finite_stops_with_its_prompt():
    class Broken:
        def set_progress_bar_config(self, disable):
            pass

        def __call__(self, prompts, **_):
            return SimpleNamespace(images=np.full((1, 4, 4, 3), np.nan))

    with pytest.raises(PictureError, match="'cat'.*sample_dtype: float32"):
        pipelines.draw_batch(Broken(), ["cat"], 0, 3.0, 2, 5)


def test_half_precision_starts_from_the_noise_of_full(monkeypatch):
    asked = []

    class Half:
        dtype = torch.float16
        unet = SimpleNamespace(config=SimpleNamespace(sample_size=4, in_channels=2))

        def set_progress_bar_config(self, disable):
            pass

        def __call__(self, prompts, latents, generator, **_):
            asked.append(latents)
            return SimpleNamespace(images=np.zeros((len(prompts), 4, 4, 3)))

    pipelines.draw_batch(Half(), ["cat", "dog"], 3, 3.0, 2, 5)
    wanted = [
        torch.randn(2, 4, 4, generator=pipelines.make_generator(5, "sample", i))
        for i in (3, 4)
    ]
    assert torch.equal(asked[0], torch.stack(wanted).half())

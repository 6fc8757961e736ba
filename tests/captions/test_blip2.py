"""BLIP-2 says the same of a picture whatever else is in its batch."""

import numpy as np
import pytest
import torch
from toys import save_blip2
from transformers import Blip2ForConditionalGeneration

from commoncanvas.captions import blip2, image_text
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.images import encode_png

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 40, 40, 3), np.uint8)
ROWS = [(f"k{i:02d}", encode_png(pixels)) for i, pixels in enumerate(PIXELS)]
GREEDY = {"num_beams": 1, "max_new_tokens": 6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_blip2(tmp_path_factory.mktemp("blip2"), [f"w{i}" for i in range(60)])


@pytest.fixture
def small(folder):
    return blip2.Blip2Captioner(folder, decoding=GREEDY)


def in_batches(captioner, size, prompts=None):
    said = []
    for i in range(0, len(PIXELS), size):
        part = prompts[i : i + size] if prompts else None
        said += captioner.caption(PIXELS[i : i + size], part)
    return said


def test_it_says_one_string_a_picture(small):
    said = small.caption(PIXELS[:7])
    assert len(said) == 7 and all(isinstance(text, str) for text in said)
    assert all(text == text.strip() and "<" not in text for text in said)


def test_it_looks_at_its_picture(small):
    assert len(set(small.caption(PIXELS))) > 5


@pytest.mark.parametrize("size", [1, 3])
@pytest.mark.parametrize("num_beams", [1, 5])
def test_it_says_the_same_alone_and_in_a_batch_of_32(folder, size, num_beams):
    small = blip2.Blip2Captioner(folder, decoding={**GREEDY, "num_beams": num_beams})
    assert in_batches(small, size) == in_batches(small, 32)


# Of different lengths, so that all but the longest are padded.
PROMPTS = [" ".join(f"w{(i + j) % 60}" for j in range(i % 5)) for i in range(32)]


def test_prompts_of_different_lengths_are_continued_as_if_alone(small):
    alone = in_batches(small, 1, PROMPTS)
    assert in_batches(small, 32, PROMPTS) == in_batches(small, 3, PROMPTS) == alone
    assert len(set(alone)) > 5


def test_padding_on_the_wrong_side_would_be_noticed(small):
    small.processor.tokenizer.padding_side = "right"
    with pytest.raises(EngineError, match="pads prompts on the right; expected"):
        in_batches(small, 32, PROMPTS)


def test_padding_that_is_not_masked_would_be_noticed(small, monkeypatch):
    alone = in_batches(small, 1, PROMPTS)
    generate = small.model.generate
    monkeypatch.setattr(
        small.model,
        "generate",
        lambda attention_mask, **words: generate(
            attention_mask=torch.ones_like(attention_mask), **words
        ),
    )
    assert in_batches(small, 32, PROMPTS) != alone


def test_a_prompt_steers_the_caption_and_is_not_part_of_it(folder, small):
    asked = blip2.Blip2Captioner(folder, prompt="w7 w8", decoding=GREEDY)
    said = asked.caption(PIXELS)
    assert said != small.caption(PIXELS)
    assert not any(text.startswith("w7 w8") for text in said)
    assert asked.decoding["prompt"] == "w7 w8"


def test_no_caption_is_longer_than_asked(small):
    assert all(len(text.split()) <= 6 for text in small.caption(PIXELS))


def test_it_decodes_as_lavis_where_nothing_is_asked(folder):
    default = blip2.Blip2Captioner(folder)
    asked = {"num_beams": 5, "max_new_tokens": 30, "min_length": 1, "do_sample": False}
    assert default.options == asked and default.prompt == ""
    assert len(default.caption(PIXELS[:2])) == 2


def test_a_table_keeps_keys_and_order_whatever_the_batch(folder, small):
    table = small.table(ROWS[::-1])
    assert table.column_names == ["key", "caption_raw"]
    assert table["key"].to_pylist() == [key for key, _ in ROWS[::-1]]
    assert small.table(ROWS)["caption_raw"].to_pylist() == in_batches(small, 32)
    single = blip2.Blip2Captioner(folder, decoding=GREEDY, batch_size=1)
    assert single.table(ROWS[::-1]) == table


def test_sampled_captions_are_the_same_when_a_shard_is_done_again(folder):
    decoding = {**GREEDY, "do_sample": True, "top_p": 0.9}
    sampling = blip2.Blip2Captioner(folder, decoding=decoding, batch_size=8)
    first = sampling.table(ROWS)
    torch.rand(3)
    assert sampling.table(ROWS) == first
    other = blip2.Blip2Captioner(folder, decoding=decoding, batch_size=8, seed=1)
    assert other.table(ROWS) != first


def test_the_identity_is_that_of_the_weights(folder, small, tmp_path):
    same = blip2.Blip2Captioner(folder)
    torch.manual_seed(1)
    assert small.identity == same.identity
    assert small.identity.startswith("blip2:") and small.identity.endswith(":float32")
    other = Blip2ForConditionalGeneration.from_pretrained(folder)
    other.language_projection.weight.data.add_(1)
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    other.save_pretrained(tmp_path)
    assert blip2.Blip2Captioner(tmp_path).identity != small.identity


def test_the_paper_s_model_is_asked_for_by_its_commit(monkeypatch):
    asked = []
    monkeypatch.setattr(
        image_text.AutoConfig,
        "from_pretrained",
        lambda *names, **words: asked.append((*names, words["revision"])) or 1 / 0,
    )
    with pytest.raises(ZeroDivisionError):
        blip2.Blip2Captioner()
    assert asked == [("Salesforce/blip2-opt-2.7b", blip2.REVISION)]
    assert len(blip2.REVISION) == 40


def test_what_it_is_is_told_without_its_weights(folder, tmp_path):
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "model.safetensors").write_bytes(b"")
    captioner = blip2.Blip2Captioner(tmp_path)
    assert captioner.identity.startswith("blip2:") and captioner.decoding["num_beams"]
    with pytest.raises(Exception, match="(?i)header|safetensor"):
        assert captioner.model


def test_another_model_of_the_hub_needs_its_revision():
    with pytest.raises(ParameterError, match="pinned by its commit"):
        blip2.Blip2Captioner("Salesforce/blip2-opt-6.7b")


@pytest.mark.parametrize(
    ("shape", "edge"), [((700, 900), 512), ((96, 96), 96), ((30, 80), 30)]
)
def test_pictures_are_cut_square_and_never_enlarged(shape, edge):
    pixels = np.zeros((*shape, 3), np.uint8)
    shown = image_text.shown_picture(encode_png(pixels), blip2.MAX_SIZE, square=True)
    assert shown.shape == (edge, edge, 3)


def test_pictures_of_several_sizes_fit_in_one_batch(small):
    mixed = [PIXELS[0], PIXELS[1][:20, :20], PIXELS[2]]
    alone = [small.caption([picture])[0] for picture in mixed]
    assert small.caption(mixed) == alone

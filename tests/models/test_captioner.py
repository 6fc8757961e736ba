"""A captioner says the same of a picture whatever else is in its batch."""

import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from toys import save_captioner

from commoncanvas.core.images import encode_png
from commoncanvas.models import captioner
from commoncanvas.pretrain import training

PIXELS = np.random.default_rng(0).integers(0, 256, (7, 40, 40, 3), np.uint8)


@pytest.fixture(scope="module")
def open_folder(tmp_path_factory):
    return save_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="module")
def small(open_folder):
    return captioner.OpenCaptioner(open_folder)


def one_by_one(found):
    return [found.caption(PIXELS[i : i + 1])[0] for i in range(len(PIXELS))]


def test_the_small_captioner_says_the_same_alone_and_in_a_batch(small):
    assert small.caption(PIXELS) == one_by_one(small)


def test_there_is_one_string_a_picture_without_special_tokens(small):
    captions = small.caption(PIXELS)
    assert len(captions) == 7 and all(isinstance(text, str) for text in captions)
    assert not any(sign in text for text in captions for sign in ("<bos>", "<eos>"))


def test_weights_are_kept_as_float16_and_used_as_float32(open_folder, small):
    state = captioner.load_file(open_folder / "model.safetensors")
    kinds = {tensor.dtype for tensor in state.values()}
    assert kinds == {torch.float16, torch.int64}
    assert {p.dtype for p in small.model.parameters()} == {torch.float32}
    loaded = small.model.state_dict()
    assert all(torch.equal(loaded[k].float(), v.float()) for k, v in state.items())


def test_the_identity_is_that_of_the_weights(open_folder, small):
    again = captioner.OpenCaptioner(open_folder)
    assert small.identity == again.identity and small.identity.startswith("open:")
    assert small.decoding == {"decoding": "greedy", "max_length": 8}


def test_the_identity_is_that_of_the_tokenizer_too(open_folder, small, tmp_path):
    shutil.copytree(open_folder, tmp_path / "captioner")
    words = tmp_path / "captioner" / "tokenizer.json"
    words.write_text(words.read_text() + "\n")
    assert captioner.OpenCaptioner(words.parent).identity != small.identity


@pytest.mark.parametrize("top_p", [None, 0.9])
@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_the_size_of_the_batch_changes_no_caption(open_folder, top_p, batch_size):
    rows = [(f"k{i}", encode_png(p)) for i, p in enumerate(PIXELS)]
    whole = captioner.OpenCaptioner(open_folder, 64, top_p).table(rows)
    assert captioner.OpenCaptioner(open_folder, batch_size, top_p).table(rows) == whole


def test_a_sampled_caption_depends_on_its_key_and_the_seed(open_folder):
    rows = [(f"k{i}", encode_png(PIXELS[0])) for i in range(12)]
    first, second = (
        captioner.OpenCaptioner(open_folder, top_p=1.0, seed=seed).table(rows)
        for seed in (0, 1)
    )
    assert len(set(first["caption_raw"].to_pylist())) > 1 and first != second
    again = captioner.OpenCaptioner(open_folder, top_p=1.0).table(rows[::-1])
    assert again["caption_raw"].to_pylist() == first["caption_raw"].to_pylist()[::-1]


def test_a_nucleus_of_nothing_is_the_likeliest_token():
    logits = torch.randn(50, 9, generator=torch.Generator().manual_seed(0))
    found = captioner.nucleus_choice(logits, torch.rand(50), 0.0)
    assert torch.equal(found, logits.argmax(-1))


def test_tokens_are_drawn_as_often_as_they_are_likely_within_the_nucleus():
    probs = torch.tensor([0.1, 0.5, 0.15, 0.25])
    draws = (torch.arange(10_000) + 0.5) / 10_000
    found = captioner.nucleus_choice(probs.log().expand(10_000, -1), draws, 0.7)
    shares = torch.bincount(found, minlength=4) / 10_000
    assert torch.allclose(shares, torch.tensor([0, 2 / 3, 0, 1 / 3]), atol=1e-3)


def test_embeddings_have_unit_length_and_do_not_depend_on_the_batch(small):
    embeds = small.embed(PIXELS)
    assert embeds.shape == (7, 384)
    assert np.allclose(np.linalg.norm(embeds, axis=1), 1, atol=1e-5)
    assert np.allclose(small.embed(PIXELS[2:3])[0], embeds[2], atol=1e-4)


def test_decoding_looks_back_only(small):
    memory, _ = small.model.encode(torch.zeros(1, 3, 96, 96))
    ids = torch.tensor([[1, 5, 6, 7], [1, 5, 9, 8]])
    with torch.no_grad():
        logits = small.model.decode(memory.expand(2, -1, -1), ids)
    assert logits.shape == (2, 4, small.model.config["vocab_size"])
    assert torch.allclose(logits[0, :2], logits[1, :2], atol=1e-5)
    assert not torch.allclose(logits[0, 2], logits[1, 2], atol=1e-5)


def test_nothing_follows_the_end_of_a_caption(small):
    images = torch.rand(4, 3, 96, 96) * 2 - 1
    memory = small.model.encode(images)[0]
    first = small.model.decode(memory, torch.ones(4, 1, dtype=torch.long))
    end = int(first[0, -1].argmax())  # what picture 0 says first becomes the end
    ids = small.model.generate(images, bos_id=1, eos_id=end)
    assert (ids[0] == end).all()
    for row in ids.tolist():
        assert end not in row or set(row[row.index(end) :]) == {end}


def test_captions_are_no_longer_than_allowed(small):
    ids = small.model.generate(torch.zeros(2, 3, 96, 96), bos_id=1, eos_id=10**6)
    assert ids.shape == (2, 7)


def test_a_shard_of_captions_keeps_keys_and_order(small):
    rows = [(f"k{i}", encode_png(PIXELS[i])) for i in (3, 1)]
    table = small.table(rows)
    assert table["key"].to_pylist() == ["k3", "k1"]
    assert table.column_names == ["key", "caption_raw"]


TOKENIZER = training.train_tokenizer(["red heart", "sun", "sunny heart"], 280, 400)


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@settings(max_examples=60, deadline=None)
def test_every_text_can_be_written_and_read_back(text):
    ids = TOKENIZER(text).input_ids
    assert all(0 <= i < len(TOKENIZER) for i in ids)
    said = TOKENIZER.decode(
        ids, skip_special_tokens=True, clean_up_tokenization_spaces=False
    )
    specials = ("<pad>", "<bos>", "<eos>")
    assert any(s in text for s in specials) or said.strip() == text.strip()


def test_a_text_is_framed_by_begin_and_end():
    ids = TOKENIZER("red heart").input_ids
    assert (ids[0], ids[-1]) == (TOKENIZER.bos_token_id, TOKENIZER.eos_token_id)
    assert TOKENIZER.pad_token_id == 0 and TOKENIZER.unk_token is None


def test_the_tokenizer_does_not_depend_on_the_order_of_names():
    names = ["red heart", "sun", "sunny heart"]
    other = training.train_tokenizer(names[::-1], 280, 400)
    assert other.get_vocab() == TOKENIZER.get_vocab()

"""Encoders give every picture and text the same tensors, whatever stands beside it."""

import json
import math
import pickle
import shutil
from functools import partial

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from toys import save_tokenizer
from transformers import AutoConfig, AutoTokenizer, CLIPTextConfig, CLIPTextModel

from commoncanvas.core import manifest, paths
from commoncanvas.core.errors import (
    ManifestError,
    ParameterError,
    PictureError,
    SourceError,
)
from commoncanvas.core.images import encode_png
from commoncanvas.latents import encode
from commoncanvas.latents.encode import encode_texts, latent_table, text_table
from commoncanvas.models import encoders, weights
from commoncanvas.models.efficientnet import NUM_FEATURES
from commoncanvas.pretrain.autoencoder import make_vae
from commoncanvas.pretrain.training import write_part_manifest

HUB, COMMIT = "common-canvas/CommonCanvas-S-C", "c" * 40
PIXELS = np.zeros((3, 16, 16, 3), np.uint8)
NOISE = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), np.uint8)
ROWS = [(key, encode_png(pixels)) for key, pixels in zip("abcde", NOISE, strict=True)]
TEXTS = ["", "a red cat", "dog"]


def tensor_of(column, shape):
    """Return a column of raw float16 bytes as (n, *shape)."""
    rows = [np.frombuffer(data.as_py(), np.float16).reshape(shape) for data in column]
    return torch.from_numpy(np.stack(rows))


class FakeVae:
    """Answers with a latent that is one number a picture."""

    device = torch.device("cpu")

    def __init__(self, numbers, place="mean", dtype=torch.float32):
        self.numbers, self.place, self.dtype = torch.tensor(numbers), place, dtype

    def encode(self, images):
        assert images.dtype == self.dtype
        shape = (len(images), 4, images.shape[2] // 8, images.shape[3] // 8)
        values = {"mean": torch.zeros(shape), "logvar": torch.zeros(shape)}
        values[self.place] = self.numbers.view(-1, 1, 1, 1).expand(shape)
        posterior = type("Posterior", (), values)
        return type("Output", (), {"latent_dist": posterior})


def save_text_encoder(folder, num_words):
    torch.manual_seed(0)
    config = CLIPTextConfig(
        vocab_size=num_words,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=num_words - 2,
        eos_token_id=num_words - 1,
        pad_token_id=0,
    )
    CLIPTextModel(config).save_pretrained(folder)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    """Return a folder laid out as diffusers lays out a pipeline, without its UNet."""
    folder = tmp_path_factory.mktemp("pipeline")
    vocabulary = save_tokenizer(folder / "tokenizer")
    save_text_encoder(folder / "text_encoder", len(vocabulary))
    torch.manual_seed(0)
    make_vae(4, [8, 8, 8, 8]).save_pretrained(folder / "vae")
    (folder / "model_index.json").write_text("{}")
    return folder


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Return a folder with text encoder and tokenizer side by side."""
    folder = tmp_path_factory.mktemp("bare")
    save_text_encoder(folder, len(save_tokenizer(folder)))
    return folder


@pytest.fixture
def calls(monkeypatch):
    """Return the list of what `from_pretrained` is asked for; every model is whole."""
    asked = []
    monkeypatch.setattr(weights, "has_file", lambda name, file, revision: True)
    for part in (AutoencoderKL, AutoConfig):
        monkeypatch.setattr(
            part,
            "from_pretrained",
            lambda name, **words: asked.append((name, words)) or 1 / 0,
        )
    return asked


@pytest.mark.parametrize("place", ["mean", "logvar"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 70_000.0])
def test_a_latent_that_cannot_be_kept_names_its_picture(place, bad):
    vae = FakeVae([0.0, bad, 0.0], place)
    with pytest.raises(PictureError, match="latent of toy/b is not finite") as caught:
        encoders.encode_images(vae, PIXELS, ["toy/a", "toy/b", "toy/c"])
    assert "\n" not in str(caught.value) and "float32" not in str(caught.value)


def test_a_half_vae_that_fails_is_told_to_compute_in_float32():
    vae = FakeVae([0.0, math.nan, 0.0], dtype=torch.float16)
    with pytest.raises(PictureError, match="set latents.encoder_dtype to float32 or"):
        encoders.encode_images(vae, PIXELS, list("abc"))


def test_latents_are_an_eighth_of_the_picture():
    mean, logvar = encoders.encode_images(FakeVae([0.0, 1.0, 2.0]), PIXELS, list("abc"))
    assert mean.shape == logvar.shape == (3, 4, 2, 2)
    assert mean[:, 0, 0, 0].tolist() == [0, 1, 2]


def test_a_shard_of_latents_is_read_back_as_it_was_encoded(monkeypatch):
    features = np.ones((3, NUM_FEATURES))
    monkeypatch.setattr(encode, "image_features", lambda pixels: features)
    rows = [(key, encode_png(PIXELS[0])) for key in "abc"]
    vae = FakeVae([0.5, 1.0, 2.0])
    monkeypatch.setattr(encode, "load_vae", lambda folder, revision, dtype: vae)
    table = latent_table("folder", 16, rows)
    assert table["key"].to_pylist() == ["a", "b", "c"]
    mean = tensor_of(table["mean"], (4, 2, 2))
    assert mean[:, 0, 0, 0].tolist() == [0.5, 1, 2]


def test_a_shard_is_encoded_a_batch_at_a_time(pipeline, monkeypatch):
    whole = latent_table(pipeline, 16, ROWS)
    monkeypatch.setattr(encode, "BATCH_SIZE", 2)
    parts = latent_table(pipeline, 16, ROWS)
    assert parts["key"].to_pylist() == list("abcde")
    shape = (4, 2, 2)
    both = [tensor_of(table["mean"], shape).float() for table in (whole, parts)]
    assert torch.allclose(*both, atol=2e-3)


def test_a_vae_is_found_in_its_pipeline_and_alone(pipeline):
    inside, alone = encoders.load_vae(pipeline), encoders.load_vae(pipeline / "vae")
    assert torch.equal(inside.encoder.conv_in.weight, alone.encoder.conv_in.weight)
    assert not any(p.requires_grad for p in inside.parameters())


def test_decoded_latents_are_pixels_of_the_picture_s_size(pipeline):
    vae = encoders.load_vae(pipeline)
    mean, _ = encoders.encode_images(vae, NOISE, list("abcde"))
    pixels = encoders.decode_latents(vae, mean)
    assert pixels.shape == NOISE.shape and pixels.dtype == np.uint8


def test_encoders_compute_in_half_where_asked(pipeline):
    assert encoders.load_vae(pipeline, dtype="float16").dtype == torch.float16
    exact = encode_texts(TEXTS, 8, pipeline, dtype="float32")
    half = encode_texts(TEXTS, 8, pipeline, dtype="float16")
    assert half.dtype == torch.float32 and not torch.equal(exact, half)
    assert torch.allclose(exact, half, atol=0.02)


def test_an_exported_vae_tells_no_path_of_this_machine(tmp_path):
    encoders.load_vae("pretrained/vae").save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text(encoding="utf-8")
    assert json.loads(text)["_name_or_path"] == "pretrained/vae"


@pytest.mark.parametrize(("has_gpu", "dtype"), [(True, "float16"), (False, "float32")])
def test_only_a_gpu_encodes_in_half_unasked(monkeypatch, has_gpu, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert encoders.usual_dtype() == dtype


def test_an_unknown_dtype_is_refused(pipeline):
    with pytest.raises(ParameterError, match="dtype is 'bfloat16'; expected one of"):
        encoders.load_vae(pipeline, dtype="bfloat16")


@pytest.mark.parametrize("kind", ["open", "pipeline", "bare"])
def test_texts_are_encoded_alike_alone_and_together(kind, pipeline, bare):
    folder = {"open": "all-MiniLM-L6-v2", "pipeline": pipeline, "bare": bare}[kind]
    together = encode_texts(TEXTS, 8, folder)
    assert together.shape == (3, *encoders.text_shape(8, folder))
    assert encoders.text_shape(8, folder) == (8, 384 if kind == "open" else 16)
    alone = encode_texts(["a red cat"], 8, folder)[0]
    # A batch of another size sums in another order. A layer's two blocks end in sums of
    # at most `intermediate_size` products; their roundings add up as a random walk.
    # (The open encoder differs by 2e-5 of values up to 5 on one thread.)
    config = encoders.load_text_encoder(folder, 8)[1].config
    roundings = 2 * config.num_hidden_layers * config.intermediate_size
    rounding = torch.finfo(alone.dtype).eps * roundings**0.5
    assert (alone - together[1]).abs().max() <= rounding * alone.abs().max()


def test_a_bare_text_encoder_is_that_of_its_pipeline(pipeline, bare):
    inside, alone = (encode_texts(TEXTS, 8, f) for f in (pipeline, bare))
    assert torch.equal(inside, alone)


def test_clip_reads_its_padding_as_in_sd2(pipeline):
    tokenizer, text_encoder = encoders.load_text_encoder(pipeline, 77)
    batch = tokenizer(["a red cat"], padding="max_length", return_tensors="pt")
    assert batch.input_ids.shape == (1, 77) and batch.input_ids[0, -1] == 0
    ours = encode_texts(["a red cat"], 77, pipeline)
    with torch.no_grad():
        assert torch.equal(ours, text_encoder(batch.input_ids).last_hidden_state)
        masked = text_encoder(batch.input_ids, attention_mask=batch.attention_mask)[0]
    assert not torch.allclose(ours, masked, atol=1e-3)
    assert text_encoder.config.use_attention_mask is False


def test_the_open_text_encoder_is_frozen_and_masks_its_padding():
    tokenizer, text_encoder = encoders.load_text_encoder("all-MiniLM-L6-v2", 8)
    assert tokenizer.model_max_length == 8
    assert text_encoder.config.use_attention_mask is True
    assert not any(p.requires_grad for p in text_encoder.parameters())


def test_an_exported_open_text_encoder_still_masks_its_padding(tmp_path):
    tokenizer, text_encoder = encoders.load_text_encoder("all-MiniLM-L6-v2", 8)
    tokenizer.save_pretrained(tmp_path / "tokenizer")
    text_encoder.save_pretrained(tmp_path / "text_encoder")
    exported = encode_texts(TEXTS, 8, tmp_path)
    assert torch.equal(exported, encode_texts(TEXTS, 8))


def test_a_table_of_texts_keeps_their_order(pipeline):
    table = text_table(8, TEXTS, folder=pipeline)
    assert table["text"].to_pylist() == TEXTS
    states = tensor_of(table["states"], encoders.text_shape(8, pipeline))
    expected = encode_texts(TEXTS, 8, pipeline).half()
    assert torch.equal(states, expected)


def test_captions_longer_than_the_encoder_reads_are_refused(pipeline):
    with pytest.raises(
        ParameterError, match="78 tokens, but .* reads at most 77; lower"
    ):
        encoders.load_text_encoder(pipeline, 78)


def test_a_model_that_is_no_text_encoder_is_refused(bare, tmp_path):
    config = json.loads((bare / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"model_type": "opt"}))
    with pytest.raises(ParameterError, match="is a 'opt'; expected SD2's"):
        encoders.load_text_encoder(tmp_path, 8)


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer"])
def test_a_folder_without_a_part_is_refused_in_one_line(part, pipeline, tmp_path):
    for other in {"vae", "text_encoder", "tokenizer"} - {part}:
        (tmp_path / other).symlink_to(pipeline / other)
    with pytest.raises(ParameterError, match=f"has neither {part}/") as caught:
        encoders.load_vae(tmp_path)
        encoders.load_text_encoder(tmp_path, 8)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("revision", [None, ""])
def test_a_model_of_the_hub_needs_its_revision(revision):
    for load in (encoders.load_vae, partial(encoders.load_text_encoder, max_length=8)):
        with pytest.raises(ParameterError, match="pinned by its commit") as caught:
            load(HUB, revision=revision)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("revision", ["main", "v1.0", "c" * 7, "C" * 40])
def test_a_branch_or_a_tag_is_no_revision(revision):
    with pytest.raises(ParameterError, match="expected a commit of the Hub's, 40 hex"):
        encoders.load_vae(HUB, revision)


def test_a_model_of_the_hub_is_asked_for_by_its_commit(calls):
    with pytest.raises(ZeroDivisionError):
        encoders.load_vae(HUB, COMMIT)
    with pytest.raises(ZeroDivisionError):
        encoders.load_text_encoder(HUB, 77, COMMIT)
    assert [name for name, _ in calls] == [HUB, HUB]
    assert {words["revision"] for _, words in calls} == {COMMIT}
    assert [words["subfolder"] for _, words in calls] == ["vae", "text_encoder"]


def test_a_tokenizer_of_the_hub_is_asked_for_by_the_same_commit(
    pipeline, calls, monkeypatch
):
    _, text_encoder = encoders.load_text_encoder(pipeline, 8)
    config = text_encoder.config
    monkeypatch.setattr(AutoConfig, "from_pretrained", lambda name, **words: config)
    for part in (encoders.AutoModel, AutoTokenizer):
        monkeypatch.setattr(
            part,
            "from_pretrained",
            lambda name, **words: calls.append((name, words)) or text_encoder,
        )
    encoders.load_text_encoder(HUB, 77, COMMIT)
    assert [words["subfolder"] for _, words in calls] == ["text_encoder", "tokenizer"]
    assert {(name, words["revision"]) for name, words in calls} == {(HUB, COMMIT)}


def test_a_model_that_the_hub_does_not_know_is_refused_in_one_line(monkeypatch):
    def has_file(name, file, revision):
        raise OSError(f"{revision} is not a valid git identifier.")

    monkeypatch.setattr(weights, "has_file", has_file)
    with pytest.raises(ParameterError, match="not a valid git identifier") as caught:
        encoders.load_vae(HUB, COMMIT)
    assert "\n" not in str(caught.value)


def test_a_shard_function_loads_once_a_process(pipeline, monkeypatch):
    encoders._load_vae.cache_clear()
    loaded, load = [], AutoencoderKL.from_pretrained
    monkeypatch.setattr(
        AutoencoderKL,
        "from_pretrained",
        lambda *names, **words: loaded.append(names) or load(*names, **words),
    )
    function = partial(latent_table, str(pipeline), 16, dtype="float32")
    function = pickle.loads(pickle.dumps(function))
    for rows in (ROWS[:2], ROWS[2:]):
        assert function(rows)["key"].to_pylist() == [key for key, _ in rows]
    encoders.load_vae(pipeline)
    assert len(loaded) == 1


def test_a_text_encoder_too_is_loaded_once_a_process(pipeline):
    function = partial(text_table, 8, folder=str(pipeline), revision="")
    function = pickle.loads(pickle.dumps(function))
    assert function(TEXTS)["text"].to_pylist() == TEXTS
    both = [encoders.load_text_encoder(pipeline, 8, given)[1] for given in (None, "")]
    assert both[0] is both[1]


def test_an_identity_changes_with_the_weights(pipeline, tmp_path):
    same = weights.identity_of("vae", pipeline)
    assert same == weights.identity_of("vae", pipeline / "vae")
    assert same != weights.identity_of("text_encoder", pipeline)
    torch.manual_seed(1)
    make_vae(4, [8, 8, 8, 8]).save_pretrained(tmp_path)
    assert weights.identity_of("vae", tmp_path) != same


def test_an_identity_names_the_pinned_model(calls):
    assert weights.identity_of("vae", HUB, COMMIT) == f"{HUB}@{COMMIT}"
    named = weights.identity_of("text_encoder", "all-MiniLM-L6-v2")
    assert named.startswith("all-MiniLM-L6-v2:53aa51172d14")


@pytest.fixture
def part(pipeline, tmp_path):
    """The VAE's folder with a manifest, as stage 00 writes one."""
    folder = tmp_path / "vae"
    shutil.copytree(pipeline / "vae", folder)
    before = weights.identity_of("vae", folder)
    write_part_manifest(folder)
    assert weights.identity_of("vae", folder) == before  # whatever lists it
    return folder


@pytest.mark.parametrize("seed", range(10))
def test_a_bit_that_flipped_in_a_part_is_one_line(part, seed):
    rng = np.random.default_rng(seed)
    file = sorted(path for path in part.iterdir() if path.name != "manifest.json")[
        seed % 2
    ]
    data = bytearray(file.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    file.write_bytes(data)
    for load in (encoders.load_vae, partial(weights.identity_of, "vae")):
        with pytest.raises(ManifestError, match=f"changed: {file.name}") as caught:
            load(part)
        assert "\n" not in str(caught.value)


def test_another_vae_than_the_latents_is_one_line(pipeline, tmp_path):
    shutil.copytree(pipeline, tmp_path / "p")
    place = [str(tmp_path / "p"), ""]
    facts = {"vae": place, "text_encoder": place}
    names = ("vae", "text_encoder")
    facts["identities"] = {name: weights.identity_of(name, *place) for name in names}
    weights.check_parts(facts)
    config = tmp_path / "p" / "tokenizer" / "tokenizer_config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(ManifestError, match="the text_encoder .* made the latents"):
        weights.check_parts(facts)


@pytest.mark.parametrize("name", [*weights.BESIDE[weights.OPEN_TEXT_ENCODER]])
def test_what_is_read_beside_verified_weights_is_verified(name, tmp_path, monkeypatch):
    source = weights.weights_path(weights.OPEN_TEXT_ENCODER).parent
    (tmp_path / "toy" / "model").mkdir(parents=True)
    (tmp_path / "toy" / "__init__.py").touch()
    for file in source.iterdir():
        if file.is_file():
            (tmp_path / "toy" / "model" / file.name).symlink_to(file)
    package, member, digest = weights.WEIGHTS[weights.OPEN_TEXT_ENCODER]
    monkeypatch.syspath_prepend(tmp_path)
    table = {weights.OPEN_TEXT_ENCODER: ("toy", member, digest)}
    monkeypatch.setattr(weights, "WEIGHTS", table)
    find = weights.weights_path.__wrapped__
    assert find(weights.OPEN_TEXT_ENCODER).parent == tmp_path / "toy" / "model"
    changed = tmp_path / "toy" / "model" / name
    data = changed.read_bytes()
    changed.unlink()
    changed.write_bytes(data[:-1] + b" ")
    with pytest.raises(SourceError, match=f"sha256 of {name} is .* reinstall toy"):
        find(weights.OPEN_TEXT_ENCODER)


def test_the_committed_parts_are_what_their_manifests_say():
    for name in ("vae", "captioner", "scorer"):
        folder = paths.PRETRAINED / name
        assert manifest.read_manifest(folder)["facts"] == {"part": name}

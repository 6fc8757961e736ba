"""A picture goes to the bucket nearest its shape, and is encoded and trained there."""

import io
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import ExifTags, Image
from toys import UNET, make_recipe, raw

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError, ShapeError
from commoncanvas.core.images import encode_png, stored_pixels
from commoncanvas.latents import buckets, encode, mixing
from commoncanvas.latents.encode import latent_table
from commoncanvas.latents.reader import Latents
from commoncanvas.latents.store import write_index, write_latents
from commoncanvas.models import encoders
from commoncanvas.models.efficientnet import image_features
from commoncanvas.models.unets import make_unet
from commoncanvas.pretrain import autoencoder
from commoncanvas.speed import ablation, clocks
from commoncanvas.train import launch, loop
from commoncanvas.train.recipe import TrainSpec

BUCKETS = [[32, 16], [16, 24], [80, 8]]  # nothing is near the last
WIDE, TALL = [(60, 30), (50, 30), (32, 16), (40, 25)], [(20, 30), (16, 24), (9, 16)]
EDGES = st.integers(1, 500)
TEXT_SHAPE = (3, 8)


@pytest.mark.parametrize(
    "bad",
    [[[64, 60]], [[64]], [[0, 8]], [[-8, 8]], [[8.0, 8]], [[True, 8]], [64, 64], ["ab"]]
    + [[[64, 64], [32, 64], [64, 64]]],
)
def test_a_bucket_that_no_vae_could_encode_is_one_line(bad):
    with pytest.raises(ParameterError, match="expected .width, height.*multiples") as e:
        buckets.check_buckets(bad)
    assert "\n" not in str(e.value) and repr(bad[-1]) in str(e.value)


@pytest.mark.parametrize("good", [[], [[64, 64]], BUCKETS, [(64, 96), (96, 64)]])
def test_whole_latents_are_accepted(good):
    buckets.check_buckets(good)


@given(EDGES, EDGES, st.lists(st.tuples(EDGES, EDGES), min_size=1, max_size=6))
def test_no_bucket_is_nearer_than_the_chosen(w, h, shapes):
    chosen = buckets.nearest_bucket(w, h, shapes)
    gaps = [abs(math.log(w / h) - math.log(a / b)) for a, b in shapes]
    assert gaps[chosen] <= min(gaps) + 1e-9
    assert chosen == 0 or gaps[chosen] < gaps[0] + 1e-9


@given(EDGES, EDGES)
def test_of_two_as_near_the_first_is_taken(w, h):
    assert buckets.nearest_bucket(7, 7, [[w, h], [h, w]]) == 0
    assert buckets.nearest_bucket(h, w, [[h, w], [2 * h, 2 * w]]) == 0


def test_a_turned_photograph_goes_to_the_bucket_of_what_one_sees():
    exif, buffer = Image.Exif(), io.BytesIO()
    exif[ExifTags.Base.Orientation] = 6  # to be turned by a quarter
    Image.new("RGB", (60, 30), "red").save(buffer, "JPEG", exif=exif)
    sizes = [[32, 16], [16, 32]]
    assert buckets.bucket_of(buffer.getvalue(), sizes) == 1
    number, pixels, square = buckets.crop(buffer.getvalue(), 8, sizes)
    assert (number, pixels.shape, square.shape) == (1, (32, 16, 3), (8, 8, 3))


def test_latents_are_rows_of_columns():
    assert buckets.bucket_shape(4, (96, 64)) == (4, 8, 12)


def picture(size, seed):
    """Return a PNG of soft colours, which a crop in another place would change."""
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), np.uint8)
    image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    return encode_png(np.asarray(image))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder of latents in three buckets, one empty; its pictures, and the VAE."""
    sizes = [size for pair in zip(WIDE * 3, TALL * 4, strict=True) for size in pair]
    keys = [f"toy/{i:02d}" for i in range(len(sizes))]
    pngs = pd.Series([picture(size, i) for i, size in enumerate(sizes)], index=keys)
    catalog = pd.DataFrame({"key": keys, "title": [f"word {i}" for i in range(24)]})
    catalog = catalog.assign(alt_text="", source="toy", split="c", license_slug="by")
    catalog["is_holdout"] = [i % 6 in (3, 4) and i > 8 for i in range(24)]
    catalog["order"] = np.random.default_rng(0).permutation(24) / 24
    said = pd.DataFrame({"key": keys, "source": "synthetic", "caption": "x"})
    index, texts = mixing.make_index(catalog, said)
    torch.manual_seed(0)
    vae_folder = tmp_path_factory.mktemp("vae")
    autoencoder.make_vae(4, [8, 8, 8, 8]).eval().save_pretrained(vae_folder)
    shards = [
        latent_table(vae_folder, 16, list(part.items()), buckets=BUCKETS)
        for part in (pngs[:10], pngs[10:])
    ]
    states = np.random.default_rng(1).normal(size=(len(texts), *TEXT_SHAPE))
    states = pa.table({"text": texts, "states": raw(states)})
    folder = tmp_path_factory.mktemp("latents")
    shape = buckets.bucket_shape(4, (16, 16))
    write_index(folder, [(index, texts)])
    write_latents(folder, shards, [states], shape, TEXT_SHAPE, BUCKETS)
    return folder, pngs, encoders.load_vae(vae_folder)


def opened(store, holdout=False):
    return Latents(store[0], ["c"], "human", holdout=holdout)


def test_files_and_index_tell_the_bucket(store):
    folder, pngs, _ = store
    names = {file.name for file in folder.glob("latents-*")}
    assert names == {
        "latents-0-32x16-00000.safetensors",
        "latents-1-16x24-00000.safetensors",
    }
    index = pd.read_parquet(folder / "index.parquet")
    assert index["bucket"].tolist() == [0, 1] * 12


@pytest.mark.parametrize("holdout", [False, True])
def test_every_work_gets_its_own_latents_back_in_its_shape(store, holdout):
    _, pngs, vae = store
    data, seen = opened(store, holdout), []
    for places, (width, height) in zip(data.buckets, BUCKETS, strict=False):
        places = places.flip(0)
        keys = [data.keys[place] for place in places]
        pixels = np.stack([stored_pixels(pngs[key], width, height) for key in keys])
        wanted, logvar = encoders.encode_images(vae, pixels, keys)
        mean, std = data.posterior(places)
        assert data.shape_of(places) == mean.shape[1:] == (4, height // 8, width // 8)
        torch.testing.assert_close(mean, wanted, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(std, (logvar / 2).exp(), atol=2e-3, rtol=2e-3)
        seen += keys
    assert sorted(seen) == sorted(data.keys) and len(data.buckets) == 2


def test_the_features_are_those_of_the_square(store):
    folder, pngs, _ = store
    data = opened(store)
    squares = np.stack([stored_pixels(pngs[key], 16) for key in data.keys])
    wanted = image_features(squares)
    np.testing.assert_allclose(data.features(), wanted, atol=1e-4)


def test_a_batch_over_two_buckets_is_one_line(store):
    data = opened(store)
    mixed = torch.stack([places[0] for places in data.buckets])
    for call in (data.posterior, data.shape_of, lambda _: data.latent_shape):
        with pytest.raises(ShapeError, match=r"buckets \[0, 1\]; expected one") as e:
            call(mixed)
        assert "\n" not in str(e.value)


def test_one_bucket_alone_has_a_latent_shape(store):
    index = pd.read_parquet(store[0] / "index.parquet").set_index("key")
    data = Latents(store[0], ["c"], "human", fraction=1 / 15)
    number = index.loc[data.keys[0], "bucket"]
    assert data.latent_shape == buckets.bucket_shape(4, BUCKETS[number])


def test_a_missing_file_of_one_bucket_is_counted(store, tmp_path):
    for file in store[0].iterdir():
        if "latents-1" not in file.name:
            (tmp_path / file.name).symlink_to(file)
    with pytest.raises(ManifestError, match=r"no latents-1-\*"):
        Latents(tmp_path, ["c"], "human")


def test_encoding_anew_crops_as_stage_03_did(store):
    _, pngs, vae = store
    data = opened(store)
    reader = None, torch.nn.Identity()
    places, pictures = np.arange(len(data)), [pngs[key] for key in data.keys]
    online = ablation.OnlineLatents(data, places, pictures, 16, vae, *reader, BUCKETS)
    for places in data.buckets:
        pairs = zip(data.posterior(places), online.posterior(places), strict=True)
        for stored, fresh in pairs:
            torch.testing.assert_close(stored, fresh, atol=2e-3, rtol=2e-3)


def test_the_reader_alone_is_timed_over_all_buckets(store):
    rates = clocks.measure_reader(opened(store), 4, 8, 2, 0)
    assert len(rates) == 2 and (rates > 0).all()


@pytest.mark.parametrize("batch_size", [1, 3, 50])
def test_pictures_are_cropped_once_each_and_by_bucket(store, batch_size, monkeypatch):
    monkeypatch.setattr(encode, "BATCH_SIZE", batch_size)
    pngs, seen = list(store[1]), []
    cut = (buckets.crop(png, 16, BUCKETS) for png in pngs)
    for number, places, pixels, squares in encode._batches(cut):
        width, height = BUCKETS[number]
        assert pixels.shape == (len(places), height, width, 3)
        assert 0 < len(places) <= batch_size
        for place, found, square in zip(places, pixels, squares, strict=True):
            assert (square == stored_pixels(pngs[place], 16)).all()
            assert buckets.bucket_of(pngs[place], BUCKETS) == number
            assert (found == stored_pixels(pngs[place], width, height)).all()
        seen += places
    assert sorted(seen) == list(range(len(pngs)))


def test_one_square_bucket_is_encoded_as_none(store, tmp_path):
    _, pngs, vae = store
    vae_folder = vae.config._name_or_path
    rows = list(pngs.items())
    plain = latent_table(vae_folder, 16, rows)
    square = latent_table(vae_folder, 16, rows, buckets=[[16, 16]])
    assert plain.column_names == ["key", "mean", "logvar", "features"]
    assert square.drop(["bucket"]).equals(plain)
    assert set(square["bucket"].to_pylist()) == {0}


RECIPE = make_recipe(
    num_train_steps=20,
    train_batch_size=4,
    ema_fraction=0.3,
    scaling_factor=1.0,
    checkpoint_steps=4,
)


def test_a_training_on_two_buckets_that_is_interrupted_ends_with_the_same_bits(
    store, tmp_path, monkeypatch
):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / ".checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / ".finished")
    data, held, shapes = opened(store), opened(store, holdout=True), []

    def run(key):
        unet = make_unet(UNET, 4, 2, TEXT_SHAPE[1], 1)
        unet, log = loop.train(key, unet, data, held, RECIPE)
        return unet.state_dict(), log

    def losses(unet, schedule, part, *more, whole=loop.denoising_losses):
        shapes.append(tuple(part.mean.shape[1:]))
        if len(shapes) == stop_at:
            raise KeyboardInterrupt
        return whole(unet, schedule, part, *more)

    monkeypatch.setattr(loop, "denoising_losses", losses)
    stop_at = None
    weights, log = run("whole")
    assert set(shapes) == {(4, 2, 4), (4, 3, 2)}
    stop_at = len(shapes) + 27  # the second part of step 13
    with pytest.raises(KeyboardInterrupt):
        run("broken")
    resumed, same_log = run("broken")
    assert log == same_log and len(log) == 5
    assert all(torch.equal(weights[name], resumed[name]) for name in weights)
    assert len(shapes) == 40 + 27 + 2 * 8  # it went on from step 12


def test_a_launch_is_told_the_shape_of_samples(store, tmp_path, monkeypatch):
    for name in ("CHECKPOINTS", "FINISHED", "RUNS"):
        monkeypatch.setattr(paths, name, tmp_path / name)
    spec = TrainSpec(
        key="told",
        folder=str(store[0]),
        works={"licenses": ["c"], "caption_source": "human"},
        unet_config=UNET,
        text_width=TEXT_SHAPE[1],
        recipe=replace(RECIPE, num_train_steps=1),
        description="told",
    )
    with pytest.raises(ShapeError, match="expected one"):
        launch.fit(spec)
    unet, _ = launch.fit(replace(spec, latent_shape=[4, 2, 2]))
    assert (unet.config.in_channels, unet.config.sample_size) == (4, 2)

"""What stage 03 writes is what training reads, work by work, in any order of places."""

import hashlib
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import load_file
from toys import CAPTIONS, CATALOG, NUM, SAID, raw, write_store

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.latents import mixing
from commoncanvas.latents import store as latents_store
from commoncanvas.latents.mirror import local_files, read_listing
from commoncanvas.latents.reader import Latents
from commoncanvas.latents.store import (
    WORKS_PER_FILE,
    num_rows,
    write_index,
    write_latents,
)
from commoncanvas.models.efficientnet import NUM_FEATURES

SHAPE, TEXT_SHAPE = (4, 2, 2), (3, 5)
RNG = np.random.default_rng(0)


def hashes(folder):
    files = sorted(path for path in folder.iterdir() if path.is_file())
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@pytest.fixture(params=[WORKS_PER_FILE, 7], ids=["one_file", "files_of_7"])
def written(tmp_path, monkeypatch, request):
    """A folder of random latents, and the arrays that went into it."""
    monkeypatch.setattr(latents_store, "WORKS_PER_FILE", request.param)
    return tmp_path, *write_store(tmp_path, CATALOG, CAPTIONS, SHAPE, TEXT_SHAPE, RNG)


@pytest.mark.parametrize("holdout", [False, True])
def test_every_work_gets_its_own_latents_back(written, holdout):
    folder, index, _, arrays = written
    data = Latents(folder, ["c", "nc"], "human", holdout=holdout)
    places = torch.arange(len(data))
    rows = [index["key"].tolist().index(key) for key in data.keys]
    mean, std = data.posterior(places)
    assert torch.equal(mean, torch.tensor(arrays["mean"][rows]).half().float())
    logvar = torch.tensor(arrays["logvar"][rows]).half().float()
    assert torch.allclose(std.log() * 2, logvar, atol=1e-5)
    assert np.allclose(data.features(), arrays["features"][rows])
    assert data.features().dtype == np.float64


def test_rows_are_found_whatever_index_the_table_had(written):
    folder, index, _, arrays = written
    index.set_axis(range(100, 100 + NUM)).to_parquet(folder / "index.parquet")
    data = Latents(folder, ["c"], "human")
    row = index["key"].tolist().index(data.keys[0])
    mean = data.posterior(torch.tensor([0]))[0][0]
    assert torch.equal(mean, torch.tensor(arrays["mean"][row]).half().float())


def test_every_work_gets_its_own_caption_back(written):
    folder, _, texts, arrays = written
    data = Latents(folder, ["c", "nc"], "synthetic")
    assert data.texts() == [SAID[key] for key in data.keys]
    some = np.array([len(data) - 1, 0, 1, 0])
    assert data.texts(some) == [SAID[key] for key in data.keys_at(some)]
    places = torch.tensor([3, 0])
    states = data.prompt_embeds(places, torch.tensor([False, False]))
    rows = [texts.index(data.texts()[place]) for place in places.tolist()]
    assert torch.equal(states, torch.tensor(arrays["states"][rows]).half().float())


def test_a_dropped_caption_is_the_empty_one_s_states(written):
    folder, _, _, arrays = written
    data = Latents(folder, ["c"], "human")
    states = data.prompt_embeds(torch.tensor([0, 1]), torch.tensor([True, False]))
    empty = torch.tensor(arrays["states"][0]).half().float()
    assert torch.equal(states[0], empty) and not torch.equal(states[1], empty)


@pytest.mark.parametrize("source", ["human", "synthetic"])
def test_a_smaller_share_is_part_of_every_larger_one(written, source):
    args = written[0], ["c", "nc"], source
    shares = [Latents(*args, fraction=f).keys for f in (0.1, 0.3, 0.7, 1.0)]
    for small, large in zip(shares, shares[1:], strict=False):
        assert set(small) < set(large)


def test_training_and_held_out_works_have_none_in_common(written):
    trained = Latents(written[0], ["c", "nc"], "human").keys
    held = Latents(written[0], ["c", "nc"], "human", holdout=True).keys
    assert not set(trained) & set(held)
    named = CATALOG[CATALOG["title"] != ""]  # an empty name is no caption
    assert sorted(trained + held) == sorted(named["key"])


@pytest.mark.parametrize(
    "words",
    [
        {"fraction": 0.01},
        {"licenses": ["web"]},
        {"caption_source": "alt_text"},
        {"sources": ["no such set"]},
        {"sources": [*set(CATALOG["source"]), "no such set"]},
    ],
)
def test_no_work_left_is_one_line_that_says_what_was_asked(written, words):
    asked = {"licenses": ["c"], "caption_source": "human", **words}
    with pytest.raises(ParameterError, match="no work is left.*expected") as caught:
        Latents(written[0], **asked)
    message = str(caught.value)
    assert "\n" not in message and asked["caption_source"] in message


MIXED = pd.concat(
    [
        CAPTIONS,
        CAPTIONS.assign(source="imported", caption="told " + CAPTIONS["caption"]),
        CAPTIONS.assign(source="imported", caption="more " + CAPTIONS["caption"]),
    ]
)


@pytest.fixture
def mixed(written):
    """The folder with three captions a work, and states that number the texts."""
    folder, index = written[:2]
    table = pa.table({"key": index["key"].tolist()})
    for name in ("mean", "logvar", "features"):
        size = NUM_FEATURES if name == "features" else SHAPE
        kind = "float32" if name == "features" else "float16"
        table = table.append_column(
            name, [raw(np.zeros((NUM, *np.atleast_1d(size))), kind)]
        )
    index, texts = mixing.make_index(CATALOG, MIXED)
    numbers = np.arange(len(texts))[:, None, None] * np.ones(TEXT_SHAPE)
    states = pa.table({"text": texts, "states": raw(numbers)})
    write_index(folder, [(index, texts)])
    write_latents(folder, [table], [states], SHAPE, TEXT_SHAPE)
    return folder, texts


def draws(num, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, dtype=torch.float64, generator=generator)


def drawn(data, seed, num=4000):
    """Return the row of the text that each of many draws of work 0 reads."""
    states = data.prompt_embeds(
        torch.zeros(num, dtype=torch.int64),
        torch.zeros(num, dtype=torch.bool),
        draws(num, seed),
    )
    return states[:, 0, 0].long()


def test_captions_are_drawn_by_weight_and_a_source_s_several_alike(mixed):
    folder, texts = mixed
    weights = {"synthetic": 3, "imported": 1}
    data = Latents(folder, ["c", "nc"], weights)
    found = drawn(data, 0)
    shares = {texts[i]: float((found == i).float().mean()) for i in found.unique()}
    said = SAID[data.keys[0]]
    wanted = {said: 0.75, f"told {said}": 0.125, f"more {said}": 0.125}
    assert shares == pytest.approx(wanted, abs=0.03)
    assert torch.equal(drawn(data, 0), found) and not torch.equal(drawn(data, 1), found)


def test_a_draw_below_a_caption_s_share_reads_it(mixed):
    data = Latents(mixed[0], ["c", "nc"], {"synthetic": 3, "imported": 1})
    edges = [0, 0.749999, 0.75, 0.874999, 0.875, 1 - 2**-53]
    edges = torch.tensor(edges, dtype=torch.float64)
    places = torch.zeros(len(edges), dtype=torch.int64)
    states = data.prompt_embeds(places, places.bool(), edges)
    rows = [data.text_rows[0, i] for i in (0, 0, 1, 1, 2, 2)]
    assert states[:, 0, 0].long().tolist() == rows


def test_without_draws_the_first_caption_is_read(mixed):
    data = Latents(mixed[0], ["c", "nc"], {"synthetic": 1, "imported": 9})
    places = torch.arange(len(data))
    states = data.prompt_embeds(places, torch.zeros(len(data), dtype=torch.bool))
    assert torch.equal(states[:, 0, 0].long(), data.text_rows[:, 0])


def test_one_caption_a_work_needs_no_draw(mixed):
    data = Latents(mixed[0], ["c", "nc"], "synthetic")
    places = torch.arange(len(data))
    is_dropped = torch.zeros(len(data), dtype=torch.bool)
    with_draws = data.prompt_embeds(places, is_dropped, draws(len(data)))
    assert torch.equal(with_draws, data.prompt_embeds(places, is_dropped))


def test_dropped_captions_of_a_mixture_are_empty(mixed):
    data = Latents(mixed[0], ["c"], {"synthetic": 1, "imported": 1})
    states = data.prompt_embeds(
        torch.arange(3), torch.ones(3, dtype=torch.bool), draws(3)
    )
    assert (states == 0).all()


def test_a_work_without_captions_of_one_source_draws_from_the_others(mixed):
    alone = Latents(mixed[0], ["c", "nc"], "synthetic")
    data = Latents(mixed[0], ["c", "nc"], {"synthetic": 1, "human": 1e-9})
    assert set(alone.keys) < set(data.keys)
    place = next(i for i, key in enumerate(data.keys) if key not in SAID)
    states = data.prompt_embeds(torch.tensor([place]), torch.tensor([False]), draws(1))
    titles = CATALOG.set_index("key")["title"]
    assert mixed[1][int(states[0, 0, 0])] == titles[data.keys[place]]


def test_latents_of_other_works_are_not_written(written):
    folder, index = written[:2]
    before = hashes(folder)
    table = pa.table({"key": index["key"].tolist()[::-1]})
    with pytest.raises(ManifestError, match="the same in the same order"):
        write_latents(folder, [table], [], SHAPE, TEXT_SHAPE)
    assert hashes(folder) == before


def test_states_of_other_texts_are_not_written(written):
    table, states = tables_of(written)
    texts = states.set_column(0, "text", [states["text"].to_pylist()[::-1]])
    with pytest.raises(ManifestError, match="texts are encoded, and the index has"):
        write_latents(written[0], [table], [texts], SHAPE, TEXT_SHAPE)


@pytest.mark.parametrize("num", [0, NUM - 1, NUM + 1])
def test_a_missing_or_an_extra_latent_is_counted(written, num):
    keys = [*written[1]["key"], "toy/more"][:num]
    tables = [pa.table({"key": pa.array(keys, "string")})]
    with pytest.raises(ManifestError, match=f"{num} keys are encoded, .* has {NUM};"):
        write_latents(written[0], tables, [], SHAPE, TEXT_SHAPE)


@pytest.mark.parametrize("buckets", [(), [[16, 16]]])
def test_an_index_in_pieces_reads_as_a_whole_one(written, tmp_path, buckets):
    """A piece's texts come after those of the pieces before it."""
    folder, index, _, _ = written
    rows = CATALOG.set_index("key").loc[index["key"]].reset_index()
    pieces = [
        mixing.make_index(rows[start : start + 10], CAPTIONS, ["synthetic"])
        for start in range(0, NUM, 10)
    ]
    new = tmp_path / "pieces"
    named = write_index(new, iter(pieces))
    groups = [group for _, group in named.values()]
    assert groups == [0, 1, 2] and {file.name for file, _ in named.values()} == {
        "texts.parquet"
    }
    rest = mixing.make_index(rows[10:20][1:], CAPTIONS, ["synthetic"])
    without = write_index(tmp_path / "without", [pieces[0], rest, pieces[2]])
    same = [a == b for a, b in zip(named, without, strict=True)]
    assert same == [True, False, True]  # a take-down encodes its own piece again
    texts = [text for _, texts in pieces for text in texts]
    table = tables_of(written)[0]
    states = [raw(np.full((1, *TEXT_SHAPE), i))[0] for i in range(len(texts))]
    states = pa.table({"text": texts, "states": states})
    if buckets:
        table = table.append_column("bucket", [[0] * NUM])
    write_latents(new, [table[:7], table[7:]], [states], SHAPE, TEXT_SHAPE, buckets)
    for source in ("human", {"synthetic": 1, "human": 1}):
        whole, parts = (Latents(f, ["c", "nc"], source) for f in (folder, new))
        assert parts.keys == whole.keys and parts.texts() == whole.texts()
        places = torch.arange(len(parts))
        assert parts.keys_at(places.numpy()[::-1]) == parts.keys[::-1]
        assert torch.equal(parts.posterior(places)[0], whole.posterior(places)[0])
        first = parts.prompt_embeds(places, torch.zeros(len(parts), dtype=torch.bool))
        assert [texts[int(row[0, 0])] for row in first] == parts.texts()


def sizes(folder, kind, name):
    files = sorted(folder.glob(f"{kind}-*"))
    assert [file.name for file in files] == [
        f"{kind}-{number:05d}.safetensors" for number in range(len(files))
    ]
    return [len(load_file(file)[name]) for file in files]


def test_files_end_at_their_limit_and_the_last_has_the_rest(written, request):
    folder, _, texts, _ = written
    is_one = "one_file" in request.node.name
    works = [NUM] if is_one else [7, 7, 7, 3]
    assert sizes(folder, "latents", "mean") == works
    assert sizes(folder, "features", "features") == works
    states = [len(texts)] if is_one else [7, len(texts) - 7]
    assert sizes(folder, "texts", "states") == states
    others = {"index.parquet", "texts.parquet"}
    assert {file.name for file in folder.iterdir() if "-" not in file.name} == others


def test_a_whole_number_of_files_leaves_no_empty_one(written, monkeypatch):
    monkeypatch.setattr(latents_store, "WORKS_PER_FILE", NUM // 3)
    table, states = tables_of(written)
    write_latents(written[0], [table], [states], SHAPE, TEXT_SHAPE)
    assert sizes(written[0], "latents", "mean") == [NUM // 3] * 3


def test_no_file_is_larger_than_asked(written, monkeypatch):
    table, states = tables_of(written)
    size = 2 * 2 * np.prod(SHAPE)  # mean and logvar of a work [bytes]
    monkeypatch.setattr(latents_store, "FILE_BYTES", 3 * size + 1)
    write_latents(written[0], [table], [states], SHAPE, TEXT_SHAPE)
    assert sizes(written[0], "latents", "mean") == [3] * (NUM // 3)
    assert sizes(written[0], "features", "features") == [1] * NUM


@pytest.mark.parametrize("seed", range(3))
def test_a_batch_is_read_across_files_in_the_order_asked(written, seed):
    folder, index, texts, arrays = written
    data = Latents(folder, ["c", "nc"], "synthetic")
    places = np.random.default_rng(seed).integers(len(data), size=50)  # many twice
    rows = [index["key"].tolist().index(data.keys[place]) for place in places]
    mean, _ = data.posterior(torch.tensor(places))
    assert torch.equal(mean, torch.tensor(arrays["mean"][rows]).half().float())
    states = data.prompt_embeds(torch.tensor(places), torch.zeros(50, dtype=torch.bool))
    rows = [texts.index(SAID[data.keys[place]]) for place in places]
    assert torch.equal(states, torch.tensor(arrays["states"][rows]).half().float())
    assert (mean.dtype, states.dtype) == (torch.float32, torch.float32)


def test_no_places_give_an_empty_batch(written):
    data = Latents(written[0], ["c"], "human")
    none = torch.zeros(0, dtype=torch.int64)
    assert data.posterior(none)[0].shape == (0, *SHAPE)
    assert data.prompt_embeds(none, none.bool()).shape == (0, *TEXT_SHAPE)


def test_the_shape_of_a_latent_is_told(written):
    assert Latents(written[0], ["c"], "human").latent_shape == SHAPE


def test_what_is_read_may_be_changed_and_the_store_is_not(written):
    before = hashes(written[0])
    data = Latents(written[0], ["c"], "human")
    places = torch.arange(len(data))
    mean = data.posterior(places)[0]
    again = mean.clone()
    mean.zero_()
    data.features()[:] = 0
    assert torch.equal(data.posterior(places)[0], again)
    assert hashes(written[0]) == before


def tables_of(written):
    """Return the tables that the fixture `written` wrote."""
    _, index, texts, arrays = written
    columns = {"key": index["key"].tolist()}
    columns |= {name: raw(arrays[name]) for name in ("mean", "logvar")}
    columns["features"] = raw(arrays["features"], "float32")
    return pa.table(columns), pa.table({"text": texts, "states": raw(arrays["states"])})


@pytest.mark.parametrize("shard_size", [1, 5, NUM])
def test_bytes_do_not_depend_on_how_the_rows_come(written, tmp_path, shard_size):
    before, sources = hashes(written[0]), []
    for number, table in enumerate(tables_of(written)):
        starts = range(0, table.num_rows, shard_size)
        shards = [table.slice(start, shard_size) for start in starts]
        paths = [tmp_path / "shards" / f"{number}-{n}" for n in range(len(shards))]
        paths[0].parent.mkdir(exist_ok=True)
        for shard, path in zip(shards, paths, strict=True):
            pq.write_table(shard, path)
        sources.append((shards, paths))
    args = SHAPE, TEXT_SHAPE
    assert [num_rows(files) for _, files in sources] == [NUM, len(written[2])]
    for name, kind in {"tables": 0, "files": 1}.items():
        table, states = (iter(source[kind]) for source in sources)
        for file in ("index.parquet", "texts.parquet"):
            (tmp_path / name).mkdir(exist_ok=True)
            shutil.copy(written[0] / file, tmp_path / name)
        write_latents(tmp_path / name, table, states, *args)
        assert hashes(tmp_path / name) == before


def test_a_smaller_world_leaves_no_file_of_a_larger_one(written, monkeypatch):
    folder = written[0]
    table, states = tables_of(written)
    (folder / "latents.safetensors").write_bytes(b"of an earlier release")
    monkeypatch.setattr(latents_store, "WORKS_PER_FILE", NUM * 2)
    write_latents(folder, [table], [states], SHAPE, TEXT_SHAPE)
    assert sorted(file.name for file in folder.glob("*.safetensors")) == [
        f"{kind}-00000.safetensors" for kind in ("features", "latents", "texts")
    ]
    assert len(Latents(folder, ["c"], "human"))


@pytest.mark.parametrize("name", ["latents", "texts", "features"])
def test_a_missing_file_is_one_line_that_counts_the_rows(written, name):
    folder = written[0]
    sorted(folder.glob(f"{name}-*"))[0].unlink()
    with pytest.raises(ManifestError, match=rf"{name}-\*.*expected") as caught:
        Latents(folder, ["c"], "human").features()
    assert "\n" not in str(caught.value)


def test_a_folder_that_was_never_written_is_one_line(tmp_path):
    with pytest.raises(ManifestError, match="no index.parquet; expected") as caught:
        Latents(tmp_path / "none", ["c"], "human")
    assert "\n" not in str(caught.value)


# Run on its own, so that nothing else of the tests is in its memory [MB].
READER = """
import sys
import torch
from pathlib import Path
from commoncanvas.latents.reader import Latents
def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(l.split()[1]) for l in lines if l.startswith("RssAnon")) // 1024
before, most = anonymous(), 0
data = Latents(sys.argv[1], ["c"], "human")
generator = torch.Generator().manual_seed(0)
for _ in range(200):
    places = torch.randint(len(data), (32,), generator=generator)
    mean, std = data.posterior(places)
    data.prompt_embeds(places, torch.zeros(32, dtype=torch.bool))
    most = max(most, anonymous())
print(most - before)
"""


@pytest.fixture
def large(tmp_path):
    """An index of 4,096 works, and shards that pack small and unpack to 280 MB."""
    num, size = 4096, 256
    latent = np.arange(16 * 32 * 32, dtype="float16").tobytes()
    feature = np.ones(NUM_FEATURES, "float32").tobytes()
    keys = [f"toy/{i:05d}" for i in range(num)]
    index = pd.DataFrame({"key": keys, "source": "a", "split": "c"})
    index = index.assign(license_slug="by", is_holdout=False, order=range(num))
    index["text_human"] = [[1]] * num
    files = [tmp_path / f"shard-{start:05d}.parquet" for start in range(0, num, size)]
    for number, file in enumerate(files):
        columns = {"mean": [latent] * size, "logvar": [latent] * size}
        columns["key"] = keys[number * size : (number + 1) * size]
        table = pa.table(columns | {"features": [feature] * size})
        pq.write_table(table, file)
    yield pa.Table.from_pandas(index, preserve_index=False), files
    shutil.rmtree(tmp_path)  # pytest would keep it for three runs


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_stays_flat_while_writing_and_reading(large, monkeypatch):
    index, files = large
    store = files[0].parent / "store"
    states = raw(np.ones((2, *TEXT_SHAPE)))
    texts = pa.table({"text": ["", "word"], "states": states})
    monkeypatch.setattr(latents_store, "WORKS_PER_FILE", 512)
    tracemalloc.start()
    write_index(store, [(index, ["", "word"])])
    write_latents(store, files, [texts], (16, 32, 32), TEXT_SHAPE)
    written = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    stored = [file.stat().st_size / 2**20 for file in store.glob("latents-*")]
    assert len(stored) == 8 and sum(stored) >= 256
    assert written < 2 * max(stored), "more than a file and the rows on their way"
    command = [sys.executable, "-c", READER, str(store)]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(told.stdout) < 60


@pytest.mark.parametrize("protocol", ["memory", "file"])
def test_an_address_reads_as_the_folder_does(written, tmp_path, protocol, monkeypatch):
    address = written[0].as_uri()
    if protocol == "memory":
        memory = fsspec.filesystem("memory")
        address = f"memory://{tmp_path.name}/03_latents"
        memory.put(f"{written[0]}/*", address + "/")
    local = Latents(written[0], ["c"], "human")
    args = address, ["c"], "human"
    data = Latents(*args, cache=tmp_path / "cache")
    places = torch.arange(len(data)).flip(0)
    assert data.keys == local.keys and data.texts() == local.texts()
    assert torch.equal(data.posterior(places)[0], local.posterior(places)[0])
    kept = {file.name for file in (tmp_path / "cache").rglob("*-*.safetensors")}
    assert not any("features" in name for name in kept)  # training needs none of them
    assert np.array_equal(data.features(), local.features())
    files = fsspec.core.url_to_fs(address)[0]
    monkeypatch.setattr(type(files), "get_file", None)
    again = Latents(*args, cache=tmp_path / "cache")
    assert np.array_equal(again.features(), local.features())


@pytest.mark.skipif(sys.platform != "linux", reason="descriptors are read from /proc")
def test_open_latents_hold_no_file_open(written):
    def descriptors():
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    data = Latents(written[0], ["c"], "human")
    data.posterior(torch.arange(len(data)))
    assert descriptors() == before


@pytest.fixture
def finished(written):
    """The folder of `written` with its manifest."""
    write_manifest(written[0], "03_latents", "toy", None, NUM, NUM, {}, {})
    return written[0]


def opened(folder, **words):
    """Read all that a training or an evaluation reads, as bytes."""
    data = Latents(folder, ["c", "nc"], "synthetic", **words)
    places = torch.arange(len(data))
    never = torch.zeros(len(data), dtype=torch.bool)
    found = *data.posterior(places), data.prompt_embeds(places, never)
    arrays = [tensor.numpy().tobytes() for tensor in found]
    return arrays, data.keys, data.texts(), data.features().tobytes()


def flip(file, rng):
    data = bytearray(file.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    file.write_bytes(data)


@pytest.mark.parametrize("seed", range(12))
def test_a_bit_that_flipped_in_any_file_is_found_before_it_is_read(finished, seed):
    opened(finished)
    rng = np.random.default_rng(seed)
    files = sorted(path for path in finished.iterdir() if path.is_file())
    file = files[seed % len(files)]
    if file.name == "manifest.json":
        return
    flip(file, rng)
    with pytest.raises(ManifestError, match=f"changed: {file.name}") as caught:
        opened(finished)
    assert "\n" not in str(caught.value)


def test_a_damaged_file_of_a_stage_says_what_to_do(finished, monkeypatch, tmp_path):
    monkeypatch.setattr(paths, "ROOT", tmp_path / "root")
    folder = paths.ROOT / "data" / "mini" / "03_latents"
    shutil.copytree(finished, folder)
    (folder / "latents-00000.safetensors").unlink()
    with pytest.raises(ManifestError, match="dvc repro 03_latents@mini.*dvc checkout"):
        Latents(folder, ["c"], "human")


def test_a_file_of_a_larger_world_is_not_taken_in(finished):
    shutil.copy(
        finished / "latents-00000.safetensors", finished / "latents-99999.safetensors"
    )
    with pytest.raises(ManifestError, match="not listed: latents-99999.safetensors"):
        Latents(finished, ["c"], "human")


def test_one_process_of_a_machine_hashes_for_all(finished, monkeypatch):
    flip(finished / "latents-00000.safetensors", np.random.default_rng(0))
    monkeypatch.setenv("LOCAL_RANK", "1")
    mirror = sys.modules["commoncanvas.latents.mirror"]
    monkeypatch.setattr(mirror, "compare", None)  # not called
    assert len(read_listing(finished)) > 4
    mirror.local_files(finished, "latents-*", None, read_listing(finished))


def test_files_of_two_runs_do_not_meet_at_an_address(finished, tmp_path):
    address, cache = finished.as_uri(), tmp_path / "cache"
    whole = opened(address, cache=cache)
    assert whole == opened(finished)
    listing = read_listing(address, cache)
    file = finished / "texts.parquet"
    file.write_bytes(file.read_bytes()[::-1])  # another run, as far as one file goes
    with pytest.raises(ManifestError, match="changed: texts.parquet"):
        local_files(address, "texts.parquet", cache, listing)


def test_a_fetched_file_that_rots_in_the_cache_is_fetched_again(finished, tmp_path):
    address, cache = finished.as_uri(), tmp_path / "cache"
    whole = opened(address, cache=cache)
    for seed, file in enumerate(sorted(cache.rglob("*.safetensors"))):
        flip(file, np.random.default_rng(seed))
    assert opened(address, cache=cache) == whole

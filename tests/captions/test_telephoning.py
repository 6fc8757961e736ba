"""Captions do not depend on who wrote them down, how often it was killed, or when."""

import functools
import itertools
import json
import multiprocessing
import os
import random
import signal
import sys
import time

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from toys import save_captioner

from commoncanvas.captions import telephoning, written
from commoncanvas.core import paths
from commoncanvas.core.errors import EngineError, ManifestError, ParameterError
from commoncanvas.core.files import sha256_of
from commoncanvas.core.images import encode_png
from commoncanvas.core.picture_store import (
    picture_file,
    picture_files,
    read_pictures,
    write_pictures,
)
from commoncanvas.core.shards import named_files, start_cluster
from commoncanvas.latents.encode import latent_file
from commoncanvas.pretrain import autoencoder

PER_FILE = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 24, 24, 3), np.uint8)
    return [(f"set/{i:02d}", encode_png(picture)) for i, picture in enumerate(pixels)]


@pytest.fixture
def world(tmp_path, rows):
    """Stage 01's folder: two thirds of the pictures are licensed, four a file."""
    return write_world(tmp_path / "01_licenses", rows)


def write_world(folder, rows):
    splits = itertools.cycle(["c", "nc", "web"])
    for number, start in enumerate(range(0, len(rows), PER_FILE)):
        part = rows[start : start + PER_FILE]
        told = [(key, next(splits), data) for key, data in part]
        write_pictures(folder, number, told)
    return folder


def licensed(rows):
    return [row for i, row in enumerate(rows) if i % 3 < 2]


@pytest.fixture(scope="module")
def vae_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vae")
    torch.manual_seed(0)
    autoencoder.make_vae(4, [8, 8, 8, 8]).save_pretrained(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def folders(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / "finished")


@pytest.fixture
def settings(folder):
    return {"captioner": "open", "folder": str(folder), "batch_size": 2, "top_p": 0.9}


def files_of(world):
    """Return the world's files by their hashes, as stage 01's manifest names them."""
    return {sha256_of(file)[:32]: file for file in picture_files(world)}


def telephone(settings, world, name="toy", **words):
    return telephoning.telephone("synthetic", settings, files_of(world), name, **words)


def read(files):
    return pa.concat_tables([pq.read_table(f) for f in files]).combine_chunks()


def test_every_licensed_picture_gets_a_row_in_order(settings, world, rows):
    _, files = telephone(settings, world)
    table = read(files)
    assert table["key"].to_pylist() == [key for key, _ in licensed(rows)]
    assert len(set(table["caption_raw"].to_pylist())) > 5


def test_captions_do_not_depend_on_how_pictures_lie_in_files(
    settings, world, rows, tmp_path
):
    whole = telephoning.caption_rows(settings, licensed(rows))
    assert read(telephone(settings, world)[1]) == whole
    _, sample = telephoning.caption_sample(settings, licensed(rows)[:9])
    assert sample.tolist() == whole["caption_raw"].to_pylist()[:9]


def test_a_work_that_is_taken_down_repeats_its_own_file_alone(settings, world):
    _, before = telephone(settings, world)
    times = [file.stat().st_mtime_ns for file in before]
    gone = read_pictures(picture_file(world, 3))[1:]
    write_pictures(world, 3, [(key, "c", data) for key, data in gone])
    _, after = telephone(settings, world)
    same = [a == b and a.stat().st_mtime_ns == t
            for a, b, t in zip(after, before, times, strict=True)]  # fmt: skip
    assert same == [number != 3 for number in range(len(before))]
    assert read(after[3:4])["key"].to_pylist() == [key for key, _ in gone]
    assert not before[3].exists()


def test_the_work_s_key_follows_settings_decoding_and_world(settings, world):
    keys = {
        telephone(*arguments)[0]
        for arguments in [
            (settings, world),
            (settings, world, "another"),
            ({**settings, "top_p": 0.8}, world),
            ({**settings, "seed": 1}, world),
        ]
    }
    assert len(keys) == 4


def test_imported_captions_go_through_the_same_door(tmp_path, world, rows):
    file = tmp_path / "told.jsonl"
    file.write_text(json.dumps({"key": rows[4][0], "caption": "a told one"}))
    _, files = telephone({"captioner": "imported", "file": str(file)}, world)
    told = dict(zip(*read(files).to_pydict().values(), strict=True))
    assert told.pop(rows[4][0]) == "a told one" and set(told.values()) == {None}


@pytest.mark.parametrize("is_remote", [False, True])
def test_the_catalogue_s_own_captions_become_a_caption_source(
    tmp_path, world, rows, is_remote
):
    file = tmp_path / "catalog.parquet"
    columns = {"key": [key for key, _ in rows], "caption": "told", "alt_text": "own"}
    written_by = ["florence-2", "human", ""] * 20
    pd.DataFrame(columns).assign(captioner=written_by).to_parquet(file)
    if is_remote:
        fsspec.filesystem("memory").put(str(file), "/own/catalog.parquet")
    place = "memory://own/catalog.parquet" if is_remote else str(file)
    settings = {"captioner": "imported", "file": place, "written_by": "florence-2"}
    _, files = telephone(settings, world)
    found = read(files).to_pydict()
    assert found["caption_raw"] == ["told", None] * 20


def test_imported_captions_are_read_once_for_many_files(
    tmp_path, world, rows, monkeypatch
):
    file = tmp_path / "told.jsonl"
    told = [{"key": key, "caption": f"of {key}"} for key, _ in rows[::2]]
    file.write_text("\n".join(map(json.dumps, told)))
    settings, calls = {"captioner": "imported", "file": str(file)}, []
    each = pa.concat_tables(
        [telephoning.caption_file(settings, one) for one in picture_files(world)]
    )
    table = telephoning.ImportedCaptions.table
    monkeypatch.setattr(
        telephoning.ImportedCaptions,
        "table",
        lambda *args: calls.append(0) or table(*args),
    )
    monkeypatch.setattr(telephoning, "FILES_AT_ONCE", 6)
    _, files = telephone(settings, world, engine="ray")  # which is not started
    assert read(files).to_pydict() == each.to_pydict()
    assert len(files) == 15 and len(calls) == 3


def test_what_is_handed_on_has_a_caption_or_a_reason(settings, world, rows, tmp_path):
    _, files = telephone(settings, world)
    told = tmp_path / "told.jsonl"
    lines = [{"key": rows[0][0], "caption": text} for text in ("b", "a a")]
    lines += [{"key": rows[1][0], "caption": " "}]
    told.write_text("\n".join(map(json.dumps, lines)))
    imported = {"captioner": "imported", "file": str(told)}
    _, others = telephoning.telephone("told", imported, files_of(world), "toy")
    counts = written.write_captions(
        tmp_path, picture_files(world), {"synthetic": files, "told": others}
    )
    pictures = counts.groupby("source")["pictures"].sum()
    assert pictures.to_dict() == {"synthetic": 40, "told": 40}
    reasons = counts.set_index(["source", "reason"])["pictures"]["told"].to_dict()
    missing = "not among the imported captions"
    assert reasons == {"": 1, "empty caption": 1, missing: 38}
    table = pd.read_parquet(tmp_path / "captions")
    assert (table["caption"].eq("") == table["reason"].ne("")).all()
    own = table[(table["source"] == "told") & (table["key"] == rows[0][0])]
    assert own["caption"].tolist() == ["a", "b"]
    works = pd.DataFrame({"key": [rows[i][0] for i in (7, 0, 1)], "file": [1, 0, 0]})
    assert written.first_captions(tmp_path, works, "told").tolist() == ["", "a", ""]


def test_captions_of_other_works_are_not_handed_on(settings, world, tmp_path):
    _, files = telephone(settings, world)
    with pytest.raises(ManifestError, match="synthetic has captions of other works"):
        written.write_captions(
            tmp_path, picture_files(world), {"synthetic": files[::-1]}
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"captioner": "clip"}, "'clip'; expected one of open, retrieval, blip2, "),
        ({}, "captioners has None"),
        ({"captioner": "imported"}, "lacks `file`; it takes"),
        ({"captioner": "imported", "files": "x"}, "takes .*file.*key_column"),
        ({"captioner": "open", "files": "x"}, "does not take `files`"),
        ({"captioner": "imported", "file": 5}, "`file` of 'imported' .* is 5; exp"),
        (
            {"captioner": "imported", "file": "a.csv", "key_column": 5},
            "`key_column` of 'imported' in `captioners` is 5; expected text;",
        ),
        ({"captioner": "transformers", "model": 5}, "`model` .* is 5; expected a path"),
        *(
            ({"captioner": "endpoint", "url": "http://h/v1", "model": "m"} | odd, told)
            for odd, told in (
                ({"timeout_s": "x"}, "`timeout_s` .* is 'x'; expected a finite number"),
                ({"longest_edge": "x"}, "`longest_edge` .* expected a whole number"),
                ({"key_env": 5}, "`key_env` of 'endpoint' .* is 5; expected text"),
                ({"prompt": "\ud800"}, "`prompt` .* expected text"),
                ({"timeout_s": float("nan")}, "a setting that JSON cannot hold"),
                ({"generate": {"a": {1}}}, "a setting that JSON cannot hold"),
            )
        ),
    ],
)
def test_wrong_settings_are_refused_with_the_right_ones(settings, message):
    with pytest.raises(ParameterError, match=message) as refused:
        telephoning.load_captioner(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["human", "alt_text"])
def test_a_captioner_may_not_take_the_name_of_other_captions(settings, world, name):
    with pytest.raises(ParameterError, match="choose another name"):
        telephoning.telephone(name, settings, files_of(world), "toy")


def test_paths_are_those_of_the_repository_wherever_one_stands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = {"captioner": "open", "folder": "pretrained/captioner"}
    assert telephoning.load_captioner(settings).identity.startswith("open:")


def work(settings, world, checkpoints):
    """Telephone in a process of its own, with its work folder where the test's is."""
    paths.CHECKPOINTS = checkpoints
    paths.FINISHED = checkpoints.with_name("finished")
    torch.set_num_threads(1)
    telephone(settings, world)


def shard_times(whole):
    """Return the shards' modification times, but for those of one finished work."""
    files = paths.CHECKPOINTS.rglob("shard-*.parquet")
    return {f: f.stat().st_mtime_ns for f in files if f.parent.name != whole}


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_byte_and_redo_no_shard(
    settings, world, monkeypatch
):
    key, whole = telephone(settings, world, "uninterrupted")
    # A fork server has imported everything once, so that a kill hits work and not
    # the import of torch; without its paths every child would import this file.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    chance, kills, counts = random.Random(5), 0, set()
    while kills < 10:
        before = shard_times(key)
        process = context.Process(
            target=work, args=(settings, world, paths.CHECKPOINTS)
        )
        process.start()
        # Half of the kills come while the process starts, the others once it writes.
        writes = chance.random() < 0.5
        while writes and process.is_alive() and shard_times(key) == before:
            time.sleep(0.001)
        time.sleep(chance.uniform(0, 0.05 if writes else 0.5))
        if not process.is_alive():  # quicker than the kill: take some shards away
            assert process.exitcode == 0
            for file in sorted(shard_times(key))[::2]:
                file.unlink()
            continue
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        kills += 1
        after = shard_times(key)
        assert {file: after.get(file) for file in before} == before
        counts.add(len(after))
    assert len(counts) > 3  # kills came early and late
    finished = shard_times(key)
    _, files = telephone(settings, world)
    last = shard_times(key)
    assert {file: last[file] for file in finished} == finished
    assert [f.name for f in files] == [f.name for f in whole]
    assert [f.read_bytes() for f in files] == [f.read_bytes() for f in whole]


def kills_one_worker(settings, flag, file):
    """Caption a file; the first worker to come here with file 3 is killed."""
    if file.stem == "00003" and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return telephoning.caption_file(settings, file)


def first_gpu(item):
    """Return the GPU where this process's first model lies, and the one assigned."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES")
    first = globals().setdefault("_FIRST_GPU", gpu)
    time.sleep(0.02 + 0.1 * (item % 3 == 0))
    return pa.table({"first": [first], "assigned": [gpu], "pid": [os.getpid()]})


def kills_every_worker(item):
    os.kill(os.getpid(), signal.SIGKILL)


def fails(item):
    raise ParameterError(f"found {item}; expected nothing; do nothing.")


@pytest.mark.slow
def test_ray_workers_one_of_them_killed_write_the_same_bytes(
    settings, world, tmp_path, vae_folder
):
    """Captions with a killed worker, then latents."""
    ray = pytest.importorskip("ray")
    # Workers cannot import the tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    _, here = telephone(settings, world, "here")
    start_cluster(ray, num_cpus=3)
    try:
        flag = tmp_path / "killed"
        function = functools.partial(kills_one_worker, settings, flag)
        there = named_files("there", files_of(world), function, "captions", "ray")
        assert flag.exists()
        encode = functools.partial(latent_file, vae_folder, 16)
        some = dict(list(files_of(world).items())[:4])
        local, far = (
            named_files(f"latents-{engine}", some, encode, "latents", engine)
            for engine in ("local", "ray")
        )
        for one, other in zip([*here, *local], [*there, *far], strict=True):
            assert one.name == other.name and one.read_bytes() == other.read_bytes()
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_a_ray_worker_has_one_gpu_for_life():
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    start_cluster(ray, num_cpus=4, num_gpus=2)
    try:
        inputs = {f"{i:02d}": i for i in range(24)}
        files = named_files("gpus", inputs, first_gpu, "gpus", "ray")
    finally:
        ray.shutdown()
    found = read(files).to_pandas()
    assert (found["first"] == found["assigned"]).all()
    assert set(found["assigned"]) == {"0", "1"} and found["pid"].nunique() == 2


@pytest.mark.slow
def test_what_fails_on_ray_ends_in_one_line(tmp_path):
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    start_cluster(ray, num_cpus=1)
    try:
        with pytest.raises(ParameterError, match="found 1; expected nothing"):
            named_files("fails", {"a": 1, "b": 1}, fails, "fails", "ray")
        with pytest.raises(EngineError, match="died 4 times"):
            named_files("dies", {"a": 1}, kills_every_worker, "dies", "ray")
        torch.set_num_threads(2)
        with pytest.raises(EngineError, match="no node of the cluster has more than"):
            named_files("big", {"a": 1}, fails, "big", "ray")
    finally:
        ray.shutdown()


def test_without_ray_one_line_says_how_to_get_it(settings, world, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match="Ray is not installed; run"):
        telephone(settings, world, engine="ray")


def test_stage_02_studies_the_captioner_that_the_claims_are_about():
    assert telephoning.leading({"recap": {}, "synthetic": {}}) == "synthetic"
    with pytest.raises(ParameterError, match="captioners recap, told; expected one"):
        telephoning.leading({"recap": {}, "told": {}})


def test_imported_captions_of_other_pictures_stop_the_stage(world, tmp_path):
    file = tmp_path / "told.jsonl"
    file.write_text('{"key": "other/1", "caption": "a cat"}\n')
    with pytest.raises(ParameterError, match="none of the pictures is among"):
        telephone({"captioner": "imported", "file": str(file)}, world)


def test_without_a_picture_there_is_nothing_to_caption(settings, tmp_path):
    write_pictures(tmp_path / "web", 0, [("a", "web", b"")])
    with pytest.raises(ParameterError, match="there is no picture to caption"):
        telephone(settings, tmp_path / "web")

"""Captions do not depend on who wrote them down, how often it was killed, or when."""

import functools
import json
import multiprocessing
import os
import random
import signal
import sys
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from toys import save_captioner

from commoncanvas.captions import telephoning
from commoncanvas.core import paths
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.images import encode_png
from commoncanvas.core.shards import run_shards
from commoncanvas.latents.encode import latent_table
from commoncanvas.pretrain import autoencoder

SHARD_SIZE = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_captioner(tmp_path_factory.mktemp("captioner"))


@pytest.fixture(scope="module")
def items():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (60, 24, 24, 3), np.uint8)
    return [(f"set/{i:02d}", encode_png(picture)) for i, picture in enumerate(pixels)]


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


def telephone(settings, items, pictures="p", **words):
    return telephoning.telephone(
        "synthetic", settings, items, pictures, SHARD_SIZE, **words
    )


def test_every_picture_gets_a_row_in_order(settings, items):
    _, table = telephone(settings, items)
    assert table["key"].to_pylist() == [key for key, _ in items]
    assert len(set(table["caption_raw"].to_pylist())) > 5


def test_the_work_s_key_follows_pictures_settings_and_decoding(settings, items):
    keys = {
        telephone(*arguments)[0]
        for arguments in [
            (settings, items[:4]),
            (settings, items[:4], "other pictures"),
            ({**settings, "top_p": 0.8}, items[:4]),
            ({**settings, "seed": 1}, items[:4]),
        ]
    }
    assert len(keys) == 4


def test_imported_captions_go_through_the_same_door(tmp_path, items):
    file = tmp_path / "told.jsonl"
    file.write_text(json.dumps({"key": items[5][0], "caption": "a told one"}))
    _, table = telephone({"captioner": "imported", "file": str(file)}, items)
    told = dict(zip(*table.to_pydict().values(), strict=True))
    assert told.pop(items[5][0]) == "a told one" and set(told.values()) == {None}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"captioner": "clip"}, "'clip'; expected one of open, blip2, imported"),
        ({}, "captioners has None"),
        ({"captioner": "imported"}, "lacks `file`; it takes"),
        ({"captioner": "imported", "files": "x"}, "takes .*file.*key_column"),
        ({"captioner": "open", "files": "x"}, "does not take `files`"),
    ],
)
def test_wrong_settings_are_refused_with_the_right_ones(settings, message):
    with pytest.raises(ParameterError, match=message) as refused:
        telephoning.load_captioner(settings)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["human", "alt_text"])
def test_a_captioner_may_not_take_the_name_of_other_captions(settings, items, name):
    with pytest.raises(ParameterError, match="choose another name"):
        telephoning.telephone(name, settings, items, "p", SHARD_SIZE)


def test_paths_are_those_of_the_repository_wherever_one_stands(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    settings = {"captioner": "open", "folder": "pretrained/captioner"}
    assert telephoning.load_captioner(settings).identity.startswith("open:")


def work(settings, items, checkpoints):
    """Telephone in a process of its own, with its work folder where the test's is."""
    paths.CHECKPOINTS = checkpoints
    paths.FINISHED = checkpoints.with_name("finished")
    torch.set_num_threads(1)
    telephone(settings, items)


def shard_times(whole):
    """Return the shards' modification times, but for those of one finished work."""
    files = paths.CHECKPOINTS.rglob("shard-*.parquet")
    return {f: f.stat().st_mtime_ns for f in files if f.parent.name != whole}


@pytest.mark.slow
def test_ten_kills_at_random_moments_change_no_byte_and_redo_no_shard(settings, items):
    key, whole = telephone(settings, items, "uninterrupted")
    # A fork server has imported everything once, so that a kill hits work and not
    # the import of torch.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["commoncanvas.captions.telephoning"])
    chance, kills, counts = random.Random(5), 0, set()
    while kills < 10:
        before = shard_times(key)
        process = context.Process(
            target=work, args=(settings, items, paths.CHECKPOINTS)
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
    _, table = telephone(settings, items)
    assert table == whole
    last = shard_times(key)
    assert {file: last[file] for file in finished} == finished
    twins = [paths.CHECKPOINTS / key / file.name for file in last]
    assert [f.read_bytes() for f in last] == [f.read_bytes() for f in twins]


def kills_one_worker(settings, flag, rows):
    """Caption a shard; the first worker to come here with shard 3 is killed."""
    if rows[0][0] == "set/12" and not flag.exists():
        flag.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return telephoning.caption_shard(settings, rows)


def kills_every_worker(rows):
    os.kill(os.getpid(), signal.SIGKILL)


def fails(rows):
    raise ParameterError(f"found {rows[0]}; expected nothing; do nothing.")


@pytest.mark.slow
@pytest.mark.parametrize("num_workers", [2, 3])
def test_ray_workers_one_of_them_killed_write_the_same_bytes(
    settings, items, tmp_path, num_workers, vae_folder
):
    """Captions with a killed worker, then latents."""
    ray = pytest.importorskip("ray")
    # Workers cannot import the tests.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    _, here = telephone(settings, items, "here")
    ray.init(num_cpus=num_workers, include_dashboard=False, log_to_driver=False)
    try:
        flag = tmp_path / "killed"
        function = functools.partial(kills_one_worker, settings, flag)
        there = run_shards("there", items, SHARD_SIZE, function, "captions", "ray")
        assert flag.exists()
        files = sorted((paths.CHECKPOINTS / "there").glob("shard-*.parquet"))
        assert there == here and len(files) == len(items) // SHARD_SIZE
        key, _ = telephone(settings, items, "here")
        for file in files:
            twin = paths.CHECKPOINTS / key / file.name
            assert file.read_bytes() == twin.read_bytes()
        encode = functools.partial(latent_table, vae_folder, 16)
        tables = [
            run_shards(f"latents-{engine}", items[:20], 5, encode, "latents", engine)
            for engine in ("local", "ray")
        ]
        assert tables[0] == tables[1] and tables[0].num_rows == 20
    finally:
        ray.shutdown()


@pytest.mark.slow
def test_what_fails_on_ray_ends_in_one_line(tmp_path):
    ray = pytest.importorskip("ray")
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    try:
        with pytest.raises(ParameterError, match="found 1; expected nothing"):
            run_shards("fails", [1, 2], 1, fails, "fails", "ray")
        with pytest.raises(EngineError, match="died 4 times"):
            run_shards("dies", [1], 1, kills_every_worker, "dies", "ray")
        torch.set_num_threads(2)
        with pytest.raises(EngineError, match="no node of the cluster has more than"):
            run_shards("big", [1], 1, fails, "big", "ray")
    finally:
        ray.shutdown()


def test_without_ray_one_line_says_how_to_get_it(settings, items, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match="Ray is not installed; run"):
        telephone(settings, items, engine="ray")


def test_a_shard_s_file_can_be_read_by_anything(settings, items):
    key, table = telephone(settings, items)
    file = paths.CHECKPOINTS / key / "shard-00000.parquet"
    assert pq.read_table(file) == table.slice(0, SHARD_SIZE)


def test_stage_02_studies_the_captioner_that_the_claims_are_about():
    assert telephoning.leading({"recap": {}, "synthetic": {}}) == "synthetic"
    with pytest.raises(ParameterError, match="captioners recap, told; expected one"):
        telephoning.leading({"recap": {}, "told": {}})


def test_imported_captions_of_other_pictures_stop_the_stage(items, tmp_path):
    file = tmp_path / "told.jsonl"
    file.write_text('{"key": "other/1", "caption": "a cat"}\n')
    with pytest.raises(ParameterError, match="none of the pictures is among"):
        telephone({"captioner": "imported", "file": str(file)}, items)


def test_without_a_picture_there_is_nothing_to_caption(settings):
    with pytest.raises(ParameterError, match="there is no picture to caption"):
        telephone(settings, [])

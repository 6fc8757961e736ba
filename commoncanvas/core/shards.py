"""Long work split into shards, each computed exactly once by any worker in any order.

Finished shards lie in the folder of the work's key until all are done, each beside its
size and hash; one that is not what was written is done again. They are computed here
or, where `engine: ray` asks for it, by the workers of a Ray cluster; both
run the same function. Ray is imported here and nowhere else.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from commoncanvas.core.errors import EngineError, ManifestError, ParameterError
from commoncanvas.core.files import (
    read_json,
    remove,
    sha256_of,
    write_atomically,
    write_json,
)
from commoncanvas.core.keys import work_folder

Function = Callable[[list[Any]], pa.Table]  # items of one shard -> its rows
Numbered = tuple[int, Any]  # the number of a shard, and its items or its table

MAX_RETRIES = 3  # of a shard whose worker died; out of memory comes back every time
# What changes a result or its speed, carried from the stage's process to the workers.
CARRIED = (
    "HF_HUB_OFFLINE MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ "
    "OMP_WAIT_POLICY PYTHONHASHSEED TOKENIZERS_PARALLELISM CUBLAS_WORKSPACE_CONFIG"
).split()


def shard_files(
    key: str,
    items: Sequence[Any],
    shard_size: int,
    function: Function,
    description: str,
    engine: str = "local",
) -> list[Path]:
    """Do the shards that are not done yet and return all their files.

    `run_shards` returns the table, where that fits in memory.

    Args:
        key: from `key_of`; one key for one piece of work.
        function: items -> any number of rows. For "ray" it must be picklable and load
            what is heavy itself, once a process.
        description: for the progress bar.
        engine: "local", or "ray" for a Ray cluster; the files are the same.

    Returns:
        Parquet files in the order of `items`.

    Raises:
        ParameterError: there are no items, or a size or an engine that cannot be.
        EngineError: from "ray"; the shards done so far are kept.
    """
    if shard_size < 1 or len(items) == 0:
        raise ParameterError(
            f"{description!r} got {len(items)} items in shards of {shard_size}; both "
            "must be at least 1. Raise the profile's limit or look at the stage above."
        )
    if engine not in ENGINES:
        raise ParameterError(
            f"engine is {engine!r}; expected one of {', '.join(ENGINES)}. Edit the "
            "profile."
        )
    folder = _planned(key, len(items), shard_size, description)
    starts = range(0, len(items), shard_size)
    files = [folder / f"shard-{n:05d}.parquet" for n in range(len(starts))]
    sizes = [min(shard_size, len(items) - start) for start in starts]
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # hashing holds no lock
        faults = list(pool.map(_fault, files))
    for n, fault in enumerate(faults):
        if fault:
            print(
                f"shard {n} of {description!r} is not what was written ({fault}); it "
                "is done again",
                file=sys.stderr,
            )
    waiting = (
        (n, list(items[start : start + shard_size]))
        for n, start in enumerate(starts)
        if faults[n] is not None
    )
    done = sum(size for size, fault in zip(sizes, faults, strict=True) if fault is None)
    with tqdm(
        total=len(items), initial=done, desc=description, unit="", file=sys.stderr
    ) as bar:
        for n, table in ENGINES[engine](function, waiting):
            _write(files[n], table)
            bar.update(sizes[n])
    return files


def run_shards(
    key: str,
    items: Sequence[Any],
    shard_size: int,
    function: Function,
    description: str,
    engine: str = "local",
) -> pa.Table:
    """Do a long piece of work as `shard_files` and return its rows in order.

    Every shard is read back from its file, so a resumed run and an uninterrupted one
    return the same table. Call `finish(key)` after the outputs are written.
    """
    files = shard_files(key, items, shard_size, function, description, engine)
    tables = [pq.ParquetFile(file).read() for file in files]
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def _planned(key: str, num_items: int, shard_size: int, description: str) -> Path:
    """Return the key's folder, emptied where its shards were cut differently."""
    folder = work_folder(key)
    plan, file = [num_items, shard_size, description], folder / "plan.json"
    try:
        is_same = read_json(file) == plan
    except ManifestError:  # there is none, or none that can be read
        is_same = False
    if not is_same:
        for old in [file, *folder.glob("shard-*")]:
            remove(old)
        write_json(file, plan)
    return folder


def _record(file: Path) -> Path:
    return file.with_suffix(".json")


def _write(file: Path, table: pa.Table) -> None:
    """Write a shard, then its record; a shard without one counts as never done."""
    for old in (file, _record(file)):
        if old.is_dir():  # no write replaces a folder
            remove(old)
    write_atomically(file, partial(pq.write_table, table))
    facts = {"bytes": file.stat().st_size, "sha256": sha256_of(file)}
    write_json(_record(file), facts)


def _fault(file: Path) -> str | None:
    """Say how a shard differs from its record, "" if it was never done, or None."""
    if not file.exists() or not os.path.lexists(_record(file)):
        return ""
    try:
        record, size = read_json(_record(file)), file.stat().st_size
        if size != record["bytes"]:
            return f"{size} bytes, expected {record['bytes']}"
        return None if sha256_of(file) == record["sha256"] else "another hash"
    except (ManifestError, KeyError, TypeError, OSError):
        return "it cannot be read"


def do_here(function: Function, shards: Iterable[Numbered]) -> Iterator[Numbered]:
    """Yield (number, table) of each shard, one after the other, in this process."""
    for number, items in shards:
        yield number, function(items)


def do_on_ray(function: Function, shards: Iterable[Numbered]) -> Iterator[Numbered]:
    """Yield (number, table) of each shard as Ray's workers finish them, in any order.

    A worker computes with as many threads as this process and takes as many CPUs, so
    its numbers have the same last bits; where the cluster has GPUs it takes one. A
    shard whose worker dies is given to another. `shards` are read no faster than
    workers come free.

    Raises:
        EngineError: Ray is not installed, no node has enough CPUs, or a shard's worker
            died four times. What `function` raises comes through unchanged.
    """
    try:
        import ray
    except ImportError:
        raise EngineError(
            "engine is ray, and Ray is not installed; run `pip install "
            "'commoncanvas[ray]'` or set `engine: local` in the profile."
        ) from None
    threads = torch.get_num_threads()
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would call home
    is_ours = not ray.is_initialized()
    if is_ours:
        ray.init(
            include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
    try:
        gpus = _room_for(ray, threads)
        variables = {name: os.environ[name] for name in CARRIED if name in os.environ}
        do = ray.remote(_do).options(
            num_cpus=threads,
            num_gpus=gpus,
            max_retries=MAX_RETRIES,
            runtime_env={"env_vars": variables},
        )
        stored = ray.put(function)
        at_once = 2 * max(1, int(ray.cluster_resources()["CPU"] / threads))
        running: dict[Any, int] = {}
        for number, items in shards:
            running[do.remote(stored, items, threads)] = number
            if len(running) >= at_once:
                yield _first(ray, running)
        while running:
            yield _first(ray, running)
    finally:
        if is_ours:
            ray.shutdown()


def _do(function: Function, items: list[Any], threads: int) -> pa.Table:
    torch.set_num_threads(threads)
    return function(items)


def _first(ray: Any, running: dict[Any, int]) -> Numbered:
    """Wait for one task, take it off the list, and return its number and table."""
    (done,), _ = ray.wait(list(running), num_returns=1)
    number = running.pop(done)
    try:
        return number, ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except ray.exceptions.WorkerCrashedError:
        raise EngineError(
            f"the workers of shard {number} died {MAX_RETRIES + 1} times, perhaps for "
            "memory; finished shards are kept. Lower `shard_size`, or give each worker "
            "more room, and run the stage again."
        ) from None


def _room_for(ray: Any, threads: int) -> int:
    """Return the GPUs of one task, having made sure that some node has its CPUs."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = max(node.get("CPU", 0) for node in nodes)
    if most < threads:
        raise EngineError(
            f"the stage has {threads} threads, and no node of the cluster has more "
            f"than {most:g} CPUs; a task would never start. Lower `num_threads`."
        )
    return 1 if any(node.get("GPU") for node in nodes) else 0


ENGINES = {"local": do_here, "ray": do_on_ray}

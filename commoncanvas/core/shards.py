"""Long work split into shards, each computed exactly once by any worker in any order.

Finished shards lie in the folder of the work's key until all are done, each beside its
size and hash; one that is not what was written is done again. They are computed here
or, where `engine: ray` asks for it, by the workers of a Ray cluster; both
run the same function. Ray is imported here and nowhere else.
"""

import logging
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from commoncanvas.core.errors import EngineError, ManifestError, ParameterError, brief
from commoncanvas.core.files import (
    in_threads,
    read_json,
    remove,
    sha256_of,
    write_atomically,
    write_json,
)
from commoncanvas.core.keys import work_folder

Function = Callable[[Any], pa.Table]  # what a shard is made of -> its rows
Named = tuple[str, Any]  # the name of a shard, and what it is made of or its table

MAX_RETRIES = 3  # of a shard whose worker died; out of memory comes back every time
# What changes a result or its speed, carried from the stage's process to the workers.
CARRIED = (
    "HF_HUB_OFFLINE MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ "
    "OMP_WAIT_POLICY PYTHONHASHSEED TOKENIZERS_PARALLELISM CUBLAS_WORKSPACE_CONFIG"
).split()


def named_files(
    key: str,
    inputs: Mapping[str, Any],
    function: Function,
    description: str,
    engine: str = "local",
    sizes: Sequence[int] | None = None,
) -> list[Path]:
    """Do the shards that are not done yet and return all their files.

    A shard's name stands for all that it is made of beyond the key, e.g. the hash of a
    file of pictures: when one of them changes, one shard is done again. Shards of names
    that are no longer asked for are removed once all are done.

    Args:
        key: from `key_of`; one key for one piece of work.
        inputs: {name of a shard: what it is made of}. Paths are better than contents:
            whoever does the shard reads them, and on a cluster every node sees the
            project's folder.
        function: one value of `inputs` -> any number of rows. For "ray" it must be
            picklable and load what is heavy itself, once a process.
        description: for the progress bar.
        engine: "local", or "ray" for a Ray cluster; the files are the same.
        sizes: what the progress bar counts of each shard; None counts shards.

    Returns:
        Parquet files in the order of `inputs`.

    Raises:
        ParameterError: there is nothing to do, or no such engine.
        EngineError: from "ray"; the shards done so far are kept.
    """
    if not inputs:
        raise ParameterError(
            f"{description!r} got nothing to do; expected 1 shard or more; look at the "
            "stage above."
        )
    if engine not in ENGINES:
        raise ParameterError(
            f"engine is {engine!r}; expected one of {', '.join(ENGINES)}. Edit the "
            "profile."
        )
    folder = work_folder(key)
    files = {name: folder / f"shard-{name}.parquet" for name in inputs}
    faults = dict(zip(files, in_threads(_fault, files.values()), strict=True))
    for name, fault in faults.items():
        if fault:
            print(
                f"shard {name} of {description!r} is not what was written ({fault}); "
                "it is done again",
                file=sys.stderr,
            )
    size = dict(zip(inputs, sizes or [1] * len(inputs), strict=True))
    waiting = [name for name, fault in faults.items() if fault is not None]
    num = sum(size.values())
    done = num - sum(size[name] for name in waiting)
    with tqdm(
        total=num, initial=done, desc=description, unit="", file=sys.stderr
    ) as bar:
        # An engine is not started for nothing.
        todo = ((name, inputs[name]) for name in waiting)
        for name, table in ENGINES[engine](function, todo) if waiting else ():
            _write(files[name], table)
            bar.update(size[name])
    wanted = {file.stem for file in files.values()}
    for old in folder.glob("shard-*"):
        if old.stem not in wanted:
            remove(old)
    return list(files.values())


def shard_files(
    key: str,
    items: Sequence[Any],
    shard_size: int,
    function: Callable[[list[Any]], pa.Table],
    description: str,
    engine: str = "local",
) -> list[Path]:
    """Do work on items that the key knows, as `named_files`, so many of them a shard.

    Args:
        function: the list of a shard's items -> any number of rows.

    Raises:
        ParameterError: there are no items, or a size below 1; see `named_files`.
    """
    if shard_size < 1 or len(items) == 0:
        raise ParameterError(
            f"{description!r} got {len(items)} items in shards of {shard_size}; both "
            "must be at least 1. Raise the profile's limit or look at the stage above."
        )
    starts = range(0, len(items), shard_size)
    parts = [list(items[start : start + shard_size]) for start in starts]
    # Work that is cut otherwise has other names.
    names = [
        f"{start:08d}-{start + len(part):08d}"
        for start, part in zip(starts, parts, strict=True)
    ]
    inputs, sizes = dict(zip(names, parts, strict=True)), list(map(len, parts))
    return named_files(key, inputs, function, description, engine, sizes)


def run_shards(
    key: str,
    items: Sequence[Any],
    shard_size: int,
    function: Callable[[list[Any]], pa.Table],
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


def do_here(function: Function, shards: Iterable[Named]) -> Iterator[Named]:
    """Yield (name, table) of each shard, one after the other, in this process."""
    for name, item in shards:
        yield name, function(item)


def start_cluster(ray: Any, **options: Any) -> None:
    """Start Ray, or join the cluster of RAY_ADDRESS; a busy machine has three tries.

    Raises:
        EngineError: it does not start.
    """
    for tries_left in (2, 1, 0):
        try:
            ray.init(
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **options,
            )
            return
        except Exception as error:  # it raises that class itself
            ray.shutdown()
            if "timed out" in str(error) and tries_left:
                continue
            raise EngineError(
                f"Ray did not start ({brief(error, 200)}); finished "
                "shards are kept. Run again on a machine less busy, or set `engine: "
                "local`."
            ) from None


def do_on_ray(function: Function, shards: Iterable[Named]) -> Iterator[Named]:
    """Yield (name, table) of each shard as Ray's workers finish them, in any order.

    A worker computes with as many threads as this process and takes as many CPUs, so
    its numbers have the same last bits; where the cluster has GPUs it has one of its
    own for as long as it lives, since a model that it loaded stays where it lies. A
    shard whose worker dies is given to a new one. `shards` are read no faster than
    workers come free.

    Raises:
        EngineError: Ray is not installed or does not start, no node has enough CPUs, or
            a shard's worker died four times. What `function` raises comes through.
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
        start_cluster(ray)
    try:
        num_workers, gpus = _room_for(ray, threads)
        variables = {name: os.environ[name] for name in CARRIED if name in os.environ}
        make = ray.remote(_Worker).options(
            num_cpus=threads,
            num_gpus=gpus,
            max_restarts=-1,
            max_task_retries=MAX_RETRIES,
            runtime_env={"env_vars": variables},
        )
        stored = ray.put(function)
        workers: list[Any] = []
        idle: list[Any] = []
        running: dict[Any, tuple[str, Any]] = {}
        for number, (name, item) in enumerate(shards):
            if number < num_workers:
                workers.append(make.remote(stored, threads))
            # Each has a second shard waiting, so that none waits for this process.
            is_first = number < 2 * num_workers
            worker = workers[number % num_workers] if is_first else idle.pop()
            running[worker.do.remote(item)] = name, worker
            if len(running) == 2 * num_workers:
                yield _first(ray, running, idle)
        while running:
            yield _first(ray, running, idle)
    finally:
        if is_ours:
            ray.shutdown()


class _Worker:
    """Does shards with one function, on one GPU if any."""

    def __init__(self, function: Function, threads: int) -> None:
        torch.set_num_threads(threads)
        self.function = function

    def do(self, item: Any) -> pa.Table:
        return self.function(item)


def _first(ray: Any, running: dict[Any, tuple[str, Any]], idle: list[Any]) -> Named:
    """Wait for one shard and return its name and table; its worker is idle again."""
    (done,), _ = ray.wait(list(running), num_returns=1)
    name, worker = running.pop(done)
    idle.append(worker)
    try:
        return name, ray.get(done)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
    except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError):
        raise EngineError(
            f"the workers of shard {name} died {MAX_RETRIES + 1} times, perhaps for "
            "memory; finished shards are kept. Give each worker more room, by fewer "
            "of them or smaller batches, and run the stage again."
        ) from None


def _room_for(ray: Any, threads: int) -> tuple[int, int]:
    """Return the number of workers and the GPUs of each.

    Raises:
        EngineError: no node has the CPUs of one.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = max(node.get("CPU", 0) for node in nodes)
    if most < threads:
        raise EngineError(
            f"the stage has {threads} threads, and no node of the cluster has more "
            f"than {most:g} CPUs; a task would never start. Lower `num_threads`."
        )
    gpus = 1 if any(node.get("GPU") for node in nodes) else 0
    rooms = [node.get("CPU", 0) // threads for node in nodes]
    if gpus:
        own = [node.get("GPU", 0) for node in nodes]
        rooms = [min(pair) for pair in zip(rooms, own, strict=True)]
    return max(1, int(sum(rooms))), gpus


ENGINES = {"local": do_here, "ray": do_on_ray}

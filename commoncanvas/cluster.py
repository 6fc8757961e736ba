"""Shards on a Ray cluster: the same function on many processes or machines.

`RAY_ADDRESS` names a running cluster; without it one is started on this machine and
stopped again. Every node needs this repository and its environment at the same place.
Plain tasks over shards, not Ray Data: its checkpoints know which rows are done, but its
files come out in any order under random names, and a shard's file here must be the one
that a single process writes. Tables come back to the caller, who alone writes files, so
the nodes need no common disk for results.
"""

import os

import torch

from commoncanvas.errors import EngineError

MAX_RETRIES = 3  # of a shard whose worker died; out of memory comes back every time
# What changes a result or its speed, carried from the stage's process to the workers.
CARRIED = (
    "HF_HUB_OFFLINE MALLOC_MMAP_THRESHOLD_ MALLOC_TRIM_THRESHOLD_ "
    "OMP_WAIT_POLICY PYTHONHASHSEED TOKENIZERS_PARALLELISM CUBLAS_WORKSPACE_CONFIG"
).split()


def do_on_ray(function, shards):
    """Yield (number, table) of each shard as Ray's workers finish them, in any order.

    A worker computes with as many threads as this process and takes as many CPUs, so
    its numbers have the same last bits; where the cluster has GPUs it takes one. A
    shard whose worker dies is given to another.

    Args:
        function: list of items -> pyarrow.Table; picklable, loads models itself.
        shards: iterable of (number, items), read no faster than workers come free.

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
        ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    try:
        gpus = _room_for(ray, threads)
        variables = {name: os.environ[name] for name in CARRIED if name in os.environ}
        do = ray.remote(_do).options(
            num_cpus=threads,
            num_gpus=gpus,
            max_retries=MAX_RETRIES,
            runtime_env={"env_vars": variables},
        )
        function = ray.put(function)
        at_once = 2 * max(1, int(ray.cluster_resources()["CPU"] / threads))
        running = {}
        for number, items in shards:
            running[do.remote(function, items, threads)] = number
            if len(running) >= at_once:
                yield _first(ray, running)
        while running:
            yield _first(ray, running)
    finally:
        if is_ours:
            ray.shutdown()


def _do(function, items, threads):
    torch.set_num_threads(threads)
    return function(items)


def _first(ray, running):
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


def _room_for(ray, threads):
    """Return the GPUs of one task, having made sure that some node has its CPUs."""
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    most = max(node.get("CPU", 0) for node in nodes)
    if most < threads:
        raise EngineError(
            f"the stage has {threads} threads, and no node of the cluster has more "
            f"than {most:g} CPUs; a task would wait for ever. Lower `num_threads`."
        )
    return 1 if any(node.get("GPU") for node in nodes) else 0

"""Long work cut into shards: each is done once, whoever does it and in what order.

A finished shard lies whole in its key's work folder and is never redone; a killed run
or a killed worker loses the shard in hand and no other. Content and order of the result
do not depend on the number of workers: a shard is a function of its items alone, and
the files are read in the order of their numbers.
"""

import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from commoncanvas import cluster
from commoncanvas.checkpoints import work_folder, write_atomically
from commoncanvas.errors import ParameterError


def do_here(function, shards):
    """Yield (number, table) of each shard, one after the other, in this process."""
    for number, items in shards:
        yield number, function(items)


ENGINES = {"local": do_here, "ray": cluster.do_on_ray}


def shard_files(key, items, shard_size, function, description, engine="local"):
    """Do the shards that are not done yet and return all their files.

    Use this instead of `run_shards` where the whole table would not fit in memory.

    Args:
        key: from `key_of`; one key for one piece of work.
        items: sequence that can be sliced.
        shard_size: items per shard, 1 or more.
        function: list of items -> pyarrow.Table, any number of rows. For "ray" it must
            be picklable and load what is heavy itself, once a process.
        description: words for the progress bar.
        engine: "local", or "ray" for a Ray cluster; the files are the same.

    Returns:
        Parquet files in the order of `items`.

    Raises:
        ParameterError: there are no items, `shard_size` is below 1, or the engine is
            unknown.
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
    done = sum(size for file, size in zip(files, sizes, strict=True) if file.exists())
    waiting = (
        (n, list(items[start : start + shard_size]))
        for n, start in enumerate(starts)
        if not files[n].exists()
    )
    with tqdm(
        total=len(items), initial=done, desc=description, unit="", file=sys.stderr
    ) as bar:
        for n, table in ENGINES[engine](function, waiting):
            write_atomically(
                files[n], lambda part, table=table: pq.write_table(table, part)
            )
            bar.update(sizes[n])
    return files


def run_shards(key, items, shard_size, function, description, engine="local"):
    """Do a long piece of work in shards and return its table.

    Every shard is read back from its file, so a resumed run and an uninterrupted one
    return the same table. Call `finish(key)` after the outputs are written.

    Args, raises: as `shard_files`.

    Returns:
        pyarrow.Table, rows in the order of `items`.
    """
    files = shard_files(key, items, shard_size, function, description, engine)
    tables = [pq.ParquetFile(file).read() for file in files]
    return pa.concat_tables(tables, promote_options="default").combine_chunks()


def _planned(key, num_items, shard_size, description):
    """Return the key's folder, emptied where its shards were cut differently."""
    folder = work_folder(key)
    plan = json.dumps([num_items, shard_size, description])
    file = folder / "plan.json"
    if not file.exists() or file.read_text(encoding="utf-8") != plan:
        for shard in folder.glob("shard-*.parquet"):
            shard.unlink()
        write_atomically(file, lambda part: part.write_text(plan, encoding="utf-8"))
    return folder

"""Resumable work, keyed by what it depends on.

A stage's expensive call is cut into shards. A finished shard lies whole in
`.checkpoints/<key>/`, untracked, and is never redone; the folder goes when outputs are
written. The key holds inputs, parameters and code, so stale work is never picked up.
"""

import ast
import hashlib
import json
import os
import re
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from commoncanvas import paths
from commoncanvas.errors import ParameterError
from commoncanvas.manifest import LEFTOVER

_PACKAGE = "commoncanvas"
NUM_FINISHED = 60  # results kept in `.finished/`


def key_of(**parts):
    """Hash everything that a piece of work depends on.

    Args:
        **parts: JSON-able values: parameters, input hashes, `code_hash(...)`.

    Returns:
        16 hexadecimal digits; equal parts give equal keys on every machine.

    Raises:
        ParameterError: there is no part, or one is not JSON-able.
    """
    if not parts:
        raise ParameterError(
            "a key was made of nothing; it needs inputs, parameters and code. "
            "Pass them by name to `key_of`."
        )
    try:
        text = json.dumps(parts, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"a part of a key is not JSON ({error}); text, finite numbers, lists and "
            "dicts are. Convert it before `key_of`."
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hash(*module_names):
    """Hash the source of modules of this package and of all they import from it.

    The closure is taken here so that no caller can forget a module below its own.

    Args:
        *module_names: e.g. `"latents"` or `"commoncanvas.latents"`.

    Returns:
        64 hexadecimal digits.

    Raises:
        ParameterError: there is no such module.
    """
    sources = {}
    waiting = [name.removeprefix(_PACKAGE + ".") for name in module_names]
    while waiting:
        name = waiting.pop()
        if name not in sources:
            sources[name] = _source(name)
            waiting.extend(_imports(sources[name]))
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


def work_folder(key):
    """Return the folder of one key, made if need be.

    Raises:
        ParameterError: `key` is not a plain name.
    """
    folder = _folder(key)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def finish(key):
    """Move the folder of a key to `.finished/`; called once the outputs are written.

    There the call finds its result when the stage runs again with the same key, say
    because a label of a plot changed. The newest 60 are kept; `make repro-cold`
    ignores them all.
    """
    if not _folder(key).is_dir():
        return
    paths.FINISHED.mkdir(parents=True, exist_ok=True)
    if (paths.CHECKPOINTS / key).is_dir():
        os.replace(paths.CHECKPOINTS / key, paths.FINISHED / key)
    os.utime(paths.FINISHED / key)
    by_age = sorted(paths.FINISHED.iterdir(), key=lambda folder: folder.stat().st_mtime)
    for folder in by_age[:-NUM_FINISHED]:
        shutil.rmtree(folder)


def write_atomically(path, write):
    """Write a file beside its place, then move it there in one step.

    A reader sees the old file or the new one, never a part, even after kill -9.

    Args:
        path: where the file goes; its folder is made if need be.
        write: called once with a temporary path that has the same suffix.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.parent / f"{LEFTOVER}{os.getpid()}-{path.name}"
    try:
        write(part)
        with open(part, "rb") as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def shard_files(key, items, shard_size, function, description):
    """Do the shards that are not done yet and return all their files.

    Use this instead of `run_shards` where the whole table would not fit in memory.

    Args:
        key: from `key_of`; one key for one piece of work.
        items: sequence that can be sliced.
        shard_size: items per shard, 1 or more.
        function: list of items -> pyarrow.Table, any number of rows.
        description: words for the progress bar.

    Returns:
        Parquet files in the order of `items`.

    Raises:
        ParameterError: there are no items, or `shard_size` is below 1.
    """
    if shard_size < 1 or len(items) == 0:
        raise ParameterError(
            f"{description!r} got {len(items)} items in shards of {shard_size}; both "
            "must be at least 1. Raise the profile's limit or look at the stage above."
        )
    folder = _planned(key, len(items), shard_size, description)
    starts = range(0, len(items), shard_size)
    files = [folder / f"shard-{n:05d}.parquet" for n in range(len(starts))]
    sizes = [min(shard_size, len(items) - start) for start in starts]
    done = sum(size for file, size in zip(files, sizes, strict=True) if file.exists())
    with tqdm(
        total=len(items), initial=done, desc=description, unit="", file=sys.stderr
    ) as bar:
        for file, start, size in zip(files, starts, sizes, strict=True):
            if file.exists():
                continue
            table = function(list(items[start : start + size]))
            write_atomically(
                file, lambda part, table=table: pq.write_table(table, part)
            )
            bar.update(size)
    return files


def run_shards(key, items, shard_size, function, description):
    """Do a long piece of work in shards and return its table.

    Every shard is read back from its file, so a resumed run and an uninterrupted one
    return the same table. Call `finish(key)` after the outputs are written.

    Args:
        key: from `key_of`; one key for one piece of work.
        items: sequence that can be sliced.
        shard_size: items per shard, 1 or more.
        function: list of items -> pyarrow.Table, any number of rows.
        description: words for the progress bar.

    Returns:
        pyarrow.Table, rows in the order of `items`.

    Raises:
        ParameterError: there are no items, or `shard_size` is below 1.
    """
    files = shard_files(key, items, shard_size, function, description)
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


def _folder(key):
    if not re.fullmatch(r"\w[\w.-]*", key):
        raise ParameterError(
            f"the key {key!r} is not a plain name; letters, digits, `-`, `_` and `.` "
            "are allowed. Make it with `key_of`."
        )
    finished = paths.FINISHED / key
    return finished if finished.is_dir() else paths.CHECKPOINTS / key


def _source(name):
    file = paths.ROOT / _PACKAGE / f"{name}.py"
    if not file.is_file():
        known = sorted(path.stem for path in file.parent.glob("[!_]*.py"))
        raise ParameterError(
            f"there is no module {name!r} in {_PACKAGE}; there are "
            f"{', '.join(known)}. Name one of them."
        )
    return file.read_text(encoding="utf-8")


def _imports(source):
    """Name the modules of this package that a source imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == _PACKAGE:
            yield from (alias.name for alias in node.names)
            continue
        names = [alias.name for alias in getattr(node, "names", [])]
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
        if isinstance(node, ast.Import | ast.ImportFrom):
            start = _PACKAGE + "."
            yield from (n.removeprefix(start) for n in names if n.startswith(start))

"""Resumable work, keyed by what it depends on.

Work in progress lies in `.checkpoints/<key>/`, untracked; the folder goes when outputs
are written. The key holds inputs, parameters and code, so stale work is never picked
up. `shards` cuts work into pieces that lie there; `training` keeps its state there.
"""

import ast
import hashlib
import json
import os
import re
import shutil
from pathlib import Path

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

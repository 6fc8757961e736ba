"""Resumable work, keyed by what it depends on.

Work in progress lies in `.checkpoints/<key>/`, untracked; the folder goes when outputs
are written. The key holds inputs, parameters and code, so stale work is never picked
up. `core.shards` keeps finished shards there, `train.loop` its snapshots.
"""

import ast
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import LEFTOVER, remove, sha256_of, writing

_PACKAGE = "commoncanvas"
NUM_FINISHED = 60  # results kept in `.finished/`


def key_of(**parts: Any) -> str:
    """Hash all that a piece of work depends on: inputs, parameters, `code_hash(...)`.

    Returns:
        16 hexadecimal digits; equal parts give equal keys on every machine.

    Raises:
        ParameterError: there is no part, or one is not JSON-able.
    """
    if not parts:
        raise ParameterError(
            "a key was made of nothing; pass inputs, parameters and code by name."
        )
    try:
        text = json.dumps(parts, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"a part of a key is not JSON ({error}); text, finite numbers, lists and "
            "dicts are. Convert it before `key_of`."
        ) from error
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def code_hash(*module_names: str) -> str:
    """Hash the source of modules of this package and of all they import from it.

    Those below are found here, so that no caller can forget one, and so are the tables
    and templates that lie beside a module and that its source names. A name is e.g.
    `"latents.reader"` or `"commoncanvas.latents.reader"`.
    """
    names = {name.removeprefix(_PACKAGE + ".") for name in module_names}
    names |= modules_reached("".join(f"import {_PACKAGE}.{name}\n" for name in names))
    sources = {name: _source(name) for name in names}
    for name, source in list(sources.items()):
        sources |= {file.name: sha256_of(file) for file in _data_named(name, source)}
    return hashlib.sha256(json.dumps(sources, sort_keys=True).encode()).hexdigest()


def work_folder(key: str) -> Path:
    """Return the folder of one key, made if need be.

    Raises:
        StorageError: it cannot be made.
    """
    folder = _folder(key)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def finish(key: str) -> None:
    """Move the folder of a key to `.finished/`; called once the outputs are written.

    A stage that runs again with the same key, say because a label of a plot changed,
    finds its result there. The newest 60 are kept; `make repro-cold` ignores them all.
    """
    if not _folder(key).is_dir():
        return
    begun, done = paths.CHECKPOINTS / key, paths.FINISHED / key
    with writing(done):
        paths.FINISHED.mkdir(parents=True, exist_ok=True)
        if done.is_dir():  # what lies under its key elsewhere was left by a kill
            remove(begun)
        else:
            _move(begun, done)
        os.utime(done)
        kept = [folder for folder in paths.FINISHED.glob("[!.]*") if folder.is_dir()]
        by_age = sorted(kept, key=lambda folder: folder.stat().st_mtime)
        for old in [*by_age[:-NUM_FINISHED], *paths.FINISHED.glob(f"{LEFTOVER}*")]:
            remove(old)


def _move(folder: Path, target: Path) -> None:
    """Move a folder in one step, from another file system too."""
    try:
        os.replace(folder, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        staging = target.with_name(f"{LEFTOVER}{secrets.token_hex(8)}")
        shutil.copytree(folder, staging)
        os.replace(staging, target)
        remove(folder)


def _folder(key: str) -> Path:
    if not re.fullmatch(r"\w[\w.-]*", key):
        raise ParameterError(
            f"the key {key!r} is not a plain name; letters, digits, `-`, `_` and `.` "
            "are allowed. Make it with `key_of`."
        )
    finished = paths.FINISHED / key
    return finished if finished.is_dir() else paths.CHECKPOINTS / key


def _data_named(name: str, source: str) -> list[Path]:
    """Return the files beside a module, other than sources, that its source names."""
    folder = (paths.ROOT / _PACKAGE / name.replace(".", "/")).parent
    return [
        file
        for file in sorted(folder.iterdir())
        if file.is_file() and file.suffix not in (".py", ".pyc") and file.name in source
    ]


def source_file(name: str) -> Path | None:
    """Return the file of a module, e.g. of `latents.reader`, or None."""
    file = paths.ROOT / _PACKAGE / (name.replace(".", "/") + ".py")
    return file if file.is_file() else None


def modules_imported(source: str) -> set[str]:
    """Return the modules of this package that a source imports, e.g. `core.paths`.

    Keys of work and the tests of `dvc.yaml` both ask here.
    """
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module}
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    start = _PACKAGE + "."
    names = {name.removeprefix(start) for name in found if name.startswith(start)}
    return {name for name in names if source_file(name)}


def modules_reached(source: str) -> set[str]:
    """Return the modules that a source imports, directly or through another."""
    found: set[str] = set()
    waiting = modules_imported(source)
    while waiting:
        name = waiting.pop()
        found.add(name)
        waiting |= modules_imported(_source(name)) - found
    return found


def _source(name: str) -> str:
    if (file := source_file(name)) is None:
        package = paths.ROOT / _PACKAGE
        known = sorted(
            ".".join(path.relative_to(package).with_suffix("").parts)
            for path in package.rglob("[!_]*.py")
        )
        raise ParameterError(
            f"there is no module {name!r} in {_PACKAGE}; there are "
            f"{', '.join(known)}. Name one of them."
        )
    return file.read_text(encoding="utf-8")

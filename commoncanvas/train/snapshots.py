"""The state of a long training run, kept so that a kill or a full disk cannot hurt it.

A snapshot is a folder, `step-00000080`, that gets its name in one rename once all of it
lies on the disk. One process at a time writes to the folder of a run's snapshots.
"""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import LEFTOVER, sha256_of
from commoncanvas.core.manifest import NAME

SCHEMA = 1
_REPLACED = ".replaced-"  # here an old snapshot stays readable until its new one is in


def write_snapshot(folder, step, writers, facts, keep=2):
    """Write one snapshot whole, then remove older ones; the disk must hold `keep` + 1.

    Args:
        folder: of this run's snapshots; made if need be.
        step: training steps done; a snapshot of that step is replaced.
        writers: {file name: function}; each is called once with the path to write.
        facts: JSON-able {name: value}: what a run must share to go on from here.
        keep: how many stay, 1 or more: this one, then the newest before it, then any;
            later steps are of a run that was not gone on with. Faulty ones go first.

    Returns:
        The path of the snapshot.

    Raises:
        ParameterError: the step, `keep`, a file name or a fact cannot be used.
        Exception: whatever a writer or the disk raised; what was readable still is.
    """
    folder, facts = Path(folder), _as_json(facts)
    counted = type(step) is type(keep) is int and 0 <= step < 10**8 and keep >= 1
    plain = all(re.fullmatch(r"\w[\w.-]*", name) for name in writers)
    if not counted or not plain or NAME in writers:
        raise ParameterError(
            f"a snapshot got step {step!r}, `keep` {keep!r}, files {list(writers)}; "
            f"expected 0 to 99999999, 1 or more, plain names but {NAME}. Correct them."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{LEFTOVER}*/"):  # first, as they may fill the disk
        shutil.rmtree(leftover, ignore_errors=True)
    path = folder / f"step-{step:08d}"
    staging = Path(tempfile.mkdtemp(prefix=LEFTOVER, dir=folder))
    try:
        staged = staging / path.name  # one deeper: what `mkdtemp` makes is private
        staged.mkdir()
        _fill(staged, step, writers, facts)
        if path.exists():  # no folder can be renamed onto another that has files
            aside = Path(tempfile.mkdtemp(prefix=_REPLACED, dir=folder))
            os.replace(path, aside / path.name)
        os.replace(staged, path)
        _to_disk(folder)
        for old in _superseded(path, facts, keep):
            os.replace(old, staging / old.name)  # no half of it is ever seen in place
    finally:  # what does not go now is swept by the next call
        shutil.rmtree(staging, ignore_errors=True)
    return path


def newest_snapshot(folder, facts):
    """Find the newest snapshot that is whole and has these facts; every file is hashed.

    Args:
        folder: of the run's snapshots; it may be missing.
        facts: as given to `write_snapshot`.

    Returns:
        Its path or None, and a line for each newer one refused: which, why, what now.

    Raises:
        ParameterError: the facts are not JSON.
    """
    facts, refused = _as_json(facts), []
    # The sort is stable: a new snapshot comes before the one that it replaces.
    found = _snapshots(folder) + _snapshots(folder, f"{_REPLACED}*/")
    for path in sorted(found, key=lambda path: path.name, reverse=True):
        if not (fault := _fault(path, facts)):
            return path, [f"{line}; the one before is used" for line in refused]
        refused.append(f"{path.name} {fault}")
    return None, [f"{line}; training starts anew" for line in refused]


def _fill(staged, step, writers, facts):
    """Write the files, then the manifest, and wait until all lie on the disk."""
    files = {}
    for name, write in writers.items():
        file = staged / name
        write(file)
        _to_disk(file)
        files[name] = {"sha256": sha256_of(file), "bytes": file.stat().st_size}
    manifest = {"schema": SCHEMA, "step": step, "facts": facts, "files": files}
    (staged / NAME).write_text(json.dumps(manifest, sort_keys=True, indent=1) + "\n")
    _to_disk(staged / NAME)
    _to_disk(staged)


def _to_disk(path):
    descriptor = os.open(path, os.O_RDONLY)  # a folder is synced for the names in it
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _snapshots(folder, where=""):
    found = Path(folder).glob(f"{where}step-*")
    return [path for path in found if re.fullmatch(r"step-\d{8}", path.name)]


def _superseded(new, facts, keep):
    ranked = sorted(
        (not _fault(path, facts, hashed=False), path.name <= new.name, path)
        for path in _snapshots(new.parent)
    )
    return [path for _, _, path in ranked[:-keep]] + [*new.parent.glob(f"{_REPLACED}*")]


def _fault(path, facts, hashed=True):
    """Say what is wrong with a snapshot, or return None."""
    try:
        manifest = json.loads((path / NAME).read_text(encoding="utf-8"))
        if manifest["schema"] != SCHEMA:
            return f"is foreign: schema {manifest['schema']!r}, expected {SCHEMA}"
        for name in sorted(manifest["facts"].keys() | facts):
            both = (manifest["facts"], facts)
            old, new = (json.dumps(f[name]) if name in f else "missing" for f in both)
            if old != new:
                return f"is foreign: its fact `{name}` is {old}, expected {new}"
        for name, recorded in manifest["files"].items():
            size, sha256 = recorded["bytes"], recorded["sha256"]
            if not (path / name).is_file():
                return f"is incomplete: its file {name} is missing"
            if (found := (path / name).stat().st_size) < size:
                return f"is damaged: {name} is truncated, {found} of {size} bytes"
            if hashed and (found := sha256_of(path / name)) != sha256:
                return f"is damaged: {name} was changed, {found}, expected {sha256}"
    except FileNotFoundError:
        return f"has no {NAME}, so it was never whole"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"has a {NAME} that is empty or garbled"


def _as_json(facts):
    try:
        return dict(json.loads(json.dumps(facts, sort_keys=True, allow_nan=False)))
    except (TypeError, ValueError) as error:
        raise ParameterError(
            f"the facts of a snapshot are not JSON ({error}); expected a dict of text, "
            "finite numbers, lists and dicts. Convert them."
        ) from error

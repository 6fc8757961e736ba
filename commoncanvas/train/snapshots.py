"""The state of a long training run, kept so that a kill or a full disk cannot hurt it.

A snapshot is a folder, `step-00000080`, that gets its name in one rename once all of it
lies on the disk. One process at a time writes to the folder of a run's snapshots.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch

from commoncanvas.core.files import LEFTOVER, sha256_of, to_disk, writing

NUM_KEPT = 2  # the newest; while one is written, the disk must hold one more
HASHES = "hashes.json"  # {file name: sha256} of a snapshot


def write_snapshot(
    folder: Path, step: int, writers: Mapping[str, Callable[[Path], object]]
) -> Path:
    """Write one snapshot whole, then remove the older ones, and later ones.

    Later ones were refused by `newest_snapshot`, or the run had gone on from them.

    Args:
        folder: of this run's snapshots; made if need be.
        step: training steps done. A whole snapshot of that step stays as it is, since
            a run's step has one state; a damaged one is replaced.
        writers: {file name: function}; each is called once with the path to write.

    Returns:
        The path of the snapshot.

    Raises:
        StorageError: the disk is full; what was readable still is.
        Exception: whatever a writer raised; the same holds.
    """
    with writing(folder):
        return _write(folder, step, writers)


def _write(
    folder: Path, step: int, writers: Mapping[str, Callable[[Path], object]]
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for leftover in folder.glob(f"{LEFTOVER}*/"):  # first, as they may fill the disk
        shutil.rmtree(leftover, ignore_errors=True)
    path = folder / f"step-{step:08d}"
    staging = Path(tempfile.mkdtemp(prefix=LEFTOVER, dir=folder))
    try:
        staged = staging / "new"  # one deeper: what `mkdtemp` makes is private
        staged.mkdir()
        _fill(staged, writers)
        if path.exists() and _fault(path):
            os.replace(path, staging / "damaged")
        if not path.exists():
            os.replace(staged, path)
        to_disk(folder)
        earlier = [old for old in _snapshots(folder) if old.name <= path.name]
        for old in set(_snapshots(folder)) - set(earlier[-NUM_KEPT:]):
            os.replace(old, staging / old.name)  # no half of it is ever seen in place
    finally:  # what does not go now is swept by the next call
        shutil.rmtree(staging, ignore_errors=True)
    return path


class SnapshotWriter:
    """Writes snapshots one after another, in a thread beside the training if asked.

    Args:
        is_parallel: `write` returns at once. What the writers write must not change
            then, and an error is raised by the next `write` or `wait`.
    """

    def __init__(self, is_parallel: bool) -> None:
        self._pool = ThreadPoolExecutor(1) if is_parallel else None
        self._last: Future[Path] | None = None

    def write(
        self, folder: Path, step: int, writers: Mapping[str, Callable[[Path], object]]
    ) -> None:
        """Write one snapshot as `write_snapshot` does, once the one before is whole."""
        self.wait()
        if self._pool:
            self._last = self._pool.submit(write_snapshot, folder, step, dict(writers))
        else:
            write_snapshot(folder, step, writers)

    def wait(self) -> None:
        """Wait until the last snapshot is whole, and raise what its writing raised."""
        if self._last:
            last, self._last = self._last, None
            last.result()


def save_state(state: Any, path: Path) -> None:
    """Write a state as `torch.save` does, through a file whose errors say why."""
    with open(path, "wb") as file:
        torch.save(state, file)


def newest_snapshot(folder: Path) -> tuple[Path | None, list[str]]:
    """Find the newest snapshot whose files all have the hash that they were kept with.

    Returns:
        Its path, or None; and a line for each newer one refused: which, why, what now.
    """
    refused: list[str] = []
    for path in reversed(_snapshots(folder)):
        if not (fault := _fault(path)):
            return path, [f"{line}; the one before is used" for line in refused]
        refused.append(f"{path.name} is damaged: {fault}")
    return None, [f"{line}; training starts anew" for line in refused]


def _fill(staged: Path, writers: Mapping[str, Callable[[Path], object]]) -> None:
    """Write the files, then their hashes, and wait until all lie on the disk."""
    hashes = {}
    for name, write in writers.items():
        write(staged / name)
        to_disk(staged / name)
        hashes[name] = sha256_of(staged / name)
    (staged / HASHES).write_text(json.dumps(hashes, indent=1) + "\n")
    to_disk(staged / HASHES)
    to_disk(staged)


def _snapshots(folder: Path) -> list[Path]:
    return sorted(folder.glob("step-" + "[0-9]" * 8))


def _fault(path: Path) -> str | None:
    """Say what is wrong with a snapshot, or return None."""
    try:
        hashes = dict(json.loads((path / HASHES).read_text(encoding="utf-8")))
        changed = [name for name in hashes if sha256_of(path / name) != hashes[name]]
    except OSError as error:
        return f"{Path(error.filename or path).name} cannot be read ({error.strerror})"
    except (ValueError, TypeError, RecursionError):
        return f"{HASHES} is empty or garbled"
    if changed or not hashes:
        return f"{', '.join(changed) or HASHES} was changed or cut short"
    return None

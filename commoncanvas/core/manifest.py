"""The contract of a stage's output: what is in the folder, and what was left out.

Every stage empties its folder with `new_folder` and writes its manifest last, so a
folder with a manifest is a whole folder of one run. A stage reads the folders above it
only through `read_manifest`, which hashes their files, once a process, or through
`listed`, which hashes one. Stage 03's folder may be too large for that, so
`latents.reader` hashes each of its files when it opens it.
"""

import json
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import (
    LEFTOVER,
    hash_all,
    make_readable,
    once,
    remove,
    sha256_of,
    shown,
    write_json,
    writing,
)

NAME = "manifest.json"


class Counts(BaseModel, strict=True):  # no 1.0, "1" or true for the count 1
    """Rows that entered a stage, that left it, and that it rejected, by reason."""

    taken: NonNegativeInt = Field(alias="in")
    out: NonNegativeInt
    rejected: dict[str, NonNegativeInt]

    @model_validator(mode="after")
    def _add_up(self) -> "Counts":
        rejected = sum(self.rejected.values())
        if self.taken != self.out + rejected:
            raise PydanticCustomError(
                "rows",
                f"{self.taken} rows in, but {self.out} out + {rejected} rejected = "
                f"{self.out + rejected}; the two must be equal",
            )
        return self


class File(BaseModel, strict=True):
    """One file below a stage's folder."""

    sha256: str
    bytes: NonNegativeInt


class Manifest(BaseModel, strict=True):
    """What `manifest.json` holds; facts are shapes, model ids, hashes, splits."""

    version: Literal[1] = Field(alias="schema")
    stage: str
    scale: str | None
    variant: str | None
    counts: Counts
    facts: dict[str, Any]
    files: dict[str, File]


def remove_folder(scale: str, slug: str, variant: str | None = None) -> Path:
    """Remove a stage's data folder and return its path.

    The manifest goes first, and the files named after the folder (`cc_human.csv`) too.
    Links are removed, not followed: where `dvc config cache.type` says links, a write
    through one would change DVC's cache.

    Raises:
        StorageError: it cannot be removed.
    """
    folder = paths.stage_dir(scale, slug, variant)
    with writing(folder):
        if not folder.is_symlink():
            (folder / NAME).unlink(missing_ok=True)
        remove(folder)
        for file in folder.parent.glob("*.*"):
            if file.stem == folder.name and not file.is_dir():
                remove(file)
    return folder


def new_folder(scale: str, slug: str, variant: str | None = None) -> Path:
    """Return the data folder of a stage, empty, for its first file.

    What an earlier run left goes, as `remove_folder` says.

    Raises:
        StorageError: it cannot be emptied or made.
    """
    folder = remove_folder(scale, slug, variant)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def write_manifest(
    folder: Path | str,
    stage: str,
    scale: str | None,
    variant: str | None,
    counts_in: int,
    counts_out: int,
    rejected: dict[str, int],
    facts: dict[str, Any],
) -> dict[str, Any]:
    """Hash every file of a stage's folder and write its manifest, last and whole.

    Whoever may read other files of this user may read these, whichever library wrote
    them. The text depends on the arguments and the files only: no clock, host or order.

    Args:
        folder: the stage's data folder; every file below it is listed.
        stage: slug, e.g. `03_latents`.
        counts_in, counts_out: rows that entered the stage, rows that left it.
        rejected: {reason in words: number of rows}.
        facts: JSON-able, NumPy's numbers too.

    Raises:
        ManifestError: rows in differ from rows out plus rejected, a count is not a
            whole number, the folder is missing, or a fact is not JSON.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ManifestError(
            f"{stage} has no folder {shown(folder)}; a manifest describes an "
            "existing folder. Write the stage's files first."
        )
    for leftover in list(folder.rglob(LEFTOVER + "*")):  # of a killed run
        remove(leftover)
    for file in _files_in(folder).values():
        make_readable(file)
    reasons = {str(reason): num for reason, num in rejected.items()}
    manifest = {
        "schema": 1,
        "stage": stage,
        "scale": scale,
        "variant": variant,
        "counts": {"in": counts_in, "out": counts_out, "rejected": reasons},
        "facts": facts,
        "files": _hash_files(folder),
    }
    try:
        text = json.dumps(
            manifest,
            sort_keys=True,
            ensure_ascii=False,
            allow_nan=False,
            default=_plain,
        )
        text.encode()  # a lone surrogate, as in a file's name of other bytes, is none
    except (TypeError, ValueError, RecursionError) as error:
        raise ManifestError(
            f"{stage} has a fact or a file's name that is not JSON ({error}); facts "
            "are text, finite numbers, lists and dicts. Convert it before "
            "`write_manifest`."
        ) from error
    try:
        Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ManifestError(
            f"{stage} has no valid manifest: {_faults(error)}; a count is a whole "
            "number, 0 or more. Count rows, and give every lost row a reason."
        ) from None
    write_json(folder / NAME, json.loads(text))
    return json.loads(text)


def read_manifest(folder: Path | str, verify: bool = True) -> dict[str, Any]:
    """Open the manifest of an upstream folder, a stage's data folder.

    Args:
        verify: compare the folder's files with it by name, size and hash, which takes
            a second a gigabyte, once a process. Without, for what reads no file of it,
            or whose reader hashes each file that it opens.

    Raises:
        ManifestError: there is none, it is not valid, the model that a warm start
            began from has changed since, or (with `verify`) a file is missing, new or
            different.
    """
    folder = Path(folder)
    what_to_do = _what_to_do(folder)
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
        Manifest.model_validate_json(text)
        manifest = json.loads(text, object_pairs_hook=once, parse_constant=_not_finite)
    except FileNotFoundError:
        raise ManifestError(
            f"{shown(folder)} has no {NAME}; a finished stage writes one last. "
            f"{what_to_do}"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        found = _faults(error) if isinstance(error, ValidationError) else error
        raise ManifestError(
            f"{shown(folder)}/{NAME} cannot be read: {found}; expected a manifest of "
            f"schema 1. {what_to_do}"
        ) from None
    _check_ancestor(folder, manifest["facts"].get("ancestor"))
    if verify:
        compare(folder, manifest["files"])
    return manifest


def _check_ancestor(folder: Path, ancestor: Mapping[str, Any] | None) -> None:
    """Compare the model that a warm start began from with what lies there now.

    It may be of another scale, where DVC does not see that it has changed. One that
    is no longer here is let pass.
    """
    if not ancestor or not ancestor["manifest"]:
        return
    file = paths.ROOT / ancestor["folder"] / NAME
    if file.is_file() and (found := sha256_of(file)) != ancestor["manifest"]:
        stage = stage_name(folder) or "the stage again"
        raise ManifestError(
            f"{shown(folder)} was trained from {ancestor['folder']}, which has changed "
            f"since (its {NAME} is {found[:12]}…, expected "
            f"{ancestor['manifest'][:12]}…); run `dvc repro --force --single-item "
            f"{stage}`."
        )


def listed(folder: Path, name: str) -> Path:
    """Return one file of an upstream folder, compared with the folder's manifest.

    Raises:
        ManifestError: as `read_manifest`, of this file alone.
    """
    files = read_manifest(folder, verify=False)["files"]
    written = {name: files[name]} if name in files else {}
    compare(folder, written, {name: folder / name})
    return folder / name


def compare(
    folder: Path | str,
    written: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, Path] | None = None,
) -> None:
    """Compare files with what a manifest lists: presence and size, then hash.

    Args:
        folder: whose files they are, or its address.
        written: {name: sha256 and bytes}.
        found: {name: file}; None is all below the folder.

    Raises:
        ManifestError: names the files that are missing, not listed or changed.
    """
    found = _files_in(Path(folder)) if found is None else found
    shared = [name for name in written if name in found and found[name].is_file()]
    changed = [n for n in shared if found[n].stat().st_size != written[n]["bytes"]]
    try:
        hashes = [] if changed else hash_all(found[name] for name in shared)
    except OSError as error:
        raise ManifestError(
            f"{shown(error.filename or folder)} cannot be read ({error.strerror}); "
            f"correct its permissions. {_what_to_do(folder)}"
        ) from None
    changed += [n for n, h in zip(shared, hashes) if h != written[n]["sha256"]]  # noqa: B905
    differences = {
        "missing": written.keys() - shared,
        # Hidden ones, such as a file browser's .DS_Store, are read by no stage.
        "not listed": {n for n in found.keys() - written if "/." not in f"/{n}"},
        "changed": changed,
    }
    listed = "; ".join(
        f"{how}: {', '.join(sorted(names))}"
        for how, names in differences.items()
        if names
    )
    if listed:
        raise ManifestError(
            f"{shown(folder)} is not what its {NAME} says ({listed}); every file must "
            f"have its recorded hash. {_what_to_do(folder)}"
        )


def find_manifest(folder: Path) -> Path | None:
    """Return the folder whose manifest lists a folder's files, itself or one above."""
    for place in [folder, *folder.parents]:
        if (place / NAME).is_file():
            return place
        if not place.is_relative_to(paths.ROOT) or place == paths.ROOT:
            return None
    return None


def stage_name(folder: Path | str) -> str:
    """Return the DVC stage that writes a data folder, e.g. `04_train@mini-cc_nc`.

    A repeat, whose variant ends in a seed, has a stage of its own, e.g.
    `04_repeat@mini-cc_nc-18`. It is "" for a folder that is no stage's.
    """
    parts = shown(folder).split("/")
    if parts[0] != "data" or len(parts) not in (3, 4):
        return ""
    _, scale, slug, *variant = parts
    if variant and re.search(r"-\d+$", variant[0]):
        slug = f"{slug[:2]}_repeat"
    return f"{slug}@{'-'.join([scale, *variant])}"


def _what_to_do(folder: Path | str) -> str:
    if stage := stage_name(folder):
        return f"Run `dvc repro {stage}`, or restore it with `dvc checkout`."
    return f"Restore {shown(folder)}, or write it again."


def _faults(error: ValidationError) -> str:
    """Write what a model refused in one line: where, why, and what was found."""
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"]) or NAME
        faults.append(f"{place}: {fault['msg']} ({reprlib.repr(fault['input'])})")
    return "; ".join(faults[:3])


def _files_in(folder: Path) -> dict[str, Path]:
    """Return {relative path: path} of all files but the manifest."""
    return {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path != folder / NAME
    }


def _hash_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {relative path: sha256 and bytes}, sorted, of all but the manifest."""
    files = dict(sorted(_files_in(folder).items()))
    pairs = zip(files.items(), hash_all(files.values()), strict=True)
    return {
        name: {"sha256": sha256, "bytes": file.stat().st_size}
        for (name, file), sha256 in pairs
    }


def _not_finite(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def _plain(value: Any) -> Any:
    """Turn a NumPy scalar into Python's; anything else is not JSON."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r}")

"""The contract of a stage's output: what is in the folder, and what was left out.

Every stage writes its manifest last, so a folder with a manifest is a whole folder.
A stage reads the folders above it only through `read_manifest`.
"""

import json
import reprlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, NonNegativeInt, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import LEFTOVER, sha256_of, shown, write_json

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

    The text depends on the arguments and the files only: no clock, host or order.

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
    for leftover in folder.rglob(LEFTOVER + "*"):  # of a killed run
        leftover.unlink()
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
        text = json.dumps(manifest, sort_keys=True, allow_nan=False, default=_plain)
    except (TypeError, ValueError) as error:
        raise ManifestError(
            f"{stage} has a fact that is not JSON ({error}); facts are text, finite "
            "numbers, lists and dicts. Convert it before `write_manifest`."
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


def read_manifest(folder: Path | str, verify: bool = False) -> dict[str, Any]:
    """Open the manifest of an upstream folder, a stage's data folder.

    Args:
        verify: hash every file again and compare.

    Raises:
        ManifestError: there is none, it is not valid, or (with `verify`) a file is
            missing, new or different.
    """
    folder = Path(folder)
    what_to_do = f"Run `dvc repro {stage_name(folder)}`."
    try:
        text = (folder / NAME).read_text(encoding="utf-8")
        Manifest.model_validate_json(text)
    except FileNotFoundError:
        raise ManifestError(
            f"{shown(folder)} has no {NAME}; a finished stage writes one last. "
            f"{what_to_do}"
        ) from None
    except (OSError, ValueError) as error:
        found = _faults(error) if isinstance(error, ValidationError) else error
        raise ManifestError(
            f"{shown(folder)}/{NAME} cannot be read: {found}; expected a manifest of "
            f"schema 1. {what_to_do}"
        ) from None
    manifest = json.loads(text)
    if verify:
        _compare(folder, manifest["files"], what_to_do)
    return manifest


def stage_name(folder: Path | str) -> str:
    """Return the DVC stage that writes a data folder, e.g. `04_train@mini-cc_nc`.

    It is "" for a folder that is no stage's, which leaves plain `dvc repro`.
    """
    parts = shown(folder).split("/")
    if parts[0] != "data" or len(parts) not in (3, 4):
        return ""
    return f"{parts[2]}@{'-'.join([parts[1], *parts[3:]])}"


def _faults(error: ValidationError) -> str:
    """Write what a model refused in one line: where, why, and what was found."""
    faults = []
    for fault in error.errors():
        place = ".".join(str(part) for part in fault["loc"]) or NAME
        faults.append(f"{place}: {fault['msg']} ({reprlib.repr(fault['input'])})")
    return "; ".join(faults[:3])


def _hash_files(folder: Path) -> dict[str, dict[str, Any]]:
    """Return {relative path: sha256 and bytes}, sorted, of all but the manifest."""
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path != folder / NAME
    }
    return {
        name: {"sha256": sha256_of(files[name]), "bytes": files[name].stat().st_size}
        for name in sorted(files)
    }


def _compare(folder: Path, written: dict[str, Any], what_to_do: str) -> None:
    found = _hash_files(folder)
    shared = written.keys() & found.keys()
    differences = {
        "missing": written.keys() - found.keys(),
        "not listed": found.keys() - written.keys(),
        "changed": {name for name in shared if written[name] != found[name]},
    }
    listed = "; ".join(
        f"{how}: {', '.join(sorted(names))}"
        for how, names in differences.items()
        if names
    )
    if listed:
        raise ManifestError(
            f"{shown(folder)} is not what its {NAME} says ({listed}); every file must "
            f"have its recorded hash. {what_to_do}"
        )


def _plain(value: Any) -> Any:
    """Turn a NumPy scalar into Python's; anything else is not JSON."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r}")

"""The contract of a stage's output: what is in the folder, and what was left out.

Every stage writes its manifest last, so a folder with a manifest is a whole folder.
A stage reads the folders above it only through `read_manifest`.
"""

import json
import os
from pathlib import Path

from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import LEFTOVER, sha256_of, shown

NAME = "manifest.json"
SCHEMA = 1
_FIELDS = {"schema", "stage", "scale", "variant", "counts", "facts", "files"}


def write_manifest(
    folder, stage, scale, variant, counts_in, counts_out, rejected, facts
):
    """Hash every file of a stage's folder and write its manifest, last and whole.

    The text depends on the arguments and the files only: no clock, host or order.

    Args:
        folder: the stage's data folder; every file below it is listed.
        stage: slug, e.g. `03_latents`.
        scale: name of the profile, or None for the frozen stage.
        variant: name of the variant, or None.
        counts_in: rows that entered the stage, 0 or more.
        counts_out: rows that left it, 0 or more.
        rejected: {reason in words: number of rows}.
        facts: JSON-able {name: value}: shapes, dtypes, model ids, hashes, splits.

    Returns:
        The manifest as a dict.

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
    counts = {
        "in": _count("in", counts_in),
        "out": _count("out", counts_out),
        "rejected": {str(why): _count(why, n) for why, n in rejected.items()},
    }
    left_out = sum(counts["rejected"].values())
    if counts["in"] != counts["out"] + left_out:
        raise ManifestError(
            f"{stage} took in {counts['in']} rows, but {counts['out']} out + "
            f"{left_out} rejected = {counts['out'] + left_out}; the two must be "
            "equal. Give every lost row a reason."
        )
    for leftover in folder.rglob(LEFTOVER + "*"):  # corpses of a killed run
        leftover.unlink()
    manifest = {
        "schema": SCHEMA,
        "stage": stage,
        "scale": scale,
        "variant": variant,
        "counts": counts,
        "facts": facts,
        "files": _hash_files(folder),
    }
    try:
        text = json.dumps(
            manifest,
            sort_keys=True,
            indent=1,
            ensure_ascii=False,
            allow_nan=False,
            default=_plain,
        )
    except (TypeError, ValueError) as error:
        raise ManifestError(
            f"{stage} has a fact that is not JSON ({error}); facts are text, finite "
            "numbers, lists and dicts. Convert it before `write_manifest`."
        ) from error
    part = folder / (LEFTOVER + NAME)
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, folder / NAME)
    return json.loads(text)


def read_manifest(folder, verify=False):
    """Open the manifest of an upstream folder.

    Args:
        folder: a stage's data folder.
        verify: hash every file again and compare.

    Returns:
        The manifest as a dict.

    Raises:
        ManifestError: there is none, it cannot be read, or (with `verify`) a file is
            missing, new or different.
    """
    folder = Path(folder)
    what_to_do = f"Run `dvc repro {stage_name(folder)}`."
    try:
        manifest = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ManifestError(
            f"{shown(folder)} has no {NAME}; a finished stage writes one last. "
            f"{what_to_do}"
        ) from None
    except (OSError, ValueError) as error:
        raise ManifestError(
            f"{shown(folder)}/{NAME} cannot be read ({error}); it must be JSON. "
            f"{what_to_do}"
        ) from error
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        found = manifest.get("schema") if isinstance(manifest, dict) else None
        raise ManifestError(
            f"{shown(folder)}/{NAME} has schema {found!r}; this package reads schema "
            f"{SCHEMA}. {what_to_do}"
        )
    if missing := sorted(_FIELDS - manifest.keys()):
        raise ManifestError(
            f"{shown(folder)}/{NAME} lacks {', '.join(missing)}; schema {SCHEMA} "
            f"has all of {', '.join(sorted(_FIELDS))}. {what_to_do}"
        )
    if verify:
        _compare(folder, manifest["files"], what_to_do)
    return manifest


def stage_name(folder):
    """Return the DVC stage that writes a data folder, e.g. `04_train@mini-cc_nc`.

    Args:
        folder: `data/<scale>/<slug>[/<variant>]`.

    Returns:
        The stage's name, or "" where the folder is not a stage's: plain `dvc repro`.
    """
    parts = shown(folder).split("/")
    if parts[0] != "data" or len(parts) not in (3, 4):
        return ""
    return f"{parts[2]}@{'-'.join([parts[1], *parts[3:]])}"


def _hash_files(folder):
    names = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file()
    )
    return {
        name: {
            "sha256": sha256_of(folder / name),
            "bytes": (folder / name).stat().st_size,
        }
        for name in names
        if name != NAME
    }


def _compare(folder, written, what_to_do):
    found = _hash_files(folder)
    differences = {
        "missing": sorted(written.keys() - found.keys()),
        "not listed": sorted(found.keys() - written.keys()),
        "changed": sorted(
            name
            for name in written.keys() & found.keys()
            if written[name] != found[name]
        ),
    }
    told = "; ".join(f"{how}: {', '.join(n)}" for how, n in differences.items() if n)
    if told:
        raise ManifestError(
            f"{shown(folder)} is not what its {NAME} says ({told}); every file must "
            f"have its recorded hash. {what_to_do}"
        )


def _count(name, value):
    value = _plain(value) if hasattr(value, "item") else value
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ManifestError(
            f"the count {str(name)!r} is {value!r}; a count is a whole number, 0 or "
            "more. Count rows, not fractions."
        )
    return value


def _plain(value):
    """Turn a NumPy scalar into Python's; anything else is not JSON."""
    if hasattr(value, "item"):
        return value.item()
    raise TypeError(f"{type(value).__name__} {value!r}")

"""Take-down: works that their authors, or the law, want out.

`docs/takedown.txt` lists them by key or SHA-256. Stages 00 and 01 leave them out, so
no later stage gets them; `commoncanvas takedown` says what was trained on one.
"""

import re
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError

LIST = paths.DOCS / "takedown.txt"
REASON = "taken down, listed in docs/takedown.txt"
ENTRY = re.compile(r"[0-9a-f]{64}|[\w.-]+/\S+")


def read_list(path: Path = LIST) -> set[str]:
    """Return the set of listed keys and SHA-256 sums; a `#` starts a comment.

    Raises:
        ParameterError: the list is missing, or a line is neither key nor sum.
    """
    if not path.is_file():
        raise ParameterError(
            f"{path.name} is missing; expected a list, which may be empty; restore it "
            "with git."
        )
    lines = path.read_text(encoding="utf-8").splitlines()
    entries = [line.split("#")[0].strip() for line in lines]
    for number, entry in enumerate(entries, start=1):
        if entry and not ENTRY.fullmatch(entry):
            raise ParameterError(
                f"{path.name}, line {number}: found {entry[:80]!r}, expected a key "
                "like twemoji/red-apple or 64 hexadecimal digits; correct the line."
            )
    return set(entries) - {""}


def is_listed(frame: pd.DataFrame, listed: Collection[str]) -> pd.Series:
    """Return a mask of the catalogue rows that the list names.

    A SHA-256 sum names every row with those contents.
    """
    return frame["key"].isin(listed) | frame["sha256"].isin(listed)


def find(entries: set[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find works by key or SHA-256 and what trained on them, in every scale's data.

    Returns catalogue rows with a column scale, and rows of scale, variant and key.
    """
    works: list[pd.DataFrame] = []
    variants: list[tuple[str, str, str]] = []
    for path in sorted(paths.ROOT.glob("data/*/01_licenses/catalog.parquet")):
        scale = path.parent.parent.name
        frame = pd.read_parquet(path)
        found = frame[is_listed(frame, entries)].assign(scale=scale)
        works.append(found)
        for trained in sorted(path.parent.parent.glob("04_train/*/works.parquet")):
            keys = pd.read_parquet(trained)["key"]
            held = keys[keys.isin({*found["key"], *entries})]
            variants += [(scale, trained.parent.name, key) for key in held]
    columns = ["scale", "variant", "key"]
    whole = pd.concat(works) if works else pd.DataFrame(columns=["key", "scale"])
    return whole, pd.DataFrame(variants, columns=columns)


def copies_of(works: pd.DataFrame, catalog: pd.DataFrame) -> list[str]:
    """Return the keys of other works in the groups of the given ones, sorted."""
    same = catalog["near_group"].isin(works["near_group"].dropna())
    return sorted(set(catalog.loc[same, "key"]) - set(works["key"]))


def report(entries: Collection[str], add: bool = False) -> None:
    """Print what each entry names, its copies, and what has to be retrained.

    With `add`, also write the works' keys at the end of the list.

    Raises:
        ParameterError: no scale was run yet, or an entry names no work.
    """
    works, variants = find(set(entries))
    known = {*works.get("key", ()), *works.get("sha256", ())}
    if unknown := sorted(set(entries) - known):
        raise ParameterError(
            f"found no work {', '.join(unknown)} in data/*/01_licenses; expected keys "
            "or SHA-256 sums of a catalogue; run `dvc repro` first, or correct them."
        )
    for scale, found in works.groupby("scale"):
        print(f"{scale}:")
        for work in found.itertuples():
            state = work.reason or f"in split {work.split}"
            print(f"  {work.key}: {work.title!r} by {work.author!r}, {state}")
        path = paths.stage_dir(scale, "01_licenses") / "catalog.parquet"
        for key in copies_of(found, pd.read_parquet(path)):
            print(f"  {key} is a copy or near copy, and not named here")
        held = variants[variants["scale"] == scale]
        for variant, rows in held.groupby("variant"):
            print(f"  04_train {variant} was trained on {len(rows)} of them: retrain")
        if held.empty:
            print("  no model was trained on them")
    if (works["split"] == "web").any():
        print("pretrained/ may have been trained on web works: run `make pretrain`")
    if add:
        with LIST.open("a", encoding="utf-8") as file:
            file.writelines(f"{key}\n" for key in sorted(set(works["key"])))
        print("Listed. `dvc repro` now runs every stage from 01 on without them.")
    else:
        print("Nothing is changed yet: give --add, or edit docs/takedown.txt.")

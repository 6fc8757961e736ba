"""Take-down: works that their authors, or the law, want out.

`docs/takedown.txt` lists them by key or SHA-256. Stages 00 and 01 leave them out, so
no later stage gets them; `commoncanvas takedown` says what was trained on one.

A line is a key or 64 hexadecimal digits; a key that holds white space or begins with
a quotation mark or `#` stands in double quotes, as in JSON. A comment is a line, or
follows white space, and begins with `#`.
"""

import json
import re
from collections.abc import Collection
from pathlib import Path

import filelock
import pandas as pd

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import shown, write_text
from commoncanvas.core.text import is_whole, nfc, printable

LIST = paths.DOCS / "takedown.txt"
REASON = "taken down, listed in docs/takedown.txt"
SUM = re.compile(r"[0-9a-fA-F]{64}")  # some programs print it in capitals
PLAIN = re.compile(rf"{SUM.pattern}|[^\s\"#/]\S*/\S+")
# What a work is also known by: the hash of its drawn pixels, which depends on the size
# of the pictures, and the hash of the bytes that its source holds, which does not.
SUMS = ("sha256", "source_sha256")
_BLANK = " \t\r\v\f\ufeff"  # around a line; some editors begin a file with U+FEFF


def read_list(path: Path | None = None) -> set[str]:
    """Return the set of listed keys and SHA-256 sums; the path is LIST by default.

    Raises:
        ParameterError: the list is missing or no UTF-8, or a line is neither key nor
            sum nor comment.
    """
    path = path or LIST
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeError) as error:
        raise ParameterError(
            f"{path.name} is missing or cannot be read ({error}); expected a list in "
            "UTF-8, which may be empty; restore it with git."
        ) from None
    return {
        parse_line(line, f"{path.name}, line {number}")
        for number, line in enumerate(lines, start=1)
        if line.strip(_BLANK) and not line.strip(_BLANK).startswith("#")
    }


def parse_line(line: str, where: str) -> str:
    """Return the key or sum of a line of the list; the inverse of `format_line`.

    Raises:
        ParameterError: it holds neither; `where` names the line.
    """
    text = line.strip(_BLANK)
    entry = re.split(r"\s+#", text)[0]
    is_one = PLAIN.fullmatch(entry) is not None
    if text.startswith('"'):
        try:
            entry, end = json.JSONDecoder().raw_decode(text)
            is_one = re.fullmatch(r"(\s+#.*)?", text[end:]) is not None
        except ValueError:
            is_one = False
    if not is_one:
        raise ParameterError(
            f"{where}: found {text[:80]!r}, expected a key like twemoji/red-apple or "
            '64 hexadecimal digits; other keys stand in double quotes: "my set/red '
            'apple.jpg"; correct the line.'
        )
    return entry


def format_line(entry: str) -> str:
    """Write a key, whatever it holds, or a sum as a line that `parse_line` reads."""
    is_seen = entry == printable(entry)
    if is_seen and PLAIN.fullmatch(entry):
        return entry
    return json.dumps(entry, ensure_ascii=not is_seen)


def extend_list(works: pd.DataFrame) -> None:
    """List works by key and by the hash of their source's bytes, and read them back.

    A work stays listed when its source is renamed, and at every size of pictures.

    Raises:
        ParameterError: the list cannot be read or written, or a work is still not
            listed.
    """
    listed, text = read_list(), LIST.read_bytes().decode("utf-8")
    new = {key: format_line(key) for key in works["key"]}
    if "source_sha256" in works:
        sums = zip(works["source_sha256"], works["key"], strict=True)
        new |= {s: f"{s}  # bytes of {new[key]}" for s, key in sums if _is_sum(s)}
    lines = [new[entry] for entry in sorted(new.keys() - listed, key=new.__getitem__)]
    head = text if not text or text.endswith("\n") else f"{text}\n"
    try:
        write_text(LIST, head + "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise ParameterError(
            f"nothing is listed: {shown(LIST)} cannot be written ({error.strerror}); "
            "make it writable, and list the works again."
        ) from None
    if (left := works.loc[~is_listed(works, read_list()), "key"]).size:
        raise ParameterError(
            f"{', '.join(map(format_line, left))} is still not listed in "
            f"{shown(LIST)} after it was written; expected to read it back; somebody "
            "else may have written the file: list the works again."
        )


def is_listed(frame: pd.DataFrame, listed: Collection[str]) -> pd.Series:
    """Return a mask of the catalogue rows that the list names.

    A SHA-256 sum names every row with those pixels or those bytes of its source, as
    far as the frame has these columns. Keys that differ in the composition of their
    accents alone are one.
    """
    # A name that is no text, as a terminal may give it, is no key.
    keys = {nfc(entry) for entry in listed if is_whole(entry)}
    mask = frame["key"].map(nfc).isin(keys)
    sums = {entry.lower() for entry in listed if _is_sum(entry)}
    for column in SUMS:
        if column in frame:
            mask |= frame[column].isin(sums)
    return mask


def find(entries: Collection[str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Find works by key or SHA-256 and what trained on them, in every scale's data.

    A work that an entry names in one scale is found in the others by its key and by
    its source's bytes, since the hash of its pixels is another there.

    Returns catalogue rows with a column scale, and rows of scale, variant, key and
    model: the variant itself, or an ancestor that it took the work over from.
    """
    files = sorted(paths.ROOT.glob("data/*/01_licenses/catalog.parquet"))
    scales = {path.parent.parent: pd.read_parquet(path) for path in files}
    named = [frame[is_listed(frame, entries)] for frame in scales.values()]
    known = {*entries}.union(
        *(work[c] for work in named for c in ("key", "source_sha256") if c in work)
    )
    works = [
        frame[is_listed(frame, known)].assign(scale=folder.name)
        for folder, frame in scales.items()
    ]
    whole = pd.concat(works) if works else pd.DataFrame(columns=["key", "scale"])
    known |= {*whole["key"]}
    variants: list[tuple[str, str, str, str]] = []
    for trained in sorted(paths.ROOT.glob("data/*/04_train/*/works.parquet")):
        scale, variant = trained.parts[-4], trained.parent.name
        held = pd.read_parquet(trained)
        held = held[is_listed(held, known)]
        models = held.get("model", [f"{scale}/{variant}"] * len(held))
        pairs = zip(held["key"], models, strict=True)
        variants += [(scale, variant, key, model) for key, model in pairs]
    columns = ["scale", "variant", "key", "model"]
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
    works, variants = find(entries)
    unknown = [entry for entry in entries if not is_listed(works, [entry]).any()]
    if unknown:
        raise ParameterError(
            f"found no work {', '.join(map(format_line, unknown))} in "
            "data/*/01_licenses; expected keys or SHA-256 sums of a catalogue; run "
            "`dvc repro` first, or correct them."
        )
    for scale in sorted({*works["scale"], *variants["scale"]}):
        found = works[works["scale"] == scale]
        print(f"{scale}:")
        for work in found.itertuples():
            state = printable(work.reason) or f"in split {work.split}"
            key = format_line(work.key)
            print(f"  {key}: {work.title!r} by {work.author!r}, {state}")
        path = paths.stage_dir(scale, "01_licenses") / "catalog.parquet"
        for key in copies_of(found, pd.read_parquet(path)) if len(found) else ():
            print(f"  {format_line(key)} is a copy or near copy, and not named here")
        held = variants[variants["scale"] == scale]
        for variant, rows in held.groupby("variant"):
            others = sorted({*rows["model"]} - {f"{scale}/{variant}"})
            first = f", {', '.join(others)} first" if others else ""
            print(
                f"  04_train {variant} was trained on {rows['key'].nunique()} of them: "
                f"retrain{first}"
            )
        if held.empty:
            print("  no model was trained on them")
    if (works["split"] == "web").any():
        print("pretrained/ may have been trained on web works: run `make pretrain`")
    if add:
        lock = paths.CHECKPOINTS / "locks" / "takedown.lock"
        lock.parent.mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(lock):
            extend_list(works)
        print("Listed. `dvc repro` now runs every stage from 01 on without them.")
    else:
        print("Nothing is changed yet: give --add, or edit docs/takedown.txt.")


def _is_sum(entry: object) -> bool:
    return isinstance(entry, str) and SUM.fullmatch(entry) is not None

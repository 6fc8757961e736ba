"""Prompt sets: what a trained model is asked to draw in stage 05, by kind.

COCO's captions, PartiPrompts, names of held-out pictures, the synthetic captions of the
same pictures (telephoned), and the gate, a fixed list of prompts. Equal prompts of
different pictures are all kept; of equal prompts in a mere list, the first is kept.
"""

import csv
import hashlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import shown
from commoncanvas.core.settings import call_named, load_yaml
from commoncanvas.evaluate.caption_lists import gpic_captions
from commoncanvas.latents.selection import read_works

COLUMNS = ["prompt", "id", "source", "category"]
PARTI_HEADER = ["Prompt", "Category", "Challenge", "Note"]


def read_prompts(
    kind: str,
    num: int | None = None,
    skip: int = 0,
    ids: Path | str | None = None,
    folder: Path | None = None,
    sources: Sequence[str] | None = None,
    seed: int = 0,
    **settings: Any,
) -> pd.DataFrame:
    """Read one prompt set, as a profile's `prompt_sets` describes it.

    Args:
        kind: a name of `KINDS`.
        num: so many prompts at most, the first ones of the order; None for all.
        skip: so many of the first are left out before, so that two sets can be parts
            of one list.
        ids: file of ids as `write_ids` records them: these prompts in this order,
            instead of a random choice.
        folder, sources, seed: of the run; each kind takes what it needs.
        settings: further arguments of the kind's own function, e.g. `file`.

    Returns:
        DataFrame of text: prompt; id, unique; source (who wrote it: "human", a
        captioner, or the set's name) and category ("" where there is none).

    Raises:
        ParameterError: an unknown kind or argument, a file that is not what it should
            be, an id that the set lacks, or nothing left after `skip`.
    """
    # A recorded selection may name any prompt of the set, drawn by this seed or not.
    given: dict[str, Any] = {"sources": sources, "seed": None if ids else seed}
    if folder:
        given["folder"] = folder
    takes = inspect.signature(KINDS[kind]).parameters if kind in KINDS else ()
    words = {name: given[name] for name in given if name in takes} | settings
    found = call_named(KINDS, "prompt_sets", kind, words)
    if ids:
        found = _recorded(found, paths.ROOT / ids)
    if not 0 <= skip < max(len(found), 1):
        raise ParameterError(
            f"a prompt set of kind {kind!r} skips {skip:,} of its {len(found):,} "
            "prompts; expected fewer, and not less than none; lower `skip` in "
            "`prompt_sets` of the profile, or let it have more prompts."
        )
    return found[COLUMNS].iloc[skip:].head(num).reset_index(drop=True)


def read_all(
    prompt_sets: Mapping[str, Mapping[str, Any]],
    num: int,
    folder: Path,
    seed: int,
    sources: Sequence[str],
) -> dict[str, pd.DataFrame]:
    """Read all prompt sets of a profile: {name: as from `read_prompts`}.

    Args:
        prompt_sets: each set's kind and settings, which count before the others here.
        num: prompts of a set at most.
        folder: of stage 03.
        sources: sets whose works' names are prompts; empty for all.
    """
    given = {"num": num, "folder": folder, "seed": seed, "sources": sources}
    return {n: read_prompts(**{**given, **own}) for n, own in prompt_sets.items()}


def leading(sets: Mapping[str, pd.DataFrame]) -> str:
    """Return the name of the first prompt set, which leads.

    Raises:
        ParameterError: there is no set, or one has no prompts.
    """
    empty = ", ".join(name for name, prompts in sets.items() if prompts.empty)
    if empty or not sets:
        raise ParameterError(
            f"`prompt_sets` has no {f'prompts in {empty}' if empty else 'set'}; "
            "expected one set or more, each with prompts; edit the profile."
        )
    return next(iter(sets))


def write_ids(path: Path, prompts: pd.DataFrame) -> None:
    """Record a selection, so that another run can be given it as `ids`."""
    path.write_text("\n".join(prompts["id"]) + "\n", encoding="utf-8")


def human_names(
    folder: Path,
    sources: Sequence[str] | None = None,
    licenses: Sequence[str] = ("c",),
    holdout: bool = True,
) -> pd.DataFrame:
    """Return the human names of licensed pictures, in the catalogue's random order.

    Args:
        folder: of stage 03.
        sources: picture sets to keep; none for all.
        licenses: as for `choose_works`.
        holdout: of held-out pictures; False takes those that are trained on.
    """
    return _of_works(folder, sources, licenses, "human", holdout)


def telephoned_names(
    folder: Path,
    sources: Sequence[str] | None = None,
    licenses: Sequence[str] = ("c",),
    captioner: str = "synthetic",
    holdout: bool = True,
) -> pd.DataFrame:
    """Return a captioner's words for the pictures of `human_names`, in their order.

    A picture without a caption is left out.
    """
    named = human_names(folder, sources, licenses, holdout)
    captions = _of_works(folder, sources, licenses, captioner, holdout).set_index("id")
    shared = named["id"][named["id"].isin(captions.index)]
    return captions.loc[shared].reset_index()


def coco_captions(
    file: Path | str, seed: int | None = 0, pictures: Path | str = ""
) -> pd.DataFrame:
    """Return captions of MS COCO, one an image, in a random order.

    Source: coco. The order depends on seed and ids alone, not on the file's order. The
    file is held in memory: 0.2 GB for as many captions as val2014 has.

    Args:
        file: captions_val2014.json or its like, from the repository's folder.
        seed: None keeps every caption, by image and id.
        pictures: folder or zip of the images, the reference of distances; "" for none,
            and distances are taken to held-out works. See `references`.

    Returns:
        See `read_prompts`; an id is coco/<image id>/<annotation id>.
    """
    rows = _coco_rows(file, "annotations", ["image_id", "id", "caption"])
    rows["prompt"] = rows["caption"].str.split().str.join(" ")
    if pictures and not (paths.ROOT / pictures).exists():
        raise _refused(paths.ROOT / pictures, "it is missing", "a folder or a zip")
    rows = rows[rows["prompt"] != ""].sort_values(["image_id", "id"])
    image = "coco/" + rows["image_id"].astype(str)
    rows["id"] = image + "/" + rows["id"].astype(str)
    rows = rows.assign(image=image, source="coco", category="")
    if seed is None:
        return rows
    # First a caption of each image, then the order of the images: an image with five
    # captions is no likelier to come first.
    rows = _shuffled(rows, "id", seed).drop_duplicates("image")
    return _shuffled(rows, "image", seed)


def coco_files(file: Path | str, seed: int) -> list[str]:
    """Return the file names of COCO's images, in a random order as of the captions."""
    rows = _coco_rows(file, "images", ["id", "file_name"])
    return _shuffled(rows, "file_name", seed)["file_name"].tolist()


def _coco_rows(file: Path | str, name: str, columns: list[str]) -> pd.DataFrame:
    """Return some columns of a list in a COCO file: whole numbers, the last texts."""
    path, expected = paths.ROOT / file, f"{name} with {', '.join(columns)}"
    try:
        rows = pd.DataFrame(json.loads(path.read_bytes())[name])[columns]
        rows = rows.astype(dict.fromkeys(columns[:-1], "int64"))
        if rows["id"].duplicated().any():
            raise ValueError(f"an id of {name} occurs twice")
        if not all(isinstance(text, str) for text in rows[columns[-1]]):
            raise ValueError(f"a {columns[-1]} is no text")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(path, error, expected) from None
    return rows


def parti_prompts(file: Path | str, seed: int | None = 0) -> pd.DataFrame:
    """Return PartiPrompts, in a random order; see `read_prompts`.

    Source: parti. The table is tab-separated and without quotes.

    Args:
        file: PartiPrompts.tsv, from the repository's folder; an id is parti/<line>.
        seed: None keeps the file's order.
    """
    path = paths.ROOT / file
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            cells = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        if cells[:1] != [PARTI_HEADER]:
            raise ValueError(f"its first line is {cells[:1]}")
        for number, row in enumerate(cells[1:], start=2):
            if len(row) != len(PARTI_HEADER) or not row[0].strip():
                raise ValueError(f"line {number} has the cells {row}")
    except (OSError, ValueError, csv.Error) as error:
        raise _refused(path, error, f"columns {', '.join(PARTI_HEADER)}") from None
    rows = pd.DataFrame(cells[1:], columns=PARTI_HEADER)
    rows = rows.rename(columns={"Prompt": "prompt", "Category": "category"})
    rows["id"] = [f"parti/{number}" for number in range(2, len(cells) + 1)]
    rows = rows.assign(source="parti").drop_duplicates("prompt")
    return rows if seed is None else _shuffled(rows, "id", seed)


def gate_prompts() -> pd.DataFrame:
    """Return the fixed list of docs/prompts.yaml, in its order; an id is gate/<n>."""
    groups = load_yaml(paths.DOCS / "prompts.yaml")["gate"]
    pairs = [(prompt, name) for name, group in groups.items() for prompt in group]
    rows = pd.DataFrame(pairs, columns=["prompt", "category"]).assign(source="gate")
    rows["id"] = [f"gate/{place}" for place in range(1, len(rows) + 1)]
    return rows.drop_duplicates("prompt")


KINDS: dict[str, Callable[..., pd.DataFrame]] = {
    "names": human_names,
    "telephoned": telephoned_names,
    "coco": coco_captions,
    "parti": parti_prompts,
    "gate": gate_prompts,
    "gpic": gpic_captions,
}


def _of_works(
    folder: Path,
    sources: Sequence[str] | None,
    licenses: Sequence[str],
    caption_source: str,
    holdout: bool,
) -> pd.DataFrame:
    choice = {"holdout": holdout, "sources": sources or None}
    works = read_works(folder, licenses, caption_source, **choice)
    rows = pd.DataFrame({"prompt": works["text"], "id": works["key"]})
    return rows.assign(source=caption_source, category=rows["id"].str.partition("/")[0])


def _shuffled(rows: pd.DataFrame, column: str, seed: int) -> pd.DataFrame:
    """Sort rows by a hash, which unlike a generator no new library version changes."""
    hashes = [hashlib.sha256(f"{seed} {x}".encode()).digest() for x in rows[column]]
    order = pd.Series(hashes, rows.index).sort_values(kind="stable").index
    return rows.loc[order]


def _recorded(rows: pd.DataFrame, file: Path) -> pd.DataFrame:
    """Return the rows whose ids a file lists, in its order."""
    try:
        ids = [line for line in file.read_text(encoding="utf-8").split("\n") if line]
    except (OSError, ValueError) as error:
        raise _refused(file, error, "one id a line") from None
    if not ids or len(set(ids)) < len(ids):
        found = f"{len(ids)} ids, {len(set(ids))} different"
        raise _refused(file, found, "one id a line, each once")
    rows = rows.set_index("id", drop=False)
    if strange := [one for one in ids if one not in rows.index]:
        found = f"{len(strange)} of {len(ids)} ids are not in the set, as {strange[0]}"
        raise _refused(file, found, "ids of the same set")
    return rows.loc[ids]


def _refused(file: Path, found: Exception | str, expected: str) -> ParameterError:
    reason = str(getattr(found, "strerror", None) or found)
    if isinstance(found, KeyError):
        reason = f"there is no {found}"
    reason = " ".join(reason.split())
    if len(reason) > 120:
        reason = reason[:119] + "…"
    return ParameterError(
        f"{shown(file)}: {reason}; expected {expected}. Correct the file, or name "
        "another in `prompt_sets` of the profile."
    )

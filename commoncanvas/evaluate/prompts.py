"""Prompt sets: what a trained model is asked to draw in stage 05, by kind.

COCO's captions, PartiPrompts, names of held-out pictures, the synthetic captions of the
same pictures (telephoned), and the frozen gate. Where a prompt stands for a picture,
equal prompts stay; in a list of prompts alone, the first of them stays.
"""

import csv
import hashlib
import inspect
import json
from pathlib import Path

import pandas as pd
import yaml

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import shown
from commoncanvas.latents.reader import Latents

COLUMNS = ["prompt", "id", "source", "category"]
PARTI_HEADER = ["Prompt", "Category", "Challenge", "Note"]


def read_prompts(
    kind, num=None, ids=None, folder=None, sources=None, seed=0, **settings
):
    """Read one prompt set, as a profile's `prompt_sets` describes it.

    Args:
        kind: "names", "telephoned", "coco", "parti" or "gate".
        num: at most so many prompts, the first ones; a smaller number's prompts are
            the start of a larger one's. None for all.
        ids: file of ids, one a line, as `write_ids` records them: these prompts in
            this order, instead of any draw.
        folder, sources, seed: of the run; each kind takes what it needs.
        settings: further arguments of the kind's own function, e.g. `file`.

    Returns:
        DataFrame of text: prompt; id, unique; source (who wrote it: "human", a
        captioner, or the set's name) and category ("" where there is none).

    Raises:
        ParameterError: an unknown kind or argument, a file that is not what it should
            be, or an id that the set lacks.
    """
    if kind not in KINDS:
        raise ParameterError(
            f"the prompt set's kind is {kind!r}; expected one of {', '.join(KINDS)}. "
            "Edit `prompt_sets` in the profile."
        )
    takes = inspect.signature(KINDS[kind]).parameters
    # A recorded selection may name any prompt of the set, drawn by this seed or not.
    given = {"sources": sources, "seed": None if ids else seed}
    given |= {"folder": folder} if folder else {}
    settings = {k: v for k, v in given.items() if k in takes} | settings
    needed = {k for k, p in takes.items() if p.default is inspect.Parameter.empty}
    unknown, missing = settings.keys() - takes.keys(), needed - settings.keys()
    if unknown or missing:
        raise ParameterError(
            f"the prompt set {kind!r} got unknown {sorted(unknown)} and lacks "
            f"{sorted(missing)}; it takes {', '.join(takes)}. Edit `prompt_sets` in "
            "the profile."
        )
    found = KINDS[kind](**settings)
    if ids:
        found = _recorded(found, paths.ROOT / ids)
    return found[COLUMNS].head(num).reset_index(drop=True)


def write_ids(path, prompts):
    """Record a selection, so that another run can be given it as `ids`."""
    Path(path).write_text("\n".join(prompts["id"]) + "\n", encoding="utf-8")


def human_names(folder, sources=None, licenses=("c",), holdout=True):
    """Return the human names of licensed pictures, in the catalogue's lot.

    Args:
        folder: the data folder of stage 03.
        sources: picture sets to keep, none of them for all.
        licenses: as for `Latents`.
        holdout: of held-out pictures; False takes those that are trained on.
    """
    return _of_works(folder, sources, licenses, "human", holdout)


def telephoned_names(
    folder, sources=None, licenses=("c",), captioner="synthetic", holdout=True
):
    """Return what a captioner wrote about the pictures of `human_names`.

    Same pictures, same order; one that the captioner left without words is missing.
    """
    named = human_names(folder, sources, licenses, holdout)
    told = _of_works(folder, sources, licenses, captioner, holdout).set_index("id")
    shared = named["id"][named["id"].isin(told.index)]
    return told.loc[shared].reset_index()


def coco_captions(file, seed=0):
    """Return captions of MS COCO, one an image, in an order by lot.

    Source: coco. The draw hangs on seed and ids alone, not on the file's order. The
    file is held in memory: 0.2 GB for as many captions as val2014 has.

    Args:
        file: captions_val2014.json or its like, from the repository's folder.
        seed: of the lot; None keeps every caption, by image and id.

    Returns:
        See `read_prompts`; an id is coco/<image id>/<annotation id>.
    """
    file = paths.ROOT / file
    try:
        told = json.loads(file.read_bytes())["annotations"]
        rows = pd.DataFrame(told)[["image_id", "id", "caption"]]
        rows = rows.astype({"image_id": "int64", "id": "int64"})
        rows["prompt"] = [" ".join(caption.split()) for caption in rows["caption"]]
        if rows["id"].duplicated().any():
            raise ValueError("an annotation's id occurs twice")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise _refused(file, error, "annotations with image_id, id, caption") from None
    rows = rows[rows["prompt"] != ""].sort_values(["image_id", "id"])
    image = "coco/" + rows["image_id"].astype(str)
    rows["id"] = image + "/" + rows["id"].astype(str)
    rows = rows.assign(image=image, source="coco", category="")
    if seed is None:
        return rows
    # First which caption, then which image: five captions are no better than one.
    rows = _by_lot(rows, "id", seed).drop_duplicates("image")
    return _by_lot(rows, "image", seed)


def parti_prompts(file, seed=0):
    """Return PartiPrompts, in an order by lot.

    Source: parti. The table is tab-separated and knows no quotes.

    Args:
        file: PartiPrompts.tsv, from the repository's folder.
        seed: of the lot; None keeps the file's order.

    Returns:
        See `read_prompts`; an id is parti/<line>, the header being line 1.
    """
    file = paths.ROOT / file
    try:
        with file.open(encoding="utf-8-sig", newline="") as lines:
            cells = list(csv.reader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
        if cells[:1] != [PARTI_HEADER]:
            raise ValueError(f"its first line is {cells[:1]}")
        for number, row in enumerate(cells[1:], start=2):
            if len(row) != len(PARTI_HEADER) or not row[0].strip():
                raise ValueError(f"line {number} has the cells {row}")
    except (OSError, ValueError, csv.Error) as error:
        raise _refused(file, error, f"columns {', '.join(PARTI_HEADER)}") from None
    rows = pd.DataFrame(cells[1:], columns=PARTI_HEADER)
    rows = rows.rename(columns={"Prompt": "prompt", "Category": "category"})
    rows["id"] = [f"parti/{number}" for number in range(2, len(cells) + 1)]
    rows = rows.assign(source="parti").drop_duplicates("prompt")
    return rows if seed is None else _by_lot(rows, "id", seed)


def gate_prompts():
    """Return the frozen gate of docs/prompts.yaml, in its order; an id is gate/<n>."""
    text = (paths.DOCS / "prompts.yaml").read_text(encoding="utf-8")
    groups = yaml.safe_load(text)["gate"]
    pairs = [(prompt, name) for name, group in groups.items() for prompt in group]
    rows = pd.DataFrame(pairs, columns=["prompt", "category"]).assign(source="gate")
    rows["id"] = [f"gate/{place}" for place in range(1, len(rows) + 1)]
    return rows.drop_duplicates("prompt")


KINDS = {
    "names": human_names,
    "telephoned": telephoned_names,
    "coco": coco_captions,
    "parti": parti_prompts,
    "gate": gate_prompts,
}


def _of_works(folder, sources, licenses, caption_source, holdout):
    wanted = sources or None
    works = Latents(folder, licenses, caption_source, holdout=holdout, sources=wanted)
    rows = pd.DataFrame({"prompt": works.texts(), "id": works.keys})
    return rows.assign(source=caption_source, category=rows["id"].str.partition("/")[0])


def _by_lot(rows, column, seed):
    """Sort rows by a hash, which no library's next version draws differently."""
    lots = rows[column].map(
        lambda value: hashlib.sha256(f"{seed} {value}".encode()).digest()
    )
    return rows.loc[lots.sort_values(kind="stable").index]


def _recorded(rows, file):
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


def _refused(file, found, expected):
    if isinstance(found, KeyError):
        found = f"there is no {found}"
    found = " ".join(str(getattr(found, "strerror", None) or found).split())
    found = found if len(found) <= 120 else found[:119] + "…"
    return ParameterError(
        f"{shown(file)}: {found}; expected {expected}. Mend the file, or name another "
        "in `prompt_sets` of the profile."
    )

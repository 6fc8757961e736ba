"""A small catalogue of everything that a data set has to tell, with its captions."""

import hashlib
import io
import itertools

import numpy as np
import pandas as pd
from PIL import Image

from commoncanvas.captions.written import write_captions
from commoncanvas.catalog import catalog
from commoncanvas.catalog.columns import STATED
from commoncanvas.core import picture_store
from commoncanvas.core.manifest import write_manifest
from commoncanvas.licenses import attribution

MARKUP = "<b>bold</b> & [link](javascript:x) 100% + \x1b[31m | a\nb"
SIZES = [(96, 96), (300, 500), (640, 384)]
LICENSES = ["CC BY 4.0", "CC BY-SA 2.0", "CC0 1.0", "CC BY-NC 4.0", "CC BY-ND 2.0"]


def stated(number, text, **others):
    """Return what a source states of a work."""
    page = f"https://example.org/works/{number:03d}/"
    row = dict.fromkeys(STATED, "") | {
        "key": f"set-{number % 3}/work-{number:03d}",
        "source": f"set-{number % 3}",
        "title": f"Work {number}",
        "author": f"Author {number % 4} + Söhne",
        "author_url": "https://example.org/people/1",
        "pageurl": page,
        "downloadurl": f"{page}picture.png",
        "license_text": text,
        "alt_text": f"seen: {number} %" if number % 2 else "",
        "date_seen": f"2026-0{1 + number % 9}-03",
        "spec": "toy",
    }
    return row | others


def picture(number, size):
    """Return a picture's file: noise of some size, PNG or JPEG."""
    rng = np.random.default_rng(number)
    image = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), np.uint8))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG" if number % 4 == 3 else "PNG")
    return buffer.getvalue()


def captioned(frame, words):
    """Return the raw captions of a frame's licensed works, every eighth empty."""
    import pyarrow as pa

    keys = frame["key"][frame["split"].isin(["c", "nc"])].tolist()
    raw = [f"{words} {key}" if n % 8 else "" for n, key in enumerate(keys)]
    return pa.table({"key": keys, "caption_raw": raw})


def write_catalogue(root, num=30, works_per_file=8, scale="toy"):
    """Write stages 01 and 02 of a scale below a root; return the kept rows.

    One title is markup, one work has no author, one is of the captioned web, and one
    is a copy of another, and one came with a caption by a person.
    """
    import pyarrow.parquet as pq

    licensed = root / "data" / scale / "01_licenses"
    told = root / "data" / scale / "02_captions"
    for folder in (licensed, told):
        folder.mkdir(parents=True)
    names = itertools.cycle(LICENSES)
    rows = [stated(number, text) for number, text in zip(range(num), names)]  # noqa: B905
    rows[0] |= {"title": MARKUP, "author": f"{MARKUP} Inc."}
    rows.append(stated(900, "CC BY 4.0", author="", key="set-0/nobody"))
    rows.append(stated(901, "MIT", key="web/one", source="web", spec="web"))
    frame = catalog.assign_splits(rows, ["web"], 17)
    frame = catalog.choose(frame, 0, False, 0.3)
    rejected = frame[frame["split"] == "rejected"]
    kept = frame[frame["split"] != "rejected"].reset_index(drop=True)
    data = [picture(n, SIZES[n % 3]) for n in range(len(kept))]
    sums = [hashlib.sha256(one).hexdigest() for one in data]
    kept = kept.assign(sha256=sums, source_sha256=[s[::-1] for s in sums])
    kept["exact_group"] = kept["near_group"] = kept["key"]
    kept.loc[1, ["exact_group", "near_group"]] = kept.loc[0, "key"]
    kept["changes"] = "Stored as it came."
    kept["caption"], kept["captioner"] = "", ""
    kept.loc[3, ["caption", "captioner"]] = ["What a person told", "human"]
    kept["file"] = np.arange(len(kept)) // works_per_file
    for number, part in kept.groupby("file"):
        triples = zip(
            part["key"], part["split"], [data[i] for i in part.index], strict=True
        )
        picture_store.write_pictures(licensed, number, list(triples))
    empty = dict.fromkeys(["sha256", "source_sha256", "changes"], "")
    whole = pd.concat([kept, rejected.assign(**empty, file=-1)]).sort_values("key")
    whole = whole.drop(columns=["path", "start", "length"]).astype({"file": "int32"})
    whole.to_parquet(licensed / "catalog.parquet")
    free = kept[kept["split"].isin(["c", "nc"])]
    attribution.ledger(free, free["changes"]).to_parquet(licensed / "ledger.parquet")
    pictures = picture_store.picture_files(licensed)
    written = {}
    for source, words in (("synthetic", "a machine's"), ("other", "another's")):
        written[source] = [root / f"{source}-{file.name}" for file in pictures]
        for number, file in enumerate(written[source]):
            pq.write_table(captioned(kept[kept["file"] == number], words), file)
    write_captions(told, pictures, written)
    why = rejected["reason"].value_counts().to_dict()
    numbers = len(whole), len(kept), why
    write_manifest(licensed, "01_licenses", scale, None, *numbers, {})
    captioners = {
        "synthetic": {"captioner": {"captioner": "open"}},
        "other": {"captioner": {"captioner": "vlm", "model": "a/b", "revision": "c0"}},
    }
    write_manifest(told, "02_captions", scale, None, 0, 0, {}, captioners)
    return kept

"""Made-up metadata with YFCC100M's columns and its licences in their true shares.

The benchmark and the tests need millions of rows, and those of YFCC100M are given out
on request only. No work, word or number here is a real person's.
"""

import math
from collections.abc import Mapping
from pathlib import Path

from duckdb import DuckDBPyConnection as Connection
from duckdb import DuckDBPyRelation as Relation

from commoncanvas.catalog import splits
from commoncanvas.catalog.sources import yfcc

# Thomee et al. 2016: licence -> Flickr's name for it, photos, videos.
SHARES = {
    "by": ("Attribution", 17_210_144, 137_503),
    "by-sa": ("Attribution-ShareAlike", 9_408_154, 72_116),
    "by-nd": ("Attribution-NoDerivs", 4_910_766, 37_542),
    "by-nc": ("Attribution-NonCommercial", 12_674_885, 102_288),
    "by-nc-sa": ("Attribution-NonCommercial-ShareAlike", 28_776_835, 235_319),
    "by-nc-nd": ("Attribution-NonCommercial-NoDerivs", 26_225_780, 208_668),
}
# commoncanvas-cvpr, Fig. 4: images that the authors kept; their NC includes C.
PAPER = {"c": 26_232_417, "nc": 67_015_331}
_WORDS = """the a of in at on and with my our sunset beach park old new house street
garden night day summer winter spring birthday party wedding family dog cat bird flower
tree river lake mountain bridge church museum festival concert band game race car train
boat plane city london paris new+york tokyo berlin san+francisco IMG DSC 2009 2010 2011
photo taken view light water sky blue red green black white caf%C3%A9 Z%C3%BCrich
it%27s Mom+%26+Dad %2831%29 %0A%0A""".split()
_CAMERAS = """Canon+EOS+350D NIKON+D90 SONY+DSC-W55 Apple+iPhone+4 Panasonic+DMC-TZ5
Canon+PowerShot+SD450 OLYMPUS+E-PL1 FUJIFILM+FinePix+S5600""".split()


def scaled_counts(rows: int) -> dict[tuple[str, int], int]:
    """Return {(slug, marker): rows}, Thomee's counts scaled by largest remainder.

    They add up to `rows`; at 100,000,000 they are Thomee's. marker: 0 photo, 1 video.
    """
    whole: dict[tuple[str, int], int] = {}
    for slug, (_, photos, videos) in SHARES.items():
        whole |= {(slug, 0): photos, (slug, 1): videos}
    total = sum(whole.values())
    scaled = {cell: rows * number // total for cell, number in whole.items()}
    by_remainder = sorted(whole, key=lambda cell: -(rows * whole[cell] % total))
    for cell in by_remainder[: rows - sum(scaled.values())]:
        scaled[cell] += 1
    return scaled


def paper_split(counts: Mapping[str, int]) -> dict[str, dict[str, float]]:
    """Set {split: rows} beside the paper's counts, whose NC includes C, as shares."""
    found = {"c": counts["c"], "nc": counts["c"] + counts["nc"]}
    return {
        name: {"found": n, "paper": PAPER[name], "share": PAPER[name] / n if n else 0.0}
        for name, n in found.items()
    }


def made_up(connection: Connection, rows: int, seed: int = 0) -> Relation:
    """Return a relation of `rows` made-up works with YFCC100M's 23 columns.

    Licences are `scaled_counts`, shuffled; 31 % have a description, 48 % a place. The
    same seed gives the same rows, under the same release of DuckDB.
    """
    # A step that shares no factor with `rows` visits every place once: a shuffle.
    first = int(rows * 0.618) + 1
    step = next(s for s in range(first, first + rows + 2) if math.gcd(s, rows) == 1)
    bound, names, slugs, markers = 0, "", "", ""
    for (slug, marker), number in scaled_counts(rows).items():
        bound += number
        names += f" WHEN place < {bound} THEN '{SHARES[slug][0]} License'"
        slugs += f" WHEN place < {bound} THEN '{slug}'"
        markers += f" WHEN place < {bound} THEN {marker}"

    def text(length: str, salt: int, between: str = "+") -> str:
        word = f"({_WORDS})[1 + (hash(h + k, {salt}) >> 2)::BIGINT % {len(_WORDS)}]"
        words = f"list_transform(range({length}), lambda k: {word})"
        return f"array_to_string({words}, '{between}')"

    def some(share: str, value: str) -> str:
        return f"CASE WHEN {share} THEN {value} ELSE '' END"

    placed = "h % 25 < 12"
    columns = {
        "photoid": "1000000 + i * 137 + h % 137",
        "uid": "(10000000 + h % 90000000) || '@N0' || h % 8",
        "unickname": text("1 + h % 2", 1),
        "datetaken": "CAST(make_timestamp((1100000000 + h % 290000000) * 1000000) AS "
        "VARCHAR) || '.0'",
        "dateuploaded": "1100000000 + h % 290000000 + h % 4000000",
        "capturedevice": some("h % 5 < 4", f"({_CAMERAS})[1 + h % 8]"),
        "title": text("h % 7", 2),
        "description": some("h % 100 < 31", text("1 + h % 37", 3)),
        "usertags": text("greatest(h % 13 - 4, 0)", 4, ","),
        "machinetags": "''",
        "longitude": some(placed, "printf('%.6f', h % 36000 / 100.0 - 180)"),
        "latitude": some(placed, "printf('%.6f', h % 18000 / 100.0 - 90)"),
        "accuracy": some(placed, "CAST(16 - h % 6 AS VARCHAR)"),
        "pageurl": "'http://www.flickr.com/photos/' || uid || '/' || photoid || '/'",
        "downloadurl": "'http://farm' || farmid || '.staticflickr.com/' || serverid || "
        "'/' || photoid || '_' || secret || '.jpg'",
        "licensename": f"CASE{names} END",
        "licenseurl": f"'http://creativecommons.org/licenses/' || CASE{slugs} END || "
        "'/2.0/'",
        "serverid": "h % 9000",
        "farmid": "1 + h % 9",
        "secret": "printf('%010x', h % 1099511627776)",
        "secretoriginal": "printf('%010x', hash(h) % 1099511627776)",
        "ext": "'jpg'",
        "marker": f"CASE{markers} END",
    }
    # The addresses are made of other columns, so they come second.
    late = ("pageurl", "downloadurl")
    early = [f"{columns[name]} AS {name}" for name in yfcc.COLUMNS if name not in late]
    cells = [f"{columns[n]} AS {n}" if n in late else n for n in yfcc.COLUMNS]
    numbers = connection.sql(
        f"SELECT i, CAST(hash(i, {int(seed)}) >> 2 AS BIGINT) AS h, "
        f"(i * {step} + {int(seed)}) % {rows} AS place FROM range({rows}) t(i)"
    )
    return numbers.select(", ".join(early)).select(", ".join(cells))


def write_parquet(
    path: Path | str, rows: int, seed: int = 0, num_threads: int = 2
) -> None:
    """Write `made_up` works as one parquet file, in row groups of 122,880."""
    made_up(splits.connect("4GB", num_threads), rows, seed).write_parquet(str(path))

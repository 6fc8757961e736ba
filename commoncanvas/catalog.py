"""The catalogue: every picture of the sources with its licence, split and reason.

Stage 01 builds it: `iconify_rows` reads the packages, `judge` splits by licence,
`choose` takes what the scale asks for, `draw_rows` draws. A row is
never lost: it is used, or it carries the reason why not.
"""

import datetime as dt
import hashlib
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from commoncanvas.errors import LicenseError, PictureError, SourceError
from commoncanvas.images import svg_to_pixels
from commoncanvas.licenses import read_license, split_of
from commoncanvas.sources import read_members, read_pins

SKIN_TONE = re.compile(r"-(medium-)?(light|medium|dark)(-skin-tone)?(?=-|$)")


def iconify_rows(prefix):
    """Read one verified Iconify package into a list of row dictionaries.

    Titles are the set's own names with hyphens as spaces; a last word that at least
    40 % of the set shares ("flat", "duo") names the style and is left out.

    Args:
        prefix: the set's name in `package-lock.json`, e.g. "twemoji".

    Returns:
        One dictionary a picture: key, title, author, author_url, license_text,
        license_url, pageurl, source, date_seen (the day the set was packed), is_hidden,
        is_skin_tone, svg.

    Raises:
        SourceError: the set is not pinned, its package is missing, or its bytes are
            not the pinned ones.
    """
    pins = read_pins()
    if prefix not in pins:
        raise SourceError(
            f"source {prefix!r} is not pinned; expected a set of package-lock.json; "
            "correct cc_sources or web_sources of the profile."
        )
    icons, info = read_members(pins[prefix], "icons.json", "info.json")
    names = list(icons["icons"])
    last, count = Counter(name.rpartition("-")[2] for name in names).most_common(1)[0]
    style = f"-{last}" if count >= 0.4 * len(names) else None
    license_ = info["license"]
    packed = dt.datetime.fromtimestamp(icons.get("lastModified", 0), dt.UTC).date()
    rows = []
    for name in sorted(names):
        icon = icons["icons"][name]
        bare = name.removesuffix(style) if style else name
        rows.append(
            {
                "key": f"{prefix}/{name}",
                "title": bare.replace("-", " "),
                "author": info["author"]["name"],
                "author_url": info["author"].get("url", ""),
                "license_text": license_.get("spdx") or license_.get("title", ""),
                "license_url": license_.get("url", ""),
                "pageurl": f"https://icon-sets.iconify.design/{prefix}/{name}/",
                "source": prefix,
                "date_seen": packed.isoformat(),
                "is_hidden": bool(icon.get("hidden")),
                "is_skin_tone": bool(SKIN_TONE.search(name)),
                "svg": _document(icon, icons),
            }
        )
    return rows


def _document(icon, defaults):
    """Wrap an icon's body in an SVG document with its own view box."""
    fallback = {"left": 0, "top": 0, "width": 16, "height": 16}
    left, top, w, h = (
        icon.get(k, defaults.get(k, fallback[k]))
        for k in ("left", "top", "width", "height")
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{w}" height="{h}" viewBox="{left} {top} {w} {h}">{icon["body"]}</svg>'
    )


def judge(rows, web_sources, seed):
    """Give every row its licence, split, reason and place in the drawing of lots.

    Args:
        rows: dictionaries from `iconify_rows`.
        web_sources: sets that stand for captioned web pictures; their split is "web"
            whatever their licence, and no Creative Commons variant trains on them.
        seed: of the lots: `order` is a hash of seed and key, in [0, 1).

    Returns:
        DataFrame, one row a picture, with license_slug, license_version, license_title,
        license_deed, split (c, nc, nd, web or rejected), reason and order.
    """
    frame = pd.DataFrame(rows).sort_values("key", ignore_index=True)
    statements = frame[["license_text", "license_url"]].drop_duplicates()
    verdicts = {
        (text, url): _verdict(text, url)
        for text, url in statements.itertuples(index=False)
    }
    judged = [
        verdicts[pair]
        for pair in zip(frame["license_text"], frame["license_url"], strict=True)
    ]
    frame = frame.join(pd.DataFrame(judged))
    is_web = frame["source"].isin(web_sources)
    frame.loc[is_web, ["split", "reason"]] = ["web", ""]
    frame["order"] = [_lot(seed, key) for key in frame["key"]]
    return frame


def _verdict(text, url):
    """Read one licence statement into the columns that `judge` adds."""
    try:
        license_ = read_license(text, url)
    except LicenseError as error:
        return {
            "license_slug": "unread",
            "license_version": "",
            "license_title": text,
            "license_deed": url,
            "split": "rejected",
            "reason": str(error),
        }
    split, reason = split_of(license_)
    return {
        "license_slug": license_.slug,
        "license_version": license_.version,
        "license_title": license_.title,
        "license_deed": license_.url,
        "split": split,
        "reason": reason,
    }


def _lot(seed, key):
    """Return a number in [0, 1) that depends on seed and key alone."""
    return int(hashlib.sha256(f"{seed}:{key}".encode()).hexdigest()[:12], 16) / 16**12


def choose(frame, max_per_source, keep_skin_tones, holdout_share):
    """Reject what its set withdrew and what this scale leaves out; hold some out.

    Args:
        frame: from `judge`.
        max_per_source: pictures of each set to keep, drawn by lot; 0 keeps all.
        keep_skin_tones: whether the skin-tone variants of emoji stay.
        holdout_share: share of the licensed works that is never trained on; every split
            is cut alike, by lot.

    Returns:
        The frame with reasons filled in, and a column is_holdout.
    """
    frame = frame.copy()

    def reject(mask, reason):
        mask &= frame["split"] != "rejected"
        frame.loc[mask, ["split", "reason"]] = ["rejected", reason]

    reject(frame["is_hidden"], "withdrawn by its set")
    if not keep_skin_tones:
        reject(frame["is_skin_tone"], "skin-tone variant of another picture")
    if max_per_source:
        kept = frame[frame["split"] != "rejected"]
        rank = kept.groupby("source")["order"].rank().reindex(frame.index)
        reject(rank > max_per_source, "beyond max_per_source of this scale")
    licensed = frame["split"].isin(["c", "nc", "nd"])
    # A second lot: the first already decided which pictures are in.
    second = np.array([_lot("holdout", key) for key in frame["key"]])
    frame["is_holdout"] = licensed & (second < holdout_share)
    return frame


def mark_duplicates(frame, pixels):
    """Mark exact and near copies with the key of their group's first member.

    Args:
        frame: the rows of the drawn pictures.
        pixels: (n, h, w, 3) uint8, in the order of `frame`.

    Returns:
        The frame with sha256 (of the pixels), exact_group and near_group (same 64-bit
        difference hash); a picture alone in its group names itself.
    """
    frame = frame.copy()
    frame["sha256"] = [hashlib.sha256(p.tobytes()).hexdigest() for p in pixels]
    near = [_difference_hash(p) for p in pixels]
    for column, hashes in (
        ("exact_group", frame["sha256"].tolist()),
        ("near_group", near),
    ):
        frame[column] = frame.groupby(np.asarray(hashes))["key"].transform("first")
    return frame


def _difference_hash(pixels):
    """Return the 64-bit difference hash of a picture as hexadecimal digits."""
    grey = Image.fromarray(pixels).convert("L").resize((9, 8), Image.Resampling.BOX)
    levels = np.asarray(grey).astype(int)
    return np.packbits(levels[:, 1:] > levels[:, :-1]).tobytes().hex()


def draw_rows(rows, size, num_threads=2):
    """Draw the rows' SVGs.

    Args:
        rows: as `iconify_rows` returns them.
        size: edge of the square [pixels].
        num_threads: pictures drawn at a time (resvg releases the interpreter).

    Returns:
        (pixels, reasons): (n, size, size, 4) uint8, and one reason a row, "" where
        the picture was drawn; rows with a reason have an empty picture.
    """

    def draw(row):
        try:
            return svg_to_pixels(row["svg"], size), ""
        except PictureError as error:
            return np.zeros((size, size, 4), np.uint8), str(error)

    with ThreadPoolExecutor(num_threads) as pool:
        drawn = list(tqdm(pool.map(draw, rows), "drawing", len(rows), unit="img"))
    pixels = np.zeros((len(rows), size, size, 4), np.uint8)
    for place, (picture, _) in enumerate(drawn):
        pixels[place] = picture
    return pixels, [reason for _, reason in drawn]

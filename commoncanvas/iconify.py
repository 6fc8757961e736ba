"""The adapter of Iconify packages: openly licensed icon and emoji sets.

Stages 00 and 01 read the pinned packages here; licence, author and names are the
package's own.
"""

import datetime as dt
import re
from collections import Counter

from commoncanvas.errors import SourceError
from commoncanvas.sources import read_members, read_pins

SKIN_TONE = re.compile(r"-(medium-)?(light|medium|dark)(-skin-tone)?(?=-|$)")


def read_set(prefix):
    """Read one verified Iconify package into a list of row dictionaries.

    Titles are the set's own names with hyphens as spaces; a last word that at least
    40 % of the set shares ("flat", "duo") names the style and is left out.

    Args:
        prefix: the set's name in `package-lock.json`, e.g. "twemoji".

    Returns:
        One dictionary a picture: the columns of `statements.STATED` (date_seen is the
        day the set was packed), is_hidden, is_skin_tone and svg.

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
                "downloadurl": "",
                "alt_text": "",
                "source": prefix,
                "date_seen": packed.isoformat(),
                "reason": "",
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

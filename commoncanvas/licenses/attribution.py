"""The attribution ledger: who made each work that may be trained on, in full.

Written by stage 01, the stage that selects, so that no later packaging can lose a row.
"""

import html
import re
from urllib.parse import quote

import mistune
import pandas as pd

from commoncanvas.licenses.license import SLUGS

# Catalogue column -> ledger column.
COLUMNS = {
    "key": "key",
    "title": "title",
    "author": "author",
    "author_url": "author_url",
    "source": "source",
    "pageurl": "source_url",
    "license_slug": "license_slug",
    "license_title": "license",
    "license_version": "license_version",
    "license_deed": "license_url",
    "date_seen": "date_seen",
    "sha256": "sha256",
}
PROVEN = ("license", "license_url", "date_seen", "sha256", "changes")
# A title is owed only "if supplied" (CC BY 1.0 to 3.0), so its lack proves nothing.
CREDITED = ("author", "source_url")
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Attribution</title>
<style>body{{max-width:44rem;margin:2rem auto;padding:0 1rem;
font:16px/1.6 system-ui,sans-serif;color-scheme:light dark}}</style>
{}</html>
"""


def ledger(frame, changes):
    """Return the attribution ledger: one full row a work that may be trained on.

    Args:
        frame: catalogue rows of the splits c and nc.
        changes: what was done to every picture, in words.
    """
    return frame[list(COLUMNS)].rename(columns=COLUMNS).assign(changes=changes)


def lacking(frame, always=PROVEN):
    """Say for every work which fields it lacks of those that its licence requires.

    Every work needs what proves its licence; under a licence with attribution it needs
    its author and its page too, which the public-domain tools do not ask for.
    Source: CC BY 4.0, section 3(a); CC BY 2.0, section 4(b).

    Args:
        frame: rows with the ledger's column names.
        always: fields that every work needs.

    Returns:
        Series of field names with commas between, "" where nothing is missing.
    """
    needed = [*always, *CREDITED]
    is_missing = (
        frame[needed].fillna("").astype(str).apply(lambda c: c.str.strip()) == ""
    )
    is_owed = frame["license_slug"].isin(SLUGS)
    for field in CREDITED:
        is_missing[field] &= is_owed
    told = [", ".join(f for f in needed if row[f]) for _, row in is_missing.iterrows()]
    return pd.Series(told, frame.index, dtype=object)


def missing_credits(ledger_frame):
    """Return the ledger's rows that lack a field which their licence requires."""
    return ledger_frame[lacking(ledger_frame) != ""]


def attribution_text(ledger_frame):
    """Return the ledger as Markdown: works by set, author and licence.

    Titles, names and addresses come from strangers, so their signs are escaped.
    """
    lines = ["# Attribution", ""]
    groups = ledger_frame.fillna("").groupby(
        ["source", "author", "author_url", "license", "license_url"]
    )
    for (source, author, author_url, title, deed), works in groups:
        names = ", ".join(
            _link(w.title or "untitled", w.source_url) for w in works.itertuples()
        )
        lines += [
            f"## {_plain(source)}",
            "",
            f"By {_link(author or 'an unnamed author', author_url)}, "
            f"{_link(title, deed)}. "
            f"{works['changes'].iloc[0]} {len(works)} work{'s' * (len(works) > 1)}:",
            "",
            names,
            "",
        ]
    return "\n".join(lines)


def attribution_page(markdown):
    """Return `attribution_text` as one HTML page that needs nothing else."""
    # It lets raw HTML through: `_plain` has left none.
    return PAGE.format(mistune.html(markdown))


def _plain(text):
    """Return a stranger's text as Markdown that shows it and does nothing else."""
    line = html.escape(" ".join(str(text).split()), quote=False)
    return re.sub(r"([\\`*_\[\]~$|#])", r"\\\1", line)


def _link(text, url):
    """Return a Markdown link, or the plain text where the address is not a page."""
    if not re.match(r"https?://", url, re.IGNORECASE):
        return _plain(text)
    return f"[{_plain(text)}]({quote(url, safe=':/?#&=%+,;@!~*-._')})"


def licenses_of(licenses_folder, keys):
    """Return licence, split and source of the works with the given keys.

    Works of the captioned web, which the ledger does not hold, come from the catalogue.
    """
    catalog = pd.read_parquet(licenses_folder / "catalog.parquet").set_index("key")
    works = catalog.loc[
        list(keys), ["license_title", "license_deed", "split", "source"]
    ]
    columns = {"license_title": "license", "license_deed": "license_url"}
    return works.rename(columns=columns).reset_index()

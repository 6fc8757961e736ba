"""The attribution ledger: who made each work that may be trained on, in full.

Stage 01 writes it, since it selects the works, so no later packaging can lose a row.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import compress
from pathlib import Path
from urllib.parse import quote, unquote

import mistune
import numpy as np
import pandas as pd

from commoncanvas.core.text import is_page, is_seen, markdown_text, says_something
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
MOST = 50_000  # works that stage 01 lists as text; its ledger holds all
_DEED = re.compile(
    r"https?://([\w-]+\.)*creativecommons\.org\.?(:\d+)?/+(licenses|publicdomain)\b.*",
    re.IGNORECASE | re.DOTALL,
)
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>Attribution</title>
<style>body{{max-width:44rem;margin:2rem auto;padding:0 1rem;
font:16px/1.6 system-ui,sans-serif;color-scheme:light dark}}</style>
{}</html>
"""


def ledger(frame: pd.DataFrame, changes: str | pd.Series) -> pd.DataFrame:
    """Return the ledger of catalogue rows; `changes` says what was done to pictures.

    That is one text for all, or one a row.
    """
    return frame[list(COLUMNS)].rename(columns=COLUMNS).assign(changes=changes)


def lacking(frame: pd.DataFrame, always: Sequence[str] = PROVEN) -> pd.Series:
    """Say for every work which fields it lacks of those that its licence requires.

    Every work needs what proves its licence; under a licence with attribution it needs
    its author and its page too, which the public-domain tools do not ask for.
    Source: CC BY 4.0, section 3(a); CC BY 2.0, section 4(b).

    A field that a reader cannot see, or that says "n/a", is missing, and so is an
    address that leads to no page, or of a work's page to a licence.

    Returns:
        For each row with the ledger's columns the names of its fields that are missing,
        with commas between, of those `always` needed and those that credit.
    """
    needed = [*always, *CREDITED]
    texts = frame[needed].fillna("").astype(str)
    is_missing = pd.DataFrame(index=frame.index)
    for field in needed:
        is_given = IS_GIVEN.get(field, says_something)
        places, different = pd.factorize(texts[field])  # most stand in many rows
        is_there = np.fromiter(map(is_given, different), bool, len(different))
        is_missing[field] = ~is_there[places]
    is_owed = frame["license_slug"].isin(SLUGS)
    for field in CREDITED:
        is_missing[field] &= is_owed
    missing = is_missing.to_numpy()
    lists = np.full(len(frame), "", object)
    for place in np.flatnonzero(missing.any(axis=1)):
        lists[place] = ", ".join(compress(needed, missing[place]))
    return pd.Series(lists, frame.index, dtype=object)


def is_deed(address: str) -> bool:
    """Tell whether an address leads to a licence, which is no work's page."""
    return _DEED.fullmatch(unquote(address)) is not None


def is_work_page(address: str) -> bool:
    """Tell whether an address leads to a page that may be a work's."""
    return is_page(address) and not is_deed(address)


# How a field is known to be there that is no plain text.
IS_GIVEN = {"license_url": is_page, "source_url": is_work_page}


def missing_credits(ledger_frame: pd.DataFrame) -> pd.DataFrame:
    """Return the ledger's rows that lack a field which their licence requires."""
    return ledger_frame[lacking(ledger_frame) != ""]


def attribution_text(ledger_frame: pd.DataFrame, most: int | None = None) -> str:
    """Return the ledger as Markdown: works by set, author and licence.

    Titles, names and addresses come from strangers, so their markup is escaped.

    Args:
        most: of the works to list, in the ledger's order; a last line then says that
            `ledger.parquet`, beside the text, holds the others too. None lists all.
    """
    lines = ["# Attribution", ""]
    listed = ledger_frame if most is None else ledger_frame.head(most)
    groups = listed.fillna("").groupby(
        ["source", "author", "author_url", "license", "license_url", "changes"]
    )
    for (source, author, author_url, title, deed, changes), works in groups:
        named = zip(works["title"], works["source_url"], strict=True)
        names = ", ".join(_link(name, url, "untitled") for name, url in named)
        lines += [
            f"## {markdown_text(source)}",
            "",
            f"By {_link(author, author_url, 'an unnamed author')}, "
            f"{_link(title, deed)}. "
            f"{changes} {len(works)} work{'s' * (len(works) > 1)}:",
            "",
            names,
            "",
        ]
    if num_left := len(ledger_frame) - len(listed):
        lines += [
            f"{num_left:,} more works are in [ledger.parquet](ledger.parquet), which "
            "lists all, each with author, address, licence and what was changed.",
            "",
        ]
    return "\n".join(lines)


def attribution_page(markdown: str) -> str:
    """Return `attribution_text` as one HTML page that needs nothing else."""
    # mistune lets raw HTML through; `markdown_text` has left none.
    return PAGE.format(mistune.html(markdown))


def _link(text: str, url: str, instead: str = "") -> str:
    """Return a Markdown link, or the plain text where the address is not a page.

    `instead` is shown where a reader would see nothing of the text.
    """
    text = text if is_seen(text) else instead
    if not is_page(url):
        return markdown_text(text)
    return f"[{markdown_text(text)}]({quote(url, safe=':/?#&=%+,;@!~*-._')})"


def licenses_of(licenses_folder: Path, keys: Iterable[str]) -> pd.DataFrame:
    """Return licence, split and source of the works with the given keys, in order.

    They come from the catalogue, since the ledger does not hold the captioned web; a
    work that it lacks is a KeyError. `License.from_columns` takes license_slug,
    license_version and license_port.
    """
    catalog = pd.read_parquet(licenses_folder / "catalog.parquet").set_index("key")
    columns = ["license_title", "license_deed", "split", "source"]
    columns += ["license_slug", "license_version", "license_port"]
    names = {"license_title": "license", "license_deed": "license_url"}
    return catalog.loc[list(keys), columns].rename(columns=names).reset_index()

"""The attribution ledger: who made each work that may be trained on, in full.

Written by stage 01, the stage that selects, so that no later packaging can lose a row.
"""

import html
import re
from urllib.parse import quote

import pandas as pd


def ledger(frame, changes):
    """Return the attribution ledger: one full row a work that may be trained on.

    Args:
        frame: catalogue rows of the splits c and nc.
        changes: what was done to every picture, in words.
    """
    columns = {
        "key": "key",
        "title": "title",
        "author": "author",
        "author_url": "author_url",
        "source": "source",
        "pageurl": "source_url",
        "license_title": "license",
        "license_version": "license_version",
        "license_deed": "license_url",
        "date_seen": "date_seen",
        "sha256": "sha256",
    }
    return frame[list(columns)].rename(columns=columns).assign(changes=changes)


def missing_credits(ledger_frame):
    """Return the ledger's rows that lack a field which a licence asks for."""
    needed = [
        "title",
        "author",
        "source_url",
        "license",
        "license_url",
        "date_seen",
        "sha256",
        "changes",
    ]
    stated = ledger_frame[needed].fillna("").astype(str)
    return ledger_frame[stated.apply(lambda c: c.str.strip() == "").any(axis=1)]


def attribution_text(ledger_frame):
    """Return the ledger as Markdown: works by set, author and licence.

    Titles, names and addresses come from strangers, so their signs are escaped.
    """
    lines = ["# Attribution", ""]
    groups = ledger_frame.fillna("").groupby(
        ["source", "author", "author_url", "license", "license_url"]
    )
    for (source, author, author_url, title, deed), works in groups:
        names = ", ".join(_link(w.title, w.source_url) for w in works.itertuples())
        lines += [
            f"## {_plain(source)}",
            "",
            f"By {_link(author, author_url)}, {_link(title, deed)}. "
            f"{works['changes'].iloc[0]} {len(works)} works:",
            "",
            names,
            "",
        ]
    return "\n".join(lines)


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

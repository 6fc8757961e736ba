"""The credited works of a released model: its ledger, as the release holds it.

A release made before ledgers were part of it names its works as text alone. Its ledger
is rebuilt from the pinned sets, and is taken only if the keys of its works are those
that the release's manifest has the hash of.
"""

import gzip
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pandas as pd

from commoncanvas.catalog import catalog
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.files import shown
from commoncanvas.core.keys import key_of
from commoncanvas.core.manifest import listed
from commoncanvas.core.text import is_page
from commoncanvas.licenses import attribution

LEDGER = "ledger.parquet"
HUMAN = "human"  # whose captions a set's own names are


def read_ledger(folder: Path, manifest: Mapping[str, Any]) -> pd.DataFrame:
    """Return the ledger of a released model's works, with the column captioner.

    captioner: who wrote the captions of a work that the model was trained on.

    Raises:
        ManifestError: the release's files changed, or its ledger cannot be rebuilt.
    """
    facts = manifest["facts"]
    if LEDGER in manifest["files"]:
        works = pd.read_parquet(listed(folder, LEDGER))
    else:
        works = _rebuilt(listed(folder, facts["attribution"]))
    if key_of(keys=sorted(works["key"])) != facts["works_key"]:
        raise ManifestError(
            f"the works of {shown(folder)} are {len(works):,}, and not those that it "
            f"was trained on ({facts['works']:,}); expected the pinned sets of its "
            "time; release the model again, which keeps its ledger."
        )
    told = ", ".join(sorted(set(captioners_of(facts).values())))
    return works.assign(captioner=told).sort_values("key", ignore_index=True)


def captioners_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return {caption source: who wrote it}, of the facts of a release."""
    used = facts["caption_source"]
    named = {part: name for part, name in facts["parts"]}
    own = {"human": HUMAN, "alt_text": "the works' authors"}
    return {
        source: own.get(source)
        or named.get(f"captioner, for the {source} captions", source)
        for source in sorted([used] if isinstance(used, str) else used)
    }


def _rebuilt(file: Path) -> pd.DataFrame:
    """Return the ledger of the works of pinned sets that an attribution names."""
    data = file.read_bytes()
    text = (gzip.decompress(data) if file.suffix == ".gz" else data).decode()
    pages = set(re.findall(r"\]\(([^()\s]+)\)", text))
    sources = re.findall(r"^## (.+)$", text, re.MULTILINE)
    frame = catalog.assign_splits(catalog.read_frame(sources), [], 0)
    named = frame["pageurl"].map(lambda page: quote(page, safe=":/?#&=%+,;@!~*-._"))
    changes = set(re.findall(r"\)\. (.+) \d+ works?:$", text, re.MULTILINE))
    done = changes.pop() if len(changes) == 1 else ""
    return attribution.ledger(frame[named.isin(pages)].assign(sha256=""), done)


def by_source(works: pd.DataFrame) -> list[dict[str, Any]]:
    """Return what each source gave, the largest first.

    Each has name, works, share (of all, 0 to 1), link (what the addresses of its works
    share, or ""), authors, licenses ({(title, deed, slug, version): works}) and last,
    the latest ISO date on which it was packed, or a work of it last seen.
    """
    found = []
    for name, rows in works.groupby("source"):
        pages = [rows["source_url"].min(), rows["source_url"].max()]
        link = os.path.commonprefix(pages).rpartition("/")[0] + "/"
        licenses = ["license", "license_url", "license_slug", "license_version"]
        found.append(
            {
                "name": str(name),
                "works": len(rows),
                "share": len(rows) / len(works),
                "link": link if is_page(link) else "",
                "authors": sorted(set(rows["author"]) - {""}),
                "licenses": rows.groupby(licenses).size().to_dict(),
                "changes": sorted(set(rows["changes"]) - {""}),
                "last": rows["date_seen"].max(),
            }
        )
    return sorted(found, key=lambda one: (-one["works"], one["name"]))


def dates_of(days: Iterable[str]) -> str:
    """Say what the ISO dates of works are, of which some or all may be "".

    A source's packing or the last sight of a page is no date of acquisition.
    """
    known = sorted({day for day in days if day})
    if not known:
        return "None is recorded; when the works were acquired is not recorded either."
    ends = "between {} and {}" if len(known) > 1 else "on {}"
    return (
        "Sources were packed, or works last seen or uploaded, "
        f"{ends.format(known[0], known[-1])}; when they were acquired is not recorded."
    )


def by_domain(works: pd.DataFrame) -> list[tuple[str, int]]:
    """Return (domain, works) of the works' pages, the commonest first."""
    hosts = works["source_url"].map(lambda page: urlsplit(page).hostname or "")
    counts = hosts[hosts != ""].value_counts()
    pairs = ((str(host), int(num)) for host, num in counts.items())
    return sorted(pairs, key=lambda one: (-one[1], one[0]))

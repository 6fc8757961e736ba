"""The credit of one work as a line of text, for below a picture that shows it."""

from pathlib import Path

import pandas as pd

from commoncanvas.core.errors import ManifestError

COLUMNS = ["title", "author", "source", "license_title"]


def credit_line(licenses_folder: Path, key: str) -> str:
    """Return a work's title, author, set and licence, from stage 01's catalogue.

    It is plain text of strangers: whoever shows it escapes it.

    Raises:
        ManifestError: the catalogue has no such work.
    """
    file = licenses_folder / "catalog.parquet"
    rows = pd.read_parquet(file, columns=COLUMNS, filters=[("key", "==", key)])
    if rows.empty:
        raise ManifestError(
            f"the catalogue of 01_licenses has no work {key!r}; expected all that are "
            "shown; run 01_licenses and what follows it again."
        )
    title, author, source, licence = rows.fillna("").iloc[0]
    by = f" by {author}" if author else ""
    return f"{f'“{title}”' if title else key}{by} ({source}), {licence}"

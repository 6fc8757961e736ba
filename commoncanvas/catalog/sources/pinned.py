"""The pinned sources and weights: fetched once, verified, and counted."""

from pathlib import Path

from commoncanvas.catalog.sources import iconify, openclipart
from commoncanvas.models import weights


def report(what: str, deb: Path | None, folder: Path | None) -> None:
    """Fetch and verify what is not here yet, and print what there is.

    Args:
        what: "icons" (the pinned sets, and the weights) or "openclipart".
        deb, folder: Open Clip Art's package, or its drawings, that lie here.
    """
    if what == "openclipart":
        print(f"{openclipart.fetch(deb, folder):,} drawings verified")
        return
    megabytes = iconify.fetch_all() / 1e6
    files = len([weights.weights_path(name) for name in weights.WEIGHTS])
    sets = f"{len(iconify.read_pins())} picture sets and {files} weight files"
    print(f"{sets} verified, {megabytes:.0f} MB")

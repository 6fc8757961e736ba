"""Fetch the pinned picture sets and verify them and the weights."""

import argparse
import sys

from commoncanvas.catalog import iconify
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.models import weights


def main():
    """Fetch and verify every pinned source; print one line per failure."""
    parser = argparse.ArgumentParser(
        prog="python -m commoncanvas.fetch",
        description="Fetch the pinned picture sets with npm and verify every hash.",
    )
    parser.parse_args()
    try:
        size_bytes = iconify.fetch_all()
        for name in weights.WEIGHTS:
            weights.weights_path(name)
    except CommonCanvasError as error:
        sys.exit(str(error))
    print(
        f"{len(iconify.read_pins())} picture sets and {len(weights.WEIGHTS)} weight "
        f"files verified, {size_bytes / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()

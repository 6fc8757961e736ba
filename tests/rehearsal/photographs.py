"""The photographs that the rehearsal's pictures are cut from.

photographs.csv names them with author and licence, as the copyright files of Debian's
packages do for each file; the captions are ours. Twelve lie beside it, resized to at
most 1,280 px, for where there is no network; Debian has all at full size.
"""

import csv
import functools
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from commoncanvas.catalog.sources import debian
from commoncanvas.core.errors import SourceError
from commoncanvas.licenses.license import License, read_license

HERE = Path(__file__).parent
VERSION = "20.04.0-2"
INSIDE = "./usr/share/backgrounds/"
DEB_SHA256 = {
    "lomiri-wallpapers-16.04": (
        "a99ff6a3bfe451e4cc0682ecb3cc82e71740626d59e4845ae34a0a0e45421eab"
    ),
    "lomiri-wallpapers-20.04": (
        "d44e89b8473aafe64a5b678f014862dc31335aaaf18665c544d985d854f1a709"
    ),
}
LONGEST = 2560  # of the longer side of a photograph that pictures are cut from [pixels]
COLUMNS = ROWS = 5
NUM_CROPS = COLUMNS * ROWS


@dataclass(frozen=True)
class Photograph:
    """One photograph, and what its crops may say of it."""

    path: Path
    title: str
    author: str
    license: License
    caption: str

    def crop(self, place: int, short: int) -> Image.Image:
        """Cut out the cell `place` of the grid; its shorter side is `short` pixels."""
        whole = _opened(self.path)
        width, height = whole.width // COLUMNS, whole.height // ROWS
        left, top = place % COLUMNS * width, place // COLUMNS * height
        cell = whole.crop((left, top, left + width, top + height))
        share = short / min(cell.size)
        size = round(width * share), round(height * share)
        return cell.resize(size, Image.Resampling.LANCZOS)


@functools.cache
def _opened(path: Path) -> Image.Image:
    image = Image.open(path)
    image.draft("RGB", (LONGEST, LONGEST))
    image.thumbnail((LONGEST, LONGEST))
    return image.convert("RGB")


def table() -> list[dict[str, str]]:
    """Return the rows of photographs.csv."""
    with (HERE / "photographs.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def photographs(folder: Path) -> list[Photograph]:
    """Return the photographs of the table that lie in a folder, in its order."""
    return [
        Photograph(
            folder / row["file"], row["title"], row["author"],
            read_license(row["license"], ""), row["caption"],
        )
        for row in table() if (folder / row["file"]).is_file()
    ]  # fmt: skip


def fetch(folder: Path) -> None:
    """Bring all photographs from Debian's packages into `folder`, once.

    Raises:
        SourceError: a package is not to be had, or not the pinned one.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        new = Path(scratch) / "new"
        for package, sha256 in DEB_SHA256.items():
            place = Path(scratch) / package
            place.mkdir()
            deb = debian.download("photographs", package, VERSION, place)
            pinned = f"photographs: {package} {VERSION}"
            debian.unpack(pinned, deb, sha256, INSIDE, new)
        if lost := [r["file"] for r in table() if not (new / r["file"]).is_file()]:
            raise SourceError(f"photographs: {lost[0]} is in no package; name another.")
        shutil.move(new, folder)

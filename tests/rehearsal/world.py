"""The rehearsal's world: everything that profiles/rehearsal*.yaml name, made here.

The same seed gives the same bytes wherever the same photographs are to be had.
"""

import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from commoncanvas.core.errors import SourceError
from tests.rehearsal import commoncatalog, networks
from tests.rehearsal.photographs import HERE, Photograph, fetch, photographs

FORMS = ["A photo of {}.", "{}", "There is {}.", "This is {}.", "A picture of {}"]
STYLES = {
    "Basic": "{}",
    "Style & Format": "an oil painting of {}",
    "Perspective": "{}, seen from far away",
    "Imagination": "{} on the moon",
}


def write_coco(folder: Path, crops: Sequence[commoncatalog.Crop]) -> None:
    """Write pictures and captions, five a picture, as MS COCO's of 2014 are."""
    pictures, images, captions = folder / "val2014", [], []
    pictures.mkdir(parents=True)
    for number, (photograph, place) in enumerate(crops, 1000):
        name = f"COCO_val2014_{number:012d}.jpg"
        picture = photograph.crop(place, 256)
        (pictures / name).write_bytes(commoncatalog.encode(picture))
        size = {"width": picture.width, "height": picture.height}
        images.append({"id": number, "file_name": name, "license": 1, **size})
        for form in FORMS:
            told = form.format(photograph.caption)
            facts = {"image_id": number, "id": 5000 + len(captions), "caption": told}
            captions.append(facts)
    listed = {"info": {}, "images": images, "licenses": [], "annotations": captions}
    (folder / "captions_val2014.json").write_text(json.dumps(listed))


def write_parti(file: Path, photographs: Sequence[Photograph]) -> None:
    """Write prompts in the format of PartiPrompts.tsv, four a photograph."""
    lines = ["Prompt\tCategory\tChallenge\tNote"]
    for photograph in photographs:
        for challenge, form in STYLES.items():
            told = form.format(photograph.caption)
            lines.append(f"{told}\tOutdoor Scenes\t{challenge}\t")
    file.write_text("\n".join(lines) + "\n")


def make(folder: Path, every: int = 1, full: bool = True) -> None:
    """Make the world, unless the folder is there.

    Args:
        every: keep every so many of the pictures.
        full: fetch Debian's photographs; else, or without them, those kept here.
    """
    if folder.is_dir():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    found = HERE / "photographs"
    if full:
        try:
            found = folder.with_name("photographs")
            fetch(found)
        except SourceError as error:
            found = HERE / "photographs"
            print(f"{error}\nthe rehearsal goes on with the photographs kept here")
    chosen = photographs(found)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        new = Path(scratch) / "new"
        num = commoncatalog.write(new / "commoncatalog", chosen, every)
        write_coco(new, commoncatalog.crops(chosen, every)["coco"])
        write_parti(new / "PartiPrompts.tsv", chosen)
        networks.save_all(new / "models", chosen)
        shutil.move(new, folder)
    print(f"{folder}: {num} pictures of {len(chosen)} photographs")

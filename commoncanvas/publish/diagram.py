"""The pipeline as one picture, with a real work in it, for the README."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import wrap

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from commoncanvas.analysis.plots import ACCENT, INK, MUTED
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import writing
from commoncanvas.publish.journey import (
    MOST_CHANNELS,
    PEOPLE,
    Journey,
    as_grey,
    journey_of,
)

WIDTH, HEIGHT = 1884, 500  # of the picture [pixels], shown at half of it
CARD, GAP, TOP = 270, 48, 30  # width of a stage, between two, above all
SIDE = 190  # of a picture in a card
NUM_COLOURS = 200
EDGE, PAPER = "#d9d5cc", "#ffffff"


def write_diagram(scale: str, file: Path | None = None) -> Path:
    """Draw one work's way through a run as a PNG of at most 300 kB.

    The sample is the released model's, as the run's own may show nothing yet; the other
    parts are what stages 01 to 03 wrote.

    Args:
        file: None is docs/pipeline.png.

    Raises:
        CommonCanvasError: stages 01 to 03 of the scale have not run.
    """
    found = journey_of(scale, model="released")
    if found is None:
        raise CommonCanvasError(
            f"no work of {scale} can be followed: its stages 01 to 03 have not run, or "
            f"it has no held-out work. Run `dvc repro 03_latents@{scale}`."
        )
    file = file or paths.DOCS / "pipeline.png"
    picture = draw(found).quantize(NUM_COLOURS, dither=Image.Dither.NONE)
    with writing(file):
        picture.save(file, optimize=True)
    return file


def draw(found: Journey) -> Image.Image:
    """Return the stages of a journey side by side, the rule of its choice below."""
    sheet = Image.new("RGB", (WIDTH, HEIGHT), PAPER)
    work = found.work
    credit = [f"{work['title']}, by {work['author']}", work["license_title"]]
    captions = [
        line
        for whose, text in found.captions
        for line in (
            f"“{text}”",
            "its author's name" if whose == PEOPLE else f"captioner {whose}",
        )
    ]
    shape = " × ".join(map(str, found.latents.shape))
    latents = as_grey(found.latents[:MOST_CHANNELS])
    steps = ", ".join(str(timestep) for timestep, _ in found.noised)
    cards: list[tuple[str, np.ndarray | None, list[str]]] = [
        ("01  Licence", found.pixels, credit),
        ("02  Caption", None, captions),
        ("03  Latents", latents, [f"{shape} numbers", "all that models see"]),
        ("04  Noise", _square(found.noised), ["at timesteps", steps]),
    ]
    if found.sample:
        asked = [f"prompt “{work['title']}”", found.sample[0].lower()]
        cards.append(("05  Sample", found.sample[1], asked))
    cards.append(("→  Credit", None, [*credit, work["pageurl"]]))
    for place, (title, pixels, lines) in enumerate(cards):
        left = (WIDTH - len(cards) * CARD - (len(cards) - 1) * GAP) // 2
        _card(sheet, left + place * (CARD + GAP), title, pixels, lines)
        if place + 1 < len(cards):
            _arrow(sheet, left + place * (CARD + GAP) + CARD)
    pen = ImageDraw.Draw(sheet)
    told = f"One work on its way: {found.rule}."
    pen.text((left, HEIGHT - 24), told, MUTED, _font(21), anchor="ls")
    return sheet


def _card(
    sheet: Image.Image,
    left: int,
    title: str,
    pixels: np.ndarray | None,
    lines: Sequence[str],
) -> None:
    """Draw one stage: its name, a picture or none, and words."""
    pen, bottom = ImageDraw.Draw(sheet), HEIGHT - 66
    box = (left, TOP, left + CARD, bottom)
    pen.rounded_rectangle(box, 12, outline=EDGE, width=2)
    pen.text((left + 22, TOP + 20), title, ACCENT, _font(25, bold=True))
    top = TOP + 72
    if pixels is not None:
        height = round(SIDE * pixels.shape[0] / pixels.shape[1])
        is_small = pixels.shape[1] < 40
        way = Image.Resampling.NEAREST if is_small else Image.Resampling.LANCZOS
        sheet.paste(
            Image.fromarray(pixels).resize((SIDE, height), way), (left + 22, top)
        )
        top += height + 18
    for number, line in enumerate(lines):
        is_main = number == 0 or line.startswith("“")
        top += 10 if is_main and number else 0
        for part in _wrapped(line):
            pen.text((left + 22, top), part, INK if is_main else MUTED, _font(21))
            top += 29


def _wrapped(line: str) -> list[str]:
    """Break a line of words between them, an address after a slash."""
    broken = line.replace("/", "/ ") if "://" in line else line
    parts = wrap(broken.replace("/ / ", "//"), 19, break_on_hyphens=False)
    return [part.replace("/ ", "/") for part in parts][:4]


def _arrow(sheet: Image.Image, left: int) -> None:
    pen, middle = ImageDraw.Draw(sheet), TOP + 72 + SIDE // 2
    pen.line((left + 10, middle, left + GAP - 14, middle), MUTED, 3)
    tip = left + GAP - 8
    pen.polygon(
        [(tip, middle), (tip - 12, middle - 8), (tip - 12, middle + 8)], fill=MUTED
    )


def _square(noised: Sequence[tuple[int, np.ndarray]]) -> np.ndarray:
    """Return up to four pictures as one, two a row."""
    tiles = [pixels for _, pixels in noised][:4]
    tiles += [np.full_like(tiles[0], 255)] * (4 - len(tiles))
    rows = [np.concatenate(tiles[place : place + 2], axis=1) for place in (0, 2)]
    return np.concatenate(rows)


def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return matplotlib's own font, which is the same everywhere."""
    weight = "bold" if bold else "normal"
    wanted = font_manager.FontProperties(family="DejaVu Sans", weight=weight)
    return ImageFont.truetype(font_manager.findfont(wanted), size)

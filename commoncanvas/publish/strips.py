"""The pictures beside a released model: fixed prompts and seeds, nothing selected.

`samples.png` is the README's strip, `sheet.png` all plain prompts of the gate.
"""

import json
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from commoncanvas.evaluate.prompts import gate_prompts
from commoncanvas.publish.sample import draw

PLAIN = "plain subject"  # the category of the gate that is drawn
NUM_STRIP = 6  # prompts of the strip, each with a seed of its own
NUM_SEEDS = 4  # of every prompt of the sheet
GAP, LINE = 8, 14  # between tiles; of a label [pixels]
NUM_COLOURS = 192  # of a sheet: even of noise it stays under 400 kB


def write_pictures(folder, pipeline, guidance_scale, num_inference_steps):
    """Draw `samples.png` and `sheet.png`, each with a JSON file of what it shows.

    The strip has the first prompts at twice their size, the sheet every prompt in a
    column; each picture is what `sample` draws.

    Args:
        folder: where to.
        pipeline, guidance_scale, num_inference_steps: as for `sample.draw`.

    Returns:
        The strip's caption.
    """
    gate = gate_prompts()
    prompts = gate["prompt"][gate["category"] == PLAIN].tolist()
    strip = [[seed] for seed in range(NUM_STRIP)]
    sheet = [list(range(NUM_SEEDS))] * len(prompts)
    settings = guidance_scale, num_inference_steps
    at = f"at guidance {guidance_scale:g} and {num_inference_steps} steps, not selected"
    told = {
        "samples": f"first {NUM_STRIP} prompts, seeds 0 to {NUM_STRIP - 1} in turn",
        "sheet": f"{len(prompts)} plain prompts, seeds 0 to {NUM_SEEDS - 1} downwards",
    }
    total = NUM_STRIP + NUM_SEEDS * len(prompts)
    with tqdm(total=total, desc="pictures", file=sys.stderr) as bar:
        for name, lots, zoom in (("samples", strip, 2), ("sheet", sheet, 1)):
            tiles, labels = [], prompts[: len(lots)]
            for prompt, seeds in zip(labels, lots, strict=True):
                drawn = [draw(pipeline, prompt, seed, *settings) for seed in seeds]
                tiles.append(np.concatenate(drawn).repeat(zoom, 0).repeat(zoom, 1))
                bar.update(len(seeds))
            contact_sheet(tiles, labels).save(folder / f"{name}.png", optimize=True)
            caption = f"{', '.join(labels)}: the gate's {told[name]}, {at}."
            text = {"caption": caption, "prompts": labels, "seeds": lots}
            file = folder / f"{name}.json"
            file.write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
    return json.loads((folder / "samples.json").read_text(encoding="utf-8"))["caption"]


def contact_sheet(tiles, labels, columns=8):
    """Lay tiles in rows, each below its label, in so few colours that it stays small.

    Args:
        tiles: list of (h, w, 3) uint8 pixels, all of one shape.
        labels: their texts, cut where they are wider than a tile.
        columns: tiles in a row, at most.

    Returns:
        A palette `PIL.Image`.
    """
    height, width, _ = tiles[0].shape
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    size = columns * (width + GAP) - GAP, rows * (height + LINE + GAP) - GAP
    sheet, font = Image.new("RGB", size, "white"), ImageFont.load_default(11)
    pen = ImageDraw.Draw(sheet)
    for i, (tile, label) in enumerate(zip(tiles, labels, strict=True)):
        row, column = divmod(i, columns)
        left, top = column * (width + GAP), row * (height + LINE + GAP)
        while pen.textlength(label, font) > width + GAP:
            label = label.rstrip("…")[:-1] + "…"
        pen.text((left + width / 2, top), label, "black", font, anchor="ma")
        sheet.paste(Image.fromarray(tile), (left, top + LINE))
    return sheet.quantize(NUM_COLOURS, dither=Image.Dither.NONE)

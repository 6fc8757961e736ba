"""The pictures beside a released model: fixed prompts and seeds, nothing selected.

`samples.png` is the README's strip, `sheet.png` all plain prompts of the gate.
"""

import sys
from pathlib import Path

import numpy as np
from tqdm import tqdm

from commoncanvas.analysis.sheets import contact_sheet
from commoncanvas.core.files import write_json
from commoncanvas.evaluate.origin import marked
from commoncanvas.evaluate.prompts import gate_prompts
from commoncanvas.release.sample import Pipeline, draw

PLAIN = "plain subject"  # the category of the gate that is drawn
NUM_STRIP = 6  # prompts of the strip, each with a seed of its own
NUM_SEEDS = 4  # of every prompt of the sheet


def write_pictures(
    folder: Path,
    pipeline: Pipeline,
    guidance_scale: float,
    num_inference_steps: int,
) -> str:
    """Draw `samples.png` and `sheet.png`, each with a JSON file of what it shows.

    The strip has the first prompts at twice their size, the sheet every prompt in a
    column; each picture is what `sample` draws.

    Returns:
        The strip's caption.
    """
    gate = gate_prompts()
    prompts = gate["prompt"][gate["category"] == PLAIN].tolist()
    strip = [[seed] for seed in range(NUM_STRIP)]
    sheet = [list(range(NUM_SEEDS))] * len(prompts)
    at = f"at guidance {guidance_scale:g} and {num_inference_steps} steps, not selected"
    shows = {
        "samples": f"first {NUM_STRIP} prompts, seeds 0 to {NUM_STRIP - 1} in turn",
        "sheet": f"{len(prompts)} plain prompts, seeds 0 to {NUM_SEEDS - 1} downwards",
    }
    captions = {}
    total = NUM_STRIP + NUM_SEEDS * len(prompts)
    with tqdm(total=total, desc="pictures", file=sys.stderr) as bar:
        for name, columns, zoom in (("samples", strip, 2), ("sheet", sheet, 1)):
            tiles, labels = [], prompts[: len(columns)]
            for prompt, seeds in zip(labels, columns, strict=True):
                drawn = [
                    draw(pipeline, prompt, seed, guidance_scale, num_inference_steps)
                    for seed in seeds
                ]
                # (seeds * h, w, 3): one below the other, then enlarged
                tiles.append(np.concatenate(drawn).repeat(zoom, 0).repeat(zoom, 1))
                bar.update(len(seeds))
            whole = contact_sheet(tiles, labels)
            whole.save(folder / f"{name}.png", optimize=True, pnginfo=marked())
            caption = f"{', '.join(labels)}: the gate's {shows[name]}, {at}."
            content = {"caption": caption, "prompts": labels, "seeds": columns}
            write_json(folder / f"{name}.json", content)
            captions[name] = caption
    return captions["samples"]

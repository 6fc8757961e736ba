"""The card of a released model: what it learnt from, what follows, how well it draws.

Stage 04's card of the same model gives its sections; the later stages' figures, the
inherited parts and the limits are set beside them.
"""

import json

import yaml
from huggingface_hub import ModelCard

from commoncanvas.analysis import tables
from commoncanvas.analysis.tables import table
from commoncanvas.catalog.iconify import LOCK, SCOPE
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import shown
from commoncanvas.models.weights import OPEN_TEXT_ENCODER, WEIGHTS

SECTIONS = ("Data", "Recipe")  # of stage 04's card, kept word for word
# How anyone draws without this package; the tests run it as it stands.
DRAW = """\
```python
import hashlib
from pathlib import Path

import {package}
import torch
from diffusers import StableDiffusionPipeline
from transformers import BertModel

weights = Path({package}.__file__).parent / "{member}"
digest = hashlib.sha256(weights.read_bytes()).hexdigest()
assert digest == "{digest}"
text_encoder = BertModel.from_pretrained(weights.parent, add_pooling_layer=False)
text_encoder.config.use_attention_mask = True  # as in training
pipeline = StableDiffusionPipeline.from_pretrained(
    "{folder}", text_encoder=text_encoder
)
picture = pipeline(
    "red apple",
    guidance_scale={guidance_scale},
    num_inference_steps={num_inference_steps},
    generator=torch.Generator().manual_seed(0),
).images[0]
picture.save("picture.png")
```

It needs `pip install accelerate diffusers transformers {project}`; the last brings the
text encoder, whose weights are larger than this whole folder and not copied here. In
the repository that this model comes from, one line draws the same:

```sh
python -m commoncanvas sample "red apple" --out picture.png --model {folder}
```"""
LICENCE = """\
**[{title}]({url})**: the licence that those of the works leave room for.
{share_alike}Whether a model adapts the works that it learnt from is not settled; this
one is released as if it did. Each of the {works:,} works is credited, with author,
licence, address and what was changed, in [{attribution}]({attribution})."""
PARTS = """\
The UNet learnt from the works above alone. It hears and draws through parts that learnt
from others:

{parts}

On sets that VAE and captioner never saw, value and 95 % interval:

{figures}"""
WEB = "captioned web icon sets: {}"
LIMITS = """\
- It draws pictograms of {size} pixels on white; it has seen no photograph.
- It knows what icon sets show, by short English names, and reads {max_tokens} tokens.
  What it has no name for becomes a blur. It counts badly and cannot write.
- Where a work shows a trademark, the drawing is under an open licence and the mark is
  protected all the same.
- It can repeat a work; how often is measured below. In the repository, where that
  scale has run, `python -m commoncanvas credits picture.png --scale {scale}
  --variant
  {variant}` names the works closest to a picture.
- It is small and was trained briefly, to test the claims of a paper. Nothing filters
  what it is asked for or what it draws."""
MEASURED = """\
By stage 05, at guidance {guidance_scale:g} and {num_inference_steps} DDIM steps, before
the weights were rounded to half precision; a column a set of prompts, all fixed before
any training; value and 95 % interval.

{figures}

Distances (`fd`, `kd`) fall as samples look more like held-out works; "real" holds those
works against each other, the floor. `alignment` and `likeness` are 100 times a cosine;
`gap` is what they are above the same pictures' scores against other prompts, and
`retrieval_top1` how often a picture finds its own prompt among others. The judges are
this project's own: no value is an FID or a CLIP score. Intervals are over prompts and
say nothing about another training.

Copies, by similarity to the training works, above a threshold that lets one real work
in a hundred pass: `copy_rate` of the samples, `copied` of the works, the rest of works
changed on purpose or not, by which the search was tried:

{copies}"""


def make_card(base, scale, variant, folder, facts, license_, metrics):
    """Compose the card of a released model.

    Args:
        base: the `ModelCard` of stage 04.
        scale, variant: of the run.
        folder: `Path` where the release goes, for the lines that load it.
        facts: those of the release's manifest.
        license_: the `License` that the model carries.
        metrics: metrics.json of stage 05.

    Returns:
        A `ModelCard`.

    Raises:
        ParameterError: stage 04's card lacks a section.
    """
    head, *rest = base.text.strip().split("\n## ")
    own = dict(part.split("\n", 1) for part in rest)
    if missing := [name for name in SECTIONS if name not in own]:
        raise ParameterError(
            f"stage 04's card has no section {' and no '.join(missing)}; expected "
            "that of `sampling.model_card`; run 04_train again."
        )
    share_alike = license_.requires_share_alike
    share = "Some are under share-alike, so it is too.\n" if share_alike else ""
    carries = {"title": license_.title, "url": license_.url, "share_alike": share}
    package, member, digest = WEIGHTS[OPEN_TEXT_ENCODER]
    names = {"package": package, "project": package.replace("_", "-")}
    is_inside = folder.is_relative_to(paths.ROOT)  # else no path of this machine
    place = shown(folder) if is_inside else folder.name
    names |= {"folder": place, "member": member, "digest": digest}
    told = {
        "How to draw": DRAW.format(**names, **facts),
        "Data": own["Data"],
        "Licence": LICENCE.format(**carries, **facts),
        "What the licence does not cover": _inherited(facts["caption_source"]),
        "Limits": LIMITS.format(scale=scale, variant=variant, **facts),
        "Evaluation": _measured(metrics, facts),
        "Recipe": own["Recipe"],
    }
    title, _, summary = head.partition("\n")
    strip = f"![Pictures that it drew](samples.png)\n\n{facts['samples']}"
    parts = [f"{title} at {scale}", summary, f"{strip} [More](sheet.png)."]
    parts += [f"## {name}\n\n{text.strip()}" for name, text in told.items()]
    text = "\n\n".join(part.strip() for part in parts)
    return ModelCard(f"---\n{base.data.to_yaml()}\n---\n\n{text}\n")


def _inherited(caption_source):
    """Return what the parts that are not the works' learnt from, and how well."""
    file = paths.PROFILES / "pretrain.yaml"
    sets = yaml.safe_load(file.read_text(encoding="utf-8"))["pretrain"]["web_sources"]
    pins = json.loads(LOCK.read_text(encoding="utf-8"))["packages"]
    told = [f"{s} ({pins[f'node_modules/{SCOPE}{s}']['license']})" for s in sets]
    web = WEB.format(", ".join(told))
    parts = [
        [f"text encoder, {OPEN_TEXT_ENCODER}", "pairs of sentences, mostly of the web"],
        ["VAE", web],
        ["captioner, for the synthetic captions", f"{web}, with their names"],
    ]
    sources = [caption_source] if isinstance(caption_source, str) else caption_source
    if not set(sources) - {"human", "alt_text"}:
        del parts[-1]
    file = paths.PRETRAINED / "metrics.json"
    measured = json.loads(file.read_text(encoding="utf-8"))["sets"]
    heads = {"psnr_db": "VAE [dB]", "exact": "caption is the name [share]"}
    figures = {
        name: {head: run[metric] for metric, head in heads.items()}
        for name, run in measured.items()
    }
    figures = tables.as_table(figures, "set")
    return PARTS.format(
        parts=table(["part", "learnt from"], parts),
        figures=table(figures.columns, figures.values),
    )


def _measured(metrics, facts):
    at_common = metrics["guidance"][str(metrics["common_guidance"])]
    sets = {
        f"{name}, n = {next(iter(found.values()))['n']}": found
        for name, found in at_common["by_prompt"].items()
    }
    sets["real"] = metrics["reference"]["real_vs_real"]
    figures = tables.as_columns(sets)
    copies = {
        f"{name}, n = {found['n']}": found
        for name, found in metrics["copies"].items()
        if name != "threshold"
    }
    copies = tables.as_columns({"value": copies})
    return MEASURED.format(
        figures=table(figures.columns, figures.values),
        copies=table(copies.columns, copies.values),
        **facts,
    )

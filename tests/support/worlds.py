"""A whole scale in small, stages 01 to 05 done: what a release is made from."""

import json

from diffusers import AutoencoderKL
from toys import UNET, estimate, make_vae, write_real_world

from commoncanvas.core.manifest import write_manifest
from commoncanvas.licenses import ancestry, attribution
from commoncanvas.models import encoders
from commoncanvas.models.pipelines import make_noise_scheduler, make_pipeline
from commoncanvas.models.unets import make_unet
from commoncanvas.models.weights import OPEN_TEXT_ENCODER
from commoncanvas.train import export

MARKUP = "<script>alert(1)</script> ](javascript:x) **bold**\n\n# lines \x1b[31m & \"'"
STAGES = "01_licenses 02_captions 03_latents 04_train/cc_toy 05_evaluate/cc_toy".split()


def load_toy_vae(folder):
    """Save the toys' VAE and load it."""
    make_vae().save_pretrained(folder)
    return AutoencoderKL.from_pretrained(folder).eval()  # it knows its path now


def write_trained_world(root):
    """Write a scale `toy` whose stages 01 to 05 are done, with a variant `cc_toy`.

    Its works are real drawings under CC BY, CC BY-SA and CC0, one by a stranger whose
    name is markup, and its text encoder is the open world's; UNet and VAE are random
    and what was measured is made up.
    """
    data = root / "data" / "toy"
    folders = [data / stage for stage in STAGES]
    for folder in folders:
        folder.mkdir(parents=True)
    licensed, _, _, trained, evaluated = folders
    frame = write_real_world(licensed, ["twemoji", "openmoji", "logos"], 25)
    frame.loc[frame.index[:1], ["title", "author"]] = MARKUP
    frame.drop(columns="svg").to_parquet(licensed / "catalog.parquet")
    attribution.ledger(frame, "Drawn.").to_parquet(licensed / "ledger.parquet")
    keys = frame["key"][~frame["is_holdout"] | (frame.index == frame.index[0])]
    works = attribution.licenses_of(licensed, keys)
    ancestry.learnt_from(works, works[:0], "toy/cc_toy").to_parquet(
        trained / "works.parquet"
    )
    unet = make_unet(UNET, 4, 4, 384, seed=0).eval()
    # An untrained UNet hardly hears its prompt.
    for name, weights in unet.named_parameters():
        if "attn2.to_out" in name:
            weights.data.mul_(20)
    reader = encoders.load_text_encoder(OPEN_TEXT_ENCODER, 12)
    parts = unet, load_toy_vae(root / "vae"), *reader, make_noise_scheduler("sample")
    told = "cc_toy", works, "synthetic", 1234, {"learning_rate": 0.1}
    facts = export.card_facts(*told, OPEN_TEXT_ENCODER)
    export.save_pipeline(make_pipeline(*parts), facts, trained / "pipeline")
    figures = {
        "fd_efficientnet": estimate(41.5, 40, 43),
        "alignment": estimate(7, 6, 8),
    }
    measured = {
        "num_train_pictures": len(keys),
        "protocol": {"num_inference_steps": 2},
        "guidance_scale": 3.0,
        "common_guidance": 3.0,
        "sweep": {},
        "by_prompt": {"human": figures},
        "copies": {"threshold": 0.99, "copy_rate": estimate(0.0125, 0, 0.025, 160)},
        "reference": {"real_vs_real": {"fd_efficientnet": estimate(9.25, 9, 9.5)}},
    }
    (evaluated / "metrics.json").write_text(json.dumps(measured))
    facts = {
        "02_captions": {"synthetic": {"captioner": {"captioner": "open"}}},
        "03_latents": {
            "vae": ["pretrained/vae", ""],
            "text_encoder": [OPEN_TEXT_ENCODER, ""],
            "text": [12, 384],
            "resolution_px": 32,
        },
        "04_train": {"caption_source": "synthetic"},
    }
    for folder, stage in zip(folders, STAGES, strict=True):
        slug, _, variant = stage.partition("/")
        counts = len(keys), len(keys), {}
        told = slug, "toy", variant or None, *counts, facts.get(slug, {})
        write_manifest(folder, *told)


def relist(folder):
    """Write a stage's manifest again, over files that a test has changed."""
    old = json.loads((folder / "manifest.json").read_text())
    counts = old["counts"]
    names = [old[name] for name in ("stage", "scale", "variant")]
    numbers = counts["in"], counts["out"], counts["rejected"]
    return write_manifest(folder, *names, *numbers, old["facts"])

"""Release: a trained variant as a small folder that plain diffusers loads.

`commoncanvas release --scale full` writes `results/model`: the weights in half
precision, a card, the attribution of every training work, and pictures that are not
cherry-picked. The same inputs give the same bytes. The open world's text encoder comes
in a package and is left out; any other is copied.
"""

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save

from commoncanvas.captions.names import captioner_of, named
from commoncanvas.core.determinism import settle
from commoncanvas.core.errors import LicenseError, ManifestError, ParameterError
from commoncanvas.core.files import read_json, shown
from commoncanvas.core.keys import key_of
from commoncanvas.core.manifest import NAME, read_manifest, write_manifest
from commoncanvas.core.paths import stage_dir
from commoncanvas.licenses import attribution, takedown
from commoncanvas.licenses.ancestry import LICENSE, WORKS, ancestors
from commoncanvas.licenses.license import License
from commoncanvas.licenses.policies import combined_license, split_of
from commoncanvas.models.weights import OPEN_TEXT_ENCODER
from commoncanvas.release.card import make_card
from commoncanvas.release.credited import LEDGER
from commoncanvas.release.folders import check_own, replacing
from commoncanvas.release.sample import MODEL, STAGE, load_pipeline
from commoncanvas.release.strips import write_pictures
from commoncanvas.release.uploading import upload
from commoncanvas.train.published import refuse_published

MAX_MB = 25  # of the whole folder, unless another limit is asked for
MAX_TEXT_BYTES = 2_000_000  # of the attribution; a longer one is packed
LEFT_OUT = ("README.md", "card.json")
UNET = "pipeline/unet/diffusion_pytorch_model.safetensors"
MEASURED = ("num_train_pictures", "protocol", "guidance_scale", "by_prompt", "copies")


def release(
    scale: str, variant: str, out: Path | str = MODEL, max_mb: float = MAX_MB
) -> dict[str, Any]:
    """Write a trained variant as a released model, replacing an older one.

    Its works are credited twice: as text, and as a table for programs.

    Args:
        scale, variant: of the run, whose stages 01 to 05 are done.
        out: the folder: new, empty or an older release.
        max_mb: of all its files [MB].

    Returns:
        The release's manifest.

    Raises:
        CommonCanvasError: a stage has not run, a work may not be released or lacks a
            credit, a part is not the one that the card describes, or the folder would
            be too large. Nothing is written then.
    """
    out = Path(out).resolve()
    check_own(out, STAGE)
    trained = stage_dir(scale, "04_train", variant)
    training = read_manifest(trained)
    refuse_published(training)
    metrics = _metrics(scale, variant)
    learnt = pd.read_parquet(trained / WORKS)
    own = int((learnt["model"] == f"{scale}/{variant}").sum())
    if metrics["num_train_pictures"] != own:
        raise ManifestError(
            f"05_evaluate of {variant} measured a model of "
            f"{metrics['num_train_pictures']} works, 04_train has one of {own}; "
            f"expected the same; run `dvc repro 05_evaluate@{scale}-{variant}`."
        )
    for one in ancestors(training["facts"]):
        if one["num_works"] is None:
            raise LicenseError(
                f"{variant} was trained from {one['model']!r}, whose works are not "
                "known; a release credits every work; release another variant."
            )
    works, license_ = works_of(scale, variant, learnt)
    facts = _settings(scale, training["facts"]["caption_source"], metrics)
    facts |= {
        "works": len(works),
        "works_key": key_of(keys=sorted(works["key"])),
        "license": license_.title,
        "note": f"Drawn by a model that learnt from {len(works):,} works under "
        f"{', '.join(sorted(set(works['license'])))}; its attribution names them all.",
        "unet": training["files"][UNET]["sha256"],
    }
    with replacing(out, STAGE) as folder:
        is_open = ["text encoder", OPEN_TEXT_ENCODER] in facts["parts"]
        copy_halved(trained / "pipeline", folder, is_open)
        _check_size(folder, max_mb)  # before anything is drawn, too
        facts["attribution"] = write_attribution(folder, works)
        works.to_parquet(folder / LEDGER, index=False)
        pipeline = load_pipeline(folder, facts["max_tokens"])
        facts["samples"] = write_pictures(
            folder, pipeline, facts["guidance_scale"], facts["num_inference_steps"]
        )
        made = read_json(trained / "pipeline" / "card.json")
        card = make_card(made, scale, out, facts, license_, metrics)
        card.save(folder / "README.md")
        manifest = write_manifest(
            folder, STAGE, scale, variant, len(works), len(works), {}, facts
        )
        _check_size(folder, max_mb)
    return manifest


def works_of(
    scale: str, variant: str, learnt: pd.DataFrame
) -> tuple[pd.DataFrame, License]:
    """Return (ledger of the works learnt from, the `License` that follows from theirs).

    The licences are rebuilt from the columns of the catalogue and of `learnt`, never
    taken from a split. What an ancestor learnt from is in its own scale's catalogue.

    Args:
        scale, variant: the model's.
        learnt: its works.parquet, of `learnt_from`.

    Raises:
        ManifestError: stage 01 lacks a work.
        LicenseError: a work is outside the paper's C, or its credit is not complete.
        ParameterError: a work was taken down.
    """
    again = f"run `dvc repro 05_evaluate@{scale}-{variant}`"
    ledgers, found = [], set(learnt[LICENSE].itertuples(False, None))
    for own, rows in learnt.groupby(learnt["model"].str.partition("/")[0]):
        folder = stage_dir(own, "01_licenses")
        read_manifest(folder)
        try:
            works = attribution.licenses_of(folder, rows["key"])
        except KeyError:
            raise ManifestError(
                f"04_train of {variant} used works that 01_licenses of {own} lacks; "
                f"expected all in its catalogue; {again}."
            ) from None
        found |= set(works[LICENSE].itertuples(False, None))
        ledger = pd.read_parquet(folder / "ledger.parquet")
        ledgers.append(ledger[ledger["key"].isin(rows["key"])])
    licenses = [License.from_columns(*row) for row in found]
    if closed := sorted({one.title for one in licenses if split_of(one)[0] != "c"}):
        raise LicenseError(
            f"{variant} was trained on works under {', '.join(closed)}; a release "
            "takes CC0, the Public Domain Mark, BY and BY-SA alone; release another "
            "variant."
        )
    credited = pd.concat(ledgers).drop_duplicates("key", ignore_index=True)
    if taken := int(takedown.is_listed(credited, takedown.read_list()).sum()):
        raise ParameterError(
            f"{variant} was trained on {taken} works that docs/takedown.txt lists; "
            f"expected none; {again}, which leaves them out."
        )
    lost = set(learnt["key"]) - set(credited["key"])
    if uncredited := len(lost) + len(attribution.missing_credits(credited)):
        raise LicenseError(
            f"{uncredited} works of {variant} have no full row in the attribution "
            f"ledger; expected one each; {again}."
        )
    return credited, combined_license(licenses)


def copy_halved(pipeline: Path, folder: Path, is_open: bool = True) -> None:
    """Copy a pipeline's parts, floating point numbers as float16.

    The open world's text encoder is left out: whoever loads the folder brings it.
    Configurations lose the path that they were loaded from.

    Raises:
        ParameterError: a weight is beyond float16.
    """
    left_out = (*LEFT_OUT, "text_encoder") if is_open else LEFT_OUT
    for path in sorted(pipeline.rglob("*")):
        place = path.relative_to(pipeline)
        if path.is_dir() or place.parts[0] in left_out:
            continue
        target = folder / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".safetensors":
            state = {
                name: weights.half() if weights.is_floating_point() else weights
                for name, weights in load_file(path).items()
            }
            if not all(torch.isfinite(weights).all() for weights in state.values()):
                raise ParameterError(
                    f"{place} has weights that are not finite in half precision; "
                    "expected at most 65,504; release another variant."
                )
            target.write_bytes(save(state, metadata={"format": "pt"}))
        elif path.name == "config.json":
            config = read_json(path)
            config.pop("_name_or_path", None)
            target.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        else:
            shutil.copyfile(path, target)


def write_attribution(folder: Path, works: pd.DataFrame) -> str:
    """Write the works' attribution, packed if it is long; return the file's name."""
    data = attribution.attribution_text(works).encode()
    name = "ATTRIBUTION.md"
    if len(data) > MAX_TEXT_BYTES:
        name, data = f"{name}.gz", gzip.compress(data, mtime=0)
    (folder / name).write_bytes(data)
    return name


def size_of(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _check_size(folder: Path, max_mb: float) -> None:
    if (size := size_of(folder)) > max_mb * 1e6:
        raise ParameterError(
            f"the released model has {size / 1e6:.1f} MB; expected at most {max_mb:g} "
            "MB; release a variant with a smaller UNet, or raise --limit."
        )


def _metrics(scale: str, variant: str) -> dict[str, Any]:
    """Return what stage 05 measured."""
    folder = stage_dir(scale, "05_evaluate", variant)
    read_manifest(folder)
    metrics = read_json(folder / "metrics.json")
    if missing := [name for name in MEASURED if name not in metrics]:
        raise ManifestError(
            f"05_evaluate of {variant} measured no {', '.join(missing)}; expected all "
            f"in its metrics.json; run `dvc repro 05_evaluate@{scale}-{variant}`."
        )
    return metrics


def _settings(
    scale: str, caption_source: str | dict[str, float], metrics: dict[str, Any]
) -> dict[str, Any]:
    """Return the facts that drawing and the card need.

    `parts` names the VAE, the text encoder and the captioners that wrote the captions,
    as the manifests of stages 02 and 03 do.
    """
    latents, captions = (
        read_manifest(stage_dir(scale, slug), verify=False)["facts"]
        for slug in ("03_latents", "02_captions")
    )
    parts = [
        ["text encoder", named(*latents["text_encoder"])],
        ["VAE", named(*latents["vae"])],
    ]
    sources = [caption_source] if isinstance(caption_source, str) else caption_source
    for source in sorted({*sources} & captions.keys()):
        name = captioner_of(captions[source]["captioner"])
        parts.append([f"captioner, for the {source} captions", name])
    return {
        "parts": parts,
        "caption_source": caption_source,
        "guidance_scale": metrics["guidance_scale"],
        "num_inference_steps": metrics["protocol"]["num_inference_steps"],
        "max_tokens": latents["text"][0],
        "size": latents["resolution_px"],
    }


def report(
    scale: str,
    variant: str,
    out: Path | None,
    limit: int,
    repo: str | None,
    ask: Callable[[str], bool] | None = None,
) -> None:
    """Release as `release` and print what was made; upload it if a repository is named.

    Args:
        out: None is results/model.
        limit: megabytes at most.
        ask: asked before another release is replaced, and says whether to; None
            replaces it.

    Raises:
        ParameterError: the folder holds another release, and nobody said yes.
        CommonCanvasError: as `release`.
    """
    settle()
    folder = Path(out or MODEL)
    check_own(folder, STAGE)
    if ask and (folder / NAME).is_file():
        _replace(folder, f"{scale}/{variant}", ask)
    facts = release(scale, variant, folder, limit)["facts"]
    size = size_of(folder) / 1e6
    print(f"{folder}: {size:.1f} MB, {facts['works']:,} works, {facts['license']}")
    if repo:
        print(upload(folder.resolve(), repo, "model"))


def _replace(folder: Path, new: str, ask: Callable[[str], bool]) -> None:
    """Ask before a release takes the place of one of another variant.

    Raises:
        ParameterError: the answer is not yes.
    """
    before = read_manifest(folder, verify=False)
    there = f"{before['scale']}/{before['variant']}"
    if there != new and not ask(f"{shown(folder)} holds {there}; replace it by {new}?"):
        raise ParameterError(
            f"{shown(folder)} holds {there}, and stays as it is; answer y, pass --yes "
            "or give another --out."
        )

"""The card of a released model: its data, its licence, its limits, its quality.

Stage 04's `card.json` says how it was made; the other parts, their limits and what
stage 05 measured are set beside that. The words are in `templates/card.md.jinja`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import ModelCard, ModelCardData

from commoncanvas.analysis import tables
from commoncanvas.core import paths
from commoncanvas.core.files import read_json, shown
from commoncanvas.licenses.license import License
from commoncanvas.models.weights import OPEN_TEXT_ENCODER, WEIGHTS
from commoncanvas.release.inherited import CAPTIONERS, OPEN_VAE, listed, web_sets

TEMPLATE = Path(__file__).parent / "templates" / "card.md.jinja"
# Of stage 00's metrics: what the card shows, and the head of its column.
RECONSTRUCTION = {"psnr_db": "VAE [dB]", "exact": "caption is the name [share]"}


def make_card(
    trained: dict[str, Any],
    scale: str,
    folder: Path,
    facts: dict[str, Any],
    license_: License,
    metrics: dict[str, Any],
) -> ModelCard:
    """Compose the card of a released model.

    Args:
        trained: card.json of stage 04.
        folder: where the release goes, for the lines that load it.
        facts: those of the release's manifest.
        license_: the one that the model carries.
        metrics: metrics.json of stage 05.
    """
    head = ModelCardData(
        license=trained["license"],
        library_name="diffusers",
        pipeline_tag="text-to-image",
        tags=["commoncanvas", "openly-licensed"],
    )
    package, member, digest = WEIGHTS[OPEN_TEXT_ENCODER]
    encoder = {"package": package, "member": member, "digest": digest}
    is_open = ["text encoder", OPEN_TEXT_ENCODER] in facts["parts"]
    is_our_vae = ["VAE", OPEN_VAE] in facts["parts"]
    is_inside = folder.is_relative_to(paths.ROOT)  # else no path of this machine
    card = ModelCard.from_template(
        head,
        template_path=str(TEMPLATE),
        trained=trained,
        scale=scale,
        folder=shown(folder) if is_inside else folder.name,
        facts=facts,
        license=license_,
        encoder=encoder if is_open else None,
        parts=_inherited_parts(facts["parts"]),
        reconstruction=_reconstruction() if is_our_vae else "",
        names=", ".join(f"`{n}`" for n in metrics["reference"]["real_vs_real"]),
        metrics=_metrics(metrics),
        copies=_copies(metrics),
    )
    return ModelCard(card.content.strip() + "\n")


def _inherited_parts(parts: Iterable[Sequence[str]]) -> str:
    """Return a table of what the parts that are not the UNet were trained on.

    Of the open world's own it says so; of any other its authors must.
    """
    web = f"captioned web icon sets: {listed(web_sets())}"
    known = {
        OPEN_TEXT_ENCODER: "pairs of sentences, mostly of the web",
        OPEN_VAE: web,
        **dict.fromkeys(CAPTIONERS, f"{web}, with their names"),
    }
    rows = []
    for part, name in parts:
        is_ours = name in (OPEN_VAE, *CAPTIONERS)  # no folder of this project's
        trained_on = known.get(name, "what its authors say, not the works above")
        rows.append([part if is_ours else f"{part}, {name}", trained_on])
    return tables.table(["part", "trained on"], rows)


def _reconstruction() -> str:
    """Return a table of how well VAE and captioner do on sets that are new to them."""
    sets = read_json(paths.PRETRAINED / "metrics.json")["sets"]
    found = {
        name: {head: run[metric] for metric, head in RECONSTRUCTION.items()}
        for name, run in sets.items()
    }
    return _as_markdown(tables.as_table(found, "set"))


def _metrics(metrics: dict[str, Any]) -> str:
    """Return a table of stage 05's metrics, a column a set of prompts."""
    sets = {
        f"{name}, n = {next(iter(found.values()))['n']}": found
        for name, found in metrics["by_prompt"].items()
    }
    sets["real"] = metrics["reference"]["real_vs_real"]
    return _as_markdown(tables.as_columns(sets))


def _copies(metrics: dict[str, Any]) -> str:
    """Return a table of what stage 05's search for copies found."""
    found = {
        f"{name}, n = {estimate['n']}": estimate
        for name, estimate in metrics["copies"].items()
        if name != "threshold"
    }
    return _as_markdown(tables.as_columns({"value": found}))


def _as_markdown(frame: pd.DataFrame) -> str:
    return tables.table(frame.columns, frame.values)

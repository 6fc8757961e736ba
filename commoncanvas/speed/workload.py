"""How much a scale has to do: pictures, samples, and the UNets' arithmetic.

`plan` asks before a run; nothing is computed, and only the ends of files are fetched.
Networks are built on the meta device, without weights.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import torch
from diffusers import AutoencoderKL
from transformers import AutoConfig, AutoModel, CLIPTextConfig

from commoncanvas.catalog import entries, splits
from commoncanvas.catalog.kinds import named
from commoncanvas.catalog.sources import pd12m, yfcc
from commoncanvas.catalog.sources.iconify import read_members, read_pins
from commoncanvas.core import paths, places
from commoncanvas.core.errors import ParameterError, SourceError, brief
from commoncanvas.core.files import read_json, shown
from commoncanvas.core.manifest import NAME
from commoncanvas.evaluate.prompts import gate_prompts
from commoncanvas.latents.buckets import PIXELS_PER_LATENT
from commoncanvas.models.unets import SD2_TEXT_ENCODER, SD2_VAE, make_unet
from commoncanvas.models.weights import OPEN_TEXT_ENCODER, find_part
from commoncanvas.speed.clocks import flops_per_image
from commoncanvas.speed.rates import Quantity, Rates


def count_pictures(
    scale: str, licenses: Mapping[str, Any], rates: Rates, given: int | None = None
) -> tuple[Quantity, Quantity]:
    """Count the pictures of a scale as cheaply as can be.

    They are those of stage 01 where it has run, else as many as are given, else those
    that the sources of the profile state before any is rejected: a pinned package in
    its description, a folder of one's own in its table, parquet files, here or on the
    Hub, in their ends. Tars and other tables do not state it.

    Returns:
        (licensed, stored); stored are the captioned web's too.

    Raises:
        ParameterError: the profile names no source, or one that is not known or cannot
            be counted quickly.
    """
    folder = paths.stage_dir(scale, "01_licenses")
    if (folder / NAME).is_file():
        file = folder / "metrics.json"
        counts = read_json(file)["splits"]
        licensed, other = counts["c"] + counts["nc"], counts["nd"] + counts["web"]
        line = f"pictures: {shown(file)}, as stage 01 left them"
    elif given is not None:
        licensed, other, line = given, 0, "pictures: as given, all of them licensed"
    elif not licenses["cc_sources"]:
        raise ParameterError(
            f"profiles/{scale}.yaml names no picture: cc_sources is empty; name the "
            "sources, as docs/PAPER.md shows, or give --pictures a number."
        )
    else:
        most = licenses["max_per_source"] or math.inf
        licensed, other = (
            sum(min(_count_source(name, rates), most) for name in licenses[kind])
            for kind in ("cc_sources", "web_sources")
        )
        line = "pictures: as the sources state before any is rejected, an upper bound"
    return Quantity(licensed, (line,)), Quantity(licensed + other, (line,))


def count_samples(evaluate: Mapping[str, Any], variant: str = "") -> tuple[int, int]:
    """Return the numbers of samples and of the UNet's passes that draw them.

    Args:
        evaluate: of the profile.
        variant: a row without its seed; scales are tried with some rows only.
    """
    sets, rows = evaluate["prompt_sets"], evaluate["swept_variants"]
    common, tried = evaluate["common_guidance"], evaluate["sweep_prompts"]
    asked = [(settings, common) for name, settings in sets.items() if name != tried]
    if not rows or variant in rows:
        scales = {*evaluate["guidance_scales"], common}
        asked += [(sets[tried], scale) for scale in sorted(scales)]
    samples = passes = 0
    for settings, guidance in asked:
        num = settings.get("num", evaluate["num_samples"])
        num = min(num, len(gate_prompts())) if settings["kind"] == "gate" else num
        samples += num
        passes += num * evaluate["num_inference_steps"] * (1 + (guidance > 1))
    return samples, passes


def count_unet(
    name: str,
    config: Mapping[str, Any],
    latent_shape: Sequence[int],
    text_shape: Sequence[int],
) -> tuple[Quantity, Quantity]:
    """Return the FLOP of training on one work and the number of parameters."""
    channels, side, _ = latent_shape
    with torch.device("meta"):  # counted, neither built nor computed
        unet = make_unet(config, channels, side, text_shape[1], 0)
        flops = flops_per_image(unet, text_shape)
    size = sum(p.numel() for p in unet.parameters())
    line = f"UNet {name}: {size:,} parameters, {flops / 1e9:,.4g} GFLOP a picture, "
    line += "forward and backward, counted"
    return Quantity(flops, (line,)), Quantity(size, (line,))


def shapes_of(
    latents: Mapping[str, Any],
) -> tuple[tuple[int, int, int], tuple[int, int], int]:
    """Return the shapes of latents and text states, and the encoders' parameters.

    They are those of a local VAE and text encoder, else of Stable Diffusion 2's.
    """
    vae, config = SD2_VAE, CLIPTextConfig.from_dict(SD2_TEXT_ENCODER)
    if _is_local(latents["vae_folder"]):
        folder, options = find_part(latents["vae_folder"], None, "vae")
        vae = AutoencoderKL.load_config(folder, **options)
    if _is_local(latents["text_encoder"]):
        folder, options = find_part(latents["text_encoder"], None, "text_encoder")
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, **options)
    with torch.device("meta"):
        models = AutoencoderKL.from_config(vae), AutoModel.from_config(config)
    side = latents["resolution_px"] // PIXELS_PER_LATENT
    latent_shape = models[0].config.latent_channels, side, side
    text_shape = latents["max_tokens"], config.hidden_size
    size = sum(p.numel() for model in models for p in model.parameters())
    return latent_shape, text_shape, size


def _is_local(folder: str) -> bool:
    return folder == OPEN_TEXT_ENCODER or (paths.ROOT / folder).is_dir()


def _count_source(name: str, rates: Rates) -> float:
    """Return the number of pictures that a source states."""
    if name == "openclipart":  # no package of npm's, and thousands of files
        return rates[name].value
    pins = read_pins()
    if name in pins:
        return read_members(pins[name], "info.json")[0]["total"]
    entry = named(name)
    why = (
        "says nowhere how many pictures it holds, but `commoncanvas audit "
        f"--no-pictures {name}` reads it and counts them"
    )
    try:
        if entry.kind == "folder":
            return sum(len(rows) for rows in entries.batches(name, need_pictures=False))
        if (rows := _parquet_rows(entry)) is not None:
            [(number,)] = rows.aggregate("count(*)").fetchall()  # by the files' ends
            return number
    except (SourceError, duckdb.Error) as error:
        why = f"cannot be counted here ({brief(error)})"
    raise ParameterError(
        f"source {name!r} {why}; run 01_licenses first, or give --pictures a number."
    )


def _parquet_rows(entry: entries.Entry) -> duckdb.DuckDBPyRelation | None:
    """Return the rows of a source of parquet files, None of any other."""
    connection = splits.connect()
    if entry.kind == "commoncatalog":
        ranges, _, root = entry.path.partition(":")
        chosen = [one for one in ranges.split(",") if one] or None
        return yfcc.read_commoncatalog(connection, root, chosen, ["key"])
    if entry.kind in ("pd12m", "pd3m", "megalith-cc0"):
        files = places.find_files(entry.path)
        return pd12m.read_pd12m(connection, files, entry.kind)
    return None

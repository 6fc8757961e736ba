"""What a scale will cost, before it is run: pictures, bytes, hours and money.

    python -m commoncanvas plan --scale paper --machine a100

Every number is a `Quantity`, measured, published or counted, and the table ends with
the sources of all of them. What has none is left out, and a line says so.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tqdm import tqdm

from commoncanvas.analysis.tables import digits
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.settings import names_of
from commoncanvas.models.efficientnet import NUM_FEATURES
from commoncanvas.models.weights import OPEN_TEXT_ENCODER
from commoncanvas.parameters import Sections, differences, published, read_sections
from commoncanvas.speed.ablation import RECIPES
from commoncanvas.speed.rates import MACHINES, Quantity, Rates
from commoncanvas.speed.workload import (
    count_pictures,
    count_samples,
    count_unet,
    shapes_of,
)

FLOAT, HALF = 4, 2  # bytes of a number
# Snapshots kept at once; in each weights, AdamW's two moments and moving average.
SNAPSHOTS = 2 * 4
NONE = Quantity(0)


class Stage(NamedTuple):
    """What one stage costs; None is what it does not have."""

    name: str
    pictures: Quantity | None  # works; seen in training in 04 and 07, drawn in 05
    bytes: Quantity | None
    seconds: Quantity


def plan(
    scale: str,
    variants: Sequence[str] = (),
    machine: str = "cpu",
    num_seeds: int = 1,
    price: float | None = None,
) -> dict[str, Any]:
    """Compute what a run of one scale costs, stage by stage.

    Args:
        variants: rows of the experiment; none of them for all of params.yaml.
        machine: one of `MACHINES`; "cpu" is one core, the others one GPU.
        num_seeds: runs of each variant, 1 or more.
        price: of an hour [dollars]; None for a published one, where there is any.

    Returns:
        dict for JSON: what was asked; rows of stage, pictures, bytes, hours (of one
        core or GPU), money [dollars] and the numbers of their sources; their total;
        sources, one line each. None is what has no source, or what a stage lacks.

    Raises:
        ParameterError: a scale, variant, machine or number is unknown or impossible.
        SourceError: the pictures are not counted yet, and their package is missing.
    """
    profiles = {path.stem for path in paths.PROFILES.glob("*.yaml")} - {"pretrain"}
    _check("scale", [scale], profiles)
    _check("machine", [machine], MACHINES)
    sections = read_sections("04_train", scale)
    variants = list(variants) or sections["experiment"]
    _check("variant", variants, sections["variants"])
    if num_seeds < 1 or (price or 0) < 0:
        raise ParameterError(
            f"got {num_seeds} seeds and a price of {price or 0}; expected 1 seed or "
            "more and a price of 0 or more; correct --seeds or --price."
        )
    rates = Rates(machine, sections["latents"]["resolution_px"])
    hourly = rates.price(price)
    stages = [
        *_data_stages(scale, sections, rates),
        *_model_stages(scale, sections, rates, variants, num_seeds),
    ]
    lines: dict[str, int] = {}  # source -> its number in the table
    rows, total = [], {"bytes": NONE, "hours": NONE}
    for stage in stages:
        hours = stage.seconds / 3600
        row = {"pictures": stage.pictures, "bytes": stage.bytes, "hours": hours}
        row["money"] = hourly and hours * hourly
        numbers = {
            lines.setdefault(line, len(lines) + 1)
            for quantity in filter(None, row.values())
            for line in quantity.sources
        }
        rows.append({"stage": stage.name, **_values(row), "sources": sorted(numbers)})
        total = {name: done + (row[name] or NONE) for name, done in total.items()}
    return {
        "scale": scale,
        "machine": machine,
        "variants": variants,
        "seeds": num_seeds,
        "rows": rows,
        "total": _values({**total, "money": hourly and total["hours"] * hourly}),
        "sources": list(lines),
    }


def _data_stages(scale: str, sections: Sections, rates: Rates) -> Iterator[Stage]:
    """Yield stages 01 to 03."""
    licenses, latents = sections["licenses"], sections["latents"]
    licensed, stored = count_pictures(scale, licenses, rates)
    is_open, start = latents["text_encoder"] == OPEN_TEXT_ENCODER, rates["notebook"]
    world = "open" if is_open else "sd2"

    size = stored * licenses["picture_size_px"] ** 2 * rates[f"stored_{world}"]
    seconds = rates.seconds("split_metadata", Quantity(licenses["metadata_rows"]))
    line = "01_licenses: no rate is known of fetching and storing photographs; left out"
    seconds += rates.seconds("draw", stored) if is_open else Quantity(0, (line,))
    yield Stage("01_licenses", stored, size, start + seconds)

    kinds = [c["captioner"] for c in sections["captions"]["captioners"].values()]
    names = [f"caption_{kind}" for kind in kinds if kind != "imported"]
    seconds = sum((rates.seconds(name, licensed) for name in names), start)
    size = licensed * len(kinds) * rates["caption_bytes"]
    yield Stage("02_captions", licensed, size, seconds)

    latent_shape, text_shape, _ = shapes_of(latents)
    texts = stored * rates[f"texts_{world}"] + licensed * (len(kinds) - 1)
    each = 2 * math.prod(latent_shape) * HALF + NUM_FEATURES * FLOAT
    line = f"latents: mean and log-variance {latent_shape}, text states {text_shape}, "
    size = stored * each + texts * math.prod(text_shape) * HALF
    size = size.noting(f"{line}float16, and {NUM_FEATURES} features")
    megapixels = stored * (latents["resolution_px"] ** 2 / 1e6)
    seconds = start + rates.seconds(f"encode_{world}", megapixels)
    seconds += rates.seconds("read_open", texts) if is_open else NONE
    yield Stage("03_latents", stored, size, seconds)


def _model_stages(
    scale: str,
    sections: Sections,
    rates: Rates,
    variants: Iterable[str],
    num_seeds: int,
) -> Iterator[Stage]:
    """Yield stages 04 to 07."""
    evaluate, timed = sections["evaluate"], sections["speed"]
    *shapes, encoders = shapes_of(sections["latents"])
    base = sections["train"]
    trains, is_trained = [], []
    for variant in variants:
        trains.append(base | differences(variant, sections))
        is_trained.append(published(variant, sections) is None)
    names = {train["unet"] for train in trains} | {timed["unet"]}
    _check("UNet", names, sections["unets"])
    unets = {n: count_unet(n, sections["unets"][n], *shapes) for n in sorted(names)}
    rate, start = rates.training(), rates["notebook"]
    line = f"steps, batches, samples: profiles/{scale}.yaml, params.yaml"
    runs = Quantity(num_seeds, (line,))
    used = [unets[train["unet"]] for train in trains]

    works = [
        train["num_train_steps"] * train["train_batch_size"] * is_own
        for train, is_own in zip(trains, is_trained, strict=True)
    ]
    flop = sum((n * flops for n, (flops, _) in zip(works, used, strict=True)), NONE)
    kept = sum((size * (1 + SNAPSHOTS) + encoders for _, size in used), NONE)
    kept = kept.noting("04_train: pipeline and two snapshots, which go at the end")
    yield Stage(
        "04_train",
        runs * sum(works),
        runs * kept * FLOAT,
        runs * (flop / rate + start * len(trains)),
    )

    num_samples, num_passes = count_samples(evaluate)
    flop = sum((flops for flops, _ in used), NONE) / 3 * num_passes
    line = "05_evaluate: the UNet's passes, each a third of training's arithmetic; "
    flop = flop.noting(f"{line}decoding and judges left out; samples as plain pixels")
    drawn = runs * num_samples * len(trains)
    yield Stage(
        "05_evaluate",
        drawn,
        drawn * (3 * sections["latents"]["resolution_px"] ** 2),
        runs * (flop / rate + start * len(trains)),
    )

    yield Stage("06_figures", None, None, start)

    rows = [row for row in RECIPES if rates.machine != "cpu" or not row.needs_gpu]
    steps = len(rows) * (timed["num_repeats"] * timed["steps_per_repeat"] + 1)
    seen = Quantity(steps * timed["train_batch_size"], runs.sources)
    seconds = seen * unets[timed["unet"]][0] / rate + start
    seconds = seconds.noting("07_speed: its slow rows taken as fast as training")
    yield Stage("07_speed", seen, None, seconds)


def _values(quantities: Mapping[str, Quantity | None]) -> dict[str, float | None]:
    return {name: one.value if one else None for name, one in quantities.items()}


def _check(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := set(names) - set(known):
        raise ParameterError(
            f"there is no {what} {names_of(unknown)}; expected one of "
            f"{names_of(known)}."
        )


def as_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Write what `plan` returns as lines of text, for a terminal."""
    unit = "core" if found["machine"] == "cpu" else found["machine"].upper()
    yield (
        f"{found['scale']}: {', '.join(found['variants'])}; seeds: {found['seeds']}; "
        f"hours of one {unit}, dollars"
    )
    line = "{:12} {:>15} {:>8} {:>10} {:>10}  {}".format
    yield line("stage", "pictures", "written", "hours", "money", "from")
    for row in [*found["rows"], {"stage": "total", "sources": [], **found["total"]}]:
        pictures = row.get("pictures")
        yield line(
            row["stage"],
            "–" if pictures is None else f"{pictures:,.0f}",
            tqdm.format_sizeof(row["bytes"], "B") if row["bytes"] else "–",
            digits(row["hours"]),
            "–" if row["money"] is None else digits(row["money"]),
            " ".join(map(str, row["sources"])),
        ).rstrip()
    for number, source in enumerate(found["sources"], start=1):
        yield f"{number:2} {source}"
    if found["total"]["money"] is None:
        yield f"   money: no price of an hour is known here ({unit}); give --price"

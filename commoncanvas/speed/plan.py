"""What a scale will cost, before it is run: pictures, bytes, memory, hours and money.

    python -m commoncanvas plan --scale paper --machine a100

Every number is a `Quantity`, measured, published or counted, and the table ends with
the sources of all of them. What has none is left out, and a line says so; what cannot
fit is refused in a line each.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tqdm import tqdm

from commoncanvas.analysis.tables import digits
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError, ParameterError
from commoncanvas.core.files import write_json
from commoncanvas.core.settings import names_of
from commoncanvas.models.efficientnet import NUM_FEATURES
from commoncanvas.models.weights import OPEN_TEXT_ENCODER
from commoncanvas.parameters import (
    Sections,
    differences,
    experiment_names,
    planned_rows,
    published,
    read_sections,
    split_name,
)
from commoncanvas.speed.ablation import RECIPES
from commoncanvas.speed.needs import lacks, too_large, too_small
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
STATES = 6  # numbers a parameter on the GPU; see `_card`
SD2_FLOP = 539.3e9  # of SD2's UNet at 256 px, for which `activations_sd2` was measured
NUM_NAMED = 8  # rows; more are counted
COPIES = 2  # DVC's cache holds each output again, unless it is told to link
NONE = Quantity(0)
UNTIMED = ("imported", "transformers", "endpoint")  # captioners without a known rate


class Stage(NamedTuple):
    """What one stage costs; None is what it does not have."""

    name: str
    pictures: Quantity | None  # works; seen in training in 04 and 07, drawn in 05
    bytes: Quantity | None  # written
    seconds: Quantity
    memory: Quantity  # of a node [bytes]
    gpu_memory: Quantity | None = None  # of one GPU [bytes]


def plan(
    scale: str,
    variants: Sequence[str] = (),
    machine: str = "cpu",
    num_seeds: int = 1,
    price: float | None = None,
    pictures: int | None = None,
    here: bool = False,
) -> dict[str, Any]:
    """Compute what a run of one scale costs, stage by stage.

    Args:
        variants: rows of the experiment; none of them for those that the profile plans,
            and where it plans none, for those of params.yaml.
        machine: one of `MACHINES`; "cpu" is one core, the others one GPU.
        num_seeds: runs of each variant, 1 or more.
        price: of an hour [dollars]; None for a published one, where there is any.
        pictures: their number, where the sources cannot be counted here; None counts.
        here: also compare with this machine: GPU, memory, disk, files, access to the
            Hub.

    Returns:
        dict for JSON: what was asked; rows of stage, pictures, bytes written, memory of
        a node and of a GPU [bytes], hours (of one core or GPU), money [dollars] and the
        numbers of their sources; their total; needs of a node; refused, a line for
        each thing that does not fit; sources, one line each. None is what has no
        source, or what a stage lacks.

    Raises:
        ParameterError: a scale, variant, machine or number is unknown or impossible.
        SourceError: the pictures are not counted yet, and their package is missing.
            With `here`, the notes of either say what else is missing.
    """
    profiles = {path.stem for path in paths.PROFILES.glob("*.yaml")} - {"pretrain"}
    _check("scale", [scale], profiles)
    _check("machine", [machine], MACHINES)
    sections = read_sections("04_train", scale)
    variants = list(variants) or planned_rows(scale) or experiment_names(sections)
    for name in variants:
        split_name(name, sections["variants"])
    if num_seeds < 1 or (price or 0) < 0 or (pictures or 1) < 1:
        raise ParameterError(
            f"got {num_seeds} seeds, {pictures or 'counted'} pictures and a price of "
            f"{price or 0}; expected 1 seed and picture or more and a price of 0 or "
            "more; correct --seeds, --pictures or --price."
        )
    rates = Rates(machine, sections["latents"]["resolution_px"])
    hourly = rates.price(price)
    missing = [*lacks(sections, machine, variants)] if here else []
    try:
        counted = count_pictures(scale, sections["licenses"], rates, pictures)
    except CommonCanvasError as error:
        for line in missing:  # known all the same
            error.add_note(line)
        raise
    stages = [
        *_data_stages(scale, sections, rates, counted),
        *_model_stages(scale, sections, rates, variants, num_seeds, counted[0]),
    ]
    lines: dict[str, int] = {}  # source -> its number in the table
    rows, total = [], {"bytes": NONE, "hours": NONE}
    for stage in stages:
        hours = stage.seconds / 3600
        row = {"pictures": stage.pictures, "bytes": stage.bytes, "hours": hours}
        card = None if machine == "cpu" else stage.gpu_memory
        row |= {"memory": stage.memory, "gpu_memory": card}
        row["money"] = hourly and hours * hourly
        numbers = {
            lines.setdefault(line, len(lines) + 1)
            for quantity in filter(None, row.values())
            for line in quantity.sources
        }
        rows.append({"stage": stage.name, **_values(row), "sources": sorted(numbers)})
        total = {name: done + (row[name] or NONE) for name, done in total.items()}
    totals = _values({**total, "money": hourly and total["hours"] * hourly})
    disk = (totals["bytes"] or 0) * COPIES
    memory = max(stage.memory.value for stage in stages)
    refused = [*too_large(rows, rates)]
    refused += [*too_small(memory, disk), *missing] if here else []
    return {
        "scale": scale,
        "machine": machine,
        "variants": variants,
        "seeds": num_seeds,
        "rows": rows,
        "total": totals,
        "needs": {"disk": disk, "memory": memory},
        "refused": refused,
        "sources": list(lines),
    }


def _data_stages(
    scale: str, sections: Sections, rates: Rates, counted: tuple[Quantity, Quantity]
) -> Iterator[Stage]:
    """Yield stages 01 to 03, whose hosts prepare pictures beside the GPU's work."""
    licenses, latents = sections["licenses"], sections["latents"]
    licensed, stored = counted
    threads = sections["common"]["num_threads"]

    def on_host(*names: str) -> Quantity:
        """Return the seconds of a picture on the threads that feed one GPU."""
        return sum((1 / threads / rates[name] for name in names), NONE)

    is_open, start = latents["text_encoder"] == OPEN_TEXT_ENCODER, rates["notebook"]
    world = "open" if is_open else "sd2"

    size = stored * licenses["picture_size_px"] ** 2 * rates[f"stored_{world}"]
    seconds = rates.seconds("split_metadata", Quantity(licenses["metadata_rows"]))
    if is_open:
        seconds += rates.seconds("draw", stored)
    else:
        line = f"01_licenses: decoded by {threads} threads; the network is left out"
        seconds += (stored * on_host("decode_photo")).noting(line)
    memory = rates["memory_process"] * 1e9
    held = memory + stored * rates["memory_catalog_work"]
    yield Stage("01_licenses", stored, size, start + seconds, held)

    kinds = [c["captioner"] for c in sections["captions"]["captioners"].values()]
    names = [f"caption_{kind}" for kind in kinds if kind not in UNTIMED]
    seconds, card = sum((rates.seconds(name, licensed) for name in names), start), None
    for kind in sorted({"transformers", "endpoint"}.intersection(kinds)):
        line = f"02_captions: `{kind}` takes what its model takes, which is left out"
        seconds = seconds.noting(line)
    if "blip2" in kinds:
        card = rates["blip2_weights"] * 1e9
        card = card.noting(
            "02_captions: BLIP-2's weights; what it computes is left out"
        )
        seconds = _longer(seconds, start + licensed * on_host("prepare_blip2"))
    size = licensed * len(kinds) * rates["caption_bytes"]
    yield Stage("02_captions", licensed, size, seconds, held, card)

    latent_shape, text_shape, encoders = shapes_of(latents)
    texts = stored * rates[f"texts_{world}"] + licensed * (len(kinds) - 1)
    each = 2 * math.prod(latent_shape) * HALF + NUM_FEATURES * FLOAT
    line = f"latents: mean and log-variance {latent_shape}, text states {text_shape}, "
    size = stored * each + texts * math.prod(text_shape) * HALF
    size = size.noting(f"{line}float16, and {NUM_FEATURES} features")
    megapixels = stored * (latents["resolution_px"] ** 2 / 1e6)
    seconds = start + rates.seconds(f"encode_{world}", megapixels)
    seconds += rates.seconds("read_open", texts) if is_open else NONE
    if not is_open:
        host = start + stored * on_host("decode_photo", "features_photo")
        seconds = _longer(seconds, host)
    card = Quantity(encoders * HALF, ("03_latents: VAE and text encoder in float16",))
    yield Stage("03_latents", stored, size, seconds, held, card)


def _longer(gpu: Quantity, host: Quantity) -> Quantity:
    """Return the longer of the GPU's time and its host's, which overlap."""
    longer = max(gpu, host, key=lambda seconds: seconds.value)
    return longer.noting("the host prepares pictures while the GPU works")


def _model_stages(
    scale: str,
    sections: Sections,
    rates: Rates,
    variants: Iterable[str],
    num_seeds: int,
    licensed: Quantity,
) -> Iterator[Stage]:
    """Yield stages 04 to 07."""
    evaluate, timed = sections["evaluate"], sections["speed"]
    *shapes, encoders = shapes_of(sections["latents"])
    memory = rates["memory_process"] * 1e9
    held = memory + licensed * rates["memory_train_work"]
    base = sections["train"]
    trains, is_trained, counts = [], [], []
    for variant in variants:
        row, _ = split_name(variant, sections["variants"])
        counts.append(count_samples(evaluate, row))
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
        max(1, round(train["num_train_steps"] * train["step_fraction"]))
        * (train["train_batch_size"] * is_own)
        for train, is_own in zip(trains, is_trained, strict=True)
    ]
    flop = sum((n * flops for n, (flops, _) in zip(works, used, strict=True)), NONE)
    kept = sum((size * (1 + SNAPSHOTS) + encoders for _, size in used), NONE)
    kept = kept.noting("04_train: pipeline and two snapshots, which go at the end")
    cards = [_card(train, unets[train["unet"]], rates) for train in trains]
    yield Stage(
        "04_train",
        runs * sum(works),
        runs * kept * FLOAT,
        runs * (flop / rate + start * len(trains)),
        held * (base["num_processes"] or 1),
        max(cards, key=lambda card: card.value),
    )

    passes = [num for _, num in counts]
    flop = sum((f * n for (f, _), n in zip(used, passes, strict=True)), NONE) / 3
    line = "05_evaluate: the UNet's passes, each a third of training's arithmetic; "
    flop = flop.noting(f"{line}decoding and judges left out; samples as plain pixels")
    drawn = runs * sum(num for num, _ in counts)
    yield Stage(
        "05_evaluate",
        drawn,
        drawn * (3 * sections["latents"]["resolution_px"] ** 2),
        runs * (flop / rate + start * len(trains)),
        memory + licensed * rates["memory_catalog_work"],
        (max((size for _, size in used), key=lambda size: size.value) + encoders)
        * FLOAT,
    )

    yield Stage("06_figures", None, None, start, memory)

    rows = [row for row in RECIPES if rates.machine != "cpu" or not row.needs_gpu]
    steps = len(rows) * (timed["num_repeats"] * timed["steps_per_repeat"] + 1)
    seen = Quantity(steps * timed["train_batch_size"], runs.sources)
    seconds = seen * unets[timed["unet"]][0] / rate + start
    seconds = seconds.noting("07_speed: its slow rows taken as fast as training")
    one = {**timed, "micro_batch_size": timed["train_batch_size"], "num_processes": 1}
    card = _card({**one, "shard": False}, unets[timed["unet"]], rates)
    yield Stage("07_speed", seen, None, seconds, held, card + encoders * FLOAT)


def _card(
    train: Mapping[str, Any], unet: tuple[Quantity, Quantity], rates: Rates
) -> Quantity:
    """Return the memory of one GPU that trains: weights and a micro-batch."""
    flops, size = unet
    shards = (train["num_processes"] or 1) if train["shard"] else 1
    kept = size * (STATES * FLOAT / shards)
    kept = kept.noting(
        "GPU: weights, gradients and their buckets, AdamW's moments and the moving "
        f"average in float32, over {shards}; and what a micro-batch keeps"
    )
    each = rates["activations_sd2"] * 1e9 * (flops / SD2_FLOP)
    return kept + each * train["micro_batch_size"]


def _values(quantities: Mapping[str, Quantity | None]) -> dict[str, float | None]:
    return {name: one.value if one else None for name, one in quantities.items()}


def _check(what: str, names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := set(names) - set(known):
        raise ParameterError(
            f"there is no {what} {names_of(unknown)}; expected one of "
            f"{names_of(known)}."
        )


def report(scale: str, variants: str, file: Path | None, **options: Any) -> bool:
    """Print a plan, and write it to a file if one is named; say whether it is refused.

    Args:
        variants: names with commas between; "" for all that run.
        options: of `plan`.
    """
    try:
        found = plan(scale, [name for name in variants.split(",") if name], **options)
    except CommonCanvasError as error:
        for line in getattr(error, "__notes__", []):
            print(f"missing here: {line}")
        raise
    print("\n".join(as_lines(found)))
    if file:
        write_json(file, found)
    return bool(found["refused"])


def as_lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Write what `plan` returns as lines of text, for a terminal."""
    unit = "core" if found["machine"] == "cpu" else found["machine"].upper()
    names = found["variants"]
    named = ", ".join(names) if len(names) <= NUM_NAMED else f"{len(names)} rows"
    yield (
        f"{found['scale']}: {named}; seeds: {found['seeds']}; hours of one {unit}, "
        "dollars"
    )
    line = "{:12} {:>15} {:>8} {:>8} {:>8} {:>10} {:>10}  {}".format
    yield line(
        "stage", "pictures", "written", "memory", "GPU", "hours", "money", "from"
    )
    for row in [*found["rows"], {"stage": "total", "sources": [], **found["total"]}]:
        pictures = row.get("pictures")
        yield line(
            row["stage"],
            "–" if pictures is None else f"{pictures:,.0f}",
            *(_size(row.get(name)) for name in ("bytes", "memory", "gpu_memory")),
            digits(row["hours"]),
            "–" if row["money"] is None else digits(row["money"]),
            " ".join(map(str, row["sources"])),
        ).rstrip()
    needs = found["needs"]
    yield (
        f"a node needs {_size(needs['memory'])} of memory and {_size(needs['disk'])} "
        "of disk, where DVC's cache holds each output again"
    )
    for number, source in enumerate(found["sources"], start=1):
        yield f"{number:2} {source}"
    if found["total"]["money"] is None:
        yield f"   money: no price of an hour is known here ({unit}); give --price"
    for reason in found["refused"]:
        yield f"does not fit: {reason}"


def _size(number: float | None) -> str:
    return tqdm.format_sizeof(number, "B") if number else "–"

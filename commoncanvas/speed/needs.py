"""What a machine lacks for a plan, before the run starts: one line each.

`plan --here` asks. Disk and memory are this machine's; weights and pictures are looked
for here, then, as far as access goes, on the Hub, from which nothing is fetched.
"""

import glob
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import huggingface_hub
import torch
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from tqdm import tqdm

from commoncanvas.captions.blip2 import MODEL
from commoncanvas.catalog.entries import KINDS, Entry
from commoncanvas.catalog.kinds import named
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError, brief
from commoncanvas.core.files import shown
from commoncanvas.core.places import is_address
from commoncanvas.models.weights import OPEN_TEXT_ENCODER
from commoncanvas.parameters import Sections, published
from commoncanvas.speed.rates import Rates

# Keys of a profile that name a model, and those that name files of one's own.
MODELS = ("model", "vae_folder", "text_encoder", "scheduler")
FILES = ("weights", "file", "ids", "prompt_file", "pictures")


def too_large(rows: Sequence[Mapping[str, Any]], rates: Rates) -> Iterator[str]:
    """Yield a line for each stage that one GPU of the machine cannot hold."""
    if rates.machine == "cpu":
        return
    most = rates[f"memory_{rates.machine}"].value * 1e9
    for row in rows:
        if (row["gpu_memory"] or 0) > most:
            yield (
                f"{row['stage']} takes {_size(row['gpu_memory'])} of a GPU; a "
                f"{rates.machine.upper()} has {_size(most)}; lower the batch "
                "(micro_batch_size; train_batch_size of speed), set shard: true, or "
                "take a larger GPU."
            )


def too_small(memory: float, disk: float) -> Iterator[str]:
    """Yield a line for memory and disk that are not here; both in bytes."""
    present = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if memory > present:
        yield (
            f"memory: {_size(present)} here, {_size(memory)} needed; take a larger "
            "machine, fewer processes or fewer pictures."
        )
    free = shutil.disk_usage(paths.ROOT).free
    if disk > free:
        yield (
            f"disk: {_size(free)} free here, {_size(disk)} needed, DVC's copies "
            "included; free some, move the clone, set DVC's cache.type to reflink or "
            "hardlink, or take fewer pictures."
        )


def lacks(
    sections: Sections, machine: str = "cpu", variants: Sequence[str] = ()
) -> Iterator[str]:
    """Yield a line for each thing that is missing here, whatever the pictures' number.

    Args:
        sections: of the profile.
        machine: that was planned for, one of `rates.MACHINES`.
        variants: rows that were planned; one that is published is a model, too.
    """
    if machine != "cpu" and not torch.cuda.is_available():
        yield (
            f"GPU: torch finds none here, and the plan is for {machine.upper()}; ask "
            "on the machine that has it, or see its driver (nvidia-smi)."
        )
    for name in dict.fromkeys(_files(sections)):
        # Captions may be named by a pattern, lie elsewhere, or be stage 01's own.
        if is_address(name) or name.startswith("data/"):
            continue
        if state := _lacking(name):
            yield f"file: {state}; fetch it, or name another in the profile."
    models = {*_models(sections)}
    models |= {*filter(None, (published(name, sections) for name in variants))}
    for name, revision in sorted(models):
        if line := _no_access(name, revision, "model"):
            yield line
    licenses = sections["licenses"]
    for source in [*licenses["cc_sources"], *licenses["web_sources"]]:
        try:
            entry = named(source)
        except CommonCanvasError as error:
            yield f"pictures: {error}"
        else:
            yield from _lacks_of_source(entry)


def _lacks_of_source(entry: Entry) -> Iterator[str]:
    if entry.kind not in KINDS:
        return  # a pinned set
    place = entry.path
    if entry.kind == "commoncatalog":
        place = place.partition(":")[2]
    root = place.rpartition("hf://datasets/")[2]
    if root != place:
        name, _, revision = root.partition("@")
        if line := _no_access(name, revision.partition("/")[0], "dataset"):
            yield line
    elif not is_address(place) and (state := _lacking(place)):
        yield f"pictures: {state}; fetch it, or correct cc_sources."
    for option in ("pictures", "narratives"):
        told = entry.options.get(option, "")
        if told and not is_address(told) and (state := _lacking(told)):
            yield f"pictures: {state}, {option} of {entry.name}; fetch them."
    if KINDS[entry.kind].is_remote and "pictures" not in entry.options:
        yield (
            f"pictures: {entry.name} names no folder of them, so that stage 01 rejects "
            "all; fetch them, then add pictures=FOLDER."
        )


def _lacking(pattern: str) -> str:
    """Say that a pattern's files are missing, or that one is empty; "" if neither."""
    found = [Path(name) for name in sorted(glob.glob(str(paths.ROOT / pattern)))]
    empty = [path for path in found if path.is_file() and not path.stat().st_size]
    if empty:
        return f"{shown(empty[0])} is empty"
    return "" if found else f"{pattern} is missing"


def _models(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield (name, revision) of every model that a profile names."""
    if values.get("captioner") == "endpoint":
        return  # its server has the model
    if values.get("captioner") == "blip2" and "model" not in values:
        values = {"model": MODEL, **values}
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _models(value)
        elif key in MODELS and value and value != OPEN_TEXT_ENCODER:
            stem = "" if key == "model" else f"{key.removesuffix('_folder')}_"
            yield value, values.get(f"{stem}revision") or ""


def _files(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _files(value)
        elif key in FILES and isinstance(value, str) and value:
            yield value


def _no_access(name: str, revision: str, kind: str) -> str:
    """Say why a model or data set can be read neither here nor from the Hub."""
    if (paths.ROOT / name).exists():
        return ""
    try:
        huggingface_hub.snapshot_download(
            name, repo_type=kind, revision=revision or None, local_files_only=True
        )
        return ""
    except Exception:  # not here: the Hub is asked
        pass
    what = f"{kind} {name}"
    try:
        huggingface_hub.auth_check(name, repo_type=kind)
        return ""
    except GatedRepoError:
        return (
            f"{what} is gated; accept its terms on its page of the Hub, then log in "
            "with `hf auth login`."
        )
    except RepositoryNotFoundError:
        return f"{what} is neither here nor on the Hub; correct its name."
    except Exception as error:  # no network, or a Hub that is down
        return (
            f"{what} is not here, and the Hub does not answer ({brief(error, 80)}); "
            "download it, or name a local folder."
        )


def _size(number: float) -> str:
    return tqdm.format_sizeof(number, "B")

"""The guidance scale: tried on prompts of its own, and chosen before any are judged.

A scale that is chosen by the values that are then reported flatters whoever likes it
best; so scales are tried on a set of prompts that is never judged.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import read_json
from commoncanvas.core.settings import names_of
from commoncanvas.evaluate.extractors import FeatureExtractor
from commoncanvas.evaluate.prompts import leading

Sets = dict[str, pd.DataFrame]


def part(sets: Mapping[str, pd.DataFrame], sweep_prompts: str) -> tuple[Sets, Sets]:
    """Part the set on which scales are tried from those that are judged.

    Args:
        sets: of `read_all`; the first leads.
        sweep_prompts: name of the set on which scales are tried.

    Returns:
        ({its name: its prompts}, the others), never with a prompt in both.

    Raises:
        ParameterError: there is no such set, it leads, a set has no prompts, or one of
            its prompts, by id, is in another.
    """
    if leading(sets) == sweep_prompts or sweep_prompts not in sets:
        raise ParameterError(
            f"sweep_prompts is {sweep_prompts!r}, and prompt_sets has "
            f"{names_of(sets)}, of which `{leading(sets)}` leads; expected one of the "
            "others; add it behind the first, or name another."
        )
    judged = {name: rows for name, rows in sets.items() if name != sweep_prompts}
    tried = sets[sweep_prompts]
    for name, rows in judged.items():
        if num := int(rows["id"].isin(tried["id"]).sum()):
            raise ParameterError(
                f"{num} prompts of `{name}` are in `{sweep_prompts}` too, on which "
                "guidance scales are tried; expected none; raise `skip` of "
                f"`{sweep_prompts}` in `prompt_sets` of the profile."
            )
    return {sweep_prompts: tried}, judged


def scales_of(
    trained: Path, swept_variants: Sequence[str], scales: Iterable[float]
) -> list[float]:
    """Return the scales that are tried with a variant, ascending; none if it is not.

    Args:
        trained: folder of stage 04, which says whose repeat a variant is.
        swept_variants: rows with which scales are tried, and with their repeats; empty
            for every row.
        scales: of the profile, in any order.
    """
    of = read_json(trained / "metrics.json")["of"]
    return sorted(set(scales)) if not swept_variants or of in swept_variants else []


def best(
    swept: Mapping[str, Mapping[str, Any]],
    extractors: Sequence[FeatureExtractor],
    suffix: str = "",
) -> float:
    """Return the scale whose first kernel distance is least; of equals the least.

    The kernel distance is unbiased, so that few prompts do.

    Args:
        swept: {scale: {metric: estimate}}, measured on the prompts for it.
        extractors: in the profile's order.
        suffix: of the distances' names, of these prompts; see `Reference.suffix`.

    Raises:
        ParameterError: no extractor has a kernel distance.
    """
    kernels = [extractor.kernel for extractor in extractors if extractor.kernel]
    if not kernels:
        raise ParameterError(
            "own_guidance is true, and none of "
            f"{names_of(e.name for e in extractors)} has a kernel distance to choose "
            "by; expected one in `features`; add it, or set own_guidance false."
        )
    name = kernels[0] + suffix
    return min(map(float, swept), key=lambda scale: swept[str(scale)][name]["value"])

"""The parameters of one stage, exactly as DVC tracks them.

Sections come from DVC where it runs the stage, else from the profile's file; they are
merged, compared with what the notebook declares, and type-checked; `run` uses this.
"""

import itertools
import os
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.settings import load_yaml, names_of

Sections = Mapping[str, Any]  # {section: {key: value}}

RUNNER_KEYS = ("num_threads", "offline")  # the runner's own; a notebook may take them
_TYPES: Mapping[str, Any] = {t.__name__: t for t in (int, float, str, bool, list, dict)}


def read_sections(slug: str, scale: str | None) -> Sections:
    """Read the parameter sections of a stage, from DVC or from the profile's file.

    Under DVC only what the stage tracks is there, so a notebook cannot depend on a
    value whose change DVC would not see.
    """
    if stage := os.environ.get("DVC_STAGE"):
        import dvc.api  # about 1 s, and not needed by hand

        return dvc.api.params_show(stages=stage, repo=str(paths.ROOT))
    profile = load_yaml(paths.PROFILES / f"{_profile(slug, scale)}.yaml")
    return {**load_yaml(paths.ROOT / "params.yaml"), **profile}


def collect(
    slug: str,
    scale: str | None,
    variant: str | None,
    sections: Sections,
    declared: Mapping[str, Any],
) -> dict[str, Any]:
    """Merge the sections into the parameters of one notebook, and check them.

    The order is `common`, the stage's section, the variant's differences. A variant
    differs from the base *training*, its seed too; no other stage follows it.

    Args:
        declared: what `papermill.inspect_notebook` returns; exactly these come back.

    Raises:
        ParameterError: a parameter is unknown, missing or of another type.
    """
    word = slug.split("_", 1)[1]
    where = f"profiles/{_profile(slug, scale)}.yaml"
    section = sections.get(word) or {}
    values: dict[str, Any] = {**(sections.get("common") or {}), **section}
    if variant:
        # Under DVC the stages after training do not see the variants.
        if word == "train" or "variants" in sections:
            changes = differences(variant, sections)
            values |= changes if word == "train" else {}
        values["variant"] = variant
        if "of" in declared:
            values["of"] = split_name(variant, sections["variants"])[0]
    if scale:
        values["scale"] = scale
    if "unet" in values:
        unets = sections.get("unets") or {}
        if values["unet"] not in unets:
            raise ParameterError(
                f"unet is {values['unet']!r}; {where} has {names_of(unets)} in "
                "`unets`. Choose one of them or add it."
            )
        values["unet_config"] = unets[values["unet"]]
    if "experiment" in declared and "experiment" in sections:
        values["experiment"] = experiment_names(sections)
    values = {k: v for k, v in values.items() if k in declared or k not in RUNNER_KEYS}
    unknown, missing = values.keys() - declared.keys(), declared.keys() - values.keys()
    if unknown or missing:
        raise ParameterError(
            f"got unknown parameters {names_of(unknown)} and lacks "
            f"{names_of(missing)}; the notebook declares {names_of(declared)}. Edit "
            f"{where}, the stage's params in dvc.yaml or the parameters cell."
        )
    return {name: _typed(declared[name], values[name], where) for name in declared}


def _profile(slug: str, scale: str | None) -> str:
    return scale or slug.split("_", 1)[1]


def experiment_names(sections: Sections) -> list[str]:
    """Return the rows of `experiment`, then those that `repeats` adds to them.

    A repeat is named `<variant>-<seed>`, as `dvc.yaml` names its folder.
    """
    repeats = sections.get("repeats") or {"variants": [], "seeds": []}
    pairs = itertools.product(repeats["variants"], repeats["seeds"])
    return [*sections["experiment"], *(f"{variant}-{seed}" for variant, seed in pairs)]


def split_name(name: str, variants: Sections) -> tuple[str, int | None]:
    """Return the variant that a name stands for, and the seed of a repeat or None.

    Raises:
        ParameterError: it is neither an entry of `variants` nor a repeat of one.
    """
    first, _, seed = name.rpartition("-")
    if name in variants:
        return name, None
    if first in variants and seed.isdecimal():
        return first, int(seed)
    raise ParameterError(
        f"there is no variant {name!r}; params.yaml has {names_of(variants)}. Choose "
        "one of them, or one with a seed (`cc_human-18`), add it, or list it in the "
        "stage's params in dvc.yaml."
    )


def differences(variant: str, sections: Sections) -> dict[str, Any]:
    """Return what a variant, or its repeat, changes in the base training.

    Args:
        sections: with `variants`, `common` and `train`.

    Raises:
        ParameterError: the variant is unknown, or changes what the training lacks.
    """
    variants = sections.get("variants") or {}
    first, seed = split_name(variant, variants)
    changes = dict(variants[first] or {})
    known = {*(sections.get("common") or {}), *(sections.get("train") or {})}
    known -= {*RUNNER_KEYS}
    if unknown := changes.keys() - known:
        raise ParameterError(
            f"the variant {variant!r} sets {names_of(unknown)}; it may change "
            f"{names_of(known)}. Edit `variants` in params.yaml."
        )
    return changes if seed is None else changes | {"seed": seed}


def _typed(parameter: Mapping[str, Any], value: Any, where: str) -> Any:
    """Return a value as the declared type wants it (a float from 1 too), or stop."""
    wanted = parameter["inferred_type_name"]
    try:
        kind = eval(wanted, {"__builtins__": {}}, _TYPES)  # e.g. list[float]
        return TypeAdapter(kind).validate_python(value, strict=True)
    except Exception:
        raise ParameterError(
            f"`{parameter['name']}` is {value!r}, a {type(value).__name__}; the "
            f"notebook declares {wanted}. Edit {where} or `variants` in params.yaml."
        ) from None

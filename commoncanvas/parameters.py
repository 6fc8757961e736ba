"""The parameters of one stage, exactly as DVC tracks them.

Sections come from DVC where it runs the stage, else from the profile's file; they are
merged, compared with what the notebook declares, and type-checked; `run` uses this.
"""

import os
import re
import reprlib
import textwrap
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.files import write_text
from commoncanvas.core.settings import load_yaml, names_of

Sections = Mapping[str, Any]  # {section: {key: value}}

RUNNER_KEYS = ("num_threads", "offline")  # the runner's own; a notebook may take them
# The types that a parameters cell may declare, by how they are written there.
_TYPES: dict[str, Any] = {
    **{kind.__name__: kind for kind in (int, float, str, bool, list, dict)},
    **{"list[int]": list[int], "list[float]": list[float]},
    **{"list[str]": list[str], "list[bool]": list[bool]},
}


def read_sections(slug: str, scale: str | None) -> Sections:
    """Read the parameter sections of a stage, from DVC or from the profile's file.

    Under DVC only what the stage tracks is there, so a notebook cannot depend on a
    value whose change DVC would not see.
    """
    if stage := os.environ.get("DVC_STAGE"):
        import dvc.api  # about 1 s, and not needed by hand
        from dvc.exceptions import DvcException

        try:
            return dvc.api.params_show(stages=stage, repo=str(paths.ROOT))
        except DvcException as error:
            raise ParameterError(
                f"DVC_STAGE is {stage!r}, and DVC says: {error}; it sets this variable "
                "itself. Unset it."
            ) from None
    return read_profile(slug, scale)


def read_profile(slug: str, scale: str | None) -> Sections:
    """Read all sections of params.yaml and of the profile of a stage."""
    profile = load_yaml(paths.PROFILES / f"{_profile(slug, scale)}.yaml")
    return {**load_yaml(paths.ROOT / "params.yaml"), **profile}


def check_names(params: Sections) -> None:
    """Check the names of params.yaml, before anything runs.

    A variant's name names folders and files, a stage of DVC and a key of its
    parameters, where a dot would part two keys.

    Raises:
        ParameterError: a name cannot serve, or names no variant, or names two.
    """
    variants = _mapping(params, "variants")
    _check_name(params.get("scale"), "scale")
    for name in variants:
        _check_name(name, "variants")
        if re.search(r"-[0-9]+$", name):
            raise ParameterError(
                f"`variants` of params.yaml has the name {name!r}, which ends like a "
                "repeat's, in `-` and a seed; expected another end; rename it."
            )
        _mapping(variants, name, "variants.")
    for where in ("experiment", "repeats"):
        names = params.get(where) or []
        if not isinstance(names, list) or any(type(name) is not str for name in names):
            raise ParameterError(
                f"`{where}` of params.yaml is {reprlib.repr(names)}; expected a list "
                "of names; correct it."
            )
        _check_once(names, where)
        for name in names:
            _, seed = split_name(name, variants)
            if (seed is None) != (where == "experiment"):
                raise ParameterError(
                    f"`{where}` of params.yaml has {name!r}; expected variants as they "
                    "are in `experiment`, and with a seed, as `cc_human-18`, in "
                    "`repeats`. Move it."
                )
    _check_once([name.casefold() for name in variants], "variants")


def check_own(sections: Sections) -> None:
    """Check that the rows that a profile names are rows of params.yaml.

    Args:
        sections: with all `variants`; DVC hands a training its own row alone.

    Raises:
        ParameterError: a name is no row.
    """
    variants, own = (_mapping(sections, n) for n in ("variants", "own_variants"))
    swept = _mapping(sections, "evaluate").get("swept_variants")
    swept = swept if isinstance(swept, list) else []  # the notebook's type is for later
    for where, names in {"own_variants": own, "swept_variants": swept}.items():
        if unknown := {*map(str, names)} - variants.keys():
            raise ParameterError(
                f"`{where}` of the profile names {names_of(unknown)}; `variants` of "
                "params.yaml lacks them. Add them there, too, or correct the name."
            )


def _check_name(name: Any, where: str) -> None:
    if not isinstance(name, str):
        raise ParameterError(
            f"`{where}` of params.yaml has the name {reprlib.repr(name)}, a "
            f"{type(name).__name__} in YAML; expected text; put it in quotes or choose "
            "another."
        )
    wrong = re.search("^-|[^A-Za-z0-9_-]|(?<=.{80}).", name)
    if wrong or not name:
        raise ParameterError(
            f"`{where}` of params.yaml has the name {name[:80]!r}, which "
            f"{f'holds {wrong[0]!r}' if wrong else 'is empty'}; expected letters a to "
            "z, digits, `_` and, not first, `-`, at most 80 of them; rename it."
        )


def _check_once(names: list[Any], where: str) -> None:
    if twice := [str(name) for name, count in Counter(names).items() if count > 1]:
        raise ParameterError(
            f"`{where}` of params.yaml has {names_of(twice)} twice (capitals do not "
            "tell files apart everywhere); expected each once; remove or rename one."
        )


def _mapping(sections: Sections, name: Any, where: str = "") -> Mapping[str, Any]:
    """Return one section of the settings, which may be left empty."""
    found = sections.get(name) or {}
    if not isinstance(found, dict):
        raise ParameterError(
            f"`{where}{name}` is {reprlib.repr(found)}; expected names with values; "
            "correct it in params.yaml or the profile."
        )
    return found


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
    values = {**_mapping(sections, "common"), **_mapping(sections, word)}
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
        unets = _mapping(sections, "unets")
        if values["unet"] not in list(unets):
            raise ParameterError(
                f"unet is {reprlib.repr(values['unet'])}; {where} has "
                f"{names_of(unets)} in `unets`. Choose one of them or add it."
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


def choose(scale: str) -> list[str]:
    """Write the scale into params.yaml, with the `rows` of its profile if it has any.

    All other lines stay as they are; plain `dvc repro` then runs that scale.

    Returns:
        The rows.

    Raises:
        ParameterError: the scale has no profile, or its rows name no variant;
            params.yaml is then as it was.
    """
    file = paths.ROOT / "params.yaml"
    scales = {path.stem for path in paths.PROFILES.glob("*.yaml")} - {"pretrain"}
    if scale not in scales:
        raise ParameterError(
            f"there is no scale {scale!r}; profiles/ has {names_of(scales)}. Choose "
            "one of them or write its profile."
        )
    profile = load_yaml(paths.PROFILES / f"{scale}.yaml")
    rows = _mapping(profile, "rows")
    if unknown := rows.keys() - {"experiment", "repeats"}:
        raise ParameterError(
            f"`rows` of profiles/{scale}.yaml has {names_of(unknown)}; expected "
            "`experiment` and `repeats`; correct it."
        )
    text = file.read_text(encoding="utf-8")
    chosen = {"scale": scale, **rows}
    check_names(load_yaml(file) | chosen)
    for name, value in chosen.items():
        shown = "[" + ", ".join(value) + "]" if isinstance(value, list) else value
        lines = textwrap.fill(
            f"{name}: {shown}", 90, subsequent_indent="  ", break_on_hyphens=False
        )
        # A value goes on over the lines that are indented.
        text = re.sub(rf"(?m)^{name}:.*(\n[ \t]+.*)*", lines, text, count=1)
    write_text(file, text)
    return experiment_names(load_yaml(file))


def chosen_scale() -> str:
    """Return the scale of params.yaml, which plain `dvc repro` runs."""
    scale: Any = load_yaml(paths.ROOT / "params.yaml").get("scale")
    _check_name(scale, "scale")
    return scale


def experiment_names(sections: Sections) -> list[str]:
    """Return the rows of `experiment`, then those of `repeats`: `<variant>-<seed>`."""
    return [*sections["experiment"], *(sections.get("repeats") or [])]


def planned_rows(scale: str) -> list[str]:
    """Return the rows that a scale's profile plans, repeats last; [] if it has none."""
    rows = load_yaml(paths.PROFILES / f"{scale}.yaml").get("rows")
    return experiment_names(rows) if rows else []


def split_name(name: str, variants: Sections) -> tuple[str, int | None]:
    """Return the variant that a name stands for, and the seed of a repeat or None.

    Raises:
        ParameterError: it is neither an entry of `variants` nor a repeat of one.
    """
    first, _, seed = name.rpartition("-")
    if name in variants:
        return name, None
    if first in variants and re.fullmatch("0|[1-9][0-9]*", seed):
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
    first, seed = split_name(variant, _mapping(sections, "variants"))
    changes = {} if published(variant, sections) else _row(first, sections)
    known = {*_mapping(sections, "common"), *_mapping(sections, "train")}
    known -= {*RUNNER_KEYS}
    if unknown := changes.keys() - known:
        raise ParameterError(
            f"the variant {variant!r} sets {names_of(unknown)}; it may change "
            f"{names_of(known)}. Edit `variants` in params.yaml."
        )
    return changes if seed is None else changes | {"seed": seed}


def published(variant: str, sections: Sections) -> tuple[str, str] | None:
    """Return (folder or Hub id, revision) of a row that is evaluated, not trained.

    Such a row names a whole pipeline, as `weights.pinned` takes it, and changes nothing
    else. None is a row that is trained.

    Args:
        sections: with `variants` and, of a scale that has rows of its own,
            `own_variants`.

    Raises:
        ParameterError: it says more than `pipeline` and `revision`.
    """
    first, _ = split_name(variant, _mapping(sections, "variants"))
    row = _row(first, sections)
    if "pipeline" not in row:
        return None
    if row.keys() - {"pipeline", "revision"} or not all(
        isinstance(value, str) for value in row.values()
    ):
        raise ParameterError(
            f"the variant {variant!r} is {reprlib.repr(row)}; a published pipeline has "
            "`pipeline` and `revision`, both text, and is not trained; correct it."
        )
    return row["pipeline"], row.get("revision", "")


def _row(variant: str, sections: Sections) -> dict[str, Any]:
    """Return what a row is at this scale: the profile's word counts first."""
    own = _mapping(sections, "own_variants")
    rows = own if variant in own else sections["variants"]
    return dict(_mapping(rows, variant, "variants."))


def _typed(parameter: Mapping[str, Any], value: Any, where: str) -> Any:
    """Return a value as the declared type wants it (a float from 1 too), or stop."""
    wanted = parameter["inferred_type_name"]
    kind = _TYPES.get(wanted.replace(" ", ""))
    if kind is None:
        raise ParameterError(
            f"the notebook declares `{parameter['name']}` as {wanted!r}; expected one "
            f"of {names_of(_TYPES)}. Edit its parameters cell."
        )
    try:
        return TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        raise ParameterError(
            f"`{parameter['name']}` is {reprlib.repr(value)}, a "
            f"{type(value).__name__}; the notebook declares {wanted}. Edit {where} or "
            "`variants` in params.yaml."
        ) from None

"""Check all settings of a scale before anything runs: `commoncanvas check`.

Names, keys and types are those of the notebooks. What a setting means is checked as far
as that loads no model and asks no network: a fault that a stage would find after hours
is found in seconds.
"""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from commoncanvas.captions import telephoning
from commoncanvas.captions.answers import AnswerRules
from commoncanvas.catalog.kinds import named
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError, SourceError
from commoncanvas.core.settings import call_named, load_yaml, names_of
from commoncanvas.models.weights import pinned
from commoncanvas.parameters import (
    check_own,
    collect,
    experiment_names,
    published,
    read_profile,
)
from commoncanvas.run import FROZEN_STAGE, VARIANT_STAGES, chosen_stage, declared_by

ANSWER_RULES = ("prompt", "strip", "reject", "cut")  # settings of `AnswerRules`


def check_settings(scale: str) -> int:
    """Check what every stage of a scale would be given; return how many runs it has.

    Raises:
        CommonCanvasError: a name, key, type or meaning is wrong; nothing has run.
    """
    slugs = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))
    others = [s for s in slugs if s not in (*VARIANT_STAGES, FROZEN_STAGE)]
    stages = [chosen_stage(slug, scale, None) for slug in others]
    rows = experiment_names(load_yaml(paths.ROOT / "params.yaml"))
    stages += [chosen_stage(s, scale, row) for s in VARIANT_STAGES for row in rows]
    declared = {slug: declared_by(slug) for slug in slugs}
    for stage in stages:
        sections = read_profile(stage.slug, scale)
        own = declared[stage.slug]
        try:
            check_own(sections)
            values = collect(stage.slug, scale, stage.variant, sections, own)
            if stage.variant and (found := published(stage.variant, sections)):
                check_published(*found)
            elif stage.slug == "04_train":
                check_caption_sources(values, sections["captions"]["captioners"])
            elif stage.slug == "01_licenses":
                for source in (*values["cc_sources"], *values["web_sources"]):
                    named(source)
            elif stage.slug == "02_captions":
                check_captioners(values["captioners"], values["second_captioner"])
        except (ParameterError, SourceError) as error:
            raise ParameterError(f"{stage.name}: {error}") from None
    return len(stages)


def check_published(pipeline: str, revision: str) -> None:
    """Refuse a pipeline that cannot be had, before the rows above it are trained."""
    is_commit = re.fullmatch("[0-9a-f]{40}", revision)
    if not is_commit and not (paths.ROOT / pipeline).is_dir():
        found = f"the revision {revision[:80]!r}" if revision else "no revision"
        raise ParameterError(
            f"{pipeline!r} is no folder here and has {found}; save the pipeline there, "
            "pin a Hub id by its commit of 40 hexadecimal digits, or take the row off "
            "`experiment`."
        )


def check_captioners(captioners: Mapping[str, Any], second: Mapping[str, Any]) -> None:
    """Refuse captioners that stage 02 would refuse; no weights are loaded.

    Args:
        captioners: {caption source: settings}, of the profile.
        second: settings of the one that is only compared; empty for none.

    Raises:
        ParameterError: none leads, or one has unknown, missing or impossible settings,
            a pattern that cannot be read, or a model without a commit of the Hub's.
    """
    telephoning.leading(captioners)
    known = {name: _unbuilt(made) for name, made in telephoning.CAPTIONERS.items()}
    for settings in (*captioners.values(), *filter(None, [second])):
        words = dict(settings)
        kind = words.pop("captioner", None)
        if kind == "endpoint":  # asks its server for nothing yet
            telephoning.load_captioner(dict(settings))
            continue
        call_named(known, "captioners", kind, words)
        AnswerRules(**{name: words[name] for name in ANSWER_RULES if name in words})
        if "model" in words:
            pinned(words["model"], words.get("revision"))


def check_caption_sources(
    values: Mapping[str, Any], captioners: Mapping[str, Any]
) -> None:
    """Refuse a training on captions that nobody writes.

    Args:
        values: of the training.
        captioners: of the profile's stage 02.

    Raises:
        ParameterError: `caption_source`, or one of `caption_weights`, is no source.
    """
    known = {*telephoning.RESERVED, *captioners}
    asked = [*(values["caption_weights"] or [values["caption_source"]])]
    if unknown := {*map(str, asked)} - known:
        raise ParameterError(
            f"it is trained on the captions {names_of(unknown)}; expected one of "
            f"{names_of(known)}; name a captioner of the profile, or add it to "
            "`captioners`."
        )


def _unbuilt(made: Callable[..., Any]) -> Callable[..., None]:
    """Return something that takes what a class takes, and makes nothing of it."""

    def unbuilt(**words: Any) -> None: ...

    unbuilt.__signature__ = inspect.signature(made, eval_str=True)  # type: ignore[attr-defined]
    return unbuilt

"""Settings: YAML as DVC reads it, and functions called by the names of a profile."""

import inspect
import reprlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML  # YAML 1.2 as DVC reads it, so that 1e-4 is a number
from ruamel.yaml.error import YAMLError

from commoncanvas.core.errors import ParameterError


def load_yaml(path: Path) -> dict[str, Any]:
    """Read one settings file; an empty one is no settings.

    Raises:
        ParameterError: it is missing, or no YAML of names and values.
    """
    if not path.is_file():
        raise ParameterError(f"{path.name} is missing; restore it with git.")
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"{path.name} is not in UTF-8 (byte {error.start}); save it as UTF-8."
        ) from None
    except (YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise ParameterError(
            f"{path.name}{place}: {problem}; expected YAML; correct it."
        ) from None
    if not isinstance(found or {}, dict):
        raise ParameterError(
            f"{path.name} holds a {type(found).__name__}; expected names with values; "
            "correct it."
        )
    return found or {}


def names_of(names: Iterable[Any]) -> str:
    """Write names in one line, sorted, or the word none."""
    return ", ".join(f"`{name}`" for name in sorted(map(str, names))) or "none"


def call_named(
    known: Mapping[str, Callable[..., Any]], parameter: str, name: Any, words: dict
) -> Any:
    """Call what a profile names, with the arguments that stand beside the name.

    `parameter` is the profile's, to say what to edit. Unknown and missing arguments are
    refused before the call.

    Raises:
        ParameterError: there is no such name, or the arguments do not fit.
    """
    if not isinstance(name, str) or name not in known:
        raise ParameterError(
            f"{parameter} has {reprlib.repr(name)}; expected one of "
            f"{', '.join(known)}; edit `{parameter}` in the profile."
        )
    takes = inspect.signature(known[name]).parameters.values()
    needs = {p.name for p in takes if p.default is p.empty}
    faults = {"does not take": words.keys() - {p.name for p in takes}}
    faults["lacks"] = needs - words.keys()
    if found := [f"{verb} {names_of(f)}" for verb, f in faults.items() if f]:
        raise ParameterError(
            f"{name!r} of `{parameter}` {' and '.join(found)}; it takes "
            f"{names_of(p.name for p in takes)}; edit `{parameter}` in the profile."
        )
    return known[name](**words)

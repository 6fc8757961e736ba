"""Settings: YAML as DVC reads it, and functions called by the names of a profile."""

import inspect
import math
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, cast, get_args, get_origin

from ruamel.yaml import YAML  # YAML 1.2 as DVC reads it, so that 1e-4 is a number
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    CollectionStartEvent,
    NodeEvent,
)

from commoncanvas.core.errors import ParameterError
from commoncanvas.core.text import is_whole, printable

MOST = 100_000  # values of a file with aliases


def load_yaml(path: Path) -> dict[str, Any]:
    """Read one settings file; an empty one is no settings.

    Raises:
        ParameterError: it is missing, or no YAML of names and values.
    """
    if not path.is_file():
        raise ParameterError(f"{path.name} is missing; restore it with git.")
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "*" in text:
            _check_size(path.name, text)
        found = YAML(typ="safe", pure=True).load(text)
    except UnicodeDecodeError as error:
        raise ParameterError(
            f"{path.name} is not in UTF-8 (byte {error.start}); save it as UTF-8."
        ) from None
    # A value that its tag does not fit is a KeyError or one of several others.
    except (
        *(YAMLError, ValueError, TypeError, RecursionError),
        *(LookupError, AttributeError, ArithmeticError, AssertionError),
    ) as error:
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


def _check_size(name: str, text: str) -> None:
    """Refuse a file whose aliases write out to more than `MOST` values.

    Raises:
        ParameterError: so they do; ten lines may hold a billion values.
    """
    sizes: dict[str, int] = {}
    open_: list[tuple[str | None, int]] = []  # an anchor, and the values before it
    total = 0
    for event in YAML(typ="safe", pure=True).parse(text):
        anchor = getattr(event, "anchor", None)
        if isinstance(event, CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, AliasEvent):
            holds_itself = event.anchor in [name for name, _ in open_]
            total += MOST if holds_itself else sizes.get(event.anchor, 0)
        elif isinstance(event, NodeEvent):
            total += 1
            if isinstance(event, CollectionStartEvent):
                open_.append((anchor, total - 1))
            elif anchor:
                sizes[anchor] = 1
        if total > MOST:
            raise ParameterError(
                f"{name} holds more than {MOST:,} values once its aliases are written "
                "out; expected fewer; write them where they are used."
            )


def names_of(names: Iterable[Any]) -> str:
    """Write names in one line, sorted, or the word none."""
    return ", ".join(f"`{name}`" for name in sorted(map(str, names))) or "none"


def call_named(
    known: Mapping[str, Callable[..., Any]], parameter: str, name: Any, words: dict
) -> Any:
    """Call what a profile names, with the arguments that stand beside the name.

    `parameter` is the profile's, to say what to edit. Unknown and missing arguments,
    and those of another type than the annotation's, are refused before the call.

    Raises:
        ParameterError: there is no such name, or the arguments do not fit.
    """
    if not isinstance(name, str) or name not in known:
        raise ParameterError(
            f"{parameter} has {reprlib.repr(name)}; expected one of "
            f"{', '.join(known)}; edit `{parameter}` in the profile."
        )
    takes = inspect.signature(known[name], eval_str=True).parameters.values()
    needs = {p.name for p in takes if p.default is p.empty}
    faults = {"does not take": words.keys() - {p.name for p in takes}}
    faults["lacks"] = needs - words.keys()
    if found := [f"{verb} {names_of(f)}" for verb, f in faults.items() if f]:
        raise ParameterError(
            f"{name!r} of `{parameter}` {' and '.join(found)}; it takes "
            f"{names_of(p.name for p in takes)}; edit `{parameter}` in the profile."
        )
    for p in takes:
        if p.name in words and not _fits(words[p.name], p.annotation):
            raise ParameterError(
                f"`{p.name}` of {name!r} in `{parameter}` is "
                f"{printable(reprlib.repr(words[p.name]))}; expected "
                f"{_told(p.annotation)}; edit `{parameter}` in the profile."
            )
    return known[name](**words)


def _fits(value: Any, kind: Any) -> bool:
    """Tell whether a value is of an annotation's type; an int is a float, too.

    Text has whole characters, and a float is finite. What is not told apart here fits.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    if kind is float or kind is int:
        is_integer = isinstance(value, int) and value.bit_length() <= 64
        is_number = is_integer or (kind is float and _is_finite(value))
        return is_number and not isinstance(value, bool)
    if kind is None:
        return value is None
    kind = origin or kind
    if not isinstance(kind, type) or kind in (Any, inspect.Parameter.empty):
        return True
    if isinstance(value, str):
        is_text = is_whole(value)
        return is_text and (kind is object or issubclass(str, kind) and not inner)
    if not isinstance(value, kind):
        return False
    each = inner[:1] if kind in (list, Sequence) else ()
    return all(_fits(one, item) for item in each for one in cast(Sequence[Any], value))


def _is_finite(value: Any) -> bool:
    return isinstance(value, float) and math.isfinite(value)


def _told(kind: Any) -> str:
    """Return an annotation in words."""
    names = {str: "text", int: "a whole number", float: "a finite number"}
    names |= {bool: "true or false", Path: "a path", NoneType: "nothing"}
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(_told(one) for one in get_args(kind))
    if get_origin(kind) in (Mapping, dict):
        return "names with values"
    if get_origin(kind) in (Sequence, list):
        return f"a list, each {_told(get_args(kind)[0])}"
    return names.get(kind) or str(getattr(kind, "__name__", kind))

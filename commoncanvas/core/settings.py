"""Settings files: YAML as DVC reads it, and names written in one line."""

from ruamel.yaml import YAML  # YAML 1.2 as DVC reads it, so that 1e-4 is a number
from ruamel.yaml.error import YAMLError

from commoncanvas.core.errors import ParameterError


def load_yaml(path):
    """Read one settings file; an empty one is no settings.

    Raises:
        ParameterError: it is missing, or no YAML of names and values.
    """
    if not path.is_file():
        raise ParameterError(f"{path.name} is missing; restore it with git.")
    try:
        found = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except YAMLError as error:
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


def names_of(names):
    """Write names in one line, sorted, or the word none."""
    return ", ".join(f"`{name}`" for name in sorted(names)) or "none"

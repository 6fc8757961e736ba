"""Captioners by name: who wrote the captions of each source, by stage 02."""

from collections.abc import Mapping
from typing import Any

STATED = "source"  # of a caption that came with the work
# Captioners of stage 00: what they are called where others read their captions.
OWN = {
    "open": "commoncanvas-replicated/captioner",
    "retrieval": "commoncanvas-replicated/second_captioner",
}


def named(model: str, revision: str | None = "") -> str:
    """Return a model's name, with its revision where there is one."""
    return f"{model} at {revision}" if revision else model


def captioner_of(settings: Mapping[str, Any]) -> str:
    """Return the name of a captioner, of its settings in a profile.

    It is that of its model, or of its class where that has one model alone.
    """
    kind = settings["captioner"]
    return named(settings.get("model", OWN.get(kind, kind)), settings.get("revision"))


def captioners_of(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return {caption source: captioner}, of the facts of stage 02's manifest."""
    return {
        source: captioner_of(told["captioner"])
        for source, told in facts.items()
        if isinstance(told, Mapping) and "captioner" in told
    }

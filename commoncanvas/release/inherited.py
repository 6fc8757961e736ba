"""A released model's parts beside its UNet: whose they are, and what they learnt from.

Stage 00 trained this project's own on captioned web sets, whose licences the pinned
packages state. What a part by others was trained on, its authors state.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from commoncanvas.captions.names import OWN
from commoncanvas.catalog.sources.iconify import LOCK, SCOPE
from commoncanvas.core import paths
from commoncanvas.core.files import read_json
from commoncanvas.core.settings import load_yaml

OPEN_VAE = "pretrained/vae"  # stage 00's, as profiles and manifests name it
NAMES = {OPEN_VAE: "commoncanvas-replicated/vae"}  # what it is called elsewhere
CAPTIONERS = frozenset(OWN.values())
STARTED_FROM = "EfficientNet-Lite0"  # both captioners, see `models.efficientnet`


@dataclass(frozen=True)
class WebSet:
    """A set of captioned web drawings; its licence is an SPDX id, its link a page."""

    name: str
    version: str
    license: str
    link: str


@dataclass(frozen=True)
class Part:
    """A part: its role (`VAE`), name, and the web sets that it learnt from.

    A part by others has none.
    """

    role: str
    name: str
    sets: tuple[WebSet, ...]

    @property
    def reads_names(self) -> bool:
        """Learnt from the drawings' names, too."""
        return self.name in CAPTIONERS


def web_sets() -> tuple[WebSet, ...]:
    """Return the sets that stage 00 trains on, in its order."""
    names = load_yaml(paths.PROFILES / "pretrain.yaml")["pretrain"]["web_sources"]
    pins = read_json(LOCK)["packages"]
    found = []
    for name in names:
        pin = pins[f"node_modules/{SCOPE}{name}"]
        link = f"https://icon-sets.iconify.design/{name}/"
        found.append(WebSet(name, pin["version"], pin["license"], link))
    return tuple(found)


def listed(sets: Iterable[WebSet]) -> str:
    """Return sets with their licences, as text."""
    return ", ".join(f"{one.name} ({one.license})" for one in sets)


def parts_of(facts: Mapping[str, Any]) -> list[Part]:
    """Return the parts that the facts of a release name, in their order."""
    pairs: Iterable[Sequence[str]] = facts["parts"]
    own = {OPEN_VAE, *CAPTIONERS}
    return [
        Part(role, NAMES.get(name, name), web_sets() if name in own else ())
        for role, name in pairs
    ]


def told(parts: Sequence[Part]) -> str:
    """Say what parts learnt from, in a sentence or more."""
    own = [part for part in parts if part.sets]
    others = [part for part in parts if not part.sets]
    said = []
    if own:
        was = "was" if len(own) == 1 else "were"
        said.append(
            f"{_named(own)} {was} trained by this project on drawings of "
            f"{listed(own[0].sets)}."
        )
    if any(part.reads_names for part in own):
        said.append(
            "The captioner learnt their names, too, and starts from "
            f"{STARTED_FROM}, whose authors state what it was trained on."
        )
    if others:
        said.append(
            f"{_named(others)}: made by others, who state what each was trained on."
        )
    return " ".join(said)


def _named(parts: Sequence[Part]) -> str:
    named = [f"the {part.role.partition(',')[0]} ({part.name})" for part in parts]
    text = " and ".join(named)
    return text[:1].upper() + text[1:]

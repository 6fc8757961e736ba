"""Ancestry: whose works are in the weights that a training starts from.

`works.parquet` of stage 04 lists every work that a model learnt from, with its licence
and the model by whose training it came in. A warm start takes over the list of its
ancestor, so licence, credits and take-downs follow a work through all of them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd

from commoncanvas.core import manifest, paths
from commoncanvas.core.errors import LicenseError, ManifestError, ParameterError
from commoncanvas.core.files import read_json, sha256_of, shown
from commoncanvas.licenses import takedown
from commoncanvas.licenses.license import read_license

WORKS = "works.parquet"
LICENSE = ["license_slug", "license_version", "license_port"]
COLUMNS = ["key", "source", "split", "license", *LICENSE, "model"]
Ancestor = dict[str, Any]  # what the manifest of a warm-started model says of it


def read_ancestor(
    init_from: str, init_license: str = ""
) -> tuple[pd.DataFrame, Ancestor | None]:
    """Read what the weights that a training starts from were trained on.

    Args:
        init_from: the folder of a pipeline or of its UNet; "" for none.
        init_license: the licence of weights whose works are not listed beside them.

    Returns:
        (works, ancestor): rows of `COLUMNS`, those of earlier ancestors too; and model,
        folder, manifest (its SHA-256), num_works (None if unknown), license (its card's
        or as given, else "") and facts, in which an earlier ancestor stands. No
        rows and None if there is none.

    Raises:
        LicenseError: the works are unknown and no licence is given, or it is closed to
            adaptation.
        ManifestError: the list of works is not that of the folder's manifest.
        ParameterError: one of the works was taken down.
    """
    nothing = pd.DataFrame({name: pd.Series(dtype=str) for name in COLUMNS})
    if not init_from:
        return nothing, None
    folder = paths.ROOT / init_from
    about: Ancestor = {
        "model": _plain(init_from),
        "folder": shown(folder),
        "manifest": None,
    }
    about |= {"num_works": None, "license": init_license, "facts": {}}
    # A UNet lies in its pipeline, and that in the folder of its stage.
    places = (folder, folder.parent, folder.parent.parent)
    _check_open(init_license, init_from)
    if place := next((p for p in places if (p / manifest.NAME).is_file()), None):
        said = manifest.read_manifest(place, verify=False)
        model = _plain(f"{said['scale']}/{said['variant']}")
        about |= {"model": model, "folder": shown(place)}
        about |= {"manifest": sha256_of(place / manifest.NAME), "facts": said["facts"]}
        if WORKS in said["files"]:
            works = pd.read_parquet(manifest.listed(place, WORKS))
            if lacking := sorted(set(COLUMNS) - set(works)):
                raise ManifestError(
                    f"{shown(place / WORKS)} lacks {', '.join(lacking)}; expected the "
                    "licence of every work; train that model again first."
                )
            _check_listed(works, init_from)
            return works[COLUMNS], about | {"num_works": len(works)}
    # A pipeline that was copied alone still has its card.
    cards = [p / "card.json" for p in places if (p / "card.json").is_file()]
    about["license"] = _plain(read_json(cards[0])["license"]) if cards else init_license
    if not about["license"]:
        raise LicenseError(
            f"init_from is {init_from!r}, which lists no works; expected a folder of "
            "stage 04, or the licence of the weights; set train.init_license."
        )
    return nothing, about


def _plain(text: object) -> str:
    """Return a stranger's word without what Markdown could take for its own."""
    return re.sub(r"[^\w ./+-]", "", str(text))[:200]


def _check_listed(works: pd.DataFrame, init_from: str) -> None:
    """Refuse weights that learnt from a work which was taken down since."""
    if taken := int(takedown.is_listed(works, takedown.read_list()).sum()):
        raise ParameterError(
            f"the weights {init_from!r} learnt from {taken} works that "
            "docs/takedown.txt lists; expected none; train that model again first."
        )


def _check_open(license_: str, init_from: str) -> None:
    """Refuse weights under a licence that is closed to adaptation."""
    try:
        is_open = read_license(license_, "").allows_derivatives
    except LicenseError:  # none, or one of its own, which the card names
        return
    if not is_open:
        raise LicenseError(
            f"the weights {init_from!r} are under {license_}; expected a licence open "
            "to adaptation; start from others."
        )


def learnt_from(own: pd.DataFrame, ancestral: pd.DataFrame, model: str) -> pd.DataFrame:
    """Return every work that a model learnt from, its own first, as `COLUMNS`.

    A work comes once, but once under each licence where its ancestors met another.

    Args:
        own: of `licenses_of`, trained on now.
        ancestral: of `read_ancestor`.
        model: name of this one, e.g. "paper/cc_nc".
    """
    works = pd.concat([own.assign(model=model)[COLUMNS], ancestral], ignore_index=True)
    return works.drop_duplicates(["key", *LICENSE], ignore_index=True)


def ancestors(facts: Mapping[str, Any]) -> Iterator[Ancestor]:
    """Yield the ancestors that a model's facts tell of, the nearest first."""
    while ancestor := facts.get("ancestor"):
        yield ancestor
        facts = ancestor["facts"]

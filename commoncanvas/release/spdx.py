"""SPDX 3.0.1: a released model and what it was trained on, as a bill of materials.

The model is an AI package, each source a data set package; relationships say what was
trained on what, and under which licence each is. JSON-LD is written directly, since it
is a list of elements; the tests read it with the bindings of the SPDX model.
Source: spdx, profiles AI, Dataset and SimpleLicensing.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from commoncanvas import __version__
from commoncanvas.core.text import printable
from commoncanvas.licenses.license import License, read_license
from commoncanvas.release.croissant import urn
from commoncanvas.release.inherited import Part, WebSet, parts_of, told

CONTEXT = "https://spdx.org/rdf/3.0.1/spdx-context.jsonld"
PROFILES = ["core", "software", "ai", "dataset", "simpleLicensing"]
_INFO = "_:created"
AUTHORS_SHOWN = 3
Element = dict[str, Any]


class _Graph:
    """Elements with ids of one name space; licences come once each."""

    def __init__(self, space: str) -> None:
        self.space, self.elements = space, list[Element]()
        self.licenses: dict[str, str] = {}

    def add(self, type_: str, slug: str, **properties: Any) -> str:
        """Add an element and return its id; properties without a value are left out."""
        identity = f"{self.space}#{_plain(slug)}"
        taken = {element["spdxId"] for element in self.elements}
        number = 2
        while identity in taken:
            identity, number = f"{identity.partition('~')[0]}~{number}", number + 1
        given = {key: v for key, v in properties.items() if v not in (None, "", [])}
        self.elements.append(
            {"type": type_, "spdxId": identity, "creationInfo": _INFO} | given
        )
        return identity

    def relate(self, kind: str, origin: str, *targets: str) -> None:
        """Add a relationship of one element to others."""
        ends = {"from": origin, "to": [*targets], "relationshipType": kind}
        self.add("Relationship", f"{kind}-{origin.rpartition('#')[2]}", **ends)

    def license(self, of: str, licenses: Sequence[License]) -> None:
        """Say under which licences an element is, as declared and as we conclude."""
        names = {one: one.spdx or f"LicenseRef-{_plain(one.title)}" for one in licenses}
        expression = " AND ".join(sorted(set(names.values())))
        if expression not in self.licenses:
            own = [
                {"type": "DictionaryEntry", "key": name, "value": one.url}
                for one, name in names.items()
                if not one.spdx
            ]
            self.licenses[expression] = self.add(
                "simplelicensing_LicenseExpression",
                f"license-{expression}",
                simplelicensing_licenseExpression=expression,
                simplelicensing_customIdToUri=own,
            )
        for kind in ("hasDeclaredLicense", "hasConcludedLicense"):
            self.relate(kind, of, self.licenses[expression])


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "-", text)


def describe(
    manifest: Mapping[str, Any],
    sets: Sequence[Mapping[str, Any]],
    supplier: str,
    page: str,
    date: str,
    ledger_sha256: str,
) -> dict[str, Any]:
    """Return the SPDX document of a released model.

    Args:
        manifest: of the release.
        sets: what each source gave, from `credited.by_source`.
        supplier: who releases the model.
        page: its address, or a URN that names it.
        date: of publication, ISO.
        ledger_sha256: of works.parquet, which credits every work.
    """
    facts, name = manifest["facts"], f"{manifest['scale']}-{manifest['variant']}"
    graph = _Graph(urn(name, facts["works_key"], date))
    time = f"{date}T00:00:00Z"
    agent = graph.add("Organization", "supplier", name=printable(supplier))
    tool = graph.add("Tool", "tool", name=f"commoncanvas {__version__}")
    weights = manifest["files"]["unet/diffusion_pytorch_model.safetensors"]["sha256"]
    model = graph.add(
        "ai_AIPackage",
        "model",
        name=f"CommonCanvas, replicated: {manifest['variant']} at {manifest['scale']}",
        software_packageVersion=weights[:12],
        software_primaryPurpose="model",
        software_downloadLocation=page,
        suppliedBy=agent,
        releaseTime=time,
        verifiedUsing=[_hash(weights)],
        software_attributionText=[facts["note"]],
        ai_typeOfModel=["latent diffusion model"],
        ai_domain=["text-to-image generation"],
        ai_informationAboutTraining=f"The UNet was trained on {facts['works']:,} works "
        "alone. " + told(parts_of(facts)),
        ai_limitation="Nothing filters prompts or pictures; see the model's card.",
        ai_useSensitivePersonalInformation="noAssertion",
    )
    graph.license(model, [read_license(facts["license"])])
    parts = [_part(graph, part, manifest, agent) for part in parts_of(facts)]
    if parts:
        graph.relate("dependsOn", model, *parts)
    graph.relate(
        "trainedOn", model, *(_set(graph, one, ledger_sha256, time) for one in sets)
    )
    elements = [element["spdxId"] for element in graph.elements]
    graph.add(
        "SpdxDocument",
        "document",
        name=f"Bill of materials of {name}",
        profileConformance=PROFILES,
        rootElement=[model],
        element=elements,
    )
    created = {"created": time, "createdBy": [agent], "createdUsing": [tool]}
    info = {"type": "CreationInfo", "@id": _INFO, "specVersion": "3.0.1", **created}
    return {"@context": CONTEXT, "@graph": [info, *graph.elements]}


def _part(graph: _Graph, part: Part, manifest: Mapping[str, Any], agent: str) -> str:
    """Add a part with what it was trained on; one that is shipped has a licence, too.

    A part by others is under a licence that they state.
    """
    weights = f"{part.role.lower()}/diffusion_pytorch_model.safetensors"
    shipped = manifest["files"].get(weights) if part.sets else None
    found = graph.add(
        "software_Package",
        f"part-{part.role}",
        name=printable(f"{part.role}: {part.name}"),
        comment=printable(told([part])),
        software_primaryPurpose="model",
        suppliedBy=agent if shipped else "",
        verifiedUsing=[_hash(shipped["sha256"])] if shipped else [],
    )
    if shipped:
        graph.license(found, [read_license(manifest["facts"]["license"])])
    if part.sets:
        graph.relate("trainedOn", found, *(_web_set(graph, one) for one in part.sets))
    return found


def _web_set(graph: _Graph, one: WebSet) -> str:
    """Add a web set that a part was trained on, once, with its licence.

    It is no data set package, whose profile asks for authors and days: a release has
    none of these sets.
    """
    name = f"{one.name}, web icon set"
    for element in graph.elements:
        if element.get("name") == name:
            return element["spdxId"]
    found = graph.add(
        "software_Package",
        f"web-set-{one.name}",
        name=name,
        software_primaryPurpose="data",
        software_packageVersion=one.version,
        software_downloadLocation=one.link,
    )
    graph.license(found, [read_license(one.license)])
    return found


def _set(graph: _Graph, one: Mapping[str, Any], sha256: str, time: str) -> str:
    """Add a source as a data set, with its licences and authors."""
    authors = [printable(author) for author in one["authors"][:AUTHORS_SHOWN]]
    if more := len(one["authors"]) - len(authors):
        authors.append(f"{more:,} more")
    named = ", ".join(authors) or "authors not named"
    maker = graph.add("Organization", f"authors-{one['name']}", name=named)
    seen = f"{one['last']}T00:00:00Z" if one["last"] else time
    found = graph.add(
        "dataset_DatasetPackage",
        f"set-{one['name']}",
        name=printable(one["name"]),
        dataset_datasetType=["image"],
        dataset_datasetSize=one["works"],
        dataset_dataPreprocessing=[printable(change) for change in one["changes"]],
        dataset_hasSensitivePersonalInformation="noAssertion",
        dataset_intendedUse="Training of text-to-image models.",
        comment="built and released: the latest day on which it was packed, or a work "
        "of it last seen or uploaded."
        if one["last"]
        else "built and released: not recorded; the day of this document is given.",
        originatedBy=[maker],
        builtTime=seen,
        releaseTime=seen,
        software_primaryPurpose="data",
        software_downloadLocation=one["link"] or urn("source", one["name"]),
        software_attributionText=[
            f"{one['works']:,} works; works.parquet (SHA-256 {sha256}) credits each."
        ],
    )
    licenses = [read_license(title, deed) for title, deed, _, _ in one["licenses"]]
    graph.license(found, licenses)
    return found


def _hash(sha256: str) -> Element:
    return {"type": "Hash", "algorithm": "sha256", "hashValue": sha256}

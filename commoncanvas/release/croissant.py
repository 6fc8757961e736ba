"""Croissant: what a data set holds, for machines, with rights record by record.

MLCommons' Croissant 1.1 describes a set as a whole and every column of it. Ours say
which column is a record's licence, which its author, page and captioner, so that a
program can honour each without having read the card.
Source: croissant-spec-1.1, "Data-level Provenance"; croissant-rai-spec 1.0.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

VERSIONS = [
    "http://mlcommons.org/croissant/1.1",
    "http://mlcommons.org/croissant/RAI/1.0",
]
# The specification's own, its appendix 1, and the vocabularies that we use beside it.
CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "sc": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "prov": "http://www.w3.org/ns/prov#",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "description": {"@container": "@language"},
    "name": {"@container": "@language"},
    **{
        name: f"cr:{name}"
        for name in """annotation arrayShape citeAs column containedIn
        equivalentProperty excludes extract field fileProperty fileObject fileSet format
        includes isArray isLiveDataset jsonPath key md5 parentField path recordSet
        references regex repeated replace samplingRate sdVersion separator source
        subField transform""".split()
    },
}
CITATION = """@inproceedings{gokaslan2024commoncanvas, title={CommonCanvas: An Open
Diffusion Model Trained with Creative-Commons Images}, author={Gokaslan, Aaron and
others}, booktitle={CVPR}, year={2024}}""".replace("\n", " ")
AUTHORS = "The authors of CommonCanvas, replicated"  # who releases, unless told
CC0 = "https://creativecommons.org/publicdomain/zero/1.0/"


@dataclass(frozen=True)
class Field:
    """One column: its kind, meaning, the properties that it states, and who says so.

    by: the column that names whose words these are; path: within a struct.
    """

    column: str
    kind: str
    meaning: str
    states: tuple[str, ...] = ()
    by: str = ""
    path: str = ""


# What every record states of its rights, under the ledger's names.
RIGHTS = [
    Field("key", "sc:Text", "Source and id; unique.", ("sc:identifier",)),
    Field("title", "sc:Text", "The work's title.", ("sc:name",)),
    Field("author", "sc:Text", "Whom to credit.", ("sc:creator",)),
    Field("author_url", "sc:URL", "The author's page; may be empty."),
    Field("source", "sc:Text", "The collection.", ("sc:isPartOf",)),
    Field(
        "source_url", "sc:URL", "The work's page.", ("sc:url", "prov:wasDerivedFrom")
    ),
    Field("license_slug", "sc:Text", "The licence, e.g. by-sa."),
    Field("license", "sc:Text", "The licence's name.", ("sc:license",)),
    Field("license_version", "sc:Text", "The licence's version."),
    Field("license_url", "sc:URL", "The licence's deed.", ("sc:license",)),
    Field(
        "date_seen",
        "sc:Date",
        "When its source was packed, or the work last seen or (YFCC100M) uploaded.",
    ),
    Field("sha256", "sc:Text", "SHA-256 of the picture's pixels."),
    Field("changes", "sc:Text", "What was done to the picture."),
]


def urn(*parts: str) -> str:
    """Return a name for what has no address; the same parts give the same one."""
    return uuid.uuid5(uuid.NAMESPACE_URL, "/".join(["commoncanvas", *parts])).urn


def describe(
    name: str,
    description: str,
    page: str,
    creator: str,
    date: str,
    licenses: Sequence[str],
    distribution: Sequence[Mapping[str, Any]],
    fields: Sequence[Field],
    rai: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the Croissant of a set whose records lie in the first of some files.

    Args:
        page: address of the set's page, or a URN that names it.
        creator: the organisation or people who made the set, not the works.
        date: of publication, ISO.
        licenses: addresses of all licences among the records.
        distribution: of `file_object` and `file_set`.
        fields: the columns of the first of them.
        rai: properties of the RAI vocabulary, without prefix.
    """
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": VERSIONS,
        "name": name,
        "description": description,
        "url": page,
        "creator": {"@type": "Organization", "name": creator},
        "datePublished": date,
        "version": "1.0.0",
        "license": list(licenses),
        "sdLicense": CC0,
        "citeAs": CITATION,
        **{f"rai:{name}": value for name, value in rai.items() if value},
        "distribution": list(distribution),
        "recordSet": [_record_set(distribution[0], fields)],
    }


def file_object(name: str, sha256: str, size: int) -> dict[str, Any]:
    """Describe a parquet file that lies beside the description."""
    return {
        "@type": "cr:FileObject",
        "@id": name,
        "name": name,
        "contentUrl": name,
        "contentSize": f"{size} B",
        "encodingFormat": "application/x-parquet",
        "sha256": sha256,
    }


def file_set(name: str, pattern: str) -> dict[str, Any]:
    """Describe the parquet files below the description that a glob names."""
    return {
        "@type": "cr:FileSet",
        "@id": name,
        "name": name,
        "encodingFormat": "application/x-parquet",
        "includes": pattern,
    }


def _record_set(file: Mapping[str, Any], fields: Sequence[Field]) -> dict[str, Any]:
    kind = file["@type"].removeprefix("cr:")
    origin = {kind[0].lower() + kind[1:]: {"@id": file["@id"]}}
    by_column = {field.column: field for field in fields}
    hidden = {field.by for field in fields}
    return {
        "@type": "cr:RecordSet",
        "@id": "works",
        "name": "works",
        "description": "One record a work, with its licence, credit and captioner.",
        "key": {"@id": "works/key"},
        "field": [
            _field(field, origin, by_column.get(field.by))
            for field in fields
            if field.column not in hidden
        ]
        # A reader that knows no annotations finds the captioner as a column too.
        + [_field(by_column[name], origin, None) for name in sorted(hidden - {""})],
    }


def _field(field: Field, origin: Mapping[str, Any], by: Field | None) -> dict[str, Any]:
    identity = f"works/{field.column}"
    source: dict[str, Any] = {**origin, "extract": {"column": field.column}}
    if field.path:
        source["transform"] = {"jsonPath": field.path}
    told: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": identity,
        "name": identity,
        "description": field.meaning,
        "dataType": field.kind,
        "source": source,
    }
    if field.states:
        told["equivalentProperty"] = [*field.states]
    if by:
        note = _field(by, origin, None)
        told["annotation"] = note | {
            "@id": f"{identity}/{by.column}",
            "name": f"{identity}/{by.column}",
        }
    return told

"""The card of a released data set: what is in it, by whom, and what is not known.

Every number is counted in the files that were written. The words are in
`templates/dataset_card.md.jinja`; `croissant.json` tells programs the same.
"""

import glob
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from duckdb import DuckDBPyConnection
from huggingface_hub import DatasetCard, DatasetCardData

from commoncanvas.analysis import tables
from commoncanvas.catalog import splits
from commoncanvas.core import paths
from commoncanvas.core.files import write_json
from commoncanvas.core.text import markdown_text
from commoncanvas.core.works import without_progress
from commoncanvas.licenses.license import read_license
from commoncanvas.release import croissant
from commoncanvas.release.credited import dates_of
from commoncanvas.release.croissant import Field

TEMPLATE = Path(__file__).parent / "templates" / "dataset_card.md.jinja"
MOST = 100  # groups of a table on the card
MORE = "\nMore works are in [ledger.parquet](ledger.parquet), which lists all.\n"
KINDS = {"part": "train", "holdout": "test"}  # first word of a file -> split to load
COUNTED = {
    "licenses": ["license_title", "license_deed", "split"],
    "sources": ["source"],
    "changes": ["changes"],
}
# A record's columns under the ledger's meanings, where their names differ.
_NAMES = {
    "title": "work_title",
    "source_url": "pageurl",
    "license": "license_title",
    "license_url": "license_deed",
    "sha256": "pixels_sha256",
}
FIELDS = [
    Field("jpg", "sc:ImageObject", "The picture.", ("sc:image",), path="bytes"),
    *(
        Field(_NAMES.get(f.column, f.column), f.kind, f.meaning, f.states)
        for f in croissant.RIGHTS
    ),
    Field("credit", "sc:Text", "The credit as one line.", ("sc:creditText",)),
    Field(
        "blip2_caption",
        "sc:Text",
        "What the captioner wrote, whoever that is.",
        ("sc:caption",),
        by="captioner",
    ),
    Field(
        "captioner",
        "sc:Text",
        "Whose words the caption is.",
        ("prov:wasAttributedTo",),
    ),
    Field("alt_text", "sc:Text", "What the author wrote about it."),
    Field("split", "sc:Text", "c, nc or nd, by what the licence allows."),
    Field("near_group", "sc:Text", "Key of the first work that it nearly copies."),
    Field("width", "sc:Integer", "Of the picture [pixels].", ("sc:width",)),
    Field("height", "sc:Integer", "Of the picture [pixels].", ("sc:height",)),
]


def connect() -> DuckDBPyConnection:
    """Return a connection that keeps order, and sorts on disk what is too much."""
    folder = paths.CHECKPOINTS / "duckdb"
    connection = without_progress(splits.connect(folder=folder))
    return connection.execute("SET preserve_insertion_order = true")


def facts_of(
    files: list[Path], rejected: Mapping[str, int], captioners: Mapping[str, str]
) -> dict[str, Any]:
    """Count what the files of records hold.

    Returns:
        works; holdout, exact_copies, near_copies, captioned (numbers of works); first
        and last (ISO dates on which sources were packed or works seen); lists of
        [values ..., works] by `COUNTED`, the largest first; captions, by [source,
        captioner, captions]; and rejected, as given.
    """
    with connect() as connection:
        names = [glob.escape(str(file)) for file in files]

        def ask(query: str) -> list[tuple]:
            whole = query.replace(
                "FROM works", "FROM read_parquet(?, hive_partitioning = false)"
            )
            return connection.execute(whole, [names]).fetchall()

        [row] = ask(
            """SELECT count(*), count(*) FILTER (is_holdout),
            count(*) FILTER (exact_group <> key), count(*) FILTER (near_group <> key),
            count(*) FILTER (len(captions) > 0), min(nullif(date_seen, '')),
            max(date_seen)
            FROM works"""
        )
        heads = "works holdout exact_copies near_copies captioned first last".split()
        facts: dict[str, Any] = dict(zip(heads, row, strict=True))
        for name, columns in COUNTED.items():
            listed = ", ".join(columns)
            query = f"SELECT {listed}, count(*) AS n FROM works GROUP BY ALL"
            facts[name] = [list(r) for r in ask(f"{query} ORDER BY n DESC, {listed}")]
        facts["captions"] = [
            list(r)
            for r in ask(
                """SELECT one.caption_source, one.captioner, count(*) AS n
                FROM (SELECT unnest(captions) AS one FROM works)
                GROUP BY ALL ORDER BY ALL"""
            )
        ]
    return facts | {"rejected": dict(rejected), "captioners": dict(captioners)}


def write_card(
    out: Path, scale: str, facts: dict[str, Any], places: Mapping[str, int]
) -> None:
    """Write README.md, which `datasets` reads too, and croissant.json."""
    license_ids = [deed for _, deed, _, _ in facts["licenses"]]
    limits = limits_of(facts)
    open_ = [] if limits else ["openly-licensed"]
    head = DatasetCardData(
        license="other",
        license_name="each-record-its-own",
        license_link="README.md#licence",
        pretty_name=f"CommonCatalog, replicated: {scale}",
        task_categories=["text-to-image"],
        tags=["commoncanvas", *open_, "croissant"],
        configs=_configs(places, bool(facts["rejected"])),
    )
    made = DatasetCard.from_template(
        head,
        template_path=str(TEMPLATE),
        scale=scale,
        facts=facts,
        limits=limits,
        gaps=GAPS,
        sets=sorted({place.partition("/")[0] for place in places}),
        **{name: _table(name, facts[name]) for name in _HEADS},
    )
    (out / "README.md").write_text(made.content.strip() + "\n", encoding="utf-8")
    told = croissant.describe(
        name=f"commoncatalog-replicated-{scale}",
        description=f"{facts['works']:,} pictures under Creative Commons licences"
        f"{limits}, with synthetic captions; every record has its licence, credit and "
        "captioner.",
        page=croissant.urn("release-data", scale, facts["key"]),
        creator=croissant.AUTHORS,
        date=facts["date"],
        licenses=license_ids,
        distribution=[croissant.file_set("records", "*/[0-9]/*/*/*.parquet")],
        fields=FIELDS,
        rai=responsible(facts),
    )
    write_json(out / "croissant.json", told)


def limits_of(facts: Mapping[str, Any]) -> str:
    """Say how many works are for some uses only, "" where none is."""
    numbers = {"for non-commercial use only": 0, "not to be adapted": 0}
    for title, deed, _, works in facts["licenses"]:
        license_ = read_license(title, deed)
        is_closed = not license_.allows_commercial, not license_.allows_derivatives
        for what, counts in zip(numbers, is_closed, strict=True):
            numbers[what] += works * counts
    told = [f"{num:,} of them {what}" for what, num in numbers.items() if num]
    return "".join(f", {one}" for one in told)


def responsible(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of the data by the RAI vocabulary, as counted."""
    written = [f"{captioner} ({source})" for source, captioner, _ in facts["captions"]]
    changes = [change for change, _ in facts["changes"] if change][:20]
    left = sum(facts["rejected"].values())
    return {
        "dataCollection": "Works of collections that state a licence for each; none "
        "was taken whose licence, author or page cannot be read from its source. "
        + dates_of([facts["first"] or "", facts["last"] or ""]),
        "dataCollectionType": ["Secondary Data Analysis", "Software Collection"],
        "dataCollectionMissingData": f"{left:,} rows of the sources were rejected, "
        "each with its reason.",
        "dataPreprocessingProtocol": changes,
        "dataAnnotationProtocol": ["Captions are what the named captioner wrote, with "
        "immediate repetitions of a word removed; no person corrected them."],
        "machineAnnotationTools": written,
        "annotationsPerItem": "As many as captioners wrote; see the column captions.",
        "dataLimitations": GAPS,
        "dataBiases": ["Not measured. Works and captions are those of their sources "
        "and captioners, with what these prefer and leave out."],
        "personalSensitiveInformation": ["Not searched for: pictures may show people, "
        "and titles may name them."],
        "dataUseCases": ["Training and evaluation of text-to-image models."],
        "dataReleaseMaintenancePlan": "A work is taken out on request of its author; "
        "later releases lack it. See docs/TAKEDOWN.md of the project.",
    }  # fmt: skip


GAPS = [
    "A source's statement of a licence is believed: an error there is an error here.",
    "A licence says nothing of trademarks, privacy or personality rights.",
    "Pictures are as stage 01 stored them: cut or smaller where `changes` says so.",
    "Columns that the catalogue does not hold (camera, tags, place, day) are empty.",
]
_HEADS = {
    "licenses": ["licence", "deed", "split", "works"],
    "sources": ["source", "works"],
    "captions": ["caption source", "captioner", "captions"],
    "rejected": ["reason", "rows"],
}


def _table(name: str, found: Any) -> str:
    """Return a Markdown table, of many rows the first, strangers' words escaped."""
    rows = list(found.items()) if isinstance(found, Mapping) else found
    cells = [
        [f"{c:,}" if isinstance(c, int) else markdown_text(c) for c in row]
        for row in rows[:MOST]
    ]
    more = f"\n\nand {len(rows) - MOST:,} more.\n" if len(rows) > MOST else ""
    return tables.table(_HEADS[name], cells) + more if cells else "None."


def _configs(places: Mapping[str, int], has_rejected: bool) -> list[dict[str, Any]]:
    """Return what `datasets` can load by name: all, each licence, the rejected rows."""
    kinds: dict[str, set[str]] = {"*": set()}
    for place in places:
        kind = place.rpartition("/")[2].partition("-")[0]
        kinds.setdefault(place.partition("/")[0], set()).add(kind)
        kinds["*"].add(kind)
    configs: list[dict[str, Any]] = [
        {
            "config_name": "all" if folder == "*" else folder,
            "data_files": [
                {"split": split, "path": f"{folder}/[0-9]/*/*/{kind}-*.parquet"}
                for kind, split in KINDS.items()
                if kind in found
            ],
        }
        for folder, found in kinds.items()
    ]
    configs[0]["default"] = True
    if has_rejected:
        files = [{"split": "rejected", "path": "rejected/*.parquet"}]
        configs.append({"config_name": "rejected", "data_files": files})
    return configs

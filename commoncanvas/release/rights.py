"""Rights to hand over: a released model's works and licences, in the forms asked for.

`commoncanvas rights --out FOLDER` writes works.parquet and croissant.json (every work
with licence, creator, page and captioner), training_summary.md and .json (AI Act),
spdx.json, answers.yaml, which a person fills, and index.html, which shows them. All of
it comes from the release's ledger; the same inputs give the same bytes.
"""

from pathlib import Path
from typing import Any

import mistune
import pandas as pd
from markupsafe import Markup

from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import sha256_of, shown, write_json, write_text, writing
from commoncanvas.core.manifest import read_manifest, write_manifest
from commoncanvas.core.templates import assets, page_template
from commoncanvas.publish.pages import write_page
from commoncanvas.release import croissant, questions, spdx, summary
from commoncanvas.release.credited import (
    by_source,
    captioners_of,
    dates_of,
    read_ledger,
)
from commoncanvas.release.croissant import AUTHORS, Field
from commoncanvas.release.dataset import published_on
from commoncanvas.release.folders import replacing
from commoncanvas.release.inherited import parts_of, told
from commoncanvas.release.sample import MODEL
from commoncanvas.release.sample import STAGE as RELEASED

STAGE = "rights"  # of the manifest
FILES = {
    "training_summary.md": "the AI Act's public summary of training content",
    "training_summary.json": "the same, for programs",
    "croissant.json": "Croissant 1.1 with RAI: the works, record by record",
    "works.parquet": "every work with licence, creator, page and captioner",
    "spdx.json": "SPDX 3.0.1, AI and Dataset profiles",
    "answers.yaml": "what only a person can say: fill it, and give it by --answers",
}
FIELDS = [
    *croissant.RIGHTS,
    Field(
        "captioner",
        "sc:Text",
        "Who wrote the captions of this work that the model was trained on.",
        ("prov:wasAttributedTo",),
    ),
]


def write_rights(
    out: Path, model: Path, answers_file: Path | None, date: str
) -> dict[str, Any]:
    """Write a released model's rights into a folder: new, empty, or of an earlier call.

    Args:
        model: folder of a release.
        answers_file: what a person answered, see `questions.read_answers`.
        date: of publication, ISO.

    Returns:
        The summary of training content, whose `open` names what is not answered.

    Raises:
        CommonCanvasError: no such release, answers that cannot be read, or a folder
            that holds something else.
    """
    answers = questions.read_answers(answers_file)
    manifest = _read_release(model)
    facts = manifest["facts"]
    summary.check_against(answers, facts, date)
    works = read_ledger(model, manifest)
    name = f"{manifest['scale']}-{manifest['variant']}"
    page = answers.get("page") or croissant.urn(name, facts["works_key"])
    supplier = answers.get("provider", AUTHORS).splitlines()[0]
    filled = summary.from_ledger(works, manifest["scale"], manifest["variant"], facts)
    made = summary.summarise(filled, answers, date)
    with replacing(out, STAGE) as folder:
        with writing(folder):
            folder.mkdir()
            works.to_parquet(folder / "works.parquet", index=False)
        digest = sha256_of(folder / "works.parquet")
        write_json(folder / "training_summary.json", made)
        text = summary.as_markdown(made)
        write_text(folder / "training_summary.md", text)
        write_text(folder / "answers.yaml", questions.questionnaire(answers))
        sets = by_source(works)
        bill = spdx.describe(manifest, sets, supplier, page, date, digest)
        write_json(folder / "spdx.json", bill)
        size = (folder / "works.parquet").stat().st_size
        write_json(
            folder / "croissant.json",
            croissant.describe(
                name=f"training-works-{name}",
                description=f"The {len(works):,} works that the UNet of {name} was "
                "trained on, each with its licence, creator, page and captioner. It "
                "holds no pictures, and not what the model's other parts were trained "
                "on. " + told(parts_of(facts)),
                page=page,
                creator=supplier,
                date=date,
                licenses=sorted(set(works["license_url"])),
                distribution=[croissant.file_object("works.parquet", digest, size)],
                fields=FIELDS,
                rai=_responsible(works, facts),
            ),
        )
        _write_page(folder, name, made, text)
        kept = {"model": shown(model), "works": len(works), "open": made["open"]}
        variant = manifest["variant"]
        write_manifest(
            folder, STAGE, manifest["scale"], variant, len(works), len(works), {}, kept
        )
    return made


def _read_release(model: Path) -> dict[str, Any]:
    """Return the manifest of a release, of whose files those that are read are hashed.

    Raises:
        ParameterError: the folder holds none.
    """
    try:
        manifest = read_manifest(model, verify=False)
        if manifest["stage"] == RELEASED:
            return manifest
        found = f"it is of {manifest['stage']}"
    except ManifestError as error:
        found = str(error).partition("; ")[0][:160]
    raise ParameterError(
        f"{shown(model)} is no released model ({found}); expected what `commoncanvas "
        "release` writes; make one, or name another by --model."
    )


def _responsible(works: pd.DataFrame, facts: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of the works by Croissant's RAI vocabulary."""
    return {
        "dataCollection": "Works of collections that state an open licence for each. "
        + dates_of(works["date_seen"]),
        "dataCollectionType": ["Secondary Data Analysis", "Software Collection"],
        "dataPreprocessingProtocol": sorted(set(works["changes"]) - {""}),
        "machineAnnotationTools": [
            f"{name} ({source})"
            for source, name in captioners_of(facts).items()
            if source not in ("human", "alt_text")
        ],
        "dataLimitations": [
            "A source's statement of a licence is believed.",
            "What the parts beside the UNet were trained on is not among the works.",
        ],
        "dataBiases": ["Not measured."],
        "personalSensitiveInformation": ["Not searched for."],
        "dataUseCases": ["Crediting the works of a text-to-image model."],
        "dataReleaseMaintenancePlan": "A work is taken out on request; the model has "
        "to be trained again without it.",
    }


def _write_page(out: Path, name: str, made: dict[str, Any], text: str) -> None:
    # mistune lets raw HTML through; `markdown_text` has left none.
    body = mistune.html(text.partition("\n")[2])  # the page has a title of its own
    body = str(body).replace("<table>", '<div class="cc-table"><table>')
    page = page_template("rights.html.j2").render(
        assets={key: Markup(value) for key, value in assets().items()},
        name=name,
        files=FILES,
        num_open=len(made["open"]),
        title=questions.TITLE,
        summary=Markup(body.replace("</table>", "</table></div>")),
    )
    write_page(out / "index.html", page)


def report(
    out: Path, model: Path | None, answers: Path | None, date: str | None
) -> None:
    """Write the rights and print what is in the folder, and what a person must answer.

    Args:
        model: None is results/model.
        answers: None is what was answered in the folder itself.
        date: None is today, UTC.
    """
    own = out / "answers.yaml"
    answers = own if answers is None and own.is_file() else answers
    made = write_rights(out, model or MODEL, answers, published_on(date))
    for file, what in FILES.items():
        print(f"{shown(out / file)}: {what}")
    if made["open"]:
        print(f"open, for a person to answer: {', '.join(made['open'])}")

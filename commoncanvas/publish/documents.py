"""Documents written from files: claims, results, and the README's headlines of them.

`commoncanvas documents` writes them; with `--check` it names what is stale and fails.
Claims come from docs/paper.yaml, numbers from `results/`, words from the templates.
"""

from pathlib import Path
from typing import Any

import jinja2

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.analysis.tables import digits
from commoncanvas.claims.outcomes import NO_TEST, headline
from commoncanvas.claims.rules import in_words, load_paper, value_of
from commoncanvas.core import paths
from commoncanvas.core.errors import CheckFailed, ParameterError
from commoncanvas.core.files import read_json, shown, write_text
from commoncanvas.core.settings import load_yaml
from commoncanvas.publish.scorecard import REFERENCE, SHOWN, in_turn

BEGIN = "<!-- measured: commoncanvas documents writes what follows -->\n"
END = "<!-- /measured -->\n"
COMMAND = "commoncanvas documents"
TEMPLATES = Path(__file__).parent / "templates"
# What recognition.json measured -> how the table calls it.
RECOGNISED = {
    "all": "samples",
    "names_never_trained_on": "of names never trained on",
    "real_held_out_pictures": "real held-out pictures, instead",
}


def claims_document() -> str:
    """Return docs/CLAIMS.md: each claim with its tests, and the plan for `full`."""
    full = load_yaml(paths.PROFILES / "full.yaml")
    return _render("claims.md.jinja", paper=load_paper(), full=full)


def results_document() -> str:
    """Return docs/RESULTS.md: every scorecard and benchmark of `results/`."""
    return _render("results.md.jinja", **_results())


def headlines() -> str:
    """Return the README's section: outcomes and values of the reference run."""
    found = _results()
    return _render(
        "headlines.md.jinja",
        outcomes=SHOWN,
        unlisted=(NO_TEST,),  # their number stands in the headline
        reference_cards=[c for c in found["scorecards"] if c["scale"] == REFERENCE]
        or found["scorecards"][:1],
        **found,
    )


def _render(template: str, **facts: Any) -> str:
    """Fill in a template of this folder, with exactly one newline at the end."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES), trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "cell": lambda text: str(text).replace("|", "\\|"),
        "clock": _clock,
        "digits": digits,
        "estimate": _estimate,
        "headline": headline,
        "in_turn": in_turn,
        "in_words": in_words,
        "value_of": value_of,
    }
    text = environment.get_template(template).render(command=COMMAND, **facts)
    return text.strip() + "\n"


def _results() -> dict[str, Any]:
    """Return what the files of `results/` hold, in the order of their names."""
    trainings = _read_all("bench_train_*.json")
    for bench in trainings:
        bench["scale"] = Path(bench["file"]).stem.removeprefix("bench_train_")
    cards = sorted(paths.RESULTS.glob("*/claims.json"))
    return {
        "paper": load_paper(),
        "scorecards": [_scorecard(file) for file in cards],
        "recognitions": _read_all("*/*/recognition.json"),
        "recognised": RECOGNISED,
        "trainings": trainings,
        "splits": _read_all("bench_licenses.json"),
        "timings": _read_all("timings.json"),
    }


def _read_all(pattern: str) -> list[dict[str, Any]]:
    """Return the contents of matching files, each with its own place as `file`."""
    files = sorted(paths.RESULTS.glob(pattern))
    return [read_json(file) | {"file": shown(file)} for file in files]


def _scorecard(file: Path) -> dict[str, Any]:
    """Return a scorecard, its rows in the order of docs/paper.yaml."""
    claims = load_paper().claims
    rows = {row["claim_id"]: row for row in read_json(file)}
    if unknown := [claim_id for claim_id in rows if claim_id not in claims]:
        raise ParameterError(
            f"{shown(file)} has the claims {', '.join(unknown)}; expected those of "
            "docs/paper.yaml. Run stages 06 and 07 again and copy their claims.json."
        )
    ordered = [rows[key] | {"says": claims[key].says} for key in claims if key in rows]
    run = file.with_name("run.json")
    missing = read_json(run).get("not_run", []) if run.is_file() else []
    found = {"scale": file.parent.name, "file": shown(file), "rows": ordered}
    return found | {"not_run": missing}


def _estimate(found: dict[str, Any] | None, spec: str) -> str:
    return format(Estimate.from_dict(found), spec) if found else "–"


def _clock(run: dict[str, Any]) -> str:
    """Write the wall time of a run in minutes and seconds."""
    minutes, seconds = divmod(run["seconds"], 60)
    parts = [f"{minutes} min"] * bool(minutes) + [f"{seconds} s"] * bool(seconds)
    return "about " * run["rounded"] + " ".join(parts)


def documents() -> dict[Path, str]:
    """Return {path: text}, as the three files should be.

    Raises:
        ParameterError: README.md lacks the marks of the section, or a scorecard in
            `results/` has a claim that docs/paper.yaml lacks.
    """
    readme = paths.ROOT / "README.md"
    before, begin, rest = readme.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ParameterError(
            f"README.md has no section between {BEGIN.strip()} and {END.strip()}; "
            "both lines are expected, once each. Put them back."
        )
    return {
        paths.DOCS / "CLAIMS.md": claims_document(),
        paths.DOCS / "RESULTS.md": results_document(),
        readme: before + begin + headlines() + end + after,
    }


def write_documents(check: bool = False) -> None:
    """Write the documents that are stale, and say so; or only check them.

    Raises:
        CheckFailed: with `check`, a document is not what its files say.
    """
    stale = {
        path: text
        for path, text in documents().items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    }
    if check and stale:
        names = ", ".join(shown(path) for path in stale)
        raise CheckFailed(f"{names} is stale; run `{COMMAND}`.")
    for path, text in stale.items():
        write_text(path, text)
        print(f"wrote {shown(path)}")

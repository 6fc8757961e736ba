"""The index's scorecard: each claim of a run, beside the reference run's."""

import json

from commoncanvas import paths
from commoncanvas.errors import CommonCanvasError
from commoncanvas.manifest import shown
from commoncanvas.parameters import load_yaml

VERDICTS = {
    "supported": ("yes", "✓"),
    "not supported": ("no", "✗"),
    "not testable at this scale": ("open", "○"),
}
REFERENCE = "full"  # the scale whose scorecard in results/ stands beside a run's own


def read_claims(scale, stages):
    """Read the scorecard of a run, in the paper's order, as the index shows it.

    Args:
        scale: name of a profile.
        stages: {slug: stage} of the index, to link to.

    Raises:
        CommonCanvasError: a stage has not run, or a verdict is unknown.
    """
    claims, references = read_rows(scale), _references()
    for claim in claims:
        _judged(claim)
        stage = stages.get(claim["stage"], {})
        claim["href"], claim["stage_title"] = stage.get("href"), stage.get("title")
        claim["reference"] = references.get(claim["claim_id"])
    return claims


def read_rows(scale):
    """Return the rows that stages 06 and 07 of a scale wrote, in the paper's order.

    Raises:
        CommonCanvasError: a stage has not run.
    """
    rows = []
    for slug in ("06_figures", "07_speed"):
        path = paths.stage_dir(scale, slug) / "claims.json"
        rows += json.loads(need(path, scale, slug).decode("utf-8"))
    paper = paths.DOCS / "paper.yaml"
    known = list(load_yaml(paper).get("claims", {})) if paper.is_file() else []
    rank = {claim_id: place for place, claim_id in enumerate(known)}
    return sorted(rows, key=lambda row: rank.get(row["claim_id"], len(rank)))


def _references():
    """Return {claim_id: row} of the reference run; none where none is kept."""
    path = paths.RESULTS / REFERENCE / "claims.json"
    rows = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    return {row["claim_id"]: _judged(row) for row in rows}


def _judged(claim):
    """Give a scorecard's row what the template shows of its verdict."""
    if claim["verdict"] not in VERDICTS:
        raise CommonCanvasError(
            f"claim {claim['claim_id']} has the verdict {claim['verdict']!r}; known"
            f" are {', '.join(VERDICTS)}. Correct it in commoncanvas/rules.py."
        )
    claim["kind"], claim["icon"] = VERDICTS[claim["verdict"]]
    return claim


def summary(tally):
    """Say in one sentence how many claims have which verdict."""
    total = sum(tally.values())
    if not total:
        return "No claim has been tested yet."
    words = {name: f"{n} {'is' if n == 1 else 'are'}" for name, n in tally.items()}
    return (
        f"Of the paper's {total} claims looked at here, {words['supported']} supported"
        f" by what we measured, {words['not supported']} not, and"
        f" {words['not testable at this scale']} beyond what this scale can test."
    )


def need(path, scale, slug):
    """Return a file's bytes, or say which stage of the scale writes it."""
    if not path.is_file():
        raise CommonCanvasError(
            f"{shown(path)} is missing; the index shows it. Run"
            f" `dvc repro {slug}@{scale}`."
        )
    return path.read_bytes()

"""The scorecard as the front page shows it: by outcome, each test with its bar."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.claims.outcomes import (
    BY_CONSTRUCTION,
    DIRECT,
    DOES_NOT,
    FAILS,
    INCONCLUSIVE,
    NO_TEST,
    OPEN,
    PASSES,
    TRANSFERS,
    UNINFORMATIVE,
)
from commoncanvas.claims.rules import COMPARED, Paper, Test, load_paper
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import read_json, shown
from commoncanvas.core.settings import load_yaml

# How each outcome looks: colour and sign.
SHOWN = {
    TRANSFERS: ("yes", "✓"),
    DOES_NOT: ("no", "✗"),
    INCONCLUSIVE: ("open", "◐"),
    UNINFORMATIVE: ("open", "⊘"),
    BY_CONSTRUCTION: ("open", "="),
    NO_TEST: ("open", "○"),
}
# What each group of the scorecard says below its heading.
MEANS = {
    TRANSFERS: "Every test passes; a finding about models carries over to this world.",
    DOES_NOT: "At least one test fails.",
    INCONCLUSIVE: "An interval is too wide to decide.",
    UNINFORMATIVE: "A control failed, so the test could not tell.",
    BY_CONSTRUCTION: "Nothing that could have been measured would have denied it.",
    NO_TEST: "Folded by the reason.",
}
# Why there is no test, from what `why` says; the first that is found counts.
REASONS = (
    ("One person", "One person alone has voted"),
    ("voted", "Nobody has voted yet"),
    ("no rows? of this run", "The models were not trained at this scale"),
    ("measured without", "The network that measures it is not here"),
    ("asks for", "Too few samples at this scale"),
    ("", "No test of it is possible in this world"),
)
SOURCES = {"commoncanvas-cvpr": "CVPR 2024", "commoncanvas-v1": "first edition, 2023"}
REFERENCE = "full"  # the scale whose scorecard in results/ stands beside a run's own
CHARACTER = 2.3  # width of one of a label, where an axis is narrowest [percent of it]
# On which sides of no difference the margin lies, by a test's aim.
SIDES = {"not_lower": (-1,), "not_higher": (1,), "equal": (-1, 1)}
# Whether more of a metric is better, by how its name begins; of others it has no sense.
BETTER = {metric: better for _, _, metric, _, better in COMPARED} | {
    "alignment": "higher",
    "CLIP-FID": "lower",
    "training throughput": "higher",
}


def read_rows(scale: str) -> list[dict[str, Any]]:
    """Return the rows that stages 06 and 07 of a scale wrote, in the paper's order.

    Raises:
        CommonCanvasError: a stage has not run.
    """
    rows = []
    for slug in ("06_figures", "07_speed"):
        path = paths.stage_dir(scale, slug) / "claims.json"
        rows += read_json(needed(path, scale, slug))
    paper = paths.DOCS / "paper.yaml"
    known = list(load_yaml(paper).get("claims", {})) if paper.is_file() else []
    rank = {claim_id: place for place, claim_id in enumerate(known)}
    return sorted(rows, key=lambda row: rank.get(row["claim_id"], len(rank)))


def needed(path: Path, scale: str, slug: str) -> Path:
    """Return the path of a file that exists, or say which stage writes it."""
    if not path.is_file():
        raise CommonCanvasError(
            f"{shown(path)} is missing; the index shows it. Run"
            f" `dvc repro {slug}@{scale}`."
        )
    return path


def read_claims(scale: str, stages: dict[str, dict]) -> list[dict[str, Any]]:
    """Read the scorecard of a run, in the paper's order, as the index shows it.

    Args:
        stages: {slug: stage} of the index, to link to.

    Raises:
        CommonCanvasError: a stage has not run, or an outcome is unknown.
    """
    paper = load_paper()
    claims, references = read_rows(scale), _references(scale, paper)
    for claim in claims:
        _with_looks(claim, paper)
        stage = stages.get(claim["stage"], {})
        claim["href"], claim["stage_title"] = stage.get("href"), stage.get("title")
        claim["reference"] = references.get(claim["claim_id"])
    return claims


def grouped(claims: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return claims by outcome; those without a test by the reason as well.

    Each group has name, kind, icon, means, claims, and reasons: [(reason, claims)] of
    the group that has no test, else none.
    """
    groups = []
    for name, (kind, icon) in SHOWN.items():
        found = [claim for claim in claims if claim["outcome"] == name]
        reasons: dict[str, list] = {reason: [] for _, reason in REASONS}
        for claim in found if name == NO_TEST else ():
            reasons[_reason(claim["why"])].append(claim)
        group: dict[str, Any] = {"name": name, "kind": kind, "icon": icon}
        group["means"] = MEANS[name]
        group["slug"] = name.replace(" ", "-")
        group["claims"] = found
        group["reasons"] = [pair for pair in reasons.items() if pair[1]]
        groups += [group] if found else []
    return groups


def compared(claims: Sequence[dict[str, Any]], scale: str) -> str:
    """Say how many of the reference run's outcomes this run repeats and contradicts.

    Claims about published counts are left out, as every run says the same of them; the
    sentence is empty where there is no other run to compare with.
    """
    decided = [
        (claim["outcome"], claim["reference"]["outcome"])
        for claim in claims
        if claim["reference"]
        and claim["closeness"] != DIRECT
        and claim["reference"]["outcome"] in (TRANSFERS, DOES_NOT)
    ]
    if scale == REFERENCE or not decided:
        return ""
    same = sum(own == other for own, other in decided)
    other_way = sum({own, other} == {TRANSFERS, DOES_NOT} for own, other in decided)
    return (
        f"Of the {len(decided)} outcomes that the reference run decided, this run "
        f"repeats {same} and contradicts {other_way}; about the other "
        f"{len(decided) - same - other_way} it cannot tell."
    )


def _reason(why: str) -> str:
    return next(reason for sign, reason in REASONS if re.search(sign, why))


def _references(scale: str, paper: Paper) -> dict[str, dict]:
    """Return {claim_id: row} of the reference run; none where none is kept."""
    path = paths.RESULTS / REFERENCE / "claims.json"
    rows = read_json(path) if path.is_file() and scale != REFERENCE else []
    return {row["claim_id"]: _with_looks(row, paper) for row in rows}


def _with_looks(claim: dict[str, Any], paper: Paper) -> dict[str, Any]:
    """Give a scorecard's row what the template shows: looks, and tests in words."""
    if claim["outcome"] not in SHOWN:
        raise CommonCanvasError(
            f"claim {claim['claim_id']} has the outcome {claim['outcome']!r}; known"
            f" are {', '.join(SHOWN)}. Run stages 06 and 07 of this scale again."
        )
    claim["kind"], claim["icon"] = SHOWN[claim["outcome"]]
    known = paper.claims.get(claim["claim_id"])
    rules = {t.name: t for t in (*known.tests, *known.requires)} if known else {}
    failed = [test for test in claim["requires"] if test["result"] != PASSES]
    found = [test for test in (*failed, *claim["tests"]) if test["interval"]]
    claim["measured"] = [
        {**_measured(test, rules.get(test["name"])), "metric": metric}
        for test, metric in zip(found, in_turn(t["metric"] for t in found), strict=True)
    ]
    source, _, place = claim["source"].partition(", ")
    claim["source_place"] = place
    claim["source_name"] = SOURCES.get(source, source)
    claim["source_url"] = paper.sources[source].url if source in paper.sources else ""
    claim["plain"] = _plain(claim)
    return claim


def _plain(claim: Mapping[str, Any]) -> str:
    """Say in one sentence why a claim has its outcome."""
    tests, outcome = claim["tests"], claim["outcome"]
    if outcome in (BY_CONSTRUCTION, NO_TEST, UNINFORMATIVE):
        return claim["why"]
    if len(tests) == 1:
        return tests[0]["why"]
    by_result: dict[str, list[str]] = {}
    for test in tests:
        by_result.setdefault(test["result"], []).append(test["name"])
    if outcome == TRANSFERS:
        bad = all(test["control"] for test in tests)
        told = "Both tests pass" if len(tests) == 2 else f"All {len(tests)} tests pass"
        return told + (", and a known-bad model fails each." if bad else ".")
    looked_at = by_result.get(FAILS if outcome == DOES_NOT else OPEN, [])
    verb = "fails" if outcome == DOES_NOT else "cannot be decided"
    if len(looked_at) > 1:
        verb = verb.replace("fails", "fail")
    return f"{len(looked_at)} of {len(tests)} tests {verb}: {'; '.join(looked_at)}."


def in_turn(metrics: Iterable[str]) -> list[str]:
    """Return metrics in words, each without what the one before it said, too.

    What stands behind a metric's comma says of what it is the value, such as the two
    models of a difference, and is often the same for all metrics of a claim.
    """
    said, words = "", []
    for metric in metrics:
        name, _, rest = metric.partition(", ")
        words.append((name if rest == said else metric).replace("`", ""))
        said = rest
    return words


def _measured(test: dict[str, Any], rule: Test | None) -> dict[str, Any]:
    """Return one test in words, with the axis that its interval lies on.

    Args:
        rule: what docs/paper.yaml says of the test; None where it says nothing.
    """
    estimate = Estimate.from_dict(test)
    is_count = test["unit"] == "counts"
    value = f"{estimate:.3g}" if is_count else f"{estimate:+.3g}"
    many = "" if is_count else f"n = {test['n']:,} {test['unit']}"
    if test["trainings"]:
        num = test["trainings"]
        many += f", {num} training{'s' if num > 1 else ''}"
    return {
        "name": test["name"][0].upper() + test["name"][1:],
        "full_metric": test["metric"],
        "better": _better(test["metric"], rule),
        "text": test.get("text") or "",
        "value": value.partition(" [")[0],
        "interval": "" if is_count else "[" + value.partition(" [")[2],
        "many": many,
        "result": test["result"],
        "why": test.get("why", ""),
        "axis": _axis(test, rule),
    }


def _better(metric: str, rule: Test | None) -> str:
    """Return "higher" or "lower"; "" of what has no better side.

    Of a difference of differences none has: more of it is a larger loss somewhere.
    """
    if rule and len(rule.contrast) > 2:
        return ""
    return next((way for name, way in BETTER.items() if metric.startswith(name)), "")


def _axis(test: dict[str, Any], rule: Test | None) -> dict[str, Any] | None:
    """Return where everything lies on a test's axis, in percent of its width.

    The axis holds what the rule compares with: no difference, the margin and the
    known-bad model's effect; or the threshold; or the value that an interval is to
    hold. None where the rule is not known.
    """
    control, margin = test["control"], test["margin"]
    ticks: list[tuple[float, str, str]] = []
    if control and control["value"]:
        bad = control["value"]
        controls = [*rule.control.values()] if rule else ["known-bad"]
        model = controls[0].partition("/")[0]
        ticks = [(0.0, "zero", "0"), (bad, "bad", f"{model} {bad:+.3g}")]
        sides = SIDES[test["aim"]]
        ticks += [(s * margin, "limit", f"margin {s * margin:+.3g}") for s in sides]
    elif rule and rule.aim in ("above", "below"):
        word = "0" if rule.threshold == 0 else f"{rule.aim} {rule.threshold:g}?"
        ticks = [(rule.threshold, "zero", word)]
    elif rule and rule.value is not None and rule.max_width is not None:
        half = rule.max_width / 2
        ticks = [(rule.value, "zero", f"{rule.value:g} ± {half:g}")]
        ticks += [(rule.value + side * half, "limit", "") for side in (-1, 1)]
    if not ticks:
        return None
    marks = [at for at, _, _ in ticks] + [
        *test["interval"],
        *test.get("by_training", ()),
    ]
    low, high = min(marks), max(marks)
    edge = 0.18 * ((high - low) or abs(high) or 1.0)  # room for the labels of the ends
    low, wide = low - edge, high - low + 2 * edge

    def at(value: float) -> float:
        return round(100 * (value - low) / wide, 1)

    start, end = map(at, test["interval"])
    centres = [_centre(at(value), label) for value, _, label in ticks]
    words = [label for *_, label in ticks]
    rows = _label_rows([*zip(centres, words, strict=True)])
    labelled = [
        {"at": at(value), "kind": kind, "label": label, "label_at": centre, "row": row}
        for (value, kind, label), centre, row in zip(ticks, centres, rows, strict=True)
    ]
    return {
        "ticks": labelled,
        "rows": max(rows) + 1,
        "start": start,
        "width": round(end - start, 1),
        "value": at(test["value"]),
        "trainings": [at(value) for value in test.get("by_training", ())][:12]
        if test["trainings"] > 1
        else [],
    }


def _half(words: str) -> float:
    """Return half of a label's width [percent of the axis]."""
    return CHARACTER * (len(words) + 1) / 2


def _centre(at: float, words: str) -> float:
    """Return where a label's centre lies, so that it stands within the axis."""
    return round(min(max(at, _half(words)), 100 - _half(words)), 1)


def _label_rows(labels: Sequence[tuple[float, str]]) -> list[int]:
    """Return the row below an axis of each label, the first in which it has room.

    Args:
        labels: (centre [percent of the axis], words).
    """
    rows: list[list[tuple[float, float]]] = []
    found = []
    for centre, words in labels:
        start, end = centre - _half(words), centre + _half(words)
        free = (
            number
            for number, taken in enumerate(rows)
            if all(end <= a or start >= b for a, b in taken)
        )
        number = next(free, len(rows))
        rows += [[]] if number == len(rows) else []
        rows[number] += [(start, end)] if words else []
        found.append(number)
    return found

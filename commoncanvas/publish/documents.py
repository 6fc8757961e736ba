"""Documents written from files: docs/CLAIMS.md, and what README.md says was measured.

`commoncanvas documents` writes both; with `--check` it names what is
stale
and fails. Claims come from docs/paper.yaml, figures from `results/`; none is typed.
"""

import json

from commoncanvas.analysis.tables import digits, table
from commoncanvas.claims.rules import in_words, load_paper, value_of
from commoncanvas.core import paths
from commoncanvas.core.errors import CheckFailed, ParameterError
from commoncanvas.core.files import shown, write_atomically

BEGIN = "<!-- measured: commoncanvas documents writes what follows -->\n"
END = "<!-- /measured -->\n"
COMMAND = "commoncanvas documents"


def claims_document():
    """Return docs/CLAIMS.md: each claim with its source, and its rule in words."""
    paper = load_paper()
    parts = [
        "# Claims\n\n"
        f"Written by `{COMMAND}` from [paper.yaml](paper.yaml); edit that file.\n"
        "What the paper says, and the rule by which each claim is judged. Rules were "
        "written before the runs; what came out stands on the index of a run.\n"
        "Where all variants that a rule compares were trained from several seeds, the "
        "value is the mean of the trainings, and the interval covers them as well as "
        "the prompts."
    ]
    head = ["claim", "value", "source", "stage"]
    rows = [
        [f"[{key}](#{key})", value_of(claim), _source(claim, paper), claim["stage"]]
        for key, claim in paper["claims"].items()
    ]
    parts.append(table(head, rows))
    parts += [_claim(key, claim, paper) for key, claim in paper["claims"].items()]
    return "\n\n".join(parts) + "\n"


def measured_section():
    """Return the README's section: scorecards and figures of `results/`."""
    files = sorted(paths.RESULTS.glob("*/claims.json"))
    parts = [_scorecard(file) for file in files]
    files = sorted(paths.RESULTS.glob("*/*/recognition.json"))
    parts += [_recognition(file) for file in files]
    files = sorted(paths.RESULTS.glob("bench_train_*.json"))
    parts += [_training(file) for file in files]
    for name, part in (("bench_licenses", _licenses), ("timings", _timings)):
        file = paths.RESULTS / f"{name}.json"
        parts += [part(file)] if file.is_file() else []
    return "\n\n".join(parts) + "\n"


def documents():
    """Return {path: text}, as the two files should be.

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
    text = before + begin + measured_section() + end + after
    return {paths.DOCS / "CLAIMS.md": claims_document(), readme: text}


def _claim(key, claim, paper):
    rule = claim["rule"]
    lines = [
        f"## {key}\n\n{claim['says']}\n",
        f"- **The paper:** {value_of(claim)} ({_source(claim, paper)})",
        f"- **Stage:** [{claim['stage']}](../notebooks/{claim['stage']}.ipynb)",
        f"- **Measured:** {_measured(rule)}",
        f"- **Rule:** {in_words(rule)}",
    ]
    for name, word in (("requires", "Only where"), ("also", "And")):
        lines += [
            f"- **{word} {part['name']}:** {_measured(part)}; {in_words(part)}"
            for part in rule.get(name, [])
        ]
    return "\n".join(lines)


def _source(claim, paper):
    key, _, place = claim["source"].partition(", ")
    source = paper["sources"][key]
    return f"[{key}, {source['year']}]({source['url']}), {place}".rstrip(", ")


def _measured(rule):
    plan = rule.get("measure", {})
    sides = [f"`{plan[side]}`" for side in ("variant", "against") if side in plan]
    return rule["metric"] + (f" ({' against '.join(sides)})" if sides else "")


def _scorecard(file):
    rows, claims = _read(file), load_paper()["claims"]
    place = {key: number for number, key in enumerate(claims)}
    if unknown := [r["claim_id"] for r in rows if r["claim_id"] not in place]:
        raise ParameterError(
            f"{shown(file)} has the claims {', '.join(unknown)}; expected those of "
            "docs/paper.yaml. Run stages 06 and 07 again and copy their claims.json."
        )
    rows = sorted(rows, key=lambda row: place[row["claim_id"]])
    link = "[{0}](docs/CLAIMS.md#{0})".format
    cells = [
        [link(r["claim_id"]), r["paper"], r["ours"] or "–", r["verdict"], r["why"]]
        for r in rows
    ]
    head = ["claim", "the paper", "here, with 95 % interval", "verdict", "why"]
    title = f"Scorecard at `{file.parent.name}` ({_link(file)}):"
    return f"{title}\n\n{table(head, cells)}"


def _recognition(file):
    found = _read(file)
    told = {
        "all": "samples",
        "names_never_trained_on": "of names never trained on",
        "real_held_out_pictures": "real held-out pictures, instead",
    }
    rows = [
        [
            words,
            *(_percent(found[key][judge]) for judge in ("scorer", "neighbour")),
            f"{found[key]['scorer']['n']:,}",
        ]
        for key, words in told.items()
        if found[key]["scorer"]
    ]
    head = ["", "by the scorer", "by the nearest real picture", "n"]
    return (
        f"Held-out names that `{found['variant']}` draws, found among "
        f"{found['choices']} ({_link(file)}); chance is one in as many; share and 95 % "
        f"interval:\n\n{table(head, rows)}"
    )


def _percent(share):
    value, low, high = (100 * x for x in (share["value"], *share["interval"]))
    return f"{value:.0f} % [{low:.0f}, {high:.0f}]"


def _training(file):
    found = _read(file)
    device, threads = (found["hardware"][key] for key in ("device", "threads"))
    scale = file.stem.removeprefix("bench_train_")
    rows = [
        [row["row"], *map(_told, (row["images_per_second"], row["ratio"])), row["note"]]
        for row in found["rows"]
    ]
    head = ["training", "pictures a second", "times", ""]
    return (
        f"Training at `{scale}`, {device}, threads: {threads} ({_link(file)}); value "
        f"and 95 % interval:\n\n{table(head, rows)}"
    )


def _licenses(file):
    found = _read(file)
    rows = [
        [name, f"{run['rows']:,}", digits(run["rows_per_second"]), digits(run["mib"])]
        for name, run in found["runs"].items()
    ]
    goals = [
        [goal["goal"], digits(goal["found"]), "yes" if goal["holds"] else "no"]
        for goal in found["goals"]
    ]
    return "\n\n".join(
        [
            f"The licence split, {found['machine']}, {found['date']} ({_link(file)}):",
            table(["engine", "rows", "rows a second", "peak [MiB]"], rows),
            "What was asked of it:",
            table(["goal", "found", "reached"], goals),
        ]
    )


def _timings(file):
    found = _read(file)
    rows = [[r["what"], r["scale"], _clock(r), r["conditions"]] for r in found["runs"]]
    return (
        f"Wall time, {found['machine']}, {found['date']} ({_link(file)}):\n\n"
        + table(["command", "scale", "time", ""], rows)
    )


def _clock(run):
    minutes, seconds = divmod(run["seconds"], 60)
    parts = [f"{minutes} min"] * bool(minutes) + [f"{seconds} s"] * bool(seconds)
    return "about " * run["rounded"] + " ".join(parts)


def _read(file):
    return json.loads(file.read_text(encoding="utf-8"))


def _link(file):
    place = shown(file)
    return f"[{place}]({place})"


def _told(estimate):
    """Write an estimate with its interval, to three digits."""
    if estimate is None:
        return "–"
    low, high = map(digits, estimate["interval"])
    return f"{digits(estimate['value'])} [{low}, {high}]"


def write_documents(check=False):
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
        write_atomically(path, lambda part, text=text: part.write_bytes(text.encode()))
        print(f"wrote {shown(path)}")

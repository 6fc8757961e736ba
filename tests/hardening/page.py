"""What a hardening run found, as JSON and as a page for readers."""

import datetime as dt
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.hardening import frame

SHOWN = 200  # faults listed on the page


def summary(results: Sequence[frame.Result], hows: dict[str, str]) -> dict[str, Any]:
    """Count cases, inputs, seconds and faults of every kind, by family."""
    kinds: dict[str, Any] = {}
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        named = [result for result in own if not result.num]
        kinds[kind] = {
            "how": hows[kind],
            "date": dt.date.today().isoformat(),
            "cases": len(named),
            "random_inputs": sum(result.num for result in own),
            "seconds": round(sum(result.seconds for result in own), 1),
            "longest_s": round(max(result.seconds for result in own), 2),
            "families": dict(Counter(r.name.partition(":")[0] for r in named)),
            "faults": [
                {"name": r.name, "what": r.fault[0], "detail": r.fault[1]}
                for r in own
                if r.fault
            ],
        }
    if "kills" in kinds:
        killed = [r.name for r in results if r.name.startswith("kill: ")]
        kinds["kills"]["stages"] = dict(Counter(name.split()[1] for name in killed))
    return kinds


def total(kinds: dict[str, Any]) -> dict[str, Any]:
    """Add up the kinds."""
    names = ("cases", "random_inputs", "seconds")
    found: dict[str, Any] = {n: sum(k[n] for k in kinds.values()) for n in names}
    faults = [fault["what"] for kind in kinds.values() for fault in kind["faults"]]
    counts = {what: faults.count(what) for what in frame.FAULTS}
    return found | {"faults": len(faults), "by_what": counts}


def sentence(total: dict[str, Any]) -> str:
    """Say in one line what was tried and what failed."""
    counts = ", ".join(f"{num} {what}" for what, num in total["by_what"].items())
    return (
        f"{total['cases']:,} named cases and {total['random_inputs']:,} random inputs "
        f"in {total['seconds']:,.0f} s: {total['faults']} faults ({counts})"
    )


MEANT = {
    "wrong outcome": "kept, refused or read otherwise than stated",
    "lost row": "a row went in, and neither a row nor a reason came out",
    "half-read file": "a part or a changed file was taken for the whole",
    "differing bytes": "a disturbed run ended in other files",
    "traceback": "an error that is not one line that says what to do",
    "hang": "an item took over 10 s, times the load of a core, or a stage 15 min",
    "crash": "the process died",
    "memory": "more than 4 GiB",
    "process left": "something ran on 3 s after its run had ended",
}
HEAD = """# Hardening

<!-- Written by `make hardening`; do not edit. -->

What strangers' pictures, tables and hosts, a full disk, and a kill at any moment do to
the stages. `make hardening` tries all of it again, in about three hours of one core;
the tests try a small part each time. What is right stands in each case and does not
come from the code that is tried. Everything hostile is made up in `tests/hardening/`.

"""
NOT_COVERED = """
## What is not covered

- Stage 00, which trains for two hours: its functions are tested at toy size, but it was
  not killed as a whole.
- Hosts other than local ones, and networks that lose packets.
- A machine that loses power: a killed process loses nothing that the kernel has taken.
- GPUs, several machines, and other systems than Linux; what needs a mount needs root.
- Flaws in Pillow, resvg and DuckDB that a file of our corpus does not hit: pictures are
  decoded in processes with bounds of time and memory, not in a sandbox.
- Ray's own end: where a run on a local cluster is killed, two of its agents (2.60:
  `ray::DashboardAgent`, `ray::RuntimeEnvAgent`) may live on for a minute, in which they
  report the end to a control store that is gone. Processes left of `rehearsed` come in
  twos and fours; they hold no file of ours.
- Scales other than `tiny` and `rehearsal`. 07_speed writes timings, so that only its
  files' names compare.
"""


def markdown(kinds: dict[str, Any], untried: Sequence[str] = ()) -> str:
    """Return the page of all kinds, each from its last run, and of those without."""
    added = total(kinds)
    lines = [f"{sentence(added)}.", "Each case has a name and can be tried again."]
    if untried:
        lines += ["", f"Not run to their end yet: {', '.join(untried)}."]
    lines += ["", "## What was tried", ""]
    heads = ["named cases", "random inputs", "seconds", "longest [s]", "failed"]
    lines += [_row("kind", "how", "on", *heads), _row(*["---"] * 3, *["---:"] * 5)]
    for kind, told in kinds.items():
        counts = [told[name] for name in ("cases", "random_inputs", "seconds")]
        failed = len(told["faults"])
        shown = (*counts, told["longest_s"], failed)
        lines.append(_row(kind, told["how"], told["date"], *shown))
    lines += ["", "Named cases by family:", ""]
    for kind, told in kinds.items():
        families = [f"{name} {num:,}" for name, num in told["families"].items()]
        lines.append(f"- {kind}: {', '.join(families)}")
    if kills := kinds.get("kills", {}).get("stages"):
        lines += ["", _row("stage", "kills"), _row("---", "---:")]
        lines += [_row(stage, num) for stage, num in kills.items()]
    lines += ["", "## What failed", ""]
    lines += [_row("what", "means", "how often"), _row("---", "---", "---:")]
    lines += [_row(what, MEANT[what], num) for what, num in added["by_what"].items()]
    faults = [_item(kind, **f) for kind, told in kinds.items() for f in told["faults"]]
    lines += ["", *faults[:SHOWN]]
    if len(faults) > SHOWN:
        lines.append(f"- and {len(faults) - SHOWN} more, in results/hardening.json")
    return HEAD + "\n".join(lines) + "\n" + NOT_COVERED


def _row(*cells: Any) -> str:
    texts = [f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells]
    return f"| {' | '.join(texts)} |"


def _item(kind: str, name: str, what: str, detail: str) -> str:
    detail = detail.replace("`", "'")
    return f"- {kind}, `{name}`: {what}: `{detail}`"

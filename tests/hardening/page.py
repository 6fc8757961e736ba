"""What a hardening run found, as JSON and as a page for readers."""

import platform
from collections import Counter
from collections.abc import Sequence
from typing import Any

from tests.hardening import frame

SHOWN = 200  # faults listed on the page


def summary(
    results: Sequence[frame.Result], seed: int, seconds: float
) -> dict[str, Any]:
    """Count cases, inputs, seconds and faults, by kind and by family."""
    kinds: dict[str, Any] = {}
    for kind in dict.fromkeys(result.kind for result in results):
        own = [result for result in results if result.kind == kind]
        named = [result for result in own if not result.num]
        kinds[kind] = {
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
    whats = Counter(result.fault[0] for result in results if result.fault)
    total = {
        name: sum(found[name] for found in kinds.values())
        for name in ("cases", "random_inputs")
    }
    total |= {"seconds": round(seconds), "faults": sum(whats.values())}
    total["by_what"] = {what: whats[what] for what in frame.WHATS}
    return {"seed": seed, "python": platform.python_version(), "kinds": kinds} | {
        "total": total
    }


def sentence(total: dict[str, Any]) -> str:
    """Say in one line what was tried and what failed."""
    counts = ", ".join(f"{num} {what}" for what, num in total["by_what"].items())
    return (
        f"{total['cases']:,} named cases and {total['random_inputs']:,} random inputs "
        f"in {total['seconds']:,} s: {total['faults']} faults ({counts})"
    )


def markdown(found: dict[str, Any]) -> str:
    """Return the page."""
    return sentence(found["total"])

"""Every interval on the page of findings is one that the reference run measured."""

import json
import re

import pytest

from commoncanvas.core import paths

TEXT = (paths.DOCS / "FINDINGS.md").read_text(encoding="utf-8")
# A value with its interval: 7.1 [6.3, 7.9], or 8 % [6, 11].
SHOWN = re.compile(
    r"(?P<value>[−+-]?\d[\d,.]*\d|[−+-]?\d)(?P<percent> %)? "
    r"\[(?P<low>[−-]?\d[\d,.]*), (?P<high>[−-]?\d[\d,.]*)\]"
)


def estimates(found):
    """Yield (value, low, high) of every estimate in a JSON value."""
    if isinstance(found, list):
        for part in found:
            yield from estimates(part)
    if isinstance(found, dict):
        if isinstance(found.get("interval"), list) and found.get("value") is not None:
            yield found["value"], *found["interval"]
        for part in found.values():
            yield from estimates(part)


MEASURED = {
    estimate
    for file in (paths.RESULTS / "full").rglob("*.json")
    for estimate in estimates(json.loads(file.read_text(encoding="utf-8")))
}


def is_measured(match):
    """Tell whether some estimate reads so when rounded as it is shown."""
    times = 100 if match["percent"] else 1
    shown = [match[name].replace("−", "-").replace(",", "") for name in NAMES]
    places = [len(text.partition(".")[2]) for text in shown]
    return any(
        all(
            abs(round(times * number, digits) - float(text)) < 1e-9
            for number, digits, text in zip(estimate, places, shown, strict=True)
        )
        for estimate in MEASURED
    )


NAMES = ("value", "low", "high")


def test_there_are_intervals_to_look_at():
    assert len(SHOWN.findall(TEXT)) >= 20 and len(MEASURED) >= 100


@pytest.mark.parametrize("match", list(SHOWN.finditer(TEXT)), ids=lambda m: m[0])
def test_an_interval_of_the_page_was_measured(match):
    assert is_measured(match), f"no file of results/full has {match[0]}"


@pytest.mark.parametrize("words", ["7.13 [6.31, 7.94]", "+0.17 % [−0.21, 0.34]"])
def test_another_number_would_be_noticed(words):
    assert not is_measured(SHOWN.fullmatch(words))

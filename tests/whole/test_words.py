"""The glossary explains the words that are ours, and what is linked is there."""

import re

import pytest

from commoncanvas.core import paths

OURS = (
    "open world, work, key, source, mark, series, hold-out, captioned web, take-down, "
    "telephoning, captioner, scale, variant, stage, room, shard, gate, judge, scorer, "
    "alignment gap, likeness gap, copy, claim, outcome, control, margin, estimate"
).split(", ")
WRITTEN = [
    *("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"),
    *("docs/GLOSSARY.md", "docs/DEVIATIONS.md", "docs/TAKEDOWN.md", "docs/FINDINGS.md"),
    *("docs/HOWTO.md", "docs/PAPER.md"),
]


def read(name):
    return (paths.ROOT / name).read_text(encoding="utf-8")


def test_the_glossary_has_an_entry_for_each_of_our_words():
    entries = re.findall(r"\*\*([^*]+)\*\*", read("docs/GLOSSARY.md"))
    known = {word.strip("` ").lower() for entry in entries for word in entry.split(",")}
    assert [word for word in OURS if word not in known] == []


@pytest.mark.parametrize("name", WRITTEN)
def test_every_file_that_a_document_links_is_there(name):
    folder = (paths.ROOT / name).parent
    links = re.findall(r"\]\(([^)#\s]+)", read(name))
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (folder / link).exists()] == []


def test_deviations_are_numbered_and_every_one_that_is_cited_exists():
    numbers = re.findall(r"^\| D(\d+) \|", read("docs/DEVIATIONS.md"), re.MULTILINE)
    assert numbers == [str(n) for n in range(1, len(numbers) + 1)]
    cited = {"CONTRIBUTING.md": read("CONTRIBUTING.md")}
    cited |= {file.name: read(file) for file in paths.NOTEBOOKS.glob("*.ipynb")}
    for file, text in cited.items():
        assert set(re.findall(r"\bD(\d{1,2})\b", text)) <= set(numbers), file

"""What is written from files is fresh, and no figure of the README is typed by hand."""

import json
import re
import shutil

import pytest
import yaml
from doors import call

from commoncanvas.analysis.tables import digits
from commoncanvas.catalog.made_up import SHARES
from commoncanvas.claims.rules import load_paper
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.publish import documents

ROW = {
    "claim_id": "cc_matches_web",
    "paper": "comparable",
    "closeness": "analogue",
    "outcome": "transfers",
    "why": "It is near | far.",
    "requires": [],
    "tests": [
        {
            "metric": "alignment gap, a − b",
            "result": "passes",
            "value": -0.5,
            "interval": [-0.7, -0.3],
            "n": 500,
            "unit": "prompts",
            "trainings": 3,
            "margin": 2.0,
            "control": {"value": -4.0, "interval": [-5.0, -3.0], "n": 500},
        }
    ],
}
README = (paths.ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A repository of the documents and the files they are written from."""
    shutil.copytree(paths.DOCS, tmp_path / "docs")
    shutil.copytree(paths.RESULTS, tmp_path / "results")
    shutil.copy(paths.ROOT / "README.md", tmp_path)
    for name, place in {"ROOT": ".", "DOCS": "docs", "RESULTS": "results"}.items():
        monkeypatch.setattr(paths, name, tmp_path / place)
    monkeypatch.setattr("commoncanvas.claims.rules.DOCS", tmp_path / "docs")
    return tmp_path


def change(file, old, new):
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


def test_the_committed_documents_are_fresh():
    assert call("documents", "--check") == ""


def result(name):
    return json.loads((paths.RESULTS / name).read_text(encoding="utf-8"))


TIMED = result("timings.json")["runs"][0]["seconds"]
RATE = result("bench_train_mini.json")["rows"][0]["images_per_second"]["value"]
CLAIMS, RESULTS = "docs/CLAIMS.md", "docs/RESULTS.md"


@pytest.mark.parametrize(
    ("file", "old", "new", "stale"),
    [
        ("docs/paper.yaml", "threshold: 1120", "threshold: 1121", [CLAIMS]),
        ("docs/paper.yaml", "year: 2024", "year: 2019", [CLAIMS]),
        ("docs/CLAIMS.md", "2.71 times", "2.72 times", [CLAIMS]),
        ("docs/RESULTS.md", "2,930,000", "3,930,000", [RESULTS]),
        ("README.md", "2,930,000", "3,930,000", ["README.md"]),
        ("results/timings.json", str(TIMED), str(TIMED + 60), [RESULTS]),
        ("results/bench_train_mini.json", str(RATE), str(RATE + 100), [RESULTS]),
        ("results/bench_licenses.json", "7099.32", "8099.32", [RESULTS]),
        ("results/bench_licenses.json", "361.1796", "461.1796", [RESULTS, "README.md"]),
    ],
)
def test_what_is_stale_is_named_and_written_again(copy, file, old, new, stale):
    change(copy / file, old, new)

    def texts():
        return [(copy / name).read_text(encoding="utf-8") for name in stale]

    before = texts()
    message = call("documents", "--check", fails=True)
    assert f"{', '.join(stale)} is stale" in message
    assert texts() == before  # a check writes nothing
    assert call("documents") == "".join(f"wrote {name}\n" for name in stale)
    assert call("documents", "--check") == ""
    assert all(new != old for new, old in zip(texts(), before, strict=True))


def test_every_claim_stands_in_the_document_with_source_rule_and_stage():
    text = documents.claims_document()
    paper = load_paper()
    *sections, plan = re.split(r"(?m)^## ", text)[1:]
    assert plan.startswith("The plan for `full`")
    assert [section.partition("\n")[0] for section in sections] == list(paper.claims)
    for section, claim in zip(sections, paper.claims.values(), strict=True):
        key, _, place = claim.source.partition(", ")
        source = paper.sources[key]
        assert claim.says in section
        assert f"[{key}, {source.year}]({source.url}), {place}" in section
        assert (paths.DOCS / f"../notebooks/{claim.stage}.ipynb").is_file()
        for test in claim.tests + claim.requires:
            assert test.name in section and test.metric in section


def test_a_committed_scorecard_is_two_tables_in_the_order_of_the_paper(copy):
    (copy / "results/full/claims.json").unlink()
    assert "Scorecard at `full`" not in documents.results_document()
    later = ROW | {"claim_id": "preference_37_38_50", "outcome": "no test here"}
    (copy / "results/full/claims.json").write_text(json.dumps([later, ROW]))
    _, head, text = documents.results_document().partition("Scorecard at `full`")
    text = text.partition("\n## ")[0]
    assert head and "](../results/full/claims.json)" in text
    assert text.index("#cc_matches_web") < text.index("#preference_37_38_50")
    assert "| comparable | analogue | transfers | It is near \\| far. |" in text
    assert "-0.5 [-0.7, -0.3] | 2 | -4 [-5, -3] | 500 prompts | 3 | passes |" in text
    says = load_paper().claims["cc_matches_web"].says
    assert f"| [{says}](CLAIMS.md#cc_matches_web)" in text
    told = documents.headlines()
    assert "No model trained here tests the paper's own numbers." in told
    line = (
        f"✓ transfers: {says} Here, alignment gap, a − b: -0.5 [-0.7, -0.3] (margin 2)."
    )
    assert line in told and "no test here" not in told


def test_a_scorecard_of_unknown_claims_is_refused(copy):
    (copy / "results/mini").mkdir(exist_ok=True)
    rows = [ROW, ROW | {"claim_id": "world_peace"}]
    (copy / "results/mini/claims.json").write_text(json.dumps(rows))
    message = call("documents", "--check", fails=True)
    assert "results/mini/claims.json has the claims world_peace" in message


@pytest.mark.parametrize("mark", [documents.BEGIN, documents.END])
def test_a_readme_without_its_marks_is_refused(copy, mark):
    change(copy / "README.md", mark, "")
    with pytest.raises(ParameterError, match="Put them back"):
        documents.documents()


@pytest.mark.parametrize(
    ("number", "text"),
    [(1.234e-5, "0.0000123"), (1.2345e16, "12,300,000,000,000,000"), (1, "1")],
)
def test_numbers_of_documents_have_three_digits_and_no_exponent(number, text):
    assert digits(number) == text


# What holds digits and counts nothing: a stage, or a word such as SD2 or SHA-512.
NAMES = re.compile(r"(?i:stage)s? \d\d\b|\w*[A-Za-z]-?[\d.]*\d")
WORDS = "two three four five six seven eight nine ten eleven twelve thirteen fourteen "
WORDS += "fifteen sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty "
WORDS += "seventy eighty ninety hundred thousand million dozen half third quarter tenth"
NUMBER = re.compile(rf"\d|\b(?:{'|'.join(WORDS.split())})s?\b", re.IGNORECASE)


def prose():
    """Return the README without code, addresses and the section from files."""
    before, _, rest = README.partition(documents.BEGIN)
    text = before + rest.partition(documents.END)[2]
    text = re.sub(r"```.*?```|`[^`]*`|\]\([^)]*\)", " ", text, flags=re.DOTALL)
    return NAMES.sub(" ", text)


def read(name):
    text = (paths.ROOT / name).read_text(encoding="utf-8")
    return yaml.safe_load(text) if name[-5:] != ".toml" else text


def traced():
    """Return {a phrase of the README: the file that its numbers come from}."""
    took = {
        run["what"]: run["seconds"] / 60 for run in read("results/timings.json")["runs"]
    }
    cores = read("results/timings.json")["cores"]
    sources = read("docs/paper.yaml")["sources"]
    number = sources["commoncanvas-v1"]["url"].rpartition("/")[2].removesuffix("v1")
    wanted = r'requires-python = ">=([\d.]+),<3\.(\d+)"'
    python, beyond = re.search(wanted, read("pyproject.toml")).groups()
    rows = sum(sum(numbers) for _, *numbers in SHARES.values())
    made_up = "commoncanvas/catalog/made_up.py"
    timings = "results/timings.json"
    return {
        f"about {took['make repro']:.0f} minutes on {cores} cores": timings,
        f" takes about {took['make test']:.0f} minutes.": timings,
        f"| {cores} CPU cores |": timings,
        f"CVPR {sources['commoncanvas-cvpr']['year']}": "docs/paper.yaml",
        f"arXiv {number}": "docs/paper.yaml",
        f"Python {python} to 3.{int(beyond) - 1}": "pyproject.toml",
        f"under {result('model/manifest.json')['facts']['license']}": "results/model",
        {100_000_000: "a hundred million rows"}[rows]: made_up,
    }


def test_every_number_of_the_readme_comes_from_a_file():
    text = prose()
    for phrase, file in traced().items():
        assert phrase in text, f"{file} says otherwise than README.md: {phrase!r}"
        text = text.replace(phrase, " ")
    left = [line.strip() for line in text.splitlines() if NUMBER.search(line)]
    assert left == []


@pytest.mark.parametrize(
    "words", ["in 3 s", "of 2.9", "Ten times", "4 %", "1,000", "by 5x"]
)
def test_the_search_for_numbers_can_fail(words):
    assert NUMBER.search(NAMES.sub(" ", f"It is {words}."))


def test_the_columns_of_yfcc_are_the_how_to_s():
    source = (paths.ROOT / "commoncanvas/catalog/sources/yfcc.py").read_text(
        encoding="utf-8"
    )
    assert "23 or 25 columns" in source and "in (23, 25)" in source
    assert "23 or 25 columns" in (paths.DOCS / "HOWTO.md").read_text(encoding="utf-8")


def test_the_readme_fits_a_screen_or_two_and_names_every_chapter_and_room():
    assert len(README.splitlines()) <= 150
    chapters = re.findall(r"^\| \[`(\w+)`\]", README, re.MULTILINE)
    names = sorted(path.stem for path in paths.NOTEBOOKS.glob("*.ipynb"))
    assert chapters == [*names[1:], "00_pretrain"]
    rooms = {path.parent.name for path in paths.ROOT.glob("commoncanvas/*/__init__.py")}
    assert set(re.findall(r"^  (\w+)/ ", README, re.MULTILINE)) == rooms

"""The static site holds a run's pages, and no link in it leads nowhere."""

import re
from urllib.parse import unquote

import pytest
from doors import call
from markupsafe import escape

from commoncanvas.analysis.estimates import Estimate
from commoncanvas.analysis.tables import digits
from commoncanvas.claims.outcomes import headline
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import read_json
from commoncanvas.publish.fetches import fetches
from commoncanvas.release import site

FRONT = """<a class="x" href="full/05_evaluate-cc_a.html#s">one <b>row</b></a>
<a href="full/05_evaluate-cc_a-18.html">its repeat</a>
<a href="mini/04.html">another scale</a> <a href="https://example.org/">out</a>
<a href="#top">up</a>"""
PAGE = """<a href="../index.html">front</a> <a href="06_figures.html">next</a>
<a href="05_evaluate-cc_a-18.html">repeat</a> <a href="missing.html">none</a>"""
PAGES = "01_licenses 05_evaluate-cc_a 05_evaluate-cc_a-18 05_evaluate-cc_b 06_figures"


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """Return the folder of the pages of a run at `full`: two rows and a repeat."""
    monkeypatch.setattr(paths, "HTML", tmp_path / "html")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    (tmp_path / "html" / "full").mkdir(parents=True)
    (tmp_path / "html" / "index.html").write_text(FRONT)
    for name in PAGES.split():
        (tmp_path / "html" / "full" / f"{name}.html").write_text(PAGE)
    return tmp_path / "html"


def files_of(folder):
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*.html"))


def test_a_site_has_the_rows_without_repeats_and_the_front_page(pages):
    folder, size = site.write_site("full")
    assert folder == paths.RESULTS / "full" / "site"
    names = [name for name in PAGES.split() if name[-3:] != "-18"]
    assert files_of(folder) == sorted(
        ["index.html", *(f"full/{n}.html" for n in names)]
    )
    assert size == sum(path.stat().st_size for path in folder.rglob("*.html"))


def test_what_led_to_a_page_that_is_left_out_is_plain_text(pages):
    folder, _ = site.write_site("full")
    text = (folder / "index.html").read_text()
    assert '<a class="x" href="full/05_evaluate-cc_a.html#s">one <b>row</b></a>' in text
    words = re.findall(r'<span class="absent" title="[^"]+">(.*?)</span>', text)
    assert words == ["its repeat", "another scale"]
    assert 'href="https://example.org/"' in text and 'href="#top"' in text
    page = (folder / "full" / "05_evaluate-cc_a.html").read_text()
    assert 'href="../index.html"' in page and 'href="06_figures.html"' in page
    assert ">repeat</span>" in page and ">none</span>" in page


def test_rows_that_are_left_out_are_not_named_among_the_rows(pages):
    rows = "".join(f'<a href="05_evaluate-cc_{r}.html">cc_{r}</a>' for r in "ab")
    navigation = f'<nav class="siblings" aria-label="Rows">{rows}</nav>'
    (pages / "full" / "06_figures.html").write_text(navigation + PAGE)
    folder, _ = site.write_site("full", ["cc_a"])
    page = (folder / "full" / "06_figures.html").read_text()
    assert ">cc_a</a></nav>" in page and "cc_b" not in page


def test_a_site_takes_the_place_of_an_earlier_one(pages):
    site.write_site("full")
    (pages / "full" / "01_licenses.html").unlink()
    folder, _ = site.write_site("full", ["cc_b"])
    assert files_of(folder) == [
        "full/05_evaluate-cc_b.html",
        "full/06_figures.html",
        "index.html",
    ]
    assert sorted(p.name for p in folder.parent.iterdir()) == ["site"]


@pytest.mark.parametrize(
    ("scale", "rows", "message"),
    [
        ("full", ["cc_x"], "no page of `cc_x`; full has those of `cc_a`, `cc_b`"),
        ("full", ["cc_a-18"], "no page of `cc_a-18`"),
        ("mini", [], "lacks index.html or pages of mini"),
        ("other", [], "is of another scale than other"),
    ],
)
def test_a_site_that_cannot_be_made_leaves_nothing(pages, scale, rows, message):
    (pages / "other").mkdir()
    (pages / "other" / "06_figures.html").write_text(PAGE)
    with pytest.raises(CommonCanvasError, match=message):
        site.write_site(scale, rows)
    assert not paths.RESULTS.exists()


def test_a_site_has_a_size(pages, monkeypatch):
    monkeypatch.setattr(site, "MAX_BYTES", 100)
    with pytest.raises(CommonCanvasError, match="at most 0 are kept; name fewer rows"):
        site.write_site("full")


def test_the_command_says_where_the_site_is(pages):
    assert "site: 0.0 MB" in call("site", "--rows", "cc_a")


KEPT = paths.ROOT / "results" / "full" / "site"


@pytest.fixture(scope="module")
def kept():
    """Return {name: text} of the pages of the reference run that git keeps."""
    return {
        file.relative_to(KEPT).as_posix(): file.read_text(encoding="utf-8")
        for file in KEPT.rglob("*.html")
    }


def test_the_kept_site_is_small_complete_and_asks_for_nothing(kept):
    assert sum(len(text.encode()) for text in kept.values()) <= 12_000_000
    assert {path.suffix for path in KEPT.rglob("*") if path.is_file()} == {".html"}
    for name, text in kept.items():
        assert fetches(text) == [], name
        for href in re.findall(r'<a\b[^>]*?\bhref="([^"#:]+)(?:#[^"]*)?"', text):
            target = (KEPT / name).parent / unquote(href)
            assert target.is_file(), f"{name} leads to {href}"


def test_the_kept_site_shows_the_outcomes_and_values_that_are_kept(kept):
    claims = read_json(KEPT.parent / "claims.json")
    text = kept["index.html"]
    assert str(escape(headline(claims))) in text
    places = re.findall(r'id="(outcome|claim)-([\w-]+)"', text)
    found, outcome = {}, ""
    for kind, name in places:
        outcome = name if kind == "outcome" else outcome
        found |= {name: outcome} if kind == "claim" else {}
    assert found == {
        row["claim_id"]: row["outcome"].replace(" ", "-") for row in claims
    }


def test_the_kept_site_was_made_of_the_kept_values(kept):
    rows = {
        name[len("full/05_evaluate-") : -len(".html")]
        for name in kept
        if name.startswith("full/05_evaluate-")
    }
    assert rows
    for row in rows:
        metrics = read_json(KEPT.parent / row / "metrics.json")["by_prompt"]["human"]
        gap = Estimate.from_dict(metrics["alignment_gap"])
        told = {digits(gap.value), f"{gap.value:.4g}"}  # now, and on earlier pages
        page = kept[f"full/05_evaluate-{row}.html"]
        assert any(f">{value} [" in page for value in told), row

"""Words that name something lead to it; documents and credits have their pages."""

import re

import pandas as pd
import pytest

from commoncanvas.core import paths
from commoncanvas.publish import links, texts
from commoncanvas.publish.links import Places

PLACES = Places("../index.html", {"D5": 'A "small" UNet'}, {"a.html": "a.html"})


@pytest.mark.parametrize(
    ("markup", "href"),
    [
        ("<p>trains briefly (D5).</p>", "deviations.html#d5"),
        (
            "<p>as <code>cc_matches_web</code> says</p>",
            "../index.html#claim-cc_matches_web",
        ),
        ("<td>CC BY-SA 3.0</td>", "https://creativecommons.org/licenses/by-sa/3.0/"),
        ("<td>CC0 1.0</td>", "https://creativecommons.org/publicdomain/zero/1.0/"),
        ("<p>(CVPR, §5.2)</p>", "https://openreview.net/forum?id=DHL5rWSHuE"),
        ("<p>see <code>a.html</code></p>", "a.html"),
    ],
)
def test_a_word_leads_to_what_it_names(markup, href):
    found = links.with_links(markup, PLACES)
    assert f'href="{href}"' in found
    assert re.sub(r"</?a\b[^>]*>", "", found) == markup


@pytest.mark.parametrize(
    "markup",
    [
        '<a href="b">D5</a>',
        "<h2>D5</h2>",
        "<pre>D5 <span>cc_matches_web</span></pre>",
        "<svg><text>D5</text></svg>",
        "<p>D99, DD5 and CVPR24</p>",
        '<img alt="D5">',
    ],
)
def test_other_words_stay(markup):
    assert links.with_links(markup, PLACES) == markup


def test_a_deviation_says_what_it_is_on_hover():
    found = links.with_links("<p>D5</p>", PLACES)
    assert 'title="A &quot;small&quot; UNet"' in found


def test_a_sentence_of_the_scorecard_is_escaped():
    found = links.in_prose("<b> of `cc_matches_web`")
    assert found.startswith("&lt;b&gt; of <code>")
    assert 'href="#claim-cc_matches_web"' in found


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Texts of a scale `toy` with a ledger of two sets."""
    docs = paths.DOCS
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    assert paths.DOCS == docs
    folder = paths.stage_dir("toy", "01_licenses")
    folder.mkdir(parents=True)
    row = {"title": "<b>", "author": "A", "author_url": "", "license": "CC BY 4.0"}
    row |= {"license_url": "https://a.example/by", "changes": "Drawn.", "source": "x"}
    row |= {"source_url": "https://a.example/1"}
    rows = [row, row | {"source_url": "javascript:alert(1)"}, row | {"source": "y"}]
    pd.DataFrame(rows).to_parquet(folder / "ledger.parquet")
    return texts.text_pages("toy", {"style": "", "script": "", "script_hash": ""})


def test_every_deviation_has_a_page_and_an_anchor(written):
    page = written["deviations.html"]
    places = texts.places_of("toy")
    assert len(places.deviations) >= 30
    assert all(f'<td id="{name.lower()}">' in page for name in places.deviations)


def test_every_claim_has_an_anchor_on_the_page_of_claims(written):
    assert ' id="cc_matches_web"' in written["claims.html"]


def test_links_between_documents_lead_to_pages(written):
    for text in written.values():
        hrefs = re.findall(r'<a href="([^"]+)"', text)
        inside = {
            h.partition("#")[0] for h in hrefs if not re.match(r"\w+:|#|\.\./", h)
        }
        assert inside <= set(written)


def test_the_attribution_lists_sets_and_each_set_its_works(written):
    contents, works = written["attribution.html"], written["attribution-x.html"]
    assert "The 3 works" in contents and 'href="attribution-y.html"' in contents
    assert works.count("<li>") == 2 and "&lt;b&gt;" in works
    assert "javascript" not in works and 'href="https://a.example/by"' in works
    assert all('<main id="main"' in page for page in written.values())
    assert all('href="../index.html"' in page for page in written.values())

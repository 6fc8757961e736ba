"""Everybody is credited, in full, and a stranger's words stay words."""

import re
from xml.etree import ElementTree

import pandas as pd
import pytest

from commoncanvas.licenses import attribution
from commoncanvas.licenses.license import License

FIELDS = {
    "key": "toy/cat",
    "title": "cat",
    "author": "Ada",
    "author_url": "https://example.org/ada",
    "source": "toy",
    "pageurl": "https://example.org/cat",
    "license_title": "CC BY 4.0",
    "license_slug": "by",
    "license_version": "4.0",
    "license_deed": "https://creativecommons.org/licenses/by/4.0/",
    "date_seen": "2026-01-02",
    "sha256": "ab" * 32,
}
NEEDED = "author pageurl license_title license_deed date_seen sha256".split()
MARKUP = [
    "](javascript:alert(1))",
    "<script>alert(1)</script>",
    "![x](https://example.org/a.png)",
    "**bold** _it_ `code` ~~gone~~ $x$ | cell",
    "two\n\n# lines",
    "back\\slash &amp; [brackets]",
    "- a list",
    "1) a list",
    "---",
]


def credits(*changes):
    rows = pd.DataFrame([{**FIELDS, **change} for change in changes or [{}]])
    return attribution.ledger(rows, "Resized.")


def shown(markdown):
    """Return what a reader sees of one Markdown line: escapes and links undone."""
    bare = re.sub(r"(?<!\\)\[((?:\\.|[^\]\\])*)\]\([^)]*\)", r"\1", markdown)
    bare = re.sub(r"\\([\W_])", r"\1", bare)
    return bare.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def test_every_work_has_one_full_row():
    found = credits({}, {"key": "toy/dog"})
    assert found["key"].tolist() == ["toy/cat", "toy/dog"]
    assert set(found.iloc[0]) == {*FIELDS.values(), "Resized."}


@pytest.mark.parametrize(
    ("field", "column"),
    [
        ("pageurl", "source_url"),
        ("license_title", "license"),
        ("license_deed", "license_url"),
    ],
)
def test_columns_bear_the_names_of_the_ledger(field, column):
    assert credits()[column].tolist() == [FIELDS[field]]


def test_a_full_ledger_lacks_nothing():
    assert attribution.missing_credits(credits()).empty


@pytest.mark.parametrize("value", ["", "  ", None, float("nan")])
@pytest.mark.parametrize("field", NEEDED)
def test_a_missing_field_is_found(field, value):
    found = attribution.missing_credits(credits({}, {"key": "toy/dog", field: value}))
    assert found["key"].tolist() == ["toy/dog"]


@pytest.mark.parametrize(
    "value", ["\u200b\u2060", "\x00\x1b", "\u3164", "\u2800", "n/a"]
)
@pytest.mark.parametrize("field", NEEDED)
def test_a_field_that_says_nothing_is_missing(field, value):
    found = attribution.missing_credits(credits({}, {"key": "toy/dog", field: value}))
    assert found["key"].tolist() == ["toy/dog"]


@pytest.mark.parametrize(
    "value", ["javascript:x", "https://", "https://\u3164.b", "//a.b"]
)
@pytest.mark.parametrize("field", ["pageurl", "license_deed"])
def test_an_address_that_leads_nowhere_is_missing(field, value):
    assert len(attribution.missing_credits(credits({field: value}))) == 1


@pytest.mark.parametrize(
    "value",
    ["https://creativecommons.org/licenses/by/4.0/",
     "http://www.creativecommons.org//publicdomain/zero/1.0/deed.de",
     "HTTPS://CREATIVECOMMONS.ORG/%6cicenses/by/2.0"],
)  # fmt: skip
def test_a_licence_is_no_work_s_page(value):
    assert len(attribution.missing_credits(credits({"pageurl": value}))) == 1
    assert attribution.missing_credits(credits({"license_deed": value})).empty


@pytest.mark.parametrize(
    "value",
    ["https://creativecommons.org/2020/a-work", "https://x.example/?l=https://"
     "creativecommons.org/licenses/by/4.0/"],
)  # fmt: skip
def test_a_page_that_names_a_licence_may_be_a_work_s(value):
    assert attribution.missing_credits(credits({"pageurl": value})).empty


def test_no_row_lacks_anything_where_there_is_none():
    assert attribution.missing_credits(credits().iloc[:0]).empty


def test_a_missing_address_of_the_author_is_no_fault():
    assert attribution.missing_credits(credits({"author_url": ""})).empty


def test_unsaid_changes_are_found():
    assert (
        len(attribution.missing_credits(attribution.ledger(pd.DataFrame([FIELDS]), "")))
        == 1
    )


def test_the_text_names_work_author_licence_and_change():
    text = attribution.attribution_text(credits())
    for field in ("title", "pageurl", "author", "author_url", "license_deed", "source"):
        assert FIELDS[field] in text
    assert "CC BY 4.0" in text and "Resized. 1 work:" in text


def test_works_that_were_changed_otherwise_are_listed_apart():
    rows = pd.DataFrame([FIELDS, FIELDS | {"title": "dog"}])
    found = attribution.ledger(rows, pd.Series(["Drawn.", "Resized."]))
    text = attribution.attribution_text(found)
    assert "Drawn. 1 work:\n\n[cat]" in text and "Resized. 1 work:\n\n[dog]" in text


@pytest.mark.parametrize("most", [None, 3, 4])
def test_a_text_of_a_few_works_is_whole(most):
    found = credits(*({"title": f"n{i}"} for i in range(3)))
    text = attribution.attribution_text(found, most)
    assert text == attribution.attribution_text(found) and "ledger" not in text


def test_a_text_of_many_works_lists_the_first_and_says_where_all_are():
    found = credits(*({"title": f"n{i}"} for i in range(1500)))
    text = attribution.attribution_text(found, 2)
    assert "[n1](" in text and "n2" not in text
    assert "1,498 more works are in [ledger.parquet](ledger.parquet)" in text
    assert 'href="ledger.parquet"' in attribution.attribution_page(text)


@pytest.mark.parametrize("field", ["author", "author_url"])
@pytest.mark.parametrize("value", ["", None])
def test_no_work_is_dropped_where_a_name_is_missing(field, value):
    text = attribution.attribution_text(credits({field: value}, {"title": "dog"}))
    assert "[cat](" in text and "[dog](" in text


@pytest.mark.parametrize("field", ["title", "author", "source", "license_title"])
def test_nothing_steers_a_terminal_or_the_direction_of_a_line(field):
    text = attribution.attribution_text(credits({field: "\x1b[2J\u202eab\x9b\u2066"}))
    assert r"\[2Jab" in text and all(c.isprintable() or c == "\n" for c in text)


@pytest.mark.parametrize("value", ["\u200b", "\u3164", "\x1b"])
def test_what_cannot_be_seen_is_not_a_link_s_text(value):
    text = attribution.attribution_text(credits({"title": value, "author": value}))
    assert "[untitled](" in text and "[an unnamed author](" in text


@pytest.mark.parametrize("field", ["title", "author"])
@pytest.mark.parametrize("markup", MARKUP)
def test_markup_stays_text(field, markup):
    text = attribution.attribution_text(credits({field: markup}))
    assert " ".join(markup.split()) in " ".join(map(shown, text.splitlines()))
    assert not re.search(r"<\w|(?<!\\)[`*~$|]|(?<!\\)\!\[", text)
    plain = attribution.attribution_text(credits())
    links = r"(?<!\\)\]\((https?:[^)]*)\)"
    assert re.findall(links, text) == re.findall(links, plain)
    assert text.count("\n") == plain.count("\n")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "data:text/html,x", ""])
def test_an_address_that_is_no_page_is_not_linked(address):
    text = attribution.attribution_text(credits({"author_url": address}))
    assert "By Ada, [CC BY" in text


def test_an_address_cannot_leave_its_link():
    address = 'https://example.org/a_(b) "x"><b>'
    text = attribution.attribution_text(credits({"pageurl": address}))
    assert "[cat](https://example.org/a_%28b%29%20%22x%22%3E%3Cb%3E)" in text


@pytest.mark.parametrize("slug", ["cc0", "pdm"])
def test_the_public_domain_owes_no_author_but_its_proof(slug):
    named = {"license_slug": slug, "author": "", "pageurl": ""}
    assert attribution.missing_credits(credits(named)).empty
    assert len(attribution.missing_credits(credits({**named, "license_deed": ""}))) == 1


def test_an_untitled_work_is_credited_without_a_title():
    rows = credits({"title": ""})
    assert attribution.missing_credits(rows).empty
    assert "untitled" in attribution.attribution_text(rows)


def test_what_is_lacking_is_named_for_each_work():
    rows = credits({}, {"author": "", "date_seen": " "})
    assert attribution.lacking(rows).tolist() == ["", "date_seen, author"]


@pytest.mark.parametrize("pageurl", [FIELDS["pageurl"], ""])
@pytest.mark.parametrize("title", MARKUP)
def test_the_page_shows_a_strangers_title_and_runs_nothing(title, pageurl):
    row = {"title": title, "pageurl": pageurl}
    page = attribution.attribution_page(attribution.attribution_text(credits(row)))
    tree = ElementTree.fromstring(re.sub("<!doctype html>|<meta[^>]*>", "", page))
    tags = {node.tag for node in tree.iter()}
    assert tags <= set("html title style h1 h2 p a".split())
    assert {a.get("href") for a in tree.iter("a")} <= set(FIELDS.values())
    assert " ".join(title.split()) in " ".join("".join(tree.itertext()).split())


def test_licences_are_found_in_the_order_of_the_keys(tmp_path):
    rows = [
        {**FIELDS, "split": "c", "license_port": ""},
        {**FIELDS, "key": "web/a", "license_title": "MIT", "split": "web"},
    ]
    rows[1] |= {"license_slug": "mit", "license_version": "", "license_port": ""}
    pd.DataFrame(rows).to_parquet(tmp_path / "catalog.parquet")
    found = attribution.licenses_of(tmp_path, ["web/a", "toy/cat"])
    assert found["license"].tolist() == ["MIT", "CC BY 4.0"]
    assert found["split"].tolist() == ["web", "c"]
    assert found["license_url"].tolist() == [FIELDS["license_deed"]] * 2
    columns = found[["license_slug", "license_version", "license_port"]]
    read = [License.from_columns(*row) for row in columns.itertuples(index=False)]
    assert [one.title for one in read] == ["MIT", "CC BY 4.0"]

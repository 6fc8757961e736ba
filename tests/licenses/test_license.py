"""What a licence statement is read as."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from commoncanvas.core.errors import LicenseError
from commoncanvas.licenses.license import FAMILIES, License, read_license
from commoncanvas.licenses.policies import verdict

ALL = [License(*columns, family) for columns, family in sorted(FAMILIES.items())]
CC = [one for one in ALL if one.family == "cc"]
LICENSES = st.sampled_from(ALL)
LEAVES = ["", "deed", "deed.de", "deed.zh-hant", "legalcode", "legalcode.txt", "rdf"]


def brief(text="", url=""):
    """Read, and join what identifies the licence."""
    one = read_license(text, url)
    return " ".join(filter(None, (one.slug, one.version, one.port)))


@given(
    one=st.sampled_from(CC),
    host=st.sampled_from(["http://", "https://www.", "//", "HTTPS://", ""]),
    leaf=st.sampled_from(LEAVES),
    tail=st.sampled_from(["", "/", "?lang=de", "#top", "/?a=b#c"]),
)
def test_every_deed_address_is_read_however_it_is_decorated(one, host, leaf, tail):
    address = one.url.removeprefix("https://").rstrip("/")
    address = host + "/".join(filter(None, (address, leaf))) + tail
    assert read_license(url=address) == read_license(address) == one


@given(LICENSES)
def test_title_and_spdx_id_name_the_licence_they_belong_to(one):
    assert read_license(one.title) == one
    assert not one.spdx or read_license(one.spdx) == one


@given(LICENSES)
def test_name_and_address_of_one_licence_agree(one):
    assert read_license(one.title, one.url) == one


@given(st.text() | LICENSES.map(lambda x: x.title), st.text() | st.just("http://["))
@example("CC BY 4.0\u2028", "https://creativecommons.org:x/licenses/by/4.0/")
def test_arbitrary_statements_are_read_or_refused_and_never_crash(text, url):
    try:
        assert isinstance(read_license(text, url), License)
    except LicenseError as error:
        assert len(str(error).splitlines()) == 1


@given(LICENSES, LICENSES)
def test_statements_of_two_licences_are_refused(one, other):
    if one != other:
        with pytest.raises(LicenseError, match="said alike"):
            read_license(one.url, other.url)


@pytest.mark.parametrize("word", ["not", "except", "не", "?", "!=", "or MIT", "/ GPL"])
@given(LICENSES)
def test_a_word_too_many_is_refused(word, one):
    with pytest.raises(LicenseError):
        read_license(f"{one.title} {word}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Attribution-NonCommercial-ShareAlike License", "by-nc-sa 2.0"),
        ("Attribution License", "by 2.0"),
        ("CC BY-ND-NC 1.0", "by-nc-nd 1.0"),
        ("CC ND-NC 2.0 JP", "nc-nd 2.0 jp"),
        ("CC-BY-SA-3.0-DE", "by-sa 3.0 de"),
        ("Creative Commons Attribution-Share Alike 3.0 Unported", "by-sa 3.0"),
        ("Attribution 4.0 International (CC BY 4.0)", "by 4.0"),
        ("Attribution-Noncommercial-No Derivative Works 3.0", "by-nc-nd 3.0"),
        ("by-sa/2.0", "by-sa 2.0"),
        ("CC0", "cc0 1.0"),
        ("Creative Commons CC0 1.0 Universal", "cc0 1.0"),
        ("http://web.resource.org/cc/PublicDomain", "pdm"),
        ("http://creativecommons.org/licenses/publicdomain/", "pdm"),
        ("No known copyright restrictions", "no-known-restrictions"),
        ("United States Government Work", "us-government"),
        ("Apache License 2.0", "apache-2.0"),
        ("MIT License", "mit"),
        ("https://spdx.org/licenses/OFL-1.1.html", "ofl-1.1"),
    ],
)
def test_names_in_use_are_read(text, said):
    assert brief(text) == said


def test_flickr_numbers_follow_flickrs_list():
    said = [brief(str(number)) for number in range(1, 7)]
    assert said == [
        f"{x} 2.0" for x in ("by-nc-sa", "by-nc", "by-nc-nd", "by", "by-sa", "by-nd")
    ]


@pytest.mark.parametrize(
    ("number", "slug"),
    [(11, "by"), (12, "by-sa"), (13, "by-nd"), (14, "by-nc"), (15, "by-nc-sa")]
    + [(16, "by-nc-nd")],
)
def test_flickr_numbers_of_uploads_since_2025_are_version_4(number, slug):
    page = f"https://creativecommons.org/licenses/{slug}/4.0/"
    assert read_license(str(number)) == License(slug, "4.0")
    assert read_license(str(number), page) == License(slug, "4.0")
    with pytest.raises(LicenseError):
        read_license(str(number), page.replace("4.0", "2.0"))


def test_flickrs_old_names_say_no_version_of_later_uploads():
    page = "https://creativecommons.org/licenses/by/4.0/"
    assert read_license("Attribution License", "", "2025-06-17").version == "2.0"
    with pytest.raises(LicenseError):
        read_license("Attribution License", "", "2025-06-18")
    assert read_license("Attribution License", page, "2025-06-18").version == "4.0"
    assert read_license("4", "", "2026-01-01").version == "2.0"  # a number is certain


@pytest.mark.parametrize(
    ("number", "slug"),
    [(7, "no-known-restrictions"), (8, "us-government"), (9, "cc0"), (10, "pdm")],
)
def test_flickr_numbers_outside_creative_commons_are_read(number, slug):
    assert read_license(str(number)).slug == slug


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "0",
            "17",
            "011",
            "-1",
            "1\u0661",
            "All Rights Reserved",
            "CC BY",
            "Creative Commons",
            "4.0",
        ),
        *("Public Domain", "CC-BY-4.0-DE", "CC BY 2.1", "CC BY 5.0", "CC BY-BY 4.0"),
        *("CC BY-ND-SA 4.0", "CC NC 4.0", "CC BY 4.0 (CC BY 3.0)", "CC-BY-4.0+"),
        *("http://creativecommons.org/", "http://creativecommons.org/licenses/by/"),
        "http://creativecommons.org/licenses/sampling+/1.0/",
        "http://creativecommons.org.example.net/licenses/by/4.0/",
        "http://creativecommons.org@example.net/licenses/by/4.0/",
        "http://creativecommons.org/licenses/by /4.0/",
        "https://example.org/LICENSE",
    ],
)
def test_what_is_not_certain_is_refused(text):
    with pytest.raises(LicenseError):
        read_license(text)


@pytest.mark.parametrize(
    ("text", "url", "said"),
    [
        ("by-nc", "http://creativecommons.org/licenses/by-nc/3.0/us/", "by-nc 3.0 us"),
        ("CC BY 4.0", "http://creativecommons.org/licenses/by/", "by 4.0"),
        ("Public Domain", "http://web.resource.org/cc/PublicDomain", "pdm"),
        ("CC-BY-4.0", "https://example.org/blob/main/LICENSE", "by 4.0"),
        (
            "Attribution License",
            "http://creativecommons.org/licenses/by/2.0/",
            "by 2.0",
        ),
    ],
)
def test_a_name_is_completed_by_its_address(text, url, said):
    assert brief(text, url) == said


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("CC BY 4.0", "http://creativecommons.org/licenses/by/3.0/"),
        ("CC BY", "http://creativecommons.org/licenses/by-nc/3.0/"),
        ("CC BY 3.0 DE", "http://creativecommons.org/licenses/by/3.0/"),
        ("Attribution License", "http://creativecommons.org/licenses/by/4.0/"),
        ("All Rights Reserved", "http://creativecommons.org/licenses/by/4.0/"),
        ("Public Domain", "http://creativecommons.org/licenses/by-nc/2.0/"),
        ("CC BY 4.0", "http://rightsstatements.org/vocab/InC/1.0/"),
    ],
)
def test_a_name_that_contradicts_its_address_is_refused(text, url):
    with pytest.raises(LicenseError):
        read_license(text, url)


def test_a_refusal_names_what_was_found_and_what_to_do():
    with pytest.raises(LicenseError, match="'CC BY'; expected .+; reject the row"):
        read_license("CC BY")


def test_a_licence_that_was_never_published_cannot_be_built():
    with pytest.raises(LicenseError, match="by 4.0 de"):
        License("by", "4.0", "de")


def test_every_licence_is_rebuilt_from_the_columns_of_its_statement():
    names = ("license_slug", "license_version", "license_port")
    for one in ALL:
        columns = verdict(one.title, one.url)
        assert License.from_columns(*(columns[name] for name in names)) == one


@pytest.mark.parametrize(
    "columns",
    [
        *(("unread", "", ""), ("", "", ""), ("by", "", ""), ("by", "4.0", "de")),
        *(("by", "2.1", ""), ("BY", "4.0", ""), ("cc0", "", ""), ("mit", "1.0", "")),
        *(("by", "4.0", None), ("by", 4.0, ""), (float("nan"), "4.0", "")),
    ],
)
def test_columns_of_no_published_licence_are_refused(columns):
    with pytest.raises(LicenseError, match="expected a published version and port"):
        License.from_columns(*columns)


def test_version_one_writes_no_derivatives_first_in_its_address():
    address = "https://creativecommons.org/licenses/by-nd-nc/1.0/"
    assert License("by-nc-nd", "1.0").url == address


@given(LICENSES)
def test_what_is_not_creative_commons_is_taken_to_allow_nothing(one):
    if one.family not in ("cc", "public-domain"):
        assert not one.allows_commercial and not one.allows_derivatives
        assert one.requires_attribution and one.requires_share_alike

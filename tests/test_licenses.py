"""What a licence statement is read as, which split takes it, what may be combined."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from commoncanvas.errors import LicenseError
from commoncanvas.licenses import (
    POLICIES,
    PUBLISHED,
    License,
    Policy,
    combined_license,
    read_license,
    split_of,
)

ALL = [License(*row) for row in sorted(PUBLISHED)]
CC = [one for one in ALL if one.family == "cc"]
LICENSES = st.sampled_from(ALL)
LEAVES = ["", "deed", "deed.de", "deed.zh-hant", "legalcode", "legalcode.txt", "rdf"]
OPEN = [one for one in CC if one.allows_derivatives and one.version != "1.0"]
OPEN += [one for one in ALL if one.family == "public-domain"]
BY, BY_SA = License("by", "2.0"), License("by-sa", "2.0")
BY_NC, BY_ND = License("by-nc", "2.0"), License("by-nd", "2.0")
MIT = License("mit", family="other")


def brief(text="", url=""):
    """Read, and join what identifies the licence."""
    one = read_license(text, url)
    return " ".join(filter(None, (one.slug, one.version, one.port)))


def split_by(slug, family, version=""):
    return split_of(License(slug, version, family=family))


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
    [(7, "no-known-restrictions"), (8, "us-government"), (9, "cc0"), (10, "pdm")],
)
def test_flickr_numbers_outside_creative_commons_are_read(number, slug):
    assert read_license(str(number)).slug == slug


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "11", "All Rights Reserved", "CC BY", "Creative Commons", "4.0"),
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


def test_version_one_writes_no_derivatives_first_in_its_address():
    address = "https://creativecommons.org/licenses/by-nd-nc/1.0/"
    assert License("by-nc-nd", "1.0").url == address


@given(LICENSES)
def test_what_is_not_creative_commons_is_taken_to_allow_nothing(one):
    if one.family not in ("cc", "public-domain"):
        assert not one.allows_commercial and not one.allows_derivatives
        assert one.requires_attribution and one.requires_share_alike


@given(LICENSES)
def test_every_licence_has_one_split_and_a_reason_only_if_rejected(one):
    split, reason = split_of(one)
    assert split in {"c", "nc", "nd", "rejected"}
    assert bool(reason) == (split == "rejected")


@given(LICENSES)
def test_the_split_follows_from_what_the_licence_allows(one):
    allowed = {
        "c": (True, True),
        "nc": (False, True),
        "nd": (one.allows_commercial, False),
    }
    split, _ = split_of(one)
    rights = (one.allows_commercial, one.allows_derivatives)
    assert split == "rejected" or rights == allowed[split]


@given(LICENSES)
def test_the_nc_policy_takes_exactly_the_splits_c_and_nc(one):
    taken = Policy("nc", POLICIES["nc"]).takes(one)
    assert taken == (split_of(one)[0] in ("c", "nc"))


@pytest.mark.parametrize(
    ("slug", "family", "reason"),
    [
        ("mit", "other", "licence MIT is not a Creative Commons licence"),
        (
            *("no-known-restrictions", "no-known-restrictions"),
            "no known copyright restrictions is a statement, not a licence",
        ),
        ("us-government", "us-government", "is free in that country only"),
    ],
)
def test_a_rejected_licence_has_its_own_reason(slug, family, reason):
    assert reason in split_by(slug, family)[1]


def test_retired_licences_are_in_no_split():
    assert split_by("sa", "cc", "1.0")[0] == "rejected"


@pytest.mark.parametrize(
    ("parts", "slug"),
    [
        ([BY, BY_SA], "by-sa"),
        ([BY, BY_NC], "by-nc"),
        ([BY_SA, BY_NC], "by-nc-sa"),
        ([License("cc0", "1.0", family="public-domain")], "cc0"),
    ],
)
def test_terms_propagate_to_the_combined_licence(parts, slug):
    assert combined_license(parts).slug == slug


@pytest.mark.parametrize(
    "parts", [[], [BY, BY_ND], [BY, MIT], [BY, License("by-sa", "1.0")]]
)
def test_works_that_cannot_be_combined_are_refused(parts):
    with pytest.raises(LicenseError):
        combined_license(parts)


@given(st.lists(st.sampled_from(OPEN), min_size=1))
def test_a_combined_licence_keeps_every_restriction(parts):
    whole = combined_license(parts)
    assert whole.allows_commercial == all(one.allows_commercial for one in parts)
    assert whole.requires_share_alike == any(one.requires_share_alike for one in parts)
    assert whole.requires_attribution >= any(one.requires_attribution for one in parts)


@given(st.lists(st.sampled_from(OPEN), min_size=2), st.data())
def test_a_combined_licence_does_not_depend_on_order(parts, data):
    shuffled = data.draw(st.permutations(parts))
    assert combined_license(shuffled) == combined_license(parts)


@given(st.sampled_from([one for one in CC if one.allows_derivatives]))
def test_one_licence_alone_stays_as_it_is(one):
    assert combined_license([one, one]) == one

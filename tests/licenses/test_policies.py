"""Which split takes a licence, which works may be trained on, what may be combined."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from commoncanvas.core.errors import LicenseError, ParameterError
from commoncanvas.licenses.license import FAMILIES, License
from commoncanvas.licenses.policies import combined_license, split_of, trainable_slugs

ALL = [License.from_columns(*columns) for columns in sorted(FAMILIES)]
CC = [one for one in ALL if one.family == "cc"]
LICENSES = st.sampled_from(ALL)
OPEN = [one for one in CC if one.allows_derivatives and one.version != "1.0"]
OPEN += [one for one in ALL if one.family == "public-domain"]
BY, BY_SA = License("by", "2.0"), License("by-sa", "2.0")
BY_NC, BY_ND = License("by-nc", "2.0"), License("by-nd", "2.0")
MIT = License("mit", family="other")


def split_by(slug, family, version=""):
    return split_of(License(slug, version, family=family))


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
def test_c_and_nc_together_take_exactly_the_splits_c_and_nc(one):
    taken = one.slug in trainable_slugs(["c", "nc"])
    assert taken == (split_of(one)[0] in ("c", "nc"))


@given(st.lists(st.sampled_from(["c", "nc", "web", "by_only", "cc0", "by-sa"])))
def test_more_policies_never_let_in_less(names):
    if names:
        fewer = trainable_slugs(names[:1])
        assert fewer <= trainable_slugs(names) <= trainable_slugs(["c", "nc", "web"])


def test_a_users_own_policy_is_a_list_of_slugs():
    assert trainable_slugs(["cc0", "pdm"]) == {"cc0", "pdm"}


@pytest.mark.parametrize(
    ("names", "named"),
    [
        ([], "nothing"),
        (["by", "cc-by"], "'cc-by'"),
        (["nd"], "by-nc-nd, by-nd"),
        (["c", "by-nd"], "by-nd"),
    ],
)
def test_a_policy_that_cannot_be_trained_on_is_refused_by_name(names, named):
    with pytest.raises(ParameterError, match=named):
        trainable_slugs(names)


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

"""Policies: which licences a set takes, and what a model made of them must carry.

Stage 01 splits the catalogue by them; `licenses` of a profile or variant selects what
is trained on. A policy is a list of licence slugs and nothing more: a variant may list
its own, `cc0_only: {licenses: [cc0, pdm]}`.
"""

from collections.abc import Iterable
from dataclasses import astuple

from commoncanvas.core.errors import LicenseError, ParameterError
from commoncanvas.licenses.license import SLUGS, License, read_license

# Each name may stand for its slugs wherever licences are listed. The first three are
# disjoint: the paper's NC set contains C and is `[c, nc]`.
POLICIES = {
    "c": ("cc0", "pdm", "by", "by-sa"),  # Source: commoncanvas-cvpr, §4.1
    "nc": ("by-nc", "by-nc-sa"),
    "nd": ("by-nd", "by-nc-nd"),  # for evaluation, never trained on
    "cc0_only": ("cc0",),
    "by_only": ("by",),
    "web": ("web",),  # the captioned web sets, whatever their licence
}
VERDICT = """license_slug license_version license_port license_title license_deed
split reason""".split()
REASONS = {
    "cc": "licence {} is retired and in no policy",
    "other": "licence {} is not a Creative Commons licence",
    "no-known-restrictions": "no known copyright restrictions is a statement, "
    "not a licence",
    "us-government": "{} is free in that country only",
}


def split_of(license: License) -> tuple[str, str]:
    """Return the split (c, nc, nd or rejected), and the reason, "" unless rejected.

    Source: commoncanvas-cvpr, §4.1.
    """
    for split in ("c", "nc", "nd"):
        if license.slug in POLICIES[split]:
            return split, ""
    return "rejected", REASONS[license.family].format(license.title)


def verdict(text: str, url: str, reason: str = "") -> dict[str, str]:
    """Read one licence statement into the columns that the catalogue adds.

    Args:
        text: the licence's name as stated.
        url: its address as stated.
        reason: why the work is rejected whatever its licence, else "".

    Returns:
        The columns `VERDICT`: slug ("unread" if the licence cannot be read), version
        and port for `License.from_columns`, title, deed, split (c, nc, nd or rejected)
        and reason.
    """
    try:
        one = read_license(text, url)
    except LicenseError as error:
        values = ("unread", "", "", text, url, "rejected", str(error))
    else:
        values = (one.slug, one.version, one.port, one.title, one.url, *split_of(one))
    columns = dict(zip(VERDICT, values, strict=True))
    return columns | ({"split": "rejected", "reason": reason} if reason else {})


def trainable_slugs(names: Iterable[str]) -> set[str]:
    """Return the slugs that a list of policies (`c`) and slugs (`by-sa`) lets train.

    Raises:
        ParameterError: a name is neither, the list is empty, or it lets in works
            that are closed to adaptation.
    """
    known = {*SLUGS, "cc0", "pdm"}
    wrong = [name for name in names if name not in known and name not in POLICIES]
    if wrong or not names:
        listed = ", ".join(map(repr, wrong)) or "nothing"
        raise ParameterError(
            f"licenses lists {listed}; expected policies ({', '.join(POLICIES)}) or "
            "licence slugs such as by-sa; edit the profile or the variant."
        )
    slugs = {slug for name in names for slug in POLICIES.get(name, (name,))}
    closed = sorted(slug for slug in slugs if "nd" in slug.split("-"))
    if closed:
        raise ParameterError(
            f"licenses lets in {', '.join(closed)}; works under no derivatives are "
            "held for evaluation; take them out of the profile or the variant."
        )
    return slugs


def combined_license(licenses: Iterable[License]) -> License:
    """Return the licence that a work made from all of them must carry.

    Non-commercial and share-alike propagate. BY-SA with BY-NC has no exact answer;
    BY-NC-SA keeps both terms, as the authors did for CommonCanvas. One licence alone
    stays, several meet in version 4.0, and the public domain alone gives CC0.

    Raises:
        LicenseError: nothing; works closed to adaptation or not Creative Commons;
            share-alike 1.0, which allows no later version, among others.
    """
    found = sorted(set(licenses), key=astuple)
    binding = [one for one in found if one.family != "public-domain"]
    barred = [one.title for one in found if not one.allows_derivatives]
    if len(binding) > 1:
        barred += [one.title for one in binding if "SA 1.0" in one.title]
    if barred or not found:
        raise LicenseError(
            f"cannot combine licence {', '.join(barred)[:160]!a}; expected works open "
            "to adaptation, later versions; reject the row."
        )
    if len(binding) < 2:
        return binding[0] if binding else License("cc0", "1.0", "", "public-domain")
    nc = "" if all(one.allows_commercial for one in binding) else "-nc"
    sa = "-sa" if any(one.requires_share_alike for one in binding) else ""
    return License(f"by{nc}{sa}", "4.0")

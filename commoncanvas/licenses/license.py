"""Licences: what a statement says and what it allows.

Stage 01 reads every picture's licence here, from names, addresses, SPDX ids and
Flickr's lists. What cannot be read with certainty is refused, never guessed.
"""

import re
from dataclasses import astuple, dataclass
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from commoncanvas.core.errors import LicenseError

SLUGS = ("by", "by-sa", "by-nc", "by-nc-sa", "by-nd", "by-nc-nd")
# Without attribution: retired after version 1.0, in Japan after 2.0.
RETIRED_SLUGS = ("sa", "nc", "nd", "nc-sa", "nc-nd")
_RETIRED_TEXTS = (("1.0", ""), ("1.0", "fi"), ("1.0", "nl"), ("2.0", "jp"))
_ELEMENTS = ("by", "nc", "nd", "sa")
_CELLS = re.compile(r"[|\n]")
# Version -> its ports; "" is the unported text, which version 2.1 never had.
_ROWS = """1.0 - fi il nl|2.0 - at au be br ca cl de es fr hr it jp kr nl pl tw uk za
2.1 au ca es jp|2.5 - ar au bg br ca ch cn co dk es hr hu il in it mk mt mx my nl pe \
pl pt scotland se si tw za|3.0 - am at au az br ca ch cl cn cr cz de ec ee eg es fr ge \
gr gt hk hr ie igo it lu nl no nz ph pl pr pt ro rs sg th tw ug us ve vn za|4.0 -"""
PORTS = {row[:3]: row[4:].replace("-", "").split(" ") for row in _CELLS.split(_ROWS)}
_PLACES = {code: code for ports in PORTS.values() for code in ports}
_PLACES |= {"generic": "", "unported": "", "international": ""}
_OTHER = """AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later Apache-2.0 BSD-2-Clause GFDL-1.2
BSD-3-Clause GFDL-1.3 GPL-2.0 GPL-2.0-only GPL-2.0-or-later GPL-3.0 GPL-3.0-only ISC MIT
GPL-3.0-or-later LAL-1.3 LGPL-2.1 LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0 MIT-0 MPL-2.0
LGPL-3.0-only LGPL-3.0-or-later ODbL-1.0 OFL-1.0 OFL-1.1 Unlicense WTFPL Zlib""".split()
# Few ported licences have an SPDX id; every unported one with attribution has.
_SPDX = """BY-2.5-AU BY-3.0-AT BY-3.0-AU BY-3.0-DE BY-3.0-IGO BY-3.0-NL BY-3.0-US SA-1.0
BY-NC-3.0-DE BY-NC-ND-3.0-DE BY-NC-ND-3.0-IGO BY-NC-SA-2.0-DE BY-NC-SA-2.0-FR
BY-NC-SA-2.0-UK BY-NC-SA-3.0-DE BY-NC-SA-3.0-IGO BY-ND-3.0-DE BY-SA-2.0-UK BY-SA-2.1-JP
BY-SA-3.0-AT BY-SA-3.0-DE BY-SA-3.0-IGO""".split()
# (slug, version) -> family, SPDX id, address, title. The mark without a version is the
# dedication that came before it, 2004 to 2010; old RDF calls it PublicDomain.
_ROWS = """cc0|1.0|public-domain|CC0-1.0|@/publicdomain/zero/1.0/|CC0 1.0
pdm|1.0|public-domain|CC-PDM-1.0|@/publicdomain/mark/1.0/|Public Domain Mark 1.0
pdm||public-domain|CC-PDDC|@/licenses/publicdomain/|CC Public Domain Dedication and \
Certification
no-known-restrictions||no-known-restrictions||www.flickr.com/commons/usage/|No known \
copyright restrictions
us-government||us-government||www.usa.gov/government-works|United States Government \
Work""".replace("@", "creativecommons.org")
FIXED = {tuple(row.split("|")[:2]): row.split("|")[2:] for row in _ROWS.split("\n")}
FIXED |= {(s.lower(), ""): ["other", s, f"spdx.org/licenses/{s}", s] for s in _OTHER}
# Every licence that this module knows: slug, version, port, family.
PUBLISHED = {(s, v, p, "cc") for s in SLUGS for v in PORTS for p in PORTS[v]}
PUBLISHED |= {(s, *text, "cc") for s in RETIRED_SLUGS for text in _RETIRED_TEXTS}
PUBLISHED |= {(*key, "", row[0]) for key, row in FIXED.items()}
# By number. Numbers 1 to 6 and these names, shown until 2025, mean version 2.0.
FLICKR_NAMES = _CELLS.split("""All Rights Reserved
Attribution-NonCommercial-ShareAlike License|Attribution-NonCommercial License
Attribution-NonCommercial-NoDerivs License|Attribution License
Attribution-ShareAlike License|Attribution-NoDerivs License
No known copyright restrictions|United States Government Work
Public Domain Dedication (CC0)|Public Domain Mark""")
_FLICKR_2_0 = {name.lower().replace("-", " ") for name in FLICKR_NAMES[1:7]}
_ROWS = """non ?commercial=nc;share ?alike=sa;no ?deriv(ative)?s?( works?)?=nd
attribution=by;creative commons=cc;(public )?licen[cs]ed?|under|the="""
_WORDS = [row.split("=") for row in re.split("[;\n]", _ROWS)]
_NAMES = {
    r"(cc )?cc ?(0|zero)( v?1\.0)?( universal)?( public domain dedication)?": "cc0 1.0",
    r"(cc )?(pdm|public domain mark)( 1\.0)?": "pdm 1.0",
    r"cc pddc|(cc )?public domain dedication (and|or) certification": "pdm ",
    r"no known copyright( restrictions)?": "no-known-restrictions ",
    r"(united states|u ?s)( federal)? government works?": "us-government ",
}
_CC_NAME = re.compile(
    r"(cc )?(?P<slug>(by|nc|nd|sa)( (by|nc|nd|sa))*)"
    r"( v?(?P<version>\d\.\d)( (?P<port>\D+))?)?"
)
_PAGES = {row[2].strip("/").removeprefix("www."): key for key, row in FIXED.items()}
_PAGES["web.resource.org/cc/publicdomain"] = ("pdm", "")
_PAGES["rightsstatements.org/vocab/nkc/1.0"] = ("no-known-restrictions", "")
_LEAF = r"/(deed|legalcode|rdf)([.-][\w.-]+)?$|\.html$|\.json$|\.txt$"
_CC_PAGE = re.compile(
    r"creativecommons\.org/licenses/(?P<slug>[a-z+-]+)"
    r"(/(?P<version>\d\.\d)(/(?P<port>[a-z]+))?)?"
)
# An address on these hosts is itself a statement, so it must be understood.
_SPEAKING = ("creativecommons.org", "rightsstatements.org", "web.resource.org")


def _term(element, barred, doc):
    def holds(self):
        # Outside Creative Commons nothing was read, so every term may apply.
        terms = {"cc": self.slug.split("-"), "public-domain": ()}
        return (element in terms.get(self.family, _ELEMENTS)) is not barred

    return property(holds, doc=doc)


@dataclass(frozen=True)
class License:
    """One published licence or public-domain tool, and what it allows.

    Slugs are in canonical order (`by-nc-sa`, `nc-nd`, `cc0`, `mit`); version and port
    are "" where there is none; family is cc, public-domain, no-known-restrictions,
    us-government or other. One that was never published raises LicenseError.
    """

    slug: str
    version: str = ""
    port: str = ""
    family: str = "cc"
    allows_commercial = _term("nc", True, "Certainly allows commercial use.")
    allows_derivatives = _term("nd", True, "Certainly allows adaptations.")
    requires_attribution = _term("by", False, "Wants, or may want, a credit.")
    requires_share_alike = _term("sa", False, "Wants, or may want, itself kept.")

    def __post_init__(self):
        if astuple(self) not in PUBLISHED:
            raise _refusal(" ".join(astuple(self)), "a published version and port")

    @property
    def _row(self):
        if self.family != "cc":
            return FIXED[self.slug, self.version]
        title = f"CC {self.slug} {self.version} {self.port}".strip().upper()
        spdx = title.replace(" ", "-")
        listed = spdx[3:] in _SPDX or self.slug in SLUGS and not self.port
        # Version 1.0, and every licence without attribution, wrote nd before nc.
        old = self.version == "1.0" or self.slug in RETIRED_SLUGS
        slug = self.slug.replace("nc-nd", "nd-nc") if old else self.slug
        page = f"creativecommons.org/licenses/{slug}/{self.version}/{self.port}/"
        return ["cc", spdx if listed else "", page.replace("//", "/"), title]

    spdx = property(lambda self: self._row[1], doc='The SPDX id; "" where none exists.')
    url = property(lambda self: f"https://{self._row[2]}", doc="The https address.")
    title = property(lambda self: self._row[3], doc="A name, e.g. CC BY-SA 3.0 DE.")


@lru_cache(maxsize=4096)
def read_license(text: str = "", url: str = "") -> License:
    """Read one licence from its name, its address, or both.

    A name may leave version and port to the address; an address that only points at
    a copy elsewhere states nothing. Flickr's numbers 0 ... 10 are names too.

    Args:
        text: a name, SPDX id, Flickr number, address, or slug with version.
        url: the licence's address.

    Raises:
        LicenseError: nothing is stated, both disagree, or either is not certain.
    """
    given = [str(value).strip() for value in (text, url) if value not in (None, "")]
    said = {field for value in given for field in _read(value)}
    fields = dict(said)
    named = "slug" in fields and ("version" in fields or fields["family"] != "cc")
    if len(fields) < len(said) or not named:
        raise _refusal(" | ".join(given), "one licence and version, said alike by all")
    return License(**fields)


def _refusal(found, expected):
    return LicenseError(
        f"cannot accept licence {found[:160]!a}; expected {expected}; reject the row."
    )


def _fixed(slug, version):
    return dict(slug=slug, version=version, family=FIXED[slug, version][0]).items()


def _read(value):
    """Return (field, value) pairs that one statement fixes; none if it says nothing."""
    if re.match(r"(www\.)?(creativecommons|web\.resource)\.org/", value, re.I):
        value = f"https://{value}"
    if not re.match(r"(https?:)?//", value, re.I):
        name = FLICKR_NAMES[int(value)] if re.fullmatch(r"[0-9]|10", value) else value
        # "Attribution 4.0 International (CC BY 4.0)" says it twice, and must agree.
        parts = filter(str.strip, re.split(r"[()]", name))
        return {pair for part in parts for pair in _read_name(part)}
    try:
        parts = urlsplit(value)
        page = f"{parts.hostname or ''}/{unquote(parts.path)}".lower()
    except ValueError:
        page = ""
    if not page or re.search(r"\s", value):
        raise _refusal(value, "an address like https://host/path")
    page = re.sub(_LEAF, "", re.sub("/+", "/", page).strip("/").removeprefix("www."))
    if page in _PAGES:
        return _fixed(*_PAGES[page])
    if spdx := re.fullmatch(r"(spdx|opensource)\.org/licenses?/([\w.+-]+)", page):
        return _read_name(spdx[2])
    found = _CC_PAGE.fullmatch(page)
    if not found and page.startswith(_SPEAKING):
        raise _refusal(value, "the address of a licence deed")
    return (
        _read_slug(value, found, found["port"] or "") if found else ()
    )  # "" is unported


def _read_name(value):
    name = value.casefold()
    # Other signs may deny or doubt what the words say: "CC BY 4.0?", "!= CC0".
    if re.search(r"[^\w\s.+,:;/'\"\[\]‐‑–—-]", name):
        raise _refusal(value, "a plain licence name")
    # Dots count between digits only; letters of every script stay, and so refuse.
    name = re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w.+]|_", " ", name)
    name = " ".join(name.split())
    flickr = {("version", "2.0")} if name in _FLICKR_2_0 else set()
    for pattern, word in _WORDS:
        name = " ".join(re.sub(rf"\b({pattern})\b", word, name).split())
    other = name.replace(" ", "-") + " "
    key = next((key for row, key in _NAMES.items() if re.fullmatch(row, name)), other)
    if tuple(key.split(" ")) in FIXED:
        return _fixed(*key.split(" "))
    if re.fullmatch(r"public domain( dedication)?", name):
        return {("family", "public-domain")}  # true of every tool, so names none
    found = _CC_NAME.fullmatch(name)
    port = _PLACES.get(found["port"] or "generic") if found else None
    if port is None:
        raise _refusal(value, "a licence name, SPDX id, Flickr number or address")
    return _read_slug(value, found, port if found["port"] else None) | flickr


def _read_slug(value, found, port):
    elements = re.split("[ -]", found["slug"])
    slug = [element for element in _ELEMENTS if element in elements]
    if len(slug) < len(elements):
        raise _refusal(value, "by, nc, nd, sa, each once (sampling is retired)")
    said = {"slug": "-".join(slug), "family": "cc"}
    if found["version"]:
        said |= {"version": found["version"], "port": port}
    return {pair for pair in said.items() if pair[1] is not None}

"""Licences: what a statement says and what it allows.

Stage 01 reads every picture's licence here, from names, addresses, SPDX ids and
Flickr's lists. What cannot be read with certainty is refused, never guessed.
"""

import re
from dataclasses import astuple, dataclass
from functools import lru_cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from commoncanvas.core.errors import LicenseError
from commoncanvas.core.settings import load_yaml

_TABLES = load_yaml(Path(__file__).with_name("licenses.yaml"))
SLUGS: tuple[str, ...] = tuple(_TABLES["slugs"])
PORTS: dict[str, list[str]] = _TABLES["ports"]
FLICKR_NAMES: list[str] = _TABLES["flickr"]
_RETIRED_SLUGS = _TABLES["retired"]["slugs"]
_ELEMENTS = ("by", "nc", "nd", "sa")


# (slug, version) of what has no ports -> family, spdx, page and title.
_FIXED = {(row["slug"], row["version"]): row for row in _TABLES["fixed"]}
for _id in _TABLES["other"]:
    _row = {"family": "other", "spdx": _id, "page": f"spdx.org/licenses/{_id}"}
    _FIXED[_id.lower(), ""] = {**_row, "title": _id}

# Every licence that this module knows: (slug, version, port) -> family.
FAMILIES = {(slug, v, port): "cc" for slug in SLUGS for v in PORTS for port in PORTS[v]}
for _slug in _RETIRED_SLUGS:
    FAMILIES |= {(_slug, *text): "cc" for text in _TABLES["retired"]["texts"]}
FAMILIES |= {(*key, ""): row["family"] for key, row in _FIXED.items()}

# What a name calls a port -> the port.
_PLACES = {port: port for ports in PORTS.values() for port in ports}
_PLACES |= {"generic": "", "unported": "", "international": ""}
_FLICKR_NUMBERS = {str(number): name for number, name in enumerate(FLICKR_NAMES)}
FLICKR_4_0 = "2025-06-18"  # Flickr's announcement of the licences 4.0, numbers 11 to 16
_FLICKR_2_0 = {name.lower().replace("-", " ") for name in FLICKR_NAMES[1:7]}
_CC_NAME = re.compile(
    r"(cc )?(?P<slug>(by|nc|nd|sa)( (by|nc|nd|sa))*)"
    r"( v?(?P<version>\d\.\d)( (?P<port>\D+))?)?"
)
_PAGES = {r["page"].strip("/").removeprefix("www."): key for key, r in _FIXED.items()}
_PAGES |= {page: tuple(key) for page, key in _TABLES["pages"].items()}
# What may follow the address of a licence on the page of its deed, its text or its RDF.
_LEAF = r"/(deed|legalcode|rdf)([.-][\w.-]+)?$|\.html$|\.json$|\.txt$"
_CC_PAGE = re.compile(
    r"creativecommons\.org/licenses/(?P<slug>[a-z+-]+)"
    r"(/(?P<version>\d\.\d)(/(?P<port>[a-z]+))?)?"
)
# An address on these hosts is itself a statement, so it must be understood.
_LICENSE_HOSTS = ("creativecommons.org", "rightsstatements.org", "web.resource.org")


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

    def __post_init__(self) -> None:
        if FAMILIES.get((self.slug, self.version, self.port)) != self.family:
            raise _refusal(" ".join(astuple(self)), "a published version and port")

    @classmethod
    def from_columns(cls, slug: str, version: str, port: str) -> "License":
        """Rebuild a licence from the catalogue's license_slug, _version and _port.

        Raises:
            LicenseError: no licence was published under these.
        """
        if not (family := FAMILIES.get((slug, version, port))):
            raise _refusal(f"{slug} {version} {port}", "a published version and port")
        return cls(slug, version, port, family)

    def _may_have(self, element: str) -> bool:
        """Say whether a term applies; outside Creative Commons none was read."""
        if self.family == "cc":
            return element in self.slug.split("-")
        return self.family != "public-domain"

    @property
    def allows_commercial(self) -> bool:
        """Certainly allows commercial use."""
        return not self._may_have("nc")

    @property
    def allows_derivatives(self) -> bool:
        """Certainly allows adaptations."""
        return not self._may_have("nd")

    @property
    def requires_attribution(self) -> bool:
        """Wants, or may want, a credit."""
        return self._may_have("by")

    @property
    def requires_share_alike(self) -> bool:
        """Wants, or may want, adaptations under itself."""
        return self._may_have("sa")

    @property
    def _row(self) -> dict[str, str]:
        if self.family != "cc":
            return _FIXED[self.slug, self.version]
        title = f"CC {self.slug} {self.version} {self.port}".strip().upper()
        spdx = title.replace(" ", "-")
        is_plain = self.slug in SLUGS and not self.port
        has_spdx = is_plain or spdx.removeprefix("CC-") in _TABLES["spdx"]
        # Version 1.0, and every licence without attribution, wrote nd before nc.
        old = self.version == "1.0" or self.slug in _RETIRED_SLUGS
        slug = self.slug.replace("nc-nd", "nd-nc") if old else self.slug
        page = "/".join(filter(None, (slug, self.version, self.port)))
        page = f"creativecommons.org/licenses/{page}/"
        return {"spdx": spdx if has_spdx else "", "page": page, "title": title}

    @property
    def spdx(self) -> str:
        """The SPDX id; "" where none exists."""
        return self._row["spdx"]

    @property
    def url(self) -> str:
        """The https address."""
        return f"https://{self._row['page']}"

    @property
    def title(self) -> str:
        """A name, e.g. CC BY-SA 3.0 DE."""
        return self._row["title"]


def read_license(text: str = "", url: str = "", uploaded: str = "") -> License:
    """Read one licence from its name, its address, or both.

    A name may leave version and port to the address; an address that only points at
    a copy elsewhere states nothing. `text` may also be an SPDX id, an address, a slug
    with version, or Flickr's number, 0 ... 16.

    Args:
        uploaded: the ISO date of a picture's upload, "" if unknown. Flickr's old
            names, such as "Attribution License", mean version 2.0 before
            `FLICKR_4_0`, and no certain version from then on.

    Raises:
        LicenseError: nothing is stated, both disagree, or either is not certain.
    """
    return _read_both(text, url, uploaded >= FLICKR_4_0)


@lru_cache(maxsize=4096)
def _read_both(text: str, url: str, is_late: bool) -> License:
    statements = [str(one).strip() for one in (text, url) if one not in (None, "")]
    pairs = {pair for statement in statements for pair in _read(statement, is_late)}
    fields = dict(pairs)
    is_named = "slug" in fields and ("version" in fields or fields["family"] != "cc")
    if len(fields) < len(pairs) or not is_named:  # a field with two values, or too few
        found = " | ".join(statements)
        raise _refusal(found, "one licence and version, said alike by all")
    return License(**fields)


def _refusal(found: str, expected: str) -> LicenseError:
    return LicenseError(
        f"cannot accept licence {found[:160]!a}; expected {expected}; reject the row."
    )


def _fixed(slug: str, version: str) -> set[tuple[str, str]]:
    family = _FIXED[slug, version]["family"]
    return {("slug", slug), ("version", version), ("family", family)}


def _read(value: str, is_late: bool) -> set[tuple[str, str]]:
    """Return (field, value) pairs that one statement fixes; none if it says nothing."""
    if re.match(r"(www\.)?(creativecommons|web\.resource)\.org/", value, re.I):
        value = f"https://{value}"
    if re.match(r"(https?:)?//", value, re.I):
        return _read_address(value)
    name = _FLICKR_NUMBERS.get(value, value)
    is_late &= name == value  # a number is certain
    # "Attribution 4.0 International (CC BY 4.0)" says it twice, and must agree.
    parts = filter(str.strip, re.split(r"[()]", name))
    return {pair for part in parts for pair in _read_name(part, is_late)}


def _read_address(value: str) -> set[tuple[str, str]]:
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
        return _read_name(spdx[2], False)
    if found := _CC_PAGE.fullmatch(page):
        # An address without a port is the unported text's.
        return _read_slug(value, found, found["port"] or "")
    if page.startswith(_LICENSE_HOSTS):
        raise _refusal(value, "the address of a licence deed")
    return set()


def _read_name(value: str, is_late: bool) -> set[tuple[str, str]]:
    name = value.casefold()
    # Other signs may deny or doubt what the words say: "CC BY 4.0?", "!= CC0".
    if re.search(r"[^\w\s.+,:;/'\"\[\]‐‑–—-]", name):
        raise _refusal(value, "a plain licence name")
    # Dots count between digits only; letters of every script stay, and so refuse.
    name = re.sub(r"(?<!\d)\.|\.(?!\d)|[^\w.+]|_", " ", name)
    name = " ".join(name.split())
    flickr = {("version", "2.0")} if name in _FLICKR_2_0 and not is_late else set()
    for pattern, word in _TABLES["words"].items():
        name = " ".join(re.sub(rf"\b({pattern})\b", word, name).split())
    for pattern, key in _TABLES["names"].items():
        if re.fullmatch(pattern, name):
            return _fixed(*key)
    if (name.replace(" ", "-"), "") in _FIXED:  # an SPDX id
        return _fixed(name.replace(" ", "-"), "")
    if re.fullmatch(r"public domain( dedication)?", name):
        return {("family", "public-domain")}  # true of every tool, so names none
    found = _CC_NAME.fullmatch(name)
    port = _PLACES.get(found["port"] or "generic") if found else None
    if found is None or port is None:
        raise _refusal(value, "a licence name, SPDX id, Flickr number or address")
    # A name without a port leaves it to the address.
    return _read_slug(value, found, port if found["port"] else None) | flickr


def _read_slug(value: str, found: re.Match, port: str | None) -> set[tuple[str, str]]:
    elements = re.split("[ -]", found["slug"])
    slug = [element for element in _ELEMENTS if element in elements]
    if len(slug) < len(elements):
        raise _refusal(value, "by, nc, nd, sa, each once (sampling is retired)")
    pairs = {("slug", "-".join(slug)), ("family", "cc")}
    if found["version"]:
        pairs.add(("version", found["version"]))
        if port is not None:
            pairs.add(("port", port))
    return pairs

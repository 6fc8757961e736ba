"""Pinned Iconify picture sets from npm, verified before a byte is read."""

import base64
import hashlib
import io
import json
import re
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from tqdm import tqdm

from commoncanvas.catalog.sources.folder import as_unicode, day_of
from commoncanvas.core.errors import SourceError
from commoncanvas.core.paths import ROOT, SOURCES

LOCK = ROOT / "package-lock.json"
SCOPE = "@iconify-json/"


@dataclass(frozen=True)
class Pin:
    """One pinned npm package: what to fetch and the hash it must have."""

    prefix: str
    version: str
    integrity: str

    @property
    def path(self) -> Path:
        """Where the package's archive lies once fetched."""
        return SOURCES / f"iconify-json-{self.prefix}-{self.version}.tgz"


def read_pins(lock: Path = LOCK) -> dict[str, Pin]:
    """Return {prefix: Pin} for every picture set named in `package-lock.json`.

    Raises:
        SourceError: the file cannot be read, or pins a set without version or hash.
    """
    pins = {}
    try:
        for path, package in sorted(json.loads(lock.read_text())["packages"].items()):
            name = path.removeprefix("node_modules/")
            if name.startswith(SCOPE):
                prefix = name.removeprefix(SCOPE)
                pins[prefix] = Pin(prefix, package["version"], package["integrity"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{lock.name} cannot be read ({error!r:.80}); expected npm's file with the "
            "version and integrity of every set; restore it with git."
        ) from None
    return pins


def verified_bytes(pin: Pin) -> bytes:
    """Return a fetched archive's bytes; SourceError if missing or not as pinned."""
    if not pin.path.exists():
        raise SourceError(
            f"source {pin.prefix} {pin.version}: {pin.path.name} is missing from "
            "sources/; expected a fetched package; run `make sources`."
        )
    data = pin.path.read_bytes()
    algorithm, _, expected = pin.integrity.partition("-")
    if algorithm not in hashlib.algorithms_guaranteed:
        raise SourceError(
            f"source {pin.prefix}: {LOCK.name} pins it by {algorithm[:20]!r}; expected "
            "one hash like sha512-…; pin it again with npm."
        )
    found = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    if found != expected:
        raise SourceError(
            f"source {pin.prefix} {pin.version}: {algorithm} is {found[:12]}…, expected"
            f" {expected[:12]}…; delete sources/{pin.path.name} and `make sources`."
        )
    return data


def read_members(pin: Pin, *names: str) -> list[dict[str, Any]]:
    """Return the named JSON members of a verified package, never unpacked to disk.

    Raises:
        SourceError: the package lacks a member, or it is no JSON object.
    """
    found = []
    data = verified_bytes(pin)
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for name in names:
                file = cast(IO[bytes], archive.extractfile(f"package/{name}"))
                found.append(json.load(file))
    except (OSError, ValueError, KeyError, RecursionError, tarfile.TarError) as error:
        raise _unreadable(pin.prefix, error) from None
    return found


def _unreadable(prefix: str, error: Exception) -> SourceError:
    return SourceError(
        f"source {prefix}: its package cannot be read ({error!r:.80}); expected "
        "icons.json and info.json of an Iconify set; pin another version of it."
    )


def fetch(pin: Pin) -> None:
    """Fetch one package with npm, from whatever registry npm is set up for.

    Raises:
        SourceError: no npm, network or package, or its bytes are not the pinned ones.
    """
    SOURCES.mkdir(exist_ok=True)
    name = f"{SCOPE}{pin.prefix}@{pin.version}"
    command = ["npm", "pack", "--silent", "--pack-destination", str(SOURCES), name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(
            f"source {pin.prefix}: npm gave no answer ({type(error).__name__}); "
            "expected npm 9 or newer and a network; install it or try again."
        ) from None
    if done.returncode:
        raise SourceError(
            f"source {pin.prefix} {pin.version}: npm could not fetch {name}; expected "
            "a reachable registry that has it; check the network and try again."
        )
    try:
        verified_bytes(pin)
    except SourceError:
        pin.path.unlink(missing_ok=True)
        raise


def fetch_all(pins: Mapping[str, Pin] | None = None) -> int:
    """Fetch what is missing, verify everything, and return the number of bytes."""
    chosen = list((pins or read_pins()).values())
    for pin in tqdm(chosen, desc="sources", unit="set", file=sys.stderr):
        if not pin.path.exists():
            fetch(pin)
        verified_bytes(pin)
    return sum(pin.path.stat().st_size for pin in chosen)


SKIN_TONE = re.compile(r"-(medium-)?(light|medium|dark)(-skin-tone)?(?=-|$)")


def read_set(prefix: str) -> list[dict[str, Any]]:
    """Read one verified Iconify package into a list of row dictionaries.

    Titles are the set's own names with hyphens as spaces; a last word that at least
    40 % of the set shares ("flat", "duo") names the style and is left out.

    Returns:
        One row a picture: the columns of `stated.STATED` (date_seen is the day the set
        was packed), is_hidden, is_skin_tone and svg.

    Raises:
        SourceError: the set is not pinned, or its package missing, not the pinned, or
            no set of pictures.
    """
    pins = read_pins()
    if prefix not in pins:
        raise SourceError(
            f"source {prefix!r} is not pinned; expected a set of package-lock.json; "
            "correct cc_sources or web_sources of the profile."
        )
    icons, info = read_members(pins[prefix], "icons.json", "info.json")
    try:
        names = sorted(icons["icons"])
        if not names:
            raise ValueError("no icons")
        last, count = Counter(n.rpartition("-")[2] for n in names).most_common(1)[0]
        style = f"-{last}" if count >= 0.4 * len(names) else None
        stated = _stated(info, icons.get("lastModified", 0))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _unreadable(prefix, error) from None
    rows = []
    for name in names:
        icon, svg, reason = icons["icons"][name], "", ""
        bare = name.removesuffix(style) if style else name
        try:
            svg = _document(icon, icons)
            svg.encode()
        except (KeyError, TypeError, UnicodeEncodeError) as error:
            icon, svg = {}, ""
            reason = f"its set holds no drawing of it ({type(error).__name__})"
        rows.append(
            {
                "key": f"{prefix}/{as_unicode(name)}",
                "title": as_unicode(bare).replace("-", " "),
                **stated,
                "pageurl": f"https://icon-sets.iconify.design/{prefix}/{as_unicode(name)}/",
                "downloadurl": "",
                "alt_text": "",
                "caption": "",
                "captioner": "",
                "source": prefix,
                "reason": reason,
                "is_hidden": bool(icon.get("hidden")),
                "is_skin_tone": bool(SKIN_TONE.search(name)),
                "svg": svg,
            }
        )
    return rows


def _stated(info: dict[str, Any], packed: float) -> dict[str, str]:
    """Return what a set states of all its pictures; "" for what it does not say."""
    author, license_ = info.get("author") or {}, info.get("license") or {}
    texts = {
        "author": author.get("name"),
        "author_url": author.get("url"),
        "license_text": license_.get("spdx") or license_.get("title"),
        "license_url": license_.get("url"),
        "date_seen": day_of(packed),
    }
    return {name: as_unicode(str(text or "")) for name, text in texts.items()}


def _document(icon: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Wrap an icon's body in an SVG document with its own view box."""
    box = {"left": 0, "top": 0, "width": 16, "height": 16} | defaults | icon
    left, top, w, h = (box[name] for name in ("left", "top", "width", "height"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{w}" height="{h}" viewBox="{left} {top} {w} {h}">{icon["body"]}</svg>'
    )

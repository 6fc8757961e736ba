"""Pinned Iconify picture sets from npm, verified before a byte is read."""

import base64
import datetime as dt
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
    """Return {prefix: Pin} for every picture set named in `package-lock.json`."""
    pins = {}
    for path, package in sorted(json.loads(lock.read_text())["packages"].items()):
        name = path.removeprefix("node_modules/")
        if name.startswith(SCOPE):
            prefix = name.removeprefix(SCOPE)
            pins[prefix] = Pin(prefix, package["version"], package["integrity"])
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
    found = base64.b64encode(hashlib.new(algorithm, data).digest()).decode()
    if found != expected:
        raise SourceError(
            f"source {pin.prefix} {pin.version}: {algorithm} is {found[:12]}…, expected"
            f" {expected[:12]}…; delete sources/{pin.path.name} and `make sources`."
        )
    return data


def read_members(pin: Pin, *names: str) -> list[dict[str, Any]]:
    """Return the named JSON members of a verified package, never unpacked to disk."""
    with tarfile.open(fileobj=io.BytesIO(verified_bytes(pin))) as archive:
        files = [archive.extractfile(f"package/{name}") for name in names]
        return [json.load(cast(IO[bytes], file)) for file in files]


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
        SourceError: the set is not pinned, or its package missing or not the pinned.
    """
    pins = read_pins()
    if prefix not in pins:
        raise SourceError(
            f"source {prefix!r} is not pinned; expected a set of package-lock.json; "
            "correct cc_sources or web_sources of the profile."
        )
    icons, info = read_members(pins[prefix], "icons.json", "info.json")
    names = list(icons["icons"])
    last, count = Counter(name.rpartition("-")[2] for name in names).most_common(1)[0]
    style = f"-{last}" if count >= 0.4 * len(names) else None
    license_ = info["license"]
    packed = dt.datetime.fromtimestamp(icons.get("lastModified", 0), dt.UTC).date()
    rows = []
    for name in sorted(names):
        icon = icons["icons"][name]
        bare = name.removesuffix(style) if style else name
        rows.append(
            {
                "key": f"{prefix}/{name}",
                "title": bare.replace("-", " "),
                "author": info["author"]["name"],
                "author_url": info["author"].get("url", ""),
                "license_text": license_.get("spdx") or license_.get("title", ""),
                "license_url": license_.get("url", ""),
                "pageurl": f"https://icon-sets.iconify.design/{prefix}/{name}/",
                "downloadurl": "",
                "alt_text": "",
                "source": prefix,
                "date_seen": packed.isoformat(),
                "reason": "",
                "is_hidden": bool(icon.get("hidden")),
                "is_skin_tone": bool(SKIN_TONE.search(name)),
                "svg": _document(icon, icons),
            }
        )
    return rows


def _document(icon: dict[str, Any], defaults: dict[str, Any]) -> str:
    """Wrap an icon's body in an SVG document with its own view box."""
    box = {"left": 0, "top": 0, "width": 16, "height": 16} | defaults | icon
    left, top, w, h = (box[name] for name in ("left", "top", "width", "height"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" '
        'xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'width="{w}" height="{h}" viewBox="{left} {top} {w} {h}">{icon["body"]}</svg>'
    )

"""The Open Clip Art Library: drawings by many hands, each with its licence in RDF.

`commoncanvas fetch openclipart` fetches them from Debian's package. A licence is what a
file's own RDF states, never what the library as a whole promises.
"""

import codecs
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import xml.etree.ElementTree as ET
from collections import defaultdict
from itertools import islice
from pathlib import Path
from typing import Any

from tqdm import tqdm

from commoncanvas.catalog.columns import STATED
from commoncanvas.catalog.sources import debian
from commoncanvas.core.errors import PictureError, SourceError
from commoncanvas.core.paths import SOURCES

NAME = "openclipart"
FOLDER = SOURCES / NAME
PACKAGE = "openclipart-svg"
VERSION = "1:0.18+dfsg-19"
PACKED = "2020-07-06"  # the day of this version in the package's changelog
DEB_SHA256 = "989712d90d57dfa3230049f553bb43b76c30ee4d4b8c5f6e106e33f7db5cbdc5"
TREE_SHA256 = "0cc4c09dce83c30c1dd2fa3620d836d941d9bba3e526326868232269b404f5f5"
PINNED = f"{NAME}: {PACKAGE} {VERSION}"
INSIDE = "./usr/share/openclipart/svg/"  # where the package keeps its drawings

MAX_BYTES = 4_000_000  # of a file; more than twice the largest of the package
MAX_RDF = 2_000  # elements of a file's RDF; the package has at most 57
ENCODINGS = {"ascii", "cp1252", "iso8859-1", "iso8859-15", "utf-8"}
_DECLARED = re.compile(rb"""\s*<\?xml[^>]*?\sencoding\s*=\s*["']([\w.:-]+)["']""")
_SUBSET = re.compile(r"<!DOCTYPE[^\[>]*\[(.*?)\]\s*>", re.DOTALL)
# An entity that is plain text: Illustrator declares its namespaces so.
_ENTITY = re.compile(r"""<!ENTITY\s+([\w:.-]+)\s+(["'])([^"'<>&%]*)\2\s*>""")
_USE = re.compile(r"&([\w:.-]+);")
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
# A holder's name that speaks of rights is a statement, and has to be understood.
_RIGHTS = re.compile(
    r"(?i)licen[cs]e|copy ?(left|right)|\b(gpl|cc)\b|creative commons|public domain"
    r"|rights reserved|\(c\)|©"
)


def fetch(
    deb: Path | str | None = None,
    unpacked: Path | str | None = None,
    folder: Path | str = FOLDER,
) -> int:
    """Bring the library into `folder` and return the number of its drawings.

    Args:
        deb: the package's file; None downloads it with `apt-get`, which needs no root.
        unpacked: the package's `usr/share/openclipart/svg`, to copy instead.
        folder: where to; left alone if it is whole, else replaced.

    Raises:
        SourceError: no package to be had, or its bytes are not the pinned ones.
    """
    folder = Path(folder)
    if tree_sha256(folder) != TREE_SHA256:
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
                new = Path(scratch) / "svg"
                if unpacked:
                    shutil.copytree(unpacked, new)
                else:
                    found = deb or debian.download(NAME, PACKAGE, VERSION, scratch)
                    debian.unpack(PINNED, Path(found), DEB_SHA256, INSIDE, new)
                debian.verify(PINNED, "the drawings", tree_sha256(new), TREE_SHA256)
                if folder.exists():
                    shutil.rmtree(folder)
                new.rename(folder)
        except (OSError, tarfile.TarError) as error:
            raise SourceError(
                f"openclipart: cannot unpack or copy ({str(error)[:200]!a}); expected "
                f"files of {PACKAGE} {VERSION} and room to write; correct that."
            ) from None
    return len(drawings(folder))


def drawings(folder: Path | str) -> dict[str, Path]:
    """Return {relative path without .svg: path} of every drawing, sorted.

    Links to folders are not followed; what is not UTF-8 in a name is escaped.
    """
    found = {}
    for path in Path(folder).rglob("*.svg"):
        name = os.fsencode(path.relative_to(folder).as_posix().removesuffix(".svg"))
        found[name.decode("utf-8", "backslashreplace")] = path
    return dict(sorted(found.items()))


def tree_sha256(folder: Path | str) -> str:
    """Return the SHA-256 of all drawings' names and bytes, links followed."""
    whole = hashlib.sha256()
    for name, path in drawings(folder).items():
        data = path.read_bytes() if path.is_file() else b""
        whole.update(f"{hashlib.sha256(data).hexdigest()} {name}\n".encode())
    return whole.hexdigest()


def read(folder: Path | str = FOLDER, date_seen: str = PACKED) -> list[dict[str, Any]]:
    """Read every drawing of the library into a row; none is lost.

    What is stated is what the file's RDF says, with white space evened. Several licence
    statements are handed on together: read_license accepts them only if they agree.

    Returns:
        One row a file or link, sorted by key: the columns of `STATED` (pageurl is "",
        as no file names its page) and svg, the text, "" where it cannot be read.

    Raises:
        SourceError: there are no drawings in the folder.
    """
    folder = Path(folder)
    found = drawings(folder)
    if not found:
        raise SourceError(
            f"openclipart: no drawings in {folder.name}/; expected those of {PACKAGE}; "
            "run `python -m commoncanvas fetch openclipart`."
        )
    rows = []
    for name, path in tqdm(found.items(), "reading", unit="file"):
        row = dict.fromkeys(STATED, "") | {"svg": "", "date_seen": date_seen}
        row |= {"key": f"openclipart/{name}", "source": "openclipart"}
        try:
            row["svg"], root = _parse(path, folder)
            row |= read_rdf(root)
        except PictureError as error:
            row["reason"] = str(error)
        rows.append(row)
    return rows


def _parse(path: Path, folder: Path) -> tuple[str, ET.Element]:
    """Return text and root element of one drawing, its own entities expanded."""
    try:
        if not path.resolve().is_relative_to(folder.resolve()):
            raise PictureError("link leads out of the folder")
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            raise PictureError(f"not a file of at most {MAX_BYTES // 10**6} MB")
        text = _expand(_decode(path.read_bytes()))
        # With no entity left, the parser has nothing to expand and nothing to fetch.
        root = ET.fromstring(text)
    except (OSError, RuntimeError, ET.ParseError, ValueError) as error:
        raise PictureError(f"file cannot be read as XML ({error!r:.80})") from None
    if _local(root) != "svg":
        raise PictureError(f"root element is {root.tag[:60]!a}, expected svg")
    return text, root


def _decode(data: bytes) -> str:
    """Decode a document in the encoding it declares, else UTF-8; nothing is guessed."""
    if not data.strip():
        raise PictureError("file is empty")
    if data.startswith(b"\x1f\x8b"):
        raise PictureError("file is compressed, expected plain SVG")
    declared = _DECLARED.match(data)
    name = declared[1].decode() if declared else "utf-8"
    try:
        if codecs.lookup(name).name in ENCODINGS:
            return data.decode(name).removeprefix("\ufeff")
    except (LookupError, UnicodeDecodeError):
        pass
    raise PictureError(f"file is not in the encoding {name[:40]!a}")


def _expand(text: str) -> str:
    """Expand a document's own entities: plain text only, and bounded."""
    if subset := _SUBSET.match(text, text.find("<!DOCTYPE")):
        # The first declaration of a name binds, hence backwards.
        own = {name: value for name, _, value in _ENTITY.findall(subset[1])[::-1]}
        text = text.replace(subset[1], _ENTITY.sub("", subset[1]), 1)
        if sum(len(own.get(name, "")) for name in _USE.findall(text)) > MAX_BYTES:
            raise PictureError("entities repeat themselves without end")
        text = _USE.sub(lambda use: own.get(use[1], use[0]), text)
    if "<!ENTITY" in text:
        raise PictureError("document declares entities that are not plain text")
    return text


def read_rdf(root: ET.Element) -> dict[str, str]:
    """Read {column of `STATED`: text} from the RDF of a drawing, all blocks together.

    Raises:
        PictureError: the drawing has no RDF, or too much.
    """
    nodes: dict[str, list[ET.Element]] = defaultdict(list)  # by local name
    elements = (node for rdf in root.iter(f"{RDF}RDF") for node in rdf.iter())
    for node in islice(elements, MAX_RDF):
        nodes[_local(node)].append(node)
    if not nodes or next(elements, None) is not None:
        found = f"RDF of over {MAX_RDF} elements" if nodes else "no RDF"
        raise PictureError(f"file has {found}, so its licence cannot be read")
    work: dict[str, list[str]] = defaultdict(list)  # texts by local name
    for child in (child for node in nodes["Work"] for child in node):
        work[_local(child)] += _texts(child)
    licenses = _licenses(nodes)
    urls = [one for one in licenses if "://" in one]
    # Some give their licence's address as their own: no page of an author.
    pages = [n.get(f"{RDF}about", "") for node in nodes["creator"] for n in node]
    pages = [one for one in pages if re.match("https?://", one) and one not in urls]
    return {
        "title": "".join(work["title"][:1]),
        "author": ", ".join(dict.fromkeys(work["creator"])),
        "author_url": "".join(pages[:1]),
        "license_text": " | ".join(urls[1:] + [x for x in licenses if x not in urls]),
        "license_url": "".join(urls[:1]),
        "alt_text": ", ".join(dict.fromkeys(work["description"] + work["subject"])),
    }


def _licenses(nodes: dict[str, list[ET.Element]]) -> list[str]:
    """Return every different statement about the licence, white space evened."""
    found: list[str | None] = []
    found += [node.get(f"{RDF}resource") or node.text for node in nodes["license"]]
    found += [node.get(f"{RDF}about") for node in nodes["License"]]
    for node in nodes["rights"]:
        # Inside an agent stands the holder's name; else what the rights are.
        found += [t for t in _texts(node) if not len(node) or _RIGHTS.search(t)]
    evened = [" ".join(one.split()) for one in found if one and not one.isspace()]
    return list(dict.fromkeys(evened))


def _local(node: ET.Element) -> str:
    """Return an element's name without its namespace: the old and the new of CC."""
    return node.tag.rpartition("}")[2]


def _texts(node: ET.Element) -> list[str]:
    """Return the texts in an element and below, none empty, white space evened."""
    return [" ".join(text.split()) for text in node.itertext() if text.strip()]

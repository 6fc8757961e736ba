"""Webdataset tars: a picture and its words as neighbouring members."""

import json
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, Self

from commoncanvas.catalog.columns import NOWHERE, say_whose
from commoncanvas.catalog.sources.folder import (
    MAX_BYTES,
    PICTURES,
    as_unicode,
    day_of,
    make_row,
    stated_columns,
)
from commoncanvas.core.errors import SourceError
from commoncanvas.core.places import day_of_file, opened, size_of
from commoncanvas.core.text import nfc

MAX_UNPACKED = 2**28  # bytes of a tar, and for each of its own bytes,
MAX_RATIO = 50
MAX_HEADER_BYTES = 2**20  # of a long name or of pax fields
_LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
         tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)  # fmt: skip
EMPTY = "tar holds no sample"
DOTS = "its name holds dots, and the name of a sample ends at the first; rename it"
HIDDEN = "its name begins with a dot; rename it"
_SAMPLE = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)  # name and ending


class _Member(NamedTuple):
    name: str  # of the sample, "" for what concerns the whole tar
    ending: str = ""  # in lower case behind its last dot
    data: bytes = b""  # of words; a picture stays in the tar
    start: int = -1
    length: int = -1
    reason: str = ""  # why it could not be read
    day: str = ""  # ISO date

    @property
    def stem(self) -> str:
        return self.ending.rpartition(".")[0]

    @property
    def kind(self) -> str:
        return self.ending.rpartition(".")[2]


Pairs = Sequence[tuple[str, Any]]  # of a json object
Stated = Callable[[Pairs], tuple[dict[str, str], str]]  # columns, and a reason or ""


def read_webdataset(
    tars: Iterable[Path | str],
    source: str = "webdataset",
    captioner: str = "",
    stated: Stated = stated_columns,
) -> Iterator[dict[str, Any]]:
    """Read webdataset tars as streams: memory does not grow, nothing is unpacked.

    A sample is consecutive files of one name: a picture (jpg, jpeg, png, webp), a json
    object with the columns of `folder.NAMES`, perhaps a txt with the caption. A work
    without date_seen was seen on the day (UTC) of its file in the tar, or of the tar.

    Args:
        tars: files, or addresses that fsspec opens.
        captioner: whose captions are of which the json does not say it; see
            `columns.say_whose`.
        stated: reads the json's pairs as `stated_columns` does; a column key it states
            is the work's id, whatever tar it lies in.

    Yields:
        One row a sample, in order: the columns of `STATED` and of `LOCATED`, which say
        where the picture lies, nowhere if there is a reason. The key is
        source/tar/name; it is not unique if the tar is called like another or holds a
        name twice. A tar that breaks off or is empty gives one more row, with the
        reason.
    """
    for tar in map(str, tars):
        place = f"{source}/{nfc(as_unicode(Path(tar).name))}"
        day = day_of_file(tar)
        is_empty = True
        for name, members in _samples(tar):
            is_empty = False
            key = f"{place}/{as_unicode(name)}".rstrip("/")
            row = _sample_row(source, key, members, stated)
            row["date_seen"] = row["date_seen"] or day
            say_whose(row, captioner)
            yield row | {"path": tar}
        if is_empty:
            yield make_row(source, place, EMPTY, **NOWHERE)


def _sample_row(
    source: str, key: str, members: list[_Member], stated: Stated
) -> dict[str, Any]:
    held = {member.ending: member.data for member in members}
    reasons = [member.reason for member in members]
    pictures = [member for member in members if member.ending in PICTURES]
    if len(pictures) != 1:
        reasons.append(f"sample has {len(pictures)} pictures, expected 1")
    if len(held) < len(members):
        reasons.append("sample holds two files of one ending")
    pairs, no_json = _json_pairs(held.get("json"))
    columns, no_text = stated(pairs)
    del columns["file"]
    if own := columns.pop("key", ""):
        key = f"{source}/{own}"
    caption = held.get("txt", b"").decode("utf-8", "replace").strip()
    columns["caption"] = columns["caption"] or caption
    days = [columns["date_seen"], *(member.day for member in pictures)]
    columns["date_seen"] = next(filter(None, days), "")
    reason = next(filter(None, [*reasons, no_json, no_text]), "")
    lies = {} if reason else {"start": pictures[0].start, "length": pictures[0].length}
    return make_row(source, key, reason, **columns, **NOWHERE | lies)


def _json_pairs(data: bytes | None) -> tuple[tuple[tuple[str, Any], ...], str]:
    """Return the (name, value) pairs of a json object, and the reason if it is none."""
    if data is None:
        return (), "sample has no json, so nothing states its licence"
    try:
        # As pairs, a name that stands twice is not lost; an array stays a list.
        found = json.loads(data.decode("utf-8-sig"), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        return (), f"json cannot be read ({type(error).__name__})"
    if not isinstance(found, tuple):
        return (), f"json is a {type(found).__name__}, expected an object"
    return found, ""


def _samples(tar: str) -> Iterator[tuple[str, list[_Member]]]:
    """Yield the name and the members of each sample of a tar.

    22.05.jpg and 22.06.jpg are two endings of the sample 22 to webdataset, and two
    samples here, to be refused by name. So are a.jpg and its mask a.seg.png; that
    stays one, as nothing says that the mask is another picture.
    """
    for name, group in groupby(_members(tar), key=lambda member: member.name):
        members = list(group)
        endings = {member.ending for member in members}
        own = [
            member
            for member in members
            if member.stem
            and member.kind in PICTURES
            and (f"{member.stem}.json" in endings or endings.isdisjoint(PICTURES))
        ]
        stems = {member.stem for member in own}
        if rest := [member for member in members if member.stem not in stems]:
            yield name, rest
        for member in own:
            yield f"{name}.{member.stem}", [member._replace(reason=DOTS)]


def _members(tar: str) -> Iterator[_Member]:
    """Yield the files of a tar that have an ending; what befalls it is nameless."""
    name = ending = ""
    num_bytes = 0  # read of this sample
    try:
        most = MAX_UNPACKED + MAX_RATIO * size_of(tar)
        with (
            opened(tar) as file,
            tarfile.open(fileobj=file, mode="r|*", tarinfo=_Header) as archive,
        ):
            while (header := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps all
                # What is not asked for is unpacked too, so a bomb would take hours.
                if header.offset_data + header.size > most:
                    raise tarfile.ReadError("unpacks to too much")
                path = nfc(header.name.removeprefix("./"))
                found = _SAMPLE.fullmatch(path)
                if header.isdir() or not found:
                    stem, _, kind = path.rpartition(".")
                    if kind.lower() in PICTURES and not header.isdir():
                        yield _Member(stem, kind.lower(), reason=HIDDEN)
                    continue
                num_bytes = num_bytes if name == found[1] else 0
                name, data, reason = found[1], b"", ""
                stem, dot, kind = found[2].rpartition(".")
                ending = f"{stem}{dot}{kind.lower()}"
                if not header.isreg() or header.issparse():
                    what = "sparse" if header.issparse() else "a link or device"
                    reason = f"{ending[:40]!a} is {what}, expected a plain file"
                elif ending in (*PICTURES, "json", "txt"):
                    num_bytes += header.size
                    if num_bytes > MAX_BYTES:
                        reason = f"sample is larger than {MAX_BYTES // 2**20} MiB"
                    elif member := archive.extractfile(header):
                        data = member.read()  # a picture's too, which shows a cut
                is_words = ending in ("json", "txt")
                yield _Member(
                    name,
                    ending,
                    data if is_words else b"",
                    header.offset_data,
                    header.size,
                    reason,
                    day_of(header.mtime),
                )
                ending = ""
    except SourceError:
        raise  # of another machine, which may pass
    except Exception as error:
        # What the readers of tar, gzip and xz raise on broken bytes is their own.
        if ending:
            yield _Member(name, ending, reason="tar breaks off in this file")
        yield _Member("", reason=f"tar cannot be read further ({type(error).__name__})")


class _Header(tarfile.TarInfo):
    """A header that is broken or missing is an error, not the silent end of a tar.

    So is one that asks for a gigabyte of memory: tarfile reads long names whole.
    """

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in stub
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _LONG and header.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError("header is too large")
        return header

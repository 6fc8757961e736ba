"""Webdataset tars: a picture and its words as neighbouring members."""

import json
import re
import tarfile
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Self

from commoncanvas.catalog.sources.folder import (
    PICTURES,
    as_unicode,
    make_row,
    stated_columns,
)
from commoncanvas.core.errors import SourceError

MAX_BYTES = 64 * 2**20  # of one member of a tar; larger ones are not read
_Member = tuple[str, bytes, str]  # ending or path, bytes, reason if unreadable
_SAMPLE = re.compile(r"((?:.*/)?[^/.]+)\.([^/]+)", re.DOTALL)  # name and ending


def read_webdataset(
    tars: Iterable[Path | str], source: str = "webdataset"
) -> Iterator[dict[str, Any]]:
    """Read webdataset tars as streams: memory does not grow, nothing is unpacked.

    A sample is consecutive files of one name: a picture (jpg, jpeg, png, webp), a json
    object with the columns of `folder.NAMES`, perhaps a txt with the alt text.

    Yields:
        One row a sample, in order: the columns of `STATED`, and picture, the undecoded
        bytes, b"" where there is a reason. The key is source/tar/name. A tar that
        breaks off gives one more row, with the reason.

    Raises:
        SourceError: two tars have the same name.
    """
    paths = [Path(tar) for tar in tars]
    for name, count in Counter(tar.name for tar in paths).items():
        if count > 1:
            raise SourceError(
                f"{count} tars are called {name!a}; expected different names, as they "
                "are part of the keys; rename them."
            )
    for tar in paths:
        keys: set[str] = set()
        for name, members in _samples(tar):
            key = f"{source}/{as_unicode(tar.name)}/{as_unicode(name)}".rstrip("/")
            row = _sample_row(source, key, members)
            while row["key"] in keys:
                row |= {"key": row["key"] + "+", "picture": b""}
                row["reason"] = row["reason"] or "tar holds this name more than once"
            keys.add(row["key"])
            yield row


def _sample_row(source: str, key: str, members: list[_Member]) -> dict[str, Any]:
    held = {ending: data for ending, data, _ in members}
    reasons = [trouble for _, _, trouble in members]
    pictures = [ending for ending, _, _ in members if ending in PICTURES]
    if len(pictures) != 1:
        reasons.append(f"sample has {len(pictures)} pictures, expected 1")
    if len(held) < len(members):
        reasons.append("sample holds two files of one ending")
    pairs, no_json = _json_pairs(held.get("json"))
    columns, no_text = stated_columns(pairs)
    del columns["file"]
    caption = held.get("txt", b"").decode("utf-8", "replace").strip()
    columns["alt_text"] = columns["alt_text"] or caption
    reason = next(filter(None, [*reasons, no_json, no_text]), "")
    picture = b"" if reason else held[pictures[0]]
    return make_row(source, key, reason, **columns, picture=picture)


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


def _samples(tar: Path) -> Iterator[tuple[str, list[_Member]]]:
    """Yield the name and the members of each sample of a tar."""
    name = ""
    members: list[_Member] = []
    for path, data, trouble in _members(tar):
        found = _SAMPLE.fullmatch(path.removeprefix("./"))
        if path and not found:
            continue  # a file without an ending belongs to no sample
        new = found[1] if found else ""
        if new != name and members:
            yield name, members
            members = []
        name = new
        members.append((found[2].lower() if found else "", data, trouble))
    if members:
        yield name, members


def _members(tar: Path) -> Iterator[_Member]:
    """Yield a tar's files by path; the path "" is the tar's own."""
    path = ""
    try:
        with tarfile.open(tar, "r|*", tarinfo=_Header) as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # else it keeps all
                if member.isdir():
                    continue
                path, data, trouble = member.name, b"", ""
                ending = path.rpartition(".")[2].lower()
                if not member.isreg():
                    trouble = f"{ending[:40]!a} is a link or device, expected a file"
                elif ending in (*PICTURES, "json", "txt"):
                    if member.size > MAX_BYTES:
                        trouble = f"{ending} is larger than {MAX_BYTES // 2**20} MiB"
                    elif file := archive.extractfile(member):
                        data = file.read()
                yield path, data, trouble
                path = ""
    except Exception as error:
        # What the readers of tar, gzip and xz raise on broken bytes is their own.
        if path:
            yield path, b"", "tar breaks off in this file"
        yield "", b"", f"tar cannot be read further ({type(error).__name__})"


class _Header(tarfile.TarInfo):
    """A header that is broken or missing is an error, not the silent end of a tar."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except tarfile.EOFHeaderError:  # type: ignore[attr-defined]  # not in stub
            raise
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None

"""Webdataset tars: names, links, headers, packing, cuts, sizes."""

import gzip
import io
import json
import random
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from commoncanvas.catalog.catalog import assign_splits, read_source
from commoncanvas.catalog.originals import with_originals
from commoncanvas.core.errors import SourceError
from tests.hardening.frame import Case, Fault, handled, refused
from tests.hardening.tables import PICTURE, ROW, kept_only

KIND = "archives"
HOW = "tars of pictures and their words, read and judged as stage 01 does"
RANDOM, BATCH = 12_000, 100
FACTS = {k: v for k, v in ROW.items() if k != "file"}
WORDS = json.dumps(FACTS).encode()
Member = tuple[str, bytes | dict[str, Any]]  # a file's bytes, or TarInfo's fields


def tar_of(*members: Member, mode: str = "w", **how: Any) -> bytes:
    """Return a tar of members, in order."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode, **how) as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            data = content if isinstance(content, bytes) else b""
            info.size = len(data)
            for field, value in content.items() if isinstance(content, dict) else ():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def rows_of(tars: dict[str, bytes]) -> list[dict[str, Any]]:
    """Read tars and unpack nothing."""
    with tempfile.TemporaryDirectory() as folder:
        for name, data in tars.items():
            path = Path(folder, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        before = sorted(Path(folder).rglob("*"))
        rows = read_source(f"webdataset:{folder}/*.tar*")
        found = [one.get("picture", b"") for one in with_originals(rows)]
        rows = [r | {"picture": p} for r, p in zip(rows, found, strict=True)]
        if sorted(Path(folder).rglob("*")) != before:
            raise Fault("wrong outcome", "files were unpacked")
    return rows


def judged(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Judge rows: none is lost, and a rejected one says why."""
    frame = assign_splits(rows, [], 17)
    if len(frame) != len(rows) or not frame["key"].is_unique:
        raise Fault("lost row", f"{len(rows)} in, keys {list(frame['key'])}")
    silent = (frame["split"] == "rejected") & (frame["reason"].str.strip() == "")
    if silent.any():
        raise Fault("wrong outcome", f"no reason: {list(frame['key'][silent])}")
    frame.drop(columns="picture").to_csv(io.BytesIO(), encoding="utf-8")
    return frame


def read(tars: dict[str, bytes]) -> dict[str, str]:
    """Read tars of good pictures; return {key after the tar's name: split}."""
    if not (rows := rows_of(tars)):
        return {}
    frame = judged(rows)
    if any(data != PICTURE for data in frame.loc[frame["reason"] == "", "picture"]):
        raise Fault("half-read file", "a picture's bytes differ")
    names = frame["key"].str.split("/", n=2).str[2].fillna("")
    return dict(zip(names, frame["split"], strict=True))


def sample(name: str, words: bytes = WORDS) -> tuple[Member, Member]:
    """Return the two members of a good sample."""
    return (f"{name}.jpg", PICTURE), (f"{name}.json", words)


A, B = sample("a"), sample("b")


def cases() -> Iterator[Case]:
    """Yield all named cases."""
    for name, tars, right in _families():
        yield Case(KIND, name, partial(read, tars), right)
    for pattern in ("nothing/*.tar", "", "[", "nowhere.tar", "\0.tar"):
        act = lambda p=pattern: read_source(f"webdataset:{p}")  # noqa: E731
        yield Case(KIND, f"no tar: {pattern!a}", act, refused)
    for name, make in _bombs().items():
        act = lambda data: read({"a.tar.gz": data})  # noqa: E731
        yield Case(KIND, f"bomb: {name}", act, handled, make=make)


def _families() -> Iterator[tuple[str, dict[str, bytes], Any]]:
    both = kept_only("a", "b")
    good = tar_of(*A, *B)
    for packing, ending in (("", ""), ("gz", ".gz"), ("bz2", ".bz2"), ("xz", ".xz")):
        for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
            data = tar_of(*A, *B, mode=f"w:{packing}", format=form)
            yield f"form: {packing or 'plain'} {form}", {f"t.tar{ending}": data}, both
        whole = tar_of(*A, *B, mode=f"w:{packing}")
        for tenth in range(10):
            cut = whole[: len(whole) * tenth // 10]
            yield (
                f"cut: {packing or 'plain'} at {tenth}/10",
                {f"t.tar{ending}": cut},
                (
                    lambda found: (
                        found
                        and set(found) - {"a", "b"}
                        or found == {"a": "c", "b": "c"}
                    )
                ),
            )
    for name in (
        "../a", "/etc/a", "x/../../a", "./x/a", "x//a", "C:\\a", "~/a", "$HOME/a",
        "a b", "a#1",
        "é", "e\u0301", "猫", "🐈", "a" * 300, "a\nb", "a\tb", "a'b", 'a"b', "a,b",
        "-rf",
        "%2e%2e", "a\x1bb", "\udcff", "\u202ea", "con", "0", "00001", "x/y/z/w/a",
        "a\x01b",
    ):  # fmt: skip
        right = lambda f: len(f) == 2 and "c" in f.values()  # noqa: E731
        yield f"named: {name[:20]!a}", {"t.tar": tar_of(*sample(name), *B)}, right
    for names, right in (
        (("22.05", "22.06"), lambda f: len(f) == 2),
        (("mr. brown", "b"), lambda f: len(f) == 2),
        ((".a", "b"), lambda f: len(f) >= 2),
    ):  # fmt: skip
        tar = tar_of(*sample(names[0]), *sample(names[1]))
        yield f"dots: {names}", {"t.tar": tar}, right
    types = {
        "symbolic link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
        "hard link": {"type": tarfile.LNKTYPE, "linkname": "b.jpg"},
        "link to itself": {"type": tarfile.SYMTYPE, "linkname": "a.jpg"},
        "device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
        "block": {"type": tarfile.BLKTYPE}, "pipe": {"type": tarfile.FIFOTYPE},
        "folder": {"type": tarfile.DIRTYPE}, "unknown": {"type": b"Z"},
    }  # fmt: skip
    for name, fields in types.items():
        for ending in ("jpg", "json"):
            first = ("a.jpg", fields) if ending == "jpg" else A[0]
            second = ("a.json", fields) if ending == "json" else A[1]
            tar = tar_of(first, second, *B)
            yield f"member: {ending} is {name}", {"t.tar": tar}, kept_only("b")
    for name, words in {
        "no object": b"[]", "text": b'"a"', "null": b"null", "cut": WORDS[:-4],
        "nothing": b"",
        "latin-1": WORDS.replace(b"Cat", b"\xe9"), "NaN": b"NaN",
        "deep": b"[" * 100_000,
        "deep object": b'{"a":' * 100_000, "long number": b"1" * 100_000,
        "binary": PICTURE,
        "utf-16": WORDS.decode().encode("utf-16"), "no licence": b'{"author": "Ann"}',
        "list": json.dumps(FACTS | {"license": ["CC BY 4.0"]}).encode(),
        "number": json.dumps(FACTS | {"license": 99}).encode(),
        "true": json.dumps(FACTS | {"author": True}).encode(),
        "two licences": WORDS[:-1] + b', "license": "CC BY-NC 4.0"}',
        "surrogate": json.dumps(FACTS | {"title": "\udcff"}).encode(),
        "bad date": json.dumps(FACTS | {"date_seen": "soon"}).encode(),
        "null author": json.dumps(FACTS | {"author": None}).encode(),
    }.items():  # fmt: skip
        yield (
            f"words: {name}",
            {"t.tar": tar_of(*sample("a", words), *B)},
            kept_only("b"),
        )
    for name, words in {
        "byte order mark": b"\xef\xbb\xbf" + WORDS,
        "upper case": WORDS.replace(b'"author"', b'"AUTHOR"'),
        "more": WORDS[:-1] + b', "exif": {"a": [1]}}',
        "NUL": WORDS.replace(b"Cat", b"C\\u0000t"),
    }.items():  # fmt: skip
        yield f"words: {name}", {"t.tar": tar_of(*sample("a", words), *B)}, both
    for name, members, right in (
        ("no picture", (A[1], *B), kept_only("b")),
        ("no words", (A[0], *B), kept_only("b")),
        ("two pictures", (A[0], ("a.png", PICTURE), A[1], *B), kept_only("b")),
        ("one twice", (A[0], A[0], A[1], *B), kept_only("b")),
        ("twice", (*A, *B, *A), None),
        ("apart", (A[0], *B, A[1]), kept_only("b")),
        ("words first", (A[1], A[0], *B), both),
        ("others between", (A[0], ("README", b"x"), A[1], *B), both),
        ("text", (*A, ("a.txt", b"a cat"), *B), both),
        ("bad text", (*A, ("a.txt", b"\xff"), *B), None),
        ("nothing", (), lambda f: True),
        ("upper", (("a.JPG", PICTURE), A[1], *B), both),
        ("other picture", (("a.bmp", PICTURE), A[1], *B), kept_only("b")),
    ):  # fmt: skip
        right = right or (lambda found: found.get("b") == "c")
        yield f"order: {name}", {"t.tar": tar_of(*members)}, right
    for name, data in {
        "nothing": b"", "zeros": bytes(20_480), "text": b"a cat", "a picture": PICTURE,
        "a zip": b"PK\3\4" + bytes(600), "half a header": good[:300],
        "gzip of text": gzip.compress(
            b"cat"), "gzip of gzip": gzip.compress(gzip.compress(good)),
            "no end": good[:-10_240],
        "bad sum": good[:148] + b"9" * 8 + good[156:],
        "size over end": good[:124] + b"77777777777\0"
        + good[136:], "size below zero": good[:124] + b"\xff" * 12 + good[136:],
        "size no number": good[:124] + b"oops" + good[128:],
        "text behind": good + b"x" * 999,
        "another tar behind": good + tar_of(*sample("c")),
    }.items():  # fmt: skip
        yield f"no tar: {name}", {"t.tar": data}, handled  # no work, or rows
    same = {"x/t.tar": good, "y/t.tar": good}
    yield "two tars: of one name in two folders", same, lambda found: True
    two = {"s.tar": good, "t.tar": good}
    yield (
        "two tars: of one content",
        two,
        lambda found: list(found.values()).count("c") >= 2,
    )


def _bombs() -> dict[str, Callable[[], bytes]]:
    def zeros(size: int, num: int) -> bytes:
        members = []
        for n in range(num):
            members.append((f"{n}.jpg", bytes(size)))
            members.append((f"{n}.json", WORDS))
        return tar_of(*members, mode="w:gz", compresslevel=1)

    def many(num: int) -> bytes:
        files = [(f"a.{n}", b"") for n in range(num)]
        return tar_of(*files, mode="w:gz", compresslevel=1)

    def pictures_of_one(num: int, size: int) -> bytes:
        files = [
            (f"a.{e}", bytes(size)) for e in ("jpg", "jpeg", "png", "webp", "txt")
        ] * num
        return tar_of(*files, mode="w:gz", compresslevel=1)

    return {
        "one picture of 300 MiB": lambda: zeros(300 << 20, 1),
        "words of 60 MiB": lambda: tar_of(
            A[0], ("a.json", b'{"a": "' + b"x" * (60 << 20) + b'"}'), mode="w:gz"
        ),
        "20,000 files of one sample": lambda: many(20_000),
        "40 files of 30 MiB in one sample": lambda: pictures_of_one(8, 30 << 20),
        "pax headers of 50 MiB": lambda: tar_of(
            ("a.jpg", {"pax_headers": {"comment": "x" * (50 << 20)}}),
            mode="w:gz",
            format=tarfile.PAX_FORMAT,
        ),
    }


SEEDS = [tar_of(*sample(str(n)), *sample(f"x/{n}é"), *B, format=n) for n in range(3)]
SEEDS += [gzip.compress(SEEDS[0])]


def attack(rng: np.random.Generator, num: int) -> None:
    """Cut, flip and repeat bytes of tars; headers more often than contents."""
    pick = random.Random(int(rng.integers(1 << 60)))
    every: list[dict[str, Any]] = []
    for n in range(num):
        data = bytearray(pick.choice(SEEDS))
        if pick.random() < 0.3:
            del data[pick.randrange(len(data)) :]
        for _ in range(pick.randint(0, 3)):
            block = 512 * pick.randrange(max(1, len(data) // 512))
            place = min(block + pick.randrange(512), len(data) - 1)
            if place < 0:
                continue
            if pick.random() < 0.2:
                data[place:place] = data[block : block + 512]
            else:
                data[place] = pick.randrange(256)
        try:
            rows = rows_of({"t.tar": bytes(data)})
        except SourceError:
            continue
        every += [row | {"key": f"{n}/{row['key']}"} for row in rows]
    judged(every)  # all at once, which is quicker

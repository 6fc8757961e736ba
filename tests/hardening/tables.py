"""A folder of pictures with a table: encodings, dialects, columns, names of files."""

import csv
import io
import os
import random
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from commoncanvas.catalog.catalog import assign_splits, read_source
from commoncanvas.catalog.drawing import draw_rows
from commoncanvas.core.errors import SourceError
from tests.hardening.frame import Case, Fault, refused
from tests.hardening.licenses import INVISIBLE
from tests.hardening.pictures import file_of

KIND = "tables"
HOW = "tables beside pictures, read and judged as stage 01 does"
RANDOM, BATCH = 8_000, 200
PICTURE = file_of(np.zeros((4, 4, 3), np.uint8), "JPEG")
ROW = {
    "file": "a.jpg", "title": "Cat", "author": "Ann", "license": "CC BY 4.0",
    "pageurl": "https://example.org/a", "date_seen": "2024-01-02",
}  # fmt: skip
BOTH = {"a.jpg": "c", "b.jpg": "c"}


def table(*rows: dict[str, str], **how: Any) -> bytes:
    """Return a csv of rows; without rows, of two good ones."""
    rows = rows or (ROW, ROW | {"file": "b.jpg"})
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), **({"lineterminator": "\n"} | how))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "surrogateescape")


def read(data: bytes, *names: str, draws: bool = False) -> dict[str, str]:
    """Read a table beside pictures; return {path or key: split}, nothing lost."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "photos")
        for name in names or ("a.jpg", "b.jpg"):
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(PICTURE)
        (folder / "works.csv").write_bytes(data)
        (Path(scratch) / "outside.jpg").write_bytes(PICTURE)
        return judged(f"folder:{folder}/works.csv", folder, draws)


def judged(source: str, folder: Path, draws: bool = False) -> dict[str, str]:
    """Read a source; return {path in the folder, or key: split} of its rows."""
    rows = read_source(source)
    frame = assign_splits(rows, [], 17)
    if len(frame) != len(rows) or not frame["key"].is_unique:
        raise Fault("lost row", f"{len(rows)} in, keys {list(frame['key'])}")
    silent = (frame["split"] == "rejected") & (frame["reason"].str.strip() == "")
    if silent.any():
        raise Fault("wrong outcome", "rejected without a reason")
    frame.to_parquet(folder / "catalog.parquet")  # as stage 01 does
    paths = [os.path.relpath(path, folder) for path in frame["path"]]
    is_named = [name != "." for name in paths]
    names = np.where(is_named, paths, frame["key"])
    pictures = {f.relative_to(folder).as_posix() for f in folder.rglob("*.jpg")}
    plain = {_ascii(name) for name in [*paths, *frame["key"]]}
    if lost := [p for p in pictures if not any(_ascii(p) in one for one in plain)]:
        raise Fault("lost row", f"no row of {lost!a}, rows {sorted(plain)}")
    kept = frame[frame["split"] != "rejected"]
    if draws and any(draw_rows(kept.to_dict("records"), 8)[1]):
        raise Fault("wrong outcome", "a good picture was not drawn")
    return dict(zip(names, frame["split"], strict=True))


def _ascii(name: str) -> str:
    name = unicodedata.normalize("NFC", name)
    return name.encode("utf-8", "backslashreplace").decode().replace("\\\\", "\\")


def kept_only(*names: str) -> Callable[[Any], bool]:
    """Expect that just these pictures are kept."""

    def these(found: Any) -> bool:
        if not isinstance(found, dict):
            return False
        return {name for name, split in found.items() if split == "c"} == set(names)

    these.__name__ = f"kept {names}"
    return these


def cases() -> Iterator[Case]:
    """Yield all named cases."""
    for family, name, data, files, right in _families():
        act = partial(read, data, *files)
        yield Case(KIND, f"{family}: {name}", act, right)
    yield Case(KIND, "two sources: of one folder's name", _alike, handled_alike)
    for name in ("missing.csv", "", ".", "works.txt", "\0", "a" * 300 + ".csv"):
        act = lambda n=name: read_source(f"folder:nowhere/{n}")  # noqa: E731
        yield Case(KIND, f"no table: {name[:20]!a}", act, refused)


def _alike() -> list[str]:
    """Read two folders of one name, whose keys would be the same."""
    with tempfile.TemporaryDirectory() as scratch:
        rows = []
        for place in "12":
            folder = Path(scratch, place, "photos")
            folder.mkdir(parents=True)
            for name in ("a.jpg", "b.jpg"):
                (folder / name).write_bytes(PICTURE)
            (folder / "works.csv").write_bytes(table())
            rows += read_source(f"folder:{folder}/works.csv")
        return list(assign_splits(rows, [], 17)["key"])


def handled_alike(found: Any) -> bool:
    """Accept a refusal that names a cause, or four rows with four keys."""
    return refused(found) or len(set(found)) == len(found) == 4


Family = Iterator[tuple[str, str, bytes, tuple[str, ...], Any]]


def _families() -> Family:
    two = table()
    text = two.decode()
    for name, data in {
        "UTF-8": two, "byte order mark": b"\xef\xbb\xbf" + two, "no last end": two[:-1],
        "blank lines": two.replace(b"\n", b"\n\n"),
        "all quoted": table(quoting=csv.QUOTE_ALL),
        "CRLF": table(lineterminator="\r\n"), "spaces behind": two + b"\n\n \n"[:2],
        "quoted comma": two.replace(b"Cat", b'"Cat, red"'), "quoted quote": two.replace(
            b"Cat", b'"The ""Cat"""'), "quoted end": two.replace(b"Cat", b'"Cat\nred"'),
    }.items():  # fmt: skip
        yield "form", name, data, (), BOTH
    for encoding in ("utf-16", "utf-16-le", "utf-32", "utf-7", "cp037"):
        data = text.encode(encoding)
        yield "encoding", encoding, data, (), refused if encoding != "utf-7" else BOTH
    for delimiter in (";", "\t", "|"):
        data = table(delimiter=delimiter)
        yield "form", f"split by {delimiter!a}", data, (), refused
    for encoding in ("latin-1", "cp1252", "shift_jis", "koi8-r"):
        word = {"shift_jis": "猫", "koi8-r": "кот"}.get(encoding, "é")
        data = two.replace(b"Cat", word.encode(encoding), 1)
        yield "encoding", f"one title in {encoding}", data, (), kept_only("b.jpg")
    for name, data in {
        "open quote": two + b'"b.jpg,', "quote within": two.replace(b"Cat", b'C"at', 1),
        "text behind a quote": two.replace(b"Cat", b'"C"at', 1),
        "short row": two + b"c.jpg\n",
        "long row": two + b"c.jpg" + b",x" * 99 + b"\n",
        "NUL": two.replace(b"Cat", b"C\0at", 1),
        "field of 200 KB": two.replace(b"Cat", b"C" * 200_000, 1),
        "only commas": two + b",,,,,\n",
        "CR alone": two.replace(b"\n", b"\r"),
        "control": two.replace(b"Cat", b"\x1b[1m", 1),
    }.items():  # fmt: skip
        yield "odd row", name, data, (), lambda found: found.get("b.jpg") == "c"
    for name, data in {
        "nothing": b"", "no rows": two.split(b"\n")[0], "only an end": b"\n",
        "NULs": bytes(99),
        "a picture": PICTURE, "html": b"<html>404</html>",
        "json": b'[{"file": "a.jpg"}]',
        "no file column": two.replace(b"file,", b"name,"),
        "a zip": b"PK\3\4" + bytes(99),
    }.items():  # fmt: skip
        empty = name in ("no rows",)
        yield "no table", name, data, (), kept_only() if empty else refused
    for column, names in {
        "file": ("path", "filename", "file_name"), "author": ("unickname",),
        "pageurl": ("page_url",), "license": ("licence", "license_text", "licensename"),
    }.items():  # fmt: skip
        for other in names:
            data = two.replace(column.encode(), other.encode(), 1)
            yield "column", f"{column} called {other}", data, (), BOTH
    for change in (str.upper, str.title, lambda c: f" {c} "):
        rows = [{change(k): v for k, v in ROW.items()}]
        yield (
            "column",
            f"named {list(rows[0])[0]!a}",
            table(*rows),
            (),
            kept_only("a.jpg"),
        )
    for column in ROW:
        rows = [{k: v for k, v in ROW.items() if k != column}]
        right = {"title": kept_only("a.jpg"), "file": refused}
        is_free = column == "date_seen"
        one = (lambda found: found.get("a.jpg")) if is_free else kept_only()
        yield "column", f"no {column}", table(*rows), (), right.get(column, one)
        empty = table(ROW | {column: ""}, ROW | {"file": "b.jpg"})
        yield "column", f"empty {column}", empty, (), lambda f: f.get("b.jpg") == "c"
        twice = two.replace(column.encode(), f"{column},{column}".encode(), 1)
        yield "column", f"{column} twice", twice, (), lambda found: True
    for name, value in {
        "up": "../outside.jpg", "up and down": "x/../../outside.jpg",
        "absolute": "/etc/passwd",
        "root": "/", "this": ".", "missing": "gone.jpg", "NUL": "a\0.jpg",
        "too long": "a" * 5000,
        "drive": "C:\\a.jpg", "address": "https://example.org/a.jpg", "home": "~/a.jpg",
        "many ups": "../" * 40 + "etc/passwd", "star": "*.jpg", "device": "/dev/zero",
        "variable": "$HOME/a.jpg", "quoted up": "%2e%2e/outside.jpg",
    }.items():  # fmt: skip
        data = table(ROW | {"file": value}, ROW | {"file": "b.jpg"})
        yield "file", f"bad: {name}", data, (), kept_only("b.jpg")
    odd = {
        "space": "my cat.jpg", "hash": "cat #2.jpg", "comma": "a,b.jpg",
        "quote": 'a"b.jpg',
        "accent": "caf\u00e9.jpg", "Chinese": "猫.jpg", "emoji": "🐈.jpg",
        "percent": "a%20b.jpg",
        "deep": "x/y/z/a.jpg", "dots": "a.b.c.jpg", "dash": "-rf.jpg",
        "dollar": "$a.jpg",
        "bracket": "a[1].jpg", "upper": "A.JPG".lower(), "leading dot": ".a.jpg",
        "plus": "a+b.jpg",
        "question": "a?.jpg", "star": "a*.jpg", "equals": "=a.jpg",
        "apostrophe": "it's.jpg",
        "trailing dots": "a...jpg", "colon": "a:b.jpg", "bar": "a|b.jpg",
        "less": "<a>.jpg",
        "ampersand": "a&b.jpg", "curly": "{a}.jpg", "semicolon": "a;b.jpg",
        "tab": "a\tb.jpg",
        "new line": "a\nb.jpg", "Arabic": "قطة.jpg", "back quote": "`a`.jpg",
        "caret": "a^b.jpg",
    }  # fmt: skip
    for name, file in odd.items():
        yield (
            "file",
            f"named with {name}",
            table(ROW | {"file": file}),
            (file,),
            {file: "c"},
        )
    for name, sign in INVISIBLE.items():
        if sign not in "\0\t":
            file = f"a{sign}b.jpg"
            right = lambda found: len(found) == 1  # noqa: E731
            yield (
                "file",
                f"named with {name}",
                table(ROW | {"file": file}),
                (file,),
                right,
            )
    for name, forms in {
        "composed, table decomposed": ("caf\u00e9.jpg", "cafe\u0301.jpg"),
        "decomposed, table composed": ("cafe\u0301.jpg", "caf\u00e9.jpg"),
        "slash, table backslash": ("x/a.jpg", "x\\a.jpg"),
        "dot before": ("a.jpg", "./a.jpg"),
        "two slashes": ("x/a.jpg", "x//a.jpg"), "around": ("a.jpg", "x/../a.jpg"),
    }.items():  # fmt: skip
        file, told = forms
        right = lambda f: len(f) == 1 and "c" in f.values()  # noqa: E731
        right = kept_only(file) if name == "around" else right
        yield "file", f"on disk {name}", table(ROW | {"file": told}), (file,), right
    yield "file", "named twice", two + two.split(b"\n", 1)[1], (), kept_only()
    yield (
        "file",
        "without a row",
        table(ROW),
        ("a.jpg", "b.jpg", "c.jpg"),
        kept_only("a.jpg"),
    )


WHOLE = table(*(ROW | {"file": f"{n}.jpg", "title": f"Cat {n}"} for n in range(20)))


def attack(rng: np.random.Generator, num: int) -> None:
    """Cut, flip and insert bytes of a table of 20 pictures."""
    pick = random.Random(int(rng.integers(1 << 60)))
    every: list[Any] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "photos")
        folder.mkdir()
        for n in range(20):
            (folder / f"{n}.jpg").write_bytes(b"")
        for place in range(num):
            data = damaged(pick)
            (folder / "works.csv").write_bytes(data)
            try:
                rows = read_source(f"folder:{folder}/works.csv")
            except SourceError:
                continue
            names = Counter(Path(row["path"]).name for row in rows)
            if lost := [n for n in range(20) if f"{n}.jpg" not in names]:
                raise Fault("lost row", f"{lost}: {data!r}")
            if len({row["key"] for row in rows}) < len(rows):
                raise Fault("wrong outcome", f"two rows have one key: {data!r}")
            every += [row | {"key": f"{place}/{row['key']}"} for row in rows]
    frame = assign_splits(every, [], 17)  # of all at once, which is quicker
    if set(frame["key"]) != {row["key"] for row in every}:
        raise Fault("lost row", f"{len(every)} in, {len(frame)} out")


def damaged(pick: random.Random) -> bytes:
    """Return the whole table with up to four damages."""
    data = bytearray(WHOLE)
    for _ in range(pick.randint(1, 4)):
        place = pick.randrange(len(data))
        how = pick.randrange(4)
        if how == 0 and pick.random() < 0.3:
            del data[max(place, 60) :]
        elif how == 1:
            data[place] = pick.randrange(256)
        else:
            data[place:place] = pick.choice([b'"', b",", b"\n", b"\r", b"\0", b"\xff"])
    return bytes(data)

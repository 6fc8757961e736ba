"""Keys and sums put on the take-down list, and read back from it."""

import contextlib
import hashlib
import io
import random
import string
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pandas as pd

from commoncanvas.core import paths
from commoncanvas.licenses import takedown
from tests.hardening.frame import Case, Fault, handled, refused
from tests.hardening.licenses import INVISIBLE

KIND = "takedowns"
HOW = "works of odd keys put on a list as `commoncanvas takedown --add` does"
RANDOM, BATCH = 15_000, 50


def listed(
    keys: list[str], entries: list[str], before: bytes = b"# a comment\n"
) -> set[str]:
    """Put entries on a list that holds `before`; return the keys it then takes out."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, "data", "tiny", "01_licenses")
        folder.mkdir(parents=True)
        frame = pd.DataFrame({"key": keys})
        frame["sha256"] = [hashlib.sha256(k.encode()).hexdigest() for k in keys]
        columns = ["title", "author", "reason", "split", "near_group"]
        frame[columns] = ["cat", "Ann", "", "c", "none"]
        frame["near_group"] = frame["key"]
        frame.to_parquet(folder / "catalog.parquet")
        path = Path(scratch, "takedown.txt")
        path.write_bytes(before)
        with (
            mock.patch.object(paths, "ROOT", Path(scratch)),
            mock.patch.object(takedown, "LIST", path),
            contextlib.redirect_stdout(io.StringIO()),
        ):
            takedown.report(entries, add=True)
            return set(
                frame["key"][takedown.is_listed(frame, takedown.read_list(path))]
            )


def cases() -> Iterator[Case]:
    """Yield all named cases."""
    for name, key in _keys():
        # Beside it stand the works that a careless reader would take for it.
        others = {key[: len(key) // 2], key + "x", key.upper(), "a/b", key.split()[0]}
        others |= {key.split("#")[0], key.replace(" ", ""), key.strip(), key.strip("/")}
        keys = [key, *sorted(others - {key, ""})]
        act = lambda k=key, all=keys: listed(all, [k])  # noqa: E731
        yield Case(KIND, f"key: {name}", act, {key})
    for name, before in {
        "nothing": b"", "no last end": b"set/first",
        "byte order mark": b"\xef\xbb\xbfset/first\n",
        "CRLF": b"set/first\r\n", "CR": b"set/first\r",
        "spaces": b"  set/first  \n\n\n",
        "comment behind": b"set/first # by mail\n", "comment and no end": b"# by mail",
        "twice": b"set/first\nset/first\n",
        "upper sum": hashlib.sha256(b"set/first").hexdigest()
        .upper().encode() + b"\n",
        "sum": hashlib.sha256(b"set/first").hexdigest().encode() + b"\n",
        "tab": b"set/first\t# a\n", "mark alone": b"\xef\xbb\xbf", "mark and comment":
        b"\xef\xbb\xbf# a\nset/first",
    }.items():  # fmt: skip
        right = {"set/new"} | (
            {"set/first"} if b"first" in before or b"sum" in before else set()
        )
        if name in ("sum", "upper sum"):
            right = {"set/new", "set/first"}
        act = partial(listed, ["set/first", "set/new", "set/no"], ["set/new"], before)
        yield Case(KIND, f"list: {name}", act, right)
    for name, before in {
        "latin-1": b"\xe9\n", "NUL": b"a\0b\n", "a picture": b"\xff\xd8\xff\xe0",
        "utf-16":
        "set/first\n".encode("utf-16"), "no key": b"pear\n", "short sum": b"0123abcd\n",
    }.items():  # fmt: skip
        act = partial(listed, ["set/new"], ["set/new"], before)
        right = handled if name == "no key" else refused
        yield Case(KIND, f"list: {name}", act, right)
    for entry in (
        "set/gone",
        "",
        " ",
        "#",
        "f" * 64,
        "../x",
        "\0",
        "é",
        "-",
        "a" * 99_999,
    ):
        act = lambda e=entry: listed(["set/new"], [e])  # noqa: E731
        yield Case(KIND, f"no work: {entry[:20]!a}", act, refused)


def _keys() -> Iterator[tuple[str, str]]:
    for sign in string.punctuation + " ":
        for place, key in (
            ("within", f"set/red{sign}apple.jpg"), ("first", f"set/{sign}apple.jpg"),
            ("last", f"set/apple{sign}"), ("in the source", f"my{sign}set/apple"),
        ):  # fmt: skip
            yield f"{sign!a} {place}", key
    for name, key in {
        "comment": "photos/pear #2.jpg", "two hashes": "a/b##c", "only hashes": "a/###",
        "hash first": "#set/apple", "spaces": "my photos/red  apple.jpg",
        "emoji": "set/🐈.jpg",
        "accent": "set/caf\u00e9.jpg", "decomposed": "set/cafe\u0301.jpg",
        "deep": "a/b/c/d/e.jpg",
        "long": "set/" + "a" * 5000, "like a sum": "set/" + "0" * 64,
        "tar": "webdataset/a.tar/x/1",
        "row": "photos#12", "Chinese": "照片/猫.jpg", "Arabic": "صور/قطة.jpg",
        "no slash": "apple",
        "tab": "set/a\tb", "escaped": "set/\\udcff.jpg", "leading space": " set/a",
        "new line": "set/a\nb",
        "CR": "set/a\rb", "separator": "set/a\u2028b", "form feed": "set/a\x0cb",
        "next line": "set/a\x85b",
    }.items():  # fmt: skip
        yield name, key
    for name, sign in INVISIBLE.items():
        yield f"sign {name}", f"set/a{sign}b"


def attack(rng: np.random.Generator, num: int) -> None:
    """Put half of some random keys on the list: these are out, and no other."""
    pick = random.Random(int(rng.integers(1 << 60)))
    signs = string.printable + "#  #é猫\u200b\xa0\ufeff\u2028"
    keys: dict[str, Any] = {}
    while len(keys) < num:
        size = pick.randint(1, 12)
        name = "".join(pick.choice(signs) for _ in range(size))
        keys[f"set/{name}"] = None
    entries = pick.sample(list(keys), num // 2)
    found = listed(list(keys), entries)
    if found != set(entries):
        raise Fault("wrong outcome", f"not out, or out: {found ^ set(entries)!a}")

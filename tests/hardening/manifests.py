"""Manifests, keys and finished shards whose bytes were changed behind their back."""

import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa

from commoncanvas.core import keys, manifest, paths, shards
from tests.hardening.frame import Case, Fault, Refused, refused, try_case

KIND = "manifests"
HOW = "folders with a manifest and finished shards, changed and read again"
RANDOM, BATCH = 10_000, 50


def folder_of(scratch: str) -> Path:
    """Write a stage's folder of four files and its manifest."""
    folder = Path(scratch, "stage")
    (folder / "deep").mkdir(parents=True)
    for name in ("a.parquet", "b.json", "deep/c.bin"):
        (folder / name).write_bytes(name.encode() * 50)
    (folder / "empty").write_bytes(b"")
    manifest.write_manifest(
        folder, "01_licenses", "tiny", None, 5, 3, {"x": 2}, {"a": 1}
    )
    return folder


def read_after(change: Callable[[Path], object], verify: bool = True) -> Any:
    """Read a manifest after a change to its folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of(scratch)
        change(folder)
        return manifest.read_manifest(folder, verify=verify)


def changed(text: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """Return a change of the manifest's content."""

    def change(folder: Path) -> None:
        path = folder / manifest.NAME
        path.write_text(json.dumps(text(json.loads(path.read_text()))))

    return change


VALUES = {
    "null": None, "text": "x", "number": 1, "below zero": -1, "half": 0.5, "true": True,
    "list": [1],
    "object": {"x": "y"}, "huge": 10**30, "empty text": "", "empty list": [],
    "NaN": float("nan"),
}  # fmt: skip
FITS = {
    "stage": {"text", "empty text"}, "scale": {"null", "text", "empty text"},
    "variant": {"null", "text", "empty text"}, "schema": {"number", "true"},
    "counts.in": set(),
    "counts.out": set(), "counts.rejected": set(), "facts": {"object"}, "files": set(),
    "counts": set(), "files.a.parquet": set(), "files.a.parquet.sha256": set(),
    "files.a.parquet.bytes": set(),
}  # fmt: skip


def cases() -> Iterator[Case]:
    """Yield all named cases."""
    for field, fits in FITS.items():
        place = field.replace("a.parquet", "a|parquet").split(".")
        for name, value in VALUES.items():

            def put(
                held: dict[str, Any], place: list[str] = place, value: Any = value
            ) -> Any:
                inner = held
                for part in place[:-1]:
                    inner = inner[part.replace("|", ".")]
                inner[place[-1].replace("|", ".")] = value
                return held

            act = lambda p=put: read_after(changed(p))  # noqa: E731
            right = (lambda f: not isinstance(f, Refused)) if name in fits else refused
            yield Case(KIND, f"field: {field} is {name}", act, right)
    for field in ("stage", "scale", "variant", "schema", "counts", "facts", "files"):
        drop = lambda held, f=field: {k: v for k, v in held.items() if k != f}  # noqa: E731
        act = lambda d=drop: read_after(changed(d))  # noqa: E731
        yield Case(KIND, f"field: no {field}", act, refused)
    for name, data in {
        "nothing": b"", "text": b"x", "array": b"[]", "number": b"1", "null": b"null",
        "NULs": bytes(99),
        "latin-1": b'{"stage": "\xe9"}', "deep": b"[" * 200_000,
        "deep object": b'{"a":' * 100_000,
        "utf-16": "{}".encode("utf-16"), "mark": b"\xef\xbb\xbf{}",
        "picture": b"\xff\xd8\xff",
    }.items():  # fmt: skip
        put = lambda f, d=data: (f / manifest.NAME).write_bytes(d)  # noqa: E731
        yield Case(KIND, f"text: {name}", partial(read_after, put), refused)
    a, deep = "a.parquet", "deep/c.bin"
    for name, change in {
        "missing": lambda f: (f / a).unlink(),
        "new": lambda f: (f / "new").write_bytes(b""),
        "new, deep": lambda f: (f / "deep/new").write_bytes(b"x"),
        "longer": lambda f: (f / a).write_bytes((f / a).read_bytes() + b"x"),
        "shorter": lambda f: (f / a).write_bytes((f / a).read_bytes()[:-1]),
        "emptied": lambda f: (f / a).write_bytes(b""),
        "not empty": lambda f: (f / "empty").write_text("x"),
        "swapped": lambda f: (shutil.copy(f / a, f / "t"), os.replace(f / deep, f / a),
        os.replace(f / "t", f / deep)),
        "renamed": lambda f: os.replace(f / a, f / "z"),
        "a folder": lambda f: ((f / a).unlink(), (f / a).mkdir()),
        "dangling link": lambda f: ((f / a).unlink(), (f / a).symlink_to("gone")),
        "link to another": lambda f: ((f / a).unlink(), (f / a).symlink_to("b.json")),
        "link to itself": lambda f: ((f / a).unlink(), (f / a).symlink_to(a)),
        "no folder": lambda f: shutil.rmtree(f),
        "no manifest": lambda f: (f / manifest.NAME).unlink(),
        "manifest a folder": lambda f: ((f / manifest.NAME).unlink(),
        (f / manifest.NAME).mkdir()),
        "manifest a dangling link": lambda f: ((f / manifest.NAME).unlink(),
        (f / manifest.NAME).symlink_to("x")),
        "folder gone": lambda f: shutil.rmtree(f / "deep"),
    }.items():  # fmt: skip
        yield Case(KIND, f"file: {name}", partial(read_after, change), refused)
    yield Case(
        KIND, "file: untouched", lambda: read_after(lambda f: 0)["counts"]["in"], 5
    )
    # A hidden file is a system's own, no part of the folder.
    hide = lambda f: (f / ".a").write_text("")  # noqa: E731
    yield Case(KIND, "file: hidden", lambda: read_after(hide)["counts"]["in"], 5)
    for name, counts in {
        "lost row": (5, 3, {"x": 1}), "gained row": (5, 6, {}),
        "below zero": (-1, -1, {}),
        "half": (1.5, 1.5, {}), "text": ("5", 5, {}), "true": (True, True, {}),
        "null": (None, 0, {}),
        "reason below zero": (5, 6, {"x": -1}), "NaN": (float("nan"), 0, {}),
    }.items():  # fmt: skip
        yield Case(KIND, f"written: {name}", partial(_write, *counts), refused)
    for name, fact in {
        "NaN": float("nan"), "infinite": float("inf"), "bytes": b"x", "set": {1},
        "object": object(),
        "surrogate": "\ud800", "to itself": _round(), "complex": 1j, "path": Path("x"),
    }.items():  # fmt: skip
        yield Case(
            KIND, f"written: fact {name}", partial(_write, 1, 1, {}, fact), refused
        )
        if name != "surrogate":  # JSON can escape one, UTF-8 cannot hold it
            yield Case(KIND, f"key: of {name}", partial(keys.key_of, a=fact), refused)
    for name in (
        "",
        ".",
        "..",
        "../x",
        "/x",
        "a/b",
        "a b",
        "\0",
        "a\n",
        "é/",
        "-",
        "$x",
    ):
        act = lambda n=name: _in_scratch(lambda: keys.work_folder(n))  # noqa: E731
        yield Case(KIND, f"key: named {name[:10]!a}", act, refused)
    for name, change in SPOILT.items():
        for number in range(3):
            act = partial(rerun, change, number)
            yield Case(KIND, f"shard: {number} {name}", act, _whole_or_named)


def _round() -> list[Any]:
    ring: list[Any] = []
    ring.append(ring)
    return ring


def _write(taken: Any, out: Any, rejected: Any, fact: Any = 1) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        told = "01_licenses", "tiny", None, taken, out, rejected, {"fact": fact}
        return manifest.write_manifest(scratch, *told)


def _in_scratch(act: Callable[[], Any]) -> Any:
    with tempfile.TemporaryDirectory() as scratch:
        with (
            mock.patch.object(paths, "CHECKPOINTS", Path(scratch, "going")),
            mock.patch.object(paths, "FINISHED", Path(scratch, "finished")),
        ):
            return act()


def _flip(data: bytes, at: float) -> bytes:
    place = int(len(data) * at)
    return data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "emptied": lambda data: b"", "cut": lambda data: data[: len(data) // 2],
    "of NULs": lambda data: bytes(len(data)), "longer": lambda data: data + b"x",
    "without its end": lambda data: data[:-4], "text": lambda data: b"oops",
}  # fmt: skip
SPOILT |= {
    f"flipped at {n}/40": lambda data, n=n: _flip(data, n / 40) for n in range(40)
}


def rerun(change: Callable[[bytes], bytes], number: int) -> list[int]:
    """Do work of three shards, spoil a finished one, and ask for the work again."""

    def work(items: list[int]) -> pa.Table:
        return pa.table(
            {"square": [item**2 for item in items], "text": ["row"] * len(items)}
        )

    def twice() -> list[int]:
        told = "key", list(range(12)), 4, work, "squares"
        shards.run_shards(*told)
        path = sorted(keys.work_folder("key").glob("shard-*"))[number]
        path.write_bytes(change(path.read_bytes()))
        found = shards.run_shards(*told)
        if set(found["text"].to_pylist()) != {"row"}:
            raise Fault("wrong outcome", "a changed text was used")
        return found["square"].to_pylist()

    return _in_scratch(twice)


def _whole_or_named(found: Any) -> bool:
    if isinstance(found, Refused):
        return "shard" in found
    if found != [n**2 for n in range(12)]:
        raise Fault("half-read file", f"rows {found}")
    return True


def attack(rng: np.random.Generator, num: int) -> None:
    """Change one byte somewhere in a folder, its manifest too."""
    pick = random.Random(int(rng.integers(1 << 60)))
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder_of(scratch)
        held = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        before = manifest.read_manifest(folder, verify=True)
        for _ in range(num):
            path = pick.choice([path for path, data in held.items() if data])
            data = bytearray(held[path])
            place = pick.randrange(len(data))
            if pick.random() < 0.2:
                del data[place:]
            else:
                data[place] ^= pick.randrange(1, 256)
            path.write_bytes(bytes(data))
            act = lambda: manifest.read_manifest(folder, verify=True)  # noqa: E731
            is_own = path.name == manifest.NAME

            def same(found: Any, is_own: bool = is_own) -> bool:
                return refused(found) or is_own and found["files"] == before["files"]

            if fault := try_case(Case(KIND, "", act, same)):
                raise Fault(fault[0], f"{path.name} at {place}: {fault[1]}")
            path.write_bytes(held[path])

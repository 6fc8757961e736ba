"""Votes that come back from strangers as lines of JSON, and what the pages count."""

import json
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from commoncanvas.captions import review
from commoncanvas.claims import preference
from commoncanvas.core.text import printable
from tests.hardening.frame import Case, Fault, handled, refused, try_case
from tests.hardening.pictures import file_of

KIND = "votes"
HOW = "folders of votes, read as stages 02 and 06 do"
RANDOM, BATCH = 20_000, 200
PNG = file_of(np.zeros((4, 4, 3), np.uint8))
ROWS = [(f"set/{n}", PNG, f"a cat {n}") for n in range(4)]
SAMPLE = review.sample_id(ROWS)
_noise = np.random.default_rng(0).integers(0, 256, (3, 2, 4, 4, 3), np.uint8)
PAIRS = [preference.Pair(f"cat {n}", ("a", "b"), p) for n, p in enumerate(_noise)]
GOOD = {"sample": SAMPLE, "rater": "ann", "key": "set/1", "vote": "accept"}
PREFERRED = {
    "sample": preference.sample_id(PAIRS), "rater": "ann", "key": PAIRS[0].key,
    "vote": PAIRS[0].codes[0],
}  # fmt: skip
Files = dict[str, bytes | Callable[[Path], None]]


def line(whole: Any = None, **changes: Any) -> bytes:
    """Return a line of JSON: the vote, or the good one with changes."""
    return json.dumps(GOOD | changes if whole is None else whole).encode() + b"\n"


def read(files: Files, door: str = "review") -> list[tuple[str, ...]]:
    """Return (rater, key, vote) of what a folder holds."""
    with tempfile.TemporaryDirectory() as scratch:
        for name, content in files.items():
            path = Path(scratch, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            if callable(content):
                content(path)
            else:
                path.write_bytes(content)
        if door == "review":
            frame = review.read_votes(scratch, ROWS)
            review.tally(frame)
        else:
            frame = preference.read_votes(Path(scratch), PAIRS)
            preference.tally(frame)
    return list(frame[["rater", "key", "vote"]].itertuples(index=False, name=None))


ONE = [("ann", "set/1", "accept")]


def names_the_place(found: Any) -> bool:
    """Accept a refusal that names file and line."""
    return refused(found) and "a.jsonl, line 1" in found


def cases() -> Iterator[Case]:
    """Yield all named cases."""
    for name, files, right in _families():
        yield Case(KIND, name, partial(read, files), right)
    for name, value in BAD.items():
        for field in ("rater", "vote"):
            data = line(PREFERRED | {field: value})
            act = lambda d=data: read({"a.jsonl": d}, "preference")  # noqa: E731
            yield Case(KIND, f"preference: {field} is {name}", act, names_the_place)
    act = lambda: read({"a.jsonl": line(PREFERRED)}, "preference")  # noqa: E731
    right = [("ann", PAIRS[0].key, "variant")]
    yield Case(KIND, "preference: good", act, right)


BAD = {
    "null": None, "number": 1, "true": True, "list": ["ann"], "object": {}, "empty": "",
    "space": " \t", "lone surrogate": "\ud800",
}  # fmt: skip


def _families() -> Iterator[tuple[str, Files, Any]]:
    for name, value in BAD.items():
        for field in GOOD:
            right = names_the_place
            if name == "lone surrogate" and field in ("sample", "rater"):
                right = handled
            yield (
                f"field: {field} is {name}",
                {"a.jsonl": line(**{field: value})},
                right,
            )
    for field in GOOD:
        short = {k: v for k, v in GOOD.items() if k != field}
        yield f"field: no {field}", {"a.jsonl": line(short)}, names_the_place
    for rater in (
        "Ann Example", "ann@example.org", "猫", "🐈", "a/b", "..", "a" * 5000, "'; --",
        "<b>", "\x1b[1m",
        "a\nb", "=1+1", "\u202ea", "None", "0", "a\0b", "-", '"', "\\", "a\u2028b",
        "$HOME", "%s",
    ):  # fmt: skip
        right = [(printable(rater), "set/1", "accept")]  # as raters are shown
        yield f"rater: {rater[:20]!a}", {"a.jsonl": line(rater=rater)}, right
    for vote, correction, right in (
        ("correct", "a dog", True), ("correct", "", False), ("correct", " ", False),
        ("accept", "a dog", False), ("reject", "x", False), ("reject", "", True),
        ("Accept", "", False),
        ("accept ", "", False), ("correct", None, False), ("correct", ["a"], False),
        ("correct", "a\u2028b", True), ("correct", "$5", True),
        ("correct", "\ud800", None), ("same", "", False),
    ):  # fmt: skip
        data = line(vote=vote, correction=correction)
        expect = [("ann", "set/1", vote)] if right else names_the_place
        expect = handled if right is None else expect
        yield f"vote: {vote!r} with {correction!r}", {"a.jsonl": data}, expect
    good = line()
    for name, data, right in (
        ("CRLF", good[:-1] + b"\r\n", ONE), ("no end", good[:-1], ONE),
        ("blank lines", b"\n \n" + good, ONE),
        ("mark", b"\xef\xbb\xbf" + good, handled), ("twice", good * 2, ONE),
        ("more", line(more=[1]), ONE),
        ("nothing", b"", []), ("space", b" \n\t\n", []),
        ("cut", good[:-5], names_the_place),
        ("NUL", b"\0\n", names_the_place),
        ("latin-1", good.replace(b"ann", b"\xe9"), names_the_place),
        ("utf-16", good.decode().encode("utf-16"), refused),
        ("deep", b"[" * 200_000, names_the_place),
        ("deep object", b'{"a":' * 100_000, names_the_place),
        ("array", b"[1]\n", names_the_place),
        ("array of votes", b"[" + good[:-1] + b"]\n", names_the_place),
        ("text", b'"a"\n', names_the_place),
        ("number", b"1\n", names_the_place), ("null", b"null\n", names_the_place),
        ("html", b"<p>\n", names_the_place),
        ("two on a line", good[:-1] * 2, names_the_place),
        ("long number", b"9" * 100_000, names_the_place),
        ("NaN", b"NaN\n", names_the_place),
        ("names twice", good.replace(b"{", b'{"vote": "reject", ', 1), handled),
        ("10 MB", line(more="x" * 10_000_000), ONE),
        ("20,000 lines", good * 20_000, ONE),
        ("line separator", line(more="\u2028\x85\x0c"), ONE),
        ("unknown key", line(key="set/9"), names_the_place),
        ("other sample", line(sample="other"), []),
        ("pickle", b"\x80\x04K\x01.\n", names_the_place),
        ("changed", good + line(vote="reject"), [("ann", "set/1", "reject")]),
    ):  # fmt: skip
        yield f"lines: {name}", {"a.jsonl": data}, right
    other = line(key="set/2")
    both = [*ONE, ("ann", "set/2", "accept")]
    reject = line(vote="reject")
    for name, files, right in (
        ("two", {"a.jsonl": good, "b.jsonl": other}, both),
        ("deep", {"x/y/a.jsonl": good}, ONE),
        ("second download", {"a (1).jsonl": reject, "a.jsonl": good},
        [("ann", "set/1", "reject")]),
        ("tenth download", {"a (10).jsonl": reject, "a (9).jsonl": good},
        [("ann", "set/1", "reject")]),
        ("others", {"a.jsonl": good, "README.md": b"x", "a.txt": b"x"}, ONE),
        ("upper ending", {"a.JSONL": good}, lambda f: f == ONE or refused(f)),
        ("json", {"a.json": good}, lambda f: f == ONE or refused(f)),
        ("json beside", {"a.jsonl": good, "b.json": other},
        lambda f: f == both or refused(f)),
        ("folder named so", {"a.jsonl": lambda p: p.mkdir(), "b.jsonl": good}, handled),
        ("dangling link", {"a.jsonl": lambda p: p.symlink_to("gone"), "b.jsonl": good},
        handled),
        ("link to itself", {"a.jsonl": lambda p: p.symlink_to(p), "b.jsonl": good},
        handled),
        ("link", {"a.txt": good, "b.jsonl": lambda p: p.symlink_to("a.txt")}, ONE),
        ("pipe", {"a.jsonl": lambda p: os.mkfifo(p), "b.jsonl": good}, handled),
        ("odd names", {"a\nb.jsonl": good, "\x1b[1m.jsonl": other}, both),
        ("hidden", {".a.jsonl": good}, handled), ("nothing", {}, []),
        ("name not UTF-8", {"\udcff.jsonl": good}, ONE),
        ("only the ending", {".jsonl": good}, handled),
    ):  # fmt: skip
        yield f"files: {name}", files, right


def attack(rng: np.random.Generator, num: int) -> None:
    """Read good votes of odd raters whole, and broken lines with their place."""
    pick = random.Random(int(rng.integers(1 << 60)))
    # A rater must be seen, so a letter is first, and is compared as it is shown.
    votes: dict[tuple[str, str], str] = {}
    data = b""
    for _ in range(num // 2):
        rater = "r" + "".join(
            chr(pick.randrange(33, 0xD7FF)) for _ in range(pick.randint(1, 9))
        )
        key, vote = f"set/{pick.randrange(4)}", pick.choice(["accept", "reject"])
        votes[printable(rater), key] = vote
        data += line(rater=rater, key=key, vote=vote)
    found = read({"a.jsonl": data})
    if {(rater, key): vote for rater, key, vote in found} != votes:
        raise Fault("lost row", f"{len(votes)} votes, {len(found)} read")
    for _ in range(num - num // 2):
        broken = bytearray(line())
        for _ in range(pick.randint(1, 3)):
            place = pick.randrange(len(broken))
            broken[place] = pick.randrange(256)
        case = Case(KIND, "", lambda: read({"a.jsonl": bytes(broken)}), handled)  # noqa: B023
        if fault := try_case(case):
            raise Fault(fault[0], f"{fault[1]}: {bytes(broken)!r}")

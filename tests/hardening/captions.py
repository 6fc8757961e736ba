"""Captions imported from parquet and jsonl: types of keys and texts, odd lines."""

import json
import random
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from commoncanvas.captions.imported import ImportedCaptions
from tests.hardening.frame import Case, Fault, handled, refused

KIND = "captions"
HOW = "files of captions, joined to keys as stage 02 does"
RANDOM, BATCH = 30_000, 300
KEYS = ["p/1", "p/2", "p/3"]
TEXTS = ["a barn", "a cat", "a dog"]
RIGHT = list(zip(KEYS, TEXTS, strict=True))


def imported(
    name: str, data: bytes | pa.Table, keys: list[str] = KEYS, prefix: str = "p/"
) -> list[tuple[str, str | None]]:
    """Write a file and return (key, caption) of the keys, each at least once."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, name)
        if isinstance(data, bytes):
            path.write_bytes(data)
        else:
            pq.write_table(data, path)
        found = ImportedCaptions(path, key_prefix=prefix).table(
            [(k, None) for k in keys]
        )
    rows = list(
        zip(found["key"].to_pylist(), found["caption_raw"].to_pylist(), strict=True)
    )
    if list(dict.fromkeys(key for key, _ in rows)) != keys:
        raise Fault("lost row", f"keys {keys}, found {rows}")
    return rows


def lines(*rows: dict[str, Any]) -> bytes:
    """Return lines of JSON."""
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def pairs(keys: Any = (1, 2, 3), texts: Any = TEXTS) -> bytes:
    """Return lines of JSON of keys and captions."""
    return lines(*({"key": k, "caption": c} for k, c in zip(keys, texts, strict=True)))


def cases() -> Iterator[Case]:
    """Yield all named cases."""
    for name, file, data, right in _families():
        act = partial(imported, file, data)
        yield Case(KIND, name, act, right)


def _families() -> Iterator[tuple[str, str, bytes | pa.Table, Any]]:
    whole = [f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
    types = {name: (getattr(pa, name)(), [1, 2, 3]) for name in whole}
    types |= {
        name: (getattr(pa, name)(), [1.0, 2.0, 3.0]) for name in ("float32", "float64")
    }
    types |= {name: (getattr(pa, name)(), ["1", "2", "3"]) for name in
              ("string", "large_string", "string_view")}  # fmt: skip
    types["dictionary"] = pa.dictionary(pa.int8(), pa.string()), ["1", "2", "3"]
    types["decimal"] = pa.decimal128(5, 0), [Decimal(n) for n in (1, 2, 3)]
    types["decimal with places"] = pa.decimal128(5, 2), [Decimal(n) for n in (1, 2, 3)]
    for name, (kind, values) in types.items():
        column = pa.array(values,
        pa.string()).dictionary_encode() if name == "dictionary" else (
            pa.array(values, kind))  # fmt: skip
        table = pa.table({"key": column, "caption": TEXTS})
        yield f"key: parquet {name}", "a.parquet", table, RIGHT
        more = pa.table(
            {"key": pa.array([*values, None], column.type), "caption": [*TEXTS, "x"]}
        )
        yield f"key: parquet {name} and null", "a.parquet", more, RIGHT
    for name, kind, values in (
        ("binary", pa.binary(), [b"1", b"2", b"3"]),
        ("boolean", pa.bool_(), [True, False, None]),
        ("list", pa.list_(pa.int64()), [[1], [2], [3]]),
        ("null", pa.null(), [None] * 3),
        ("struct", pa.struct({"a": pa.int64()}), [{"a": 1}] * 3),
        ("date", pa.date32(), [1, 2, 3]),
        ("timestamp", pa.timestamp("s"), [1, 2, 3]),
        ("fractions", pa.float64(), [1.5, 2.5, 3.5]),
    ):  # fmt: skip
        table = pa.table({"key": pa.array(values, kind), "caption": TEXTS})
        yield f"key: parquet {name}", "a.parquet", table, handled
    for name, kind, values, right in (
        ("large_string", pa.large_string(), TEXTS, RIGHT),
        ("string_view", pa.string_view(), TEXTS, RIGHT),
        ("list", pa.list_(pa.string()), [[t] for t in TEXTS], RIGHT),
        ("large list", pa.large_list(pa.string()), [[t] for t in TEXTS], RIGHT),
        ("fixed list", pa.list_(pa.string(), 1), [[t] for t in TEXTS], RIGHT),
        ("null", pa.null(), [None] * 3, [(k, None) for k in KEYS]),
        ("struct", pa.struct({"a": pa.string()}), [{"a": "b"}] * 3, refused),
        ("map", pa.map_(pa.string(), pa.string()), [[("a", "b")]] * 3, refused),
        ("list of structs", pa.list_(pa.struct({"a": pa.string()})), [[{"a": "b"}]] * 3,
        refused),
        ("integers", pa.int64(), [1, 2, 3], handled),
        ("bytes", pa.binary(), [b"\xff"] * 3, handled),
    ):  # fmt: skip
        table = pa.table({"key": [1, 2, 3], "caption": pa.array(values, kind)})
        yield f"caption: parquet {name}", "a.parquet", table, right
    several = [("p/1", "a barn"), ("p/1", "a red barn"), *RIGHT[1:]]
    two = [["a red barn", "a barn"], *([t] for t in TEXTS[1:])]
    table = pa.table({"key": [1, 2, 3], "caption": two})
    yield "caption: parquet two in a list", "a.parquet", table, several
    yield (
        "caption: parquet dictionary",
        "a.parquet",
        pa.table({"key": [1, 2, 3], "caption": pa.array(TEXTS).dictionary_encode()}),
        RIGHT,
    )
    for name, keys in {
        "integers": (1, 2, 3), "texts": ("1", "2", "3"), "floats": (1.0, 2.0, 3.0),
        "mixed": (1, "2", 3.0),
    }.items():  # fmt: skip
        yield f"key: jsonl {name}", "a.jsonl", pairs(keys), RIGHT
        yield (
            f"key: json array {name}",
            "a.json",
            b"[" + b",".join(pairs(keys).splitlines()) + b"]",
            RIGHT,
        )
        for other in (None, "x", -1, 10**30, 1.5, [], {}, True, "", "é", 2**63, 1e300):
            data = pairs([*keys, other], [*TEXTS, "other"])
            # These can be no key, and a file is read whole or not at all.
            right = refused if other in ([], {}, 1e300) else RIGHT
            yield f"key: jsonl {name} and {other!r:.20}", "a.jsonl", data, right
    missing = lines({"caption": "x"}, {"key": 9})
    for name, texts in {
        "list": [[t] for t in TEXTS], "some lists": [TEXTS[0], [TEXTS[1]], TEXTS[2]],
        "comma": TEXTS, "list with null": [[t, None] for t in TEXTS],
    }.items():  # fmt: skip
        yield f"caption: jsonl {name}", "a.jsonl", pairs(texts=texts), RIGHT
        yield (
            f"caption: jsonl {name}, others lack",
            "a.jsonl",
            pairs(texts=texts) + missing,
            RIGHT,
        )
    for first in (two[0], two[0][::-1]):
        data = pairs(texts=[first, *TEXTS[1:]])
        yield f"caption: jsonl two, {first[0]} first", "a.jsonl", data, several
    for name, value in {
        "object": {"a": "b"},
        "list of lists": [["a"]],
        "list of objects": [{}],
    }.items():
        yield (
            f"caption: jsonl {name}",
            "a.jsonl",
            pairs(texts=[value, "b", "c"]),
            refused,
        )
    for text in (
        "null", "1", "true", '"a"', "[a, b]", "['a']", "{'a': 1}", "2024-01-01", "1e5",
        "NaN", "a,b",
        "00:00:00", "\\u0041", "é", "猫", "a\nb", "a\tb", 'say "a"', "a'b", "💡" * 99,
        " a ", "a" * 99_999,
        "-0", "0x10", "1_000", "550e8400-e29b-41d4-a716-446655440000", "$1", "?", "%s",
        "--", ";",
    ):  # fmt: skip
        right = [("p/1", text), *RIGHT[1:]]
        yield (
            f"text: jsonl {text[:20]!a}",
            "a.jsonl",
            pairs(texts=[text, *TEXTS[1:]]),
            right,
        )
        every = pairs(texts=[text] * 3)
        yield (
            f"text: jsonl only {text[:20]!a}",
            "a.jsonl",
            every,
            [(k, text) for k in KEYS],
        )
    good = pairs()
    for name, data, right in (
        ("CRLF", good.replace(b"\n", b"\r\n"), RIGHT),
        ("no last end", good[:-1], RIGHT),
        ("blank lines", good.replace(b"\n", b"\n\n"), RIGHT),
        ("mark", b"\xef\xbb\xbf" + good, handled),
        ("bad line", good + b"oops\n", refused), ("cut", good[:-9], refused),
        ("latin-1", good.replace(b"a cat", b"\xe9"), handled),
        ("NUL", good + b"\0", refused),
        ("nothing", b"", handled), ("array within", good + b"[1]\n", handled),
        ("number", b"1\n", refused),
        ("surrogate", good.replace(b"a cat", b"\\ud800"), handled),
        ("html", b"<html>", refused),
        ("deep", b'{"key": 1, "caption": ' + b"[" * 5000 + b"]" * 5000 + b"}", refused),
        ("utf-16", good.decode().encode("utf-16"), refused),
        ("parquet", b"PAR1" + bytes(99), refused),
        ("other names", lines({"id": 1, "text": "a"}), refused),
        ("upper names", good.upper(), handled),
        ("name twice", good.replace(b'"key"', b'"key": 0, "key"'), handled),
        ("null captions, then some", pairs(range(9, 30_009), [None] * 30_000) + good,
        RIGHT),
        ("numbers, then a text", pairs(range(9, 30_009), ["x"] * 30_000) + pairs("123"),
        RIGHT),
        ("texts, then a list", pairs(range(9, 30_009),
        ["x"] * 30_000) + pairs(texts=[[t] for t in TEXTS]), RIGHT),
        ("no column, then one", lines(*({"key": n} for n in range(9, 30_009))) + good,
        RIGHT),
        ("no key that is ours", pairs((7, 8, 9)),
        lambda f: refused(f) or f == [(k, None) for k in KEYS]),
    ):  # fmt: skip
        yield f"file: jsonl {name}", "a.jsonl", data, right
    whole_file = Path(tempfile.mkdtemp(), "a.parquet")
    pq.write_table(pa.table({"key": [1, 2, 3], "caption": TEXTS}), whole_file)
    data = whole_file.read_bytes()
    for tenth in range(10):
        cut = data[: len(data) * tenth // 10]
        yield f"file: parquet cut at {tenth}/10", "a.parquet", cut, refused
    for name in ("a.csv", "a", "a.jsonl.gz", "a.txt"):
        yield f"file: called {name}", name, good, refused


def attack(rng: np.random.Generator, num: int) -> None:
    """Write captions of any text under keys of several types, and join them again."""
    pick = random.Random(int(rng.integers(1 << 60)))
    right, rows = {}, []
    for n in range(num):
        key = pick.choice([n, str(n), float(n)])
        signs = "".join(chr(pick.choice([pick.randrange(32, 127),
        pick.randrange(32, 0xD7FF)]))
                        for _ in range(pick.randint(1, 30)))  # fmt: skip
        texts = [pick.choice([signs, "null", "[]", "{}", "1", '"', signs + "'"])]
        texts += [f"{signs} again"] * (pick.random() < 0.2)
        is_list = len(texts) > 1 or pick.random() < 0.2
        rows.append({"key": key, "caption": texts if is_list else texts[0]})
        right[f"p/{n}"] = sorted(set(texts))
    pick.shuffle(rows)
    found: dict[str, list[Any]] = {}
    for key, caption in imported("a.jsonl", lines(*rows), list(right)):
        found.setdefault(key, []).append(caption)
    for key, texts in right.items():
        if sorted(map(str, found[key])) != texts:
            raise Fault("wrong outcome", f"{key}: {found[key]!a}, expected {texts!a}")

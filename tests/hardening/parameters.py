"""Settings and command lines that users mistype: YAML, types, names, words."""

import importlib
import random
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from click.testing import CliRunner

from commoncanvas import parameters
from commoncanvas.__main__ import door
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.settings import load_yaml
from tests.hardening.frame import Case, Fault, Refused, handled, refused

KIND = "parameters"
HOW = "profiles, variants and command lines, read as the runner reads them"
RANDOM, BATCH = 20_000, 200
TYPES = {
    "int": 3,
    "float": 0.5,
    "str": "a",
    "bool": True,
    "list": [1],
    "dict": {"a": 1},
}
TYPES |= {"list[float]": [0.5], "list[str]": ["a"]}
VALUES = {
    "null": None, "3": 3, "0.5": 0.5, "text": "a", "true": True, "list": [1],
    "object": {"a": 1},
    "text 3": "3", "1e400": float("inf"), "NaN": float("nan"), "empty list": [],
    "empty text": "",
    "list of texts": ["a"], "huge": 10**40, "bytes": b"a", "deep": [[[[1]]]],
    "whole 3.0": 3.0,
    "list of fractions": [0.5], "object of texts": {"a": "b"},
    "code": "__import__('os')",
}  # fmt: skip
FITS: dict[str, tuple[str, ...]] = {
    "int": ("3", "huge"), "float": ("3", "0.5", "1e400", "NaN", "whole 3.0", "huge"),
    "str": ("text", "text 3", "empty text", "code"), "bool": ("true",),
    "list": ("list", "empty list", "list of texts", "deep", "list of fractions"),
    "dict": ("object", "object of texts"), "list[str]": ("list of texts", "empty list"),
    "list[float]": ("list", "empty list", "list of fractions"),
}  # fmt: skip
DOUBTFUL = ("1e400", "NaN", "huge")  # refused or kept as they are


def collected(kind: str, value: Any, **sections: Any) -> Any:
    """Return the value of one declared parameter, of a stage's section."""
    declared = {"x": {"name": "x", "inferred_type_name": kind}}
    found = parameters.collect(
        "01_a", None, None, {"a": {"x": value}} | sections, declared
    )
    return found["x"]


def written(text: bytes) -> Any:
    """Return the settings of a YAML file."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.yaml")
        path.write_bytes(text)
        return load_yaml(path)


def call(*words: str) -> Any:
    """Call the command line here; return what it refused, or its output."""
    done = CliRunner().invoke(door, list(words))
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    if "Traceback" in done.output:
        raise Fault("traceback", done.output)
    return Refused(done.output.splitlines()[-1]) if done.exit_code else done.output


def cases() -> Iterator[Case]:
    """Yield all named cases."""
    for kind, fits in FITS.items():
        for name, value in VALUES.items():
            act = partial(collected, kind, value)
            right = (lambda f, v=value: f == v or f != f) if name in fits else refused
            right = handled if name in DOUBTFUL and name in fits else right
            yield Case(KIND, f"type: {kind} is {name}", act, right)
    for name, kind in {
        "code": "__import__('os').system('true')", "unknown": "Path", "nothing": "None",
        "empty": "",
        "broken": "list[", "attribute": "str.__class__", "call": "int()",
        "comprehension": "[x for x in ()]",
        "lambda": "lambda: 0", "long": "list[" * 200 + "int" + "]" * 200,
    }.items():  # fmt: skip
        act = partial(collected, kind, 1)
        yield Case(
            KIND, f"declared: {name}", act, handled if name == "nothing" else refused
        )
    for name, text in {
        "tabs": b"a:\n\tb: 1\n", "two values": b"a: 1: 2\n", "open": b"a: [1, 2\n",
        "quote": b'a: "b\n',
        "list": b"- a\n", "text": b"a\n", "number": b"1\n", "latin-1": b"a: \xe9\n",
        "NUL": b"a: \0\n",
        "control": b"a: \x01\n", "name twice": b"a: 1\na: 2\n",
        "tag": b"a: !!python/object:os.system x\n",
        "unknown alias": b"a: *b\n", "two documents": b"a: 1\n---\nb: 2\n",
        "percent": b"%YAML 9.9\n---\na: 1\n",
        "own tag": b"a: !x b\n", "deep": b"[" * 900, "indent": b"a: 1\n b: 2\n",
        "at": b"a: @b\n",
        "list as a name": b"? [a]\n: 1\n", "bomb": b"a: &a [x]\n" + b"".join(
            b"%c: &%c [%s]\n" % (c, c,
            b", ".join([b"*%c" % (c - 1)] * 9)) for c in range(98, 106)),
        "to itself": b"a: &a [*a]\n", "picture": b"\xff\xd8\xff\xe0",
        "utf-16": "a: 1".encode("utf-16"),
    }.items():  # fmt: skip
        right = refused if name not in ("bomb", "utf-16", "list as a name", "to itself",
        "own tag",
                                        "percent") else handled  # fmt: skip
        yield Case(KIND, f"YAML: {name}", partial(written, text), right)
    for name, text, value in (
        ("nothing", b"", {}), ("comment", b"# a\n", {}),
        ("mark", b"\xef\xbb\xbfa: 1\n", {"a": 1}),
        ("CRLF", b"a: 1\r\n", {"a": 1}), ("no", b"a: no\n", {"a": "no"}),
        ("1e-4", b"a: 1e-4\n", {"a": 1e-4}),
        ("octal", b"a: 010\n", {"a": 10}),
        ("Norway", b"a: [no, on]\n", {"a": ["no", "on"]}),
        ("date", b'a: "2024-01-01"\n', {"a": "2024-01-01"}),
        ("é", "a: é\n".encode(), {"a": "é"}),
        ("version", b'a: "1.0"\n', {"a": "1.0"}), ("empty", b"a:\n", {"a": None}),
    ):  # fmt: skip
        yield Case(KIND, f"YAML: value {name}", lambda t=text: written(t), value)
    for verb in ("run", "publish.pages", "speed.plan", "train.launch"):
        importlib.import_module(f"commoncanvas.{verb}")  # so that no case waits for it
    # Without NUL, which no command line can hold.
    names = (
        "nowhere",
        "",
        " ",
        "../tiny",
        "tiny.yaml",
        "/",
        "pretrain",
        "é",
        "a" * 999,
        "-",
        "tiny ",
    )
    for name in (
        *names,
        "TINY",
        "tiny\n",
        "$HOME",
        "{scale}",
        "{{ x }}",
        "%s",
        "tiny/../tiny",
    ):
        shown = name[:12]
        for words in (
            ("run", "01_licenses", "--scale", name),
            ("run", "04_train", "--scale", "tiny", "--variant", name),
            ("run", name), ("pages", "--scale", name or "no"),
            ("plan", "--scale", name), ("plan", "--variants", f"{name},"),
            ("plan", "--machine", name),
            ("takedown", name), ("launch", name), (name,),
            ("download", name, name), ("fetch", name),
            ("fetch", "openclipart", "--deb", name),
        ):  # fmt: skip
            if words == ("plan", "--variants", f"{name},") and not name:
                continue
            verb = " ".join(word for word in words if word != name)
            act = partial(call, *words)
            yield Case(KIND, f"words: {verb} {shown!a}", act, refused)
    for option in ("--concurrency", "--per-host", "--timeout", "--max-bytes",
    "--retries", "--backoff",
                   "--limit", "--contact"):  # fmt: skip
        for value in ("-1", "0", "nan", "x", "", "1e999", "\n", "é"):
            words = "download", "nowhere.parquet", "nowhere", option, value
            yield Case(
                KIND, f"words: {option} {value!a}", partial(call, *words), refused
            )


def attack(rng: np.random.Generator, num: int) -> None:
    """Give values of one type to parameters of another, and odd sections."""
    pick = random.Random(int(rng.integers(1 << 60)))
    # Whole numbers that a float holds too, since one is taken for a float.
    atoms = [None, True, 0, -1, 1.5, "a", "1", "", b"a", float("nan"), 10**15]
    for _ in range(num):
        value: Any = pick.choice(atoms)
        for _ in range(pick.randrange(3)):
            value = pick.choice([[value], {"a": value}, [value, pick.choice(atoms)],
            {value: 1}
                                 if isinstance(value, str) else value])  # fmt: skip
        kind = pick.choice(list(TYPES))
        more = {
            pick.choice(["common", "variants", "unets", "repeats", "b"]): {"y": value}
        }
        more = more if pick.random() < 0.1 else {}
        try:
            found = collected(kind, value, **more)
        except ParameterError as error:
            if not str(error).strip() or "\n" in str(error):
                raise Fault("wrong outcome", f"{kind}, {value!r}: {error}") from None
            continue
        if not (found == value or found != found or repr(found) == repr(value)):
            raise Fault("wrong outcome", f"{kind}, {value!r}: {found!r}")

"""Each check of the hardening runs sees the fault that it is there for."""

import functools
import os
import signal
import subprocess
import tempfile
import time
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from commoncanvas.core.manifest import write_manifest
from commoncanvas.licenses import takedown
from tests.hardening import frame, page, stages
from tests.hardening.frame import Case, Fault

pytestmark = pytest.mark.slow


def results_of(tmp_path, *acts, limit_s=5.0, make=None):
    """Try acts in a lane of their own; return {name: what failed}."""
    names = "abcdefgh"
    cases = [
        Case("toy", n, act, None, make=make)
        for n, act in zip(names, acts, strict=False)
    ]
    lane = frame.Lane("toy", lambda: iter(cases), tmp_path / "log", limit_s)
    found = []
    while not lane.is_done:
        found += lane.look()
    return {result.name: result.fault and result.fault[0] for result in found}


def nothing(*_):
    pass


def test_a_hang_is_named_and_what_follows_is_tried(tmp_path):
    found = results_of(tmp_path, nothing, lambda: time.sleep(11), nothing, limit_s=0.5)
    assert found == {"a": None, "b": "hang", "c": None}


def test_what_takes_long_to_make_is_no_hang(tmp_path):
    found = results_of(tmp_path, nothing, limit_s=0.5, make=lambda: time.sleep(1))
    assert found == {"a": None}


def test_a_process_that_dies_is_a_crash_and_what_follows_is_tried(tmp_path):
    die = functools.partial(os.kill, 0, signal.SIGKILL)
    found = results_of(tmp_path, nothing, lambda: os._exit(3), nothing, die, nothing)
    assert found == {"a": None, "b": "crash", "c": None, "d": "crash", "e": None}


def test_a_kind_that_cannot_be_made_is_given_up_and_says_why(tmp_path):
    def broken():
        yield Case("toy", "a", nothing, None)
        raise ImportError("no such module")

    lane = frame.Lane("toy", broken, tmp_path / "log", 5.0)
    found = []
    while not lane.is_done:
        found += lane.look()
    assert [result.name for result in found] == ["a", *["between cases"] * 2]
    assert found[-1].fault[1].endswith("ImportError: no such module")


def test_a_child_that_outlives_its_run_is_seen_and_ended(tmp_path):
    file = tmp_path / "pid"

    def leave():
        file.write_text(str(subprocess.Popen(["sleep", "60"]).pid))

    found = results_of(tmp_path, leave)
    assert found == {"a": None, "the end: processes": "process left"}
    stat, until = Path(f"/proc/{file.read_text()}/stat"), time.monotonic() + 10
    while stat.exists() and ") Z " not in stat.read_text():  # killed, not yet ended
        assert time.monotonic() < until
        time.sleep(0.05)


def test_memory_beyond_the_bound_is_seen(tmp_path, monkeypatch):
    monkeypatch.setattr(frame, "MAX_BYTES", 1_000_000)
    found = results_of(tmp_path, lambda: time.sleep(3))
    assert found["a"] == "memory"


def test_tracebacks_are_seen_raised_or_printed(tmp_path):
    def shout():
        os.write(2, b"Traceback (most recent call last):\n")

    assert results_of(tmp_path, shout, lambda: 1 / 0) == {
        "a": "traceback",
        "b": "traceback",
    }


def test_a_panic_of_rust_is_seen():
    class Panic(BaseException):
        pass

    def panic():
        raise Panic

    assert frame.try_case(Case("toy", "a", panic, None))[0] == "traceback"


def short(function):
    """Return the function as it would be if it lost the last row."""

    def lost(*arguments, **words):
        return function(*arguments, **words)[:-1]

    return lost


def blank(function):
    """Return a drawer that draws whatever it is given."""

    def draw(rows, size, keep_shape=False):
        return np.zeros((len(rows), 24, size, 4), np.uint8), [""] * len(rows)

    return draw


def fewer(function):
    def draw(rows, size, keep_shape=False):
        pixels, reasons = function(rows, size, keep_shape=keep_shape)
        return pixels[:-1], reasons[:-1]

    return draw


def unverified(function):
    return lambda folder, verify=True: function(folder, verify=False)


def cut_at_hash(function):
    return lambda path=None: {
        line.split("#")[0].strip()
        for line in (path or takedown.LIST).read_text().split("\n")
    }


def raw_page(function):
    return lambda text: f"<html><p>{text}</p><script>alert(1)</script></html>"


def halved(function):
    def read(name):
        rows = function(name)
        return [row | {"length": min(9, row["length"])} for row in rows]

    return read


def careless(function):
    def judge(*arguments):
        frame = function(*arguments)
        return frame.assign(split=frame["split"].replace("rejected", "c"))

    return judge


def miscounted(function):
    def fetch(*arguments, **words):
        counts = function(*arguments, **words)
        return counts | {"failed": counts["failed"] - 1}

    return fetch


def as_text(function):
    return lambda *arguments: {"x": str(function(*arguments)["x"])}


def unsafe(function):
    return lambda frame: frame["title"].iloc[0]


def without_last_vote(function):
    return lambda *arguments: function(*arguments).iloc[:-1]


PLANTED = [
    # kind, a case, what is patched where, by what, the fault that is seen
    ("pictures", "orientation: 1 PNG RGB", "draws", "draw_rows", fewer, "lost row"),
    ("pictures", "orientation: 6 PNG RGB", "draws", "draw_rows", blank,
    "wrong outcome"),
    ("pictures", "cut: PNG at 5/10", "draws", "draw_rows", blank, "half-read file"),
    ("pictures", "random", "draws", "draw_rows", fewer, "lost row"),
    ("drawings", "foreign: image from path", "draws", "draw_rows", blank,
    "wrong outcome"),
    ("drawings", "random", "draws", "draw_rows", fewer, "lost row"),
    ("licenses", "doubtful", "licenses", "assign_splits", careless, "wrong outcome"),
    ("licenses", "read", "licenses", "assign_splits", short, "lost row"),
    ("texts", "ledger, title: NUL", "texts.attribution", "attribution_text", unsafe,
    "wrong outcome"),
    ("texts", "ledger, title: script", "texts.attribution", "attribution_page",
    raw_page, "wrong outcome"),
    ("tables", "form: UTF-8", "tables", "read_source", short, "lost row"),
    ("tables", "random", "tables", "read_source", short, "lost row"),
    ("archives", "form: plain 0", "archives", "read_source", halved, "half-read file"),
    ("archives", "form: plain 1", "archives", "read_source", short, "wrong outcome"),
    ("captions", "key: parquet int8", "captions.ImportedCaptions", "table", short,
    "lost row"),
    ("votes", "lines: CRLF", "votes.review", "read_votes", without_last_vote,
    "wrong outcome"),
    ("votes", "random", "votes.review", "read_votes", without_last_vote, "lost row"),
    ("takedowns", "key: '#' within", "takedowns.takedown", "read_list", cut_at_hash,
    "wrong outcome"),
    ("manifests", "file: longer", "manifests.manifest", "read_manifest", unverified,
    "wrong outcome"),
    ("manifests", "random", "manifests.manifest", "read_manifest", unverified,
    "wrong outcome"),
    ("parameters", "type: int is 3", "parameters.parameters", "collect", as_text,
    "wrong outcome"),
    ("servers", "address: closed port", "servers.downloads", "fetch_pictures",
    miscounted, "lost row"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "name", "place", "target", "wrong", "what"), PLANTED)
def test_a_planted_fault_is_seen(monkeypatch, kind, name, place, target, wrong, what):
    module = import_module(f"tests.hardening.{kind}")
    if name == "random":
        case = next(frame.random_cases(kind, module, 50, 17))
    else:
        case = next(case for case in module.cases() if case.name.startswith(name))
    first, *rest = place.split(".")
    holder = import_module(f"tests.hardening.{first}")
    for part in rest:
        holder = getattr(holder, part)
    monkeypatch.setattr(holder, target, wrong(getattr(holder, target)))
    assert frame.try_case(case)[0] == what


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Make a world with one finished folder, and remember it as undisturbed."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    world = stages.World()
    folder = world.root / "data/tiny/01_licenses"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    write_manifest(folder, "01_licenses", "tiny", None, 1, 1, {}, {})
    world.known["hashes"] = world.hashes()
    world.expect_as_before()
    return world


def test_a_run_that_ends_in_other_bytes_is_seen(world):
    (world.root / "data/tiny/02_captions").mkdir()
    (world.root / "data/tiny/02_captions/b.txt").write_text("b")
    with pytest.raises(Fault, match="differing bytes"):
        world.expect_as_before()


def test_a_folder_that_is_not_what_its_manifest_says_is_seen(world):
    (world.root / "data/tiny/01_licenses/a.txt").write_text("half")
    with pytest.raises(Fault, match="half-read file"):
        world.expect_whole()


def test_a_process_of_a_stage_that_is_left_is_seen(world):
    name, _, value = world.mark.partition("=")
    left = subprocess.Popen(
        ["sleep", "60"], env=os.environ | {name: value}, start_new_session=True
    )
    with pytest.raises(Fault, match="process left"):
        world.expect_no_process()
    assert left.wait(5) == -signal.SIGKILL
    world.expect_no_process()


@pytest.mark.parametrize(
    ("text", "code", "what"),
    [
        ("Traceback (most recent call last):\nx", 1, "traceback"),
        ("", 1, "wrong outcome"),
    ],
)
def test_a_run_that_shouts_or_says_nothing_is_seen(world, text, code, what):
    process = SimpleNamespace(communicate=lambda: ("", text), returncode=code)
    with pytest.raises(Fault, match=what):
        world.finish(process)


def test_the_page_counts_kinds_families_kills_and_faults():
    fault = Fault("hang", "no end | after").args
    found = [
        frame.Result("kills", "kill: 01_licenses 1, SIGKILL at 0.5", 0, 2.0, None),
        frame.Result("kills", "run after kills: 01_licenses 5", 0, 2.0, fault),
        frame.Result("pictures", "random: 17 0", 100, 1.0, None),
    ]
    told = page.summary(found, {"kills": "killed", "pictures": "drawn"})
    total = page.total(told)
    assert (total["cases"], total["random_inputs"], total["faults"]) == (2, 100, 1)
    assert told["kills"]["stages"] == {"01_licenses": 1}
    text = page.markdown(told)
    assert (
        f"| pictures | drawn | {told['pictures']['date']} | 0 | 100 |" in text
        and "| hang |" in text
    )
    assert "kills, `run after kills: 01_licenses 5`: hang" in text

"""What a user can cause is told in one line, whatever the verb; nothing is written."""

import errno
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from commoncanvas import __main__, checking, run
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.settings import call_named, load_yaml
from commoncanvas.parameters import check_names

ESCAPE = "\x1b[31mred\n"
FILES = {
    "absent": None,
    "folder": None,
    "dangling link": None,
    "empty": b"",
    "binary": b"\x00\xff\x1b[31m" * 99,
    "cut.json": b'{"works": [1, 2',
    "list.json": b"[1, 2]",
    "deep.json": b"[" * 100_000,
}
READERS = [  # words before and after the name of a file
    (["launch"], []),
    (["geneval", "--judge", "absent", "--questions"], []),
    (["credits"], ["--scale", "tiny"]),
    (["sample", "apple", "--model"], ["--out", "out.png"]),
    (["download"], ["pictures"]),
    (["fetch", "openclipart", "--deb"], []),
    (["fetch", "openclipart", "--folder"], []),
]
WRITERS = [["plan", "--json"], ["sample", "apple", "--out"]]
NAMED = [  # words before the name of a scale
    *(["check", "--scale"], ["pages", "--scale"], ["index", "--scale"]),
    *(["keep", "--scale"], ["marks", "--scale"], ["plan", "--scale"]),
    *(["release", "--scale"], ["recognise", "--variant", "a", "--scale"]),
    *(["credits", "x.png", "--scale"], ["run", "01_licenses", "--scale"], ["run"]),
    ["run", "04_train", "--scale", "tiny", "--variant"],
]
NAMES = ["", "../x", ESCAPE, "a" * 300, "absent", "mini\n", "-1"]
NUMBERS = [
    (["plan", "--seeds"], ["0", "-1", "9" * 30, "nan"]),
    (["plan", "--price"], ["-1", "nan", "inf", "1e400"]),
    (["sample", "apple", "--out", "out.png", "--num"], ["0", "-1", "x"]),
    (["sample", "apple", "--out", "out.png", "--steps"], ["0", "-1", "x"]),
    (["sample", "apple", "--out", "out.png", "--seed"], ["-1", "9" * 30]),
    (["sample", "apple", "--out", "out.png", "--guidance"], ["nan", "inf", "x"]),
    (["credits", "x.png", "-k"], ["0", "-1", "9" * 30]),
]
VARIANTS = "scale: mini\nexperiment: [base]\nvariants:\n  base: {}\n  "


def fails_in_one_line(*words):
    """Call a verb that must fail; return its last line, which steers no terminal."""
    done = CliRunner().invoke(__main__.door, [str(word) for word in words])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (1, 2), done.output
    assert "Traceback" not in done.stderr and "\x1b" not in done.stderr
    lines = done.stderr.splitlines()
    if done.exit_code == 1:
        assert len(lines) == 1, done.stderr
    else:  # click's own: usage, the way to help, a blank line, the error
        assert lines[-1].startswith("Error: ")
    return lines[-1]


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in an empty folder with a file of each kind."""
    for name, data in FILES.items():
        if data is not None:
            (tmp_path / name).write_bytes(data)
    (tmp_path / "folder").mkdir()
    (tmp_path / "dangling link").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("words", READERS, ids=lambda words: words[0][0])
def test_a_file_that_cannot_be_read_is_one_line(here, words, file):
    before, after = words
    fails_in_one_line(*before, file, *after)


@pytest.mark.parametrize("file", ["folder", "/dev/null/x", "a" * 300])
@pytest.mark.parametrize("words", WRITERS, ids=lambda words: words[0])
def test_a_file_that_cannot_be_written_is_one_line(here, words, file):
    fails_in_one_line(*words, file)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("words", NAMED, ids=lambda words: " ".join(words))
def test_a_name_of_nothing_is_one_line_and_runs_nothing(here, words, name):
    fails_in_one_line(*words, name)


@pytest.mark.parametrize(
    ("words", "number"), [(words, n) for words, numbers in NUMBERS for n in numbers]
)
def test_a_number_out_of_range_is_one_line(here, words, number):
    fails_in_one_line(*words, number)


@pytest.fixture
def failing(monkeypatch):
    def fail(error):
        def callback(**options):
            raise error

        monkeypatch.setattr(__main__.door.commands["index"], "callback", callback)

    return fail


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.bin"), "a.bin: No space"),
        (PermissionError(errno.EACCES, "Permission denied", b"b"), "b: Permission"),
        (OSError("of a library"), "of a library"),
        (MemoryError(), "not enough memory"),
        (ParameterError(f"found {ESCAPE}"), "found red"),
    ],
)
def test_an_error_of_disk_or_memory_is_one_line(failing, error, message):
    failing(error)
    assert message in fails_in_one_line("index", "--scale", "x").replace("[31m", "")


def test_a_reader_who_has_seen_enough_is_told_nothing(failing):
    failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    done = CliRunner().invoke(__main__.door, ["index", "--scale", "x"])
    assert done.exit_code == 1 and not done.stderr


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("cc_lr0.001", "holds '.'"),
        ("'a b'", "holds ' '"),
        ("a/b", "holds '/'"),
        ("'-x'", "holds '-'"),
        ("é", "holds 'é'"),
        ("''", "is empty"),
        ("base-18", "ends like a repeat's"),
        ("BASE", "`base` twice"),
        ("1e3", "a float in YAML"),
        ("true", "a bool in YAML"),
        ("long: 3, x", "`variants.long` is 3"),
        ("a" * 81, "holds 'a'"),
    ],
)
def test_a_variant_s_name_is_refused_before_anything_runs(here, name, message):
    (here / "params.yaml").write_text(
        f"{VARIANTS}{name}: {{}}\n".replace(", x:", "\n#")
    )
    with pytest.raises(ParameterError) as error:
        check_names(load_yaml(here / "params.yaml"))
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"experiment": ["base", "base"]}, "`experiment` of params.yaml has `base` tw"),
        ({"experiment": ["absent"]}, "no variant 'absent'; params.yaml has `base`"),
        ({"experiment": ["base-18"]}, "`experiment` of params.yaml has 'base-18'"),
        ({"experiment": "base"}, "is 'base'; expected a list of names"),
        ({"experiment": [True]}, "expected a list of names"),
        ({"repeats": ["base--1"]}, "no variant 'base--1'"),
        ({"repeats": ["base"]}, "`repeats` of params.yaml has 'base'; expected"),
        ({"repeats": ["x-1"]}, "no variant 'x-1'; params.yaml has `base`"),
        ({"repeats": [1]}, "`repeats` of params.yaml is [1]; expected a list of names"),
        ({"repeats": {"base": 1}}, "expected a list of names"),
        ({"variants": ["base"]}, "`variants` is ['base']; expected names with values"),
        ({"scale": 3}, "`scale` of params.yaml has the name 3, a int"),
    ],
)
def test_rows_that_name_nothing_or_one_thing_twice_are_refused(changes, message):
    params = {"scale": "mini", "experiment": ["base"], "variants": {"base": None}}
    check_names(params)
    with pytest.raises(ParameterError) as error:
        check_names(params | changes)
    assert message in str(error.value)


def test_a_wrong_setting_of_any_stage_is_told_by_the_first(monkeypatch, tmp_path):
    profile = (paths.PROFILES / "tiny.yaml").read_text()
    assert "num_train_steps: 20" in profile
    wrong = profile.replace("num_train_steps: 20", "num_train_steps: twenty")
    (tmp_path / "tiny.yaml").write_text(wrong)
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    with pytest.raises(ParameterError, match=r"04_train@tiny-\w+: .*'twenty', a str"):
        checking.check_settings("tiny")


@pytest.mark.slow
def test_every_profile_that_is_kept_fits_every_notebook(monkeypatch):
    # The rehearsal makes its own captioners and published pipelines.
    for name in ("check_published", "pinned"):
        monkeypatch.setattr(checking, name, lambda place, revision: None)
    scales = {p.stem for p in paths.PROFILES.glob("*.yaml")} - {"pretrain"}
    assert all(checking.check_settings(scale) > 7 for scale in scales)


@pytest.mark.parametrize(
    "data",
    [
        *(b"a: [1, 2\n", b"a:\n\tb: 1\n", b"a: 1\na: 2\n", b"- a\n", b"3\n"),
        *(b"a: caf\xe9\n", b"a: *b\n", b"a: !!python/name:os.system\n", b"\x00"),
        *(b"a: !!bool x\n", b"a: !!int x\n", b"a: &a [*a]\n", b"a: &a {<<: *a}\n"),
        *(b"[" * 5000, b"{[1]: 2}: 3\n", b"a: 2024-13-45\n", b"--- 1\n--- 2\n"),
    ],
)
def test_settings_that_cannot_be_read_are_one_line(tmp_path, data):
    (tmp_path / "params.yaml").write_bytes(data)
    with pytest.raises(ParameterError, match="params.yaml") as error:
        load_yaml(tmp_path / "params.yaml")
    assert len(str(error.value)) < 300


@pytest.mark.parametrize("merged", [False, True])
def test_aliases_that_write_out_to_a_billion_values_are_one_line(tmp_path, merged):
    start = "{x: 1}" if merged else "[x]"
    lines = [f"a0: &a0 {start}"]
    for level in range(9):
        all_ = ", ".join([f"*a{level}"] * 10)
        held = f"{{<<: [{all_}]}}" if merged else f"[{all_}]"
        lines.append(f"a{level + 1}: &a{level + 1} {held}")
    (tmp_path / "params.yaml").write_text("\n".join(lines))
    with pytest.raises(ParameterError, match="params.yaml holds more than 100,000 v"):
        load_yaml(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: &a [1, 2]\nb: {c: *a}\n")
    assert load_yaml(tmp_path / "params.yaml") == {"a": [1, 2], "b": {"c": [1, 2]}}


@pytest.mark.parametrize("data", [b"\xef\xbb\xbfa: 1\n", b"a: 1\r\n", b"a: 1"])
def test_a_mark_or_line_ends_of_another_system_are_read(tmp_path, data):
    (tmp_path / "params.yaml").write_bytes(data)
    assert load_yaml(tmp_path / "params.yaml") == {"a": 1}


def test_a_function_of_a_profile_says_all_that_is_wrong_in_a_short_line():
    def known(works: list[Path], num: int, seed: int = 0) -> None:
        raise AssertionError

    with pytest.raises(ParameterError) as error:
        call_named({"known": known}, "prompt_sets", "known", {"numm": 1, "works": []})
    assert str(error.value) == (
        "'known' of `prompt_sets` does not take `numm` and lacks `num`; it takes "
        "`num`, `seed`, `works`; edit `prompt_sets` in the profile."
    )
    with pytest.raises(ParameterError, match=r"has \['known'\]; expected one of known"):
        call_named({"known": known}, "prompt_sets", ["known"], {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(({"num": bad}, "a whole number") for bad in ("x", 1.5, True, None, 2**99)),
        *(
            ({"share": bad}, "a finite number")
            for bad in ("x", math.nan, True, 10**999)
        ),
        *(({"name": bad}, "text or a path") for bad in (5, "\ud800", ["a"])),
        *(({"names": bad}, "a list, each text") for bad in ("x", [5], 5)),
        *(({"words": bad}, "names with values or nothing") for bad in (5, ["a"])),
    ],
)
def test_a_setting_of_another_type_is_one_line(value, expected):
    def known(
        num: int = 1,
        share: float = 1,
        name: str | Path = "",
        names: Sequence[str] = (),
        words: Mapping[str, Any] | None = None,
    ) -> str:
        return "called"

    with pytest.raises(ParameterError) as error:
        call_named({"known": known}, "captioners", "known", value)
    (name,) = value
    assert f"`{name}` of 'known' in `captioners` is " in str(error.value)
    assert f"; expected {expected}; edit" in str(error.value)
    str(error.value).encode()
    right = {"num": 2, "share": 2, "name": Path("a"), "names": ["a"], "words": {"a": 1}}
    assert call_named({"known": known}, "captioners", "known", right) == "called"


@pytest.mark.parametrize(
    "variant", ["x/../../../params", "cc_human-\uff11\uff18", "cc_human-018", "cc_no"]
)
def test_a_variant_that_is_none_is_refused_before_anything_is_written(variant):
    before = sorted(paths.ROOT.glob("*")), (paths.ROOT / "params.yaml").read_bytes()
    with pytest.raises(run.StageFailed, match="there is no variant"):
        run.run_stage("04_train", "tiny", variant)
    after = sorted(paths.ROOT.glob("*")), (paths.ROOT / "params.yaml").read_bytes()
    assert before == after


def test_a_stage_that_dvc_does_not_know_is_one_line(monkeypatch):
    monkeypatch.setenv("DVC_STAGE", "nope")
    line = fails_in_one_line("run", "01_licenses", "--scale", "tiny")
    assert "DVC_STAGE is 'nope'" in line


def test_a_prompt_that_is_no_text_is_one_line(tmp_path):
    line = fails_in_one_line("sample", "\udcff", "--out", tmp_path / "a.png")
    assert "the prompt is not UTF-8" in line

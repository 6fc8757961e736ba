"""What is listed goes, what was trained on it is named, nothing else is touched."""

import tempfile
from pathlib import Path
from unicodedata import normalize

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.text import printable
from commoncanvas.licenses import takedown

SUM = "ab" * 32
WORKS = pd.DataFrame(
    {
        "key": ["toy/cat", "toy/dog", "toy/cat2", "web/sun"],
        "title": ["cat", "dog", "cat", "sun"],
        "author": "Ada",
        "split": ["c", "nc", "c", "web"],
        "reason": "",
        "sha256": [SUM, "cd" * 32, SUM, "ef" * 32],
        "near_group": ["toy/cat", "toy/dog", "toy/cat", "web/sun"],
    }
)

# Signs that steer the list, spaces that an editor cuts, letters in both compositions.
ODD = st.text(st.sampled_from(list('/#"\\ \t\n\r\ufeff\u2028\x85\x00\x1b\u202ea\xe9')))
ODD |= st.text(st.sampled_from(list("e\u0301\xe9/ "))) | st.just(SUM)
ANY_KEY = (
    ODD | st.text(st.characters(exclude_categories=())) | st.from_regex(r"\A\w+/\S+")
)
KEY = ODD | st.text()  # parquet holds no lone surrogate


@pytest.fixture
def listing(tmp_path):
    def write(text):
        path = tmp_path / "takedown.txt"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def point_at(monkeypatch, root, text):
    """Point the command at a folder whose list holds a text."""
    (root / "docs").mkdir()
    listed = root / "docs" / "takedown.txt"
    listed.write_text(text, encoding="utf-8")
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(takedown, "LIST", listed)
    return listed


def write_scale(root, scale, catalog, trained):
    """Write what stages 01 and 04 leave: a catalogue, and the works of each variant."""
    folder = root / "data" / scale
    (folder / "01_licenses").mkdir(parents=True)
    catalog.to_parquet(folder / "01_licenses" / "catalog.parquet")
    for variant, keys in trained.items():
        (folder / "04_train" / variant).mkdir(parents=True)
        works = pd.DataFrame({"key": keys})
        works.to_parquet(folder / "04_train" / variant / "works.parquet")


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Lay out one scale with two trainings, and point the command at it."""
    trained = {"all": ["toy/cat", "toy/dog"], "dogs": ["toy/dog"]}
    write_scale(tmp_path, "toy", WORKS, trained)
    return point_at(monkeypatch, tmp_path, "# none yet\n")


@given(ANY_KEY)
@example("photos/pear#2.jpg")
@example("my photos/red apple.jpg")
@example('toy/a  # "b"')
@example(" # a")
def test_a_line_of_the_list_is_read_as_what_was_written(key):
    line = takedown.format_line(key)
    assert takedown.parse_line(line, "") == key
    assert takedown.parse_line(f"  {line}\t# why \r", "") == key
    assert printable(line) == " ".join(line.split()) and line[:1] not in ("", "#")


@given(st.sets(ANY_KEY), st.sampled_from(["\n", "\r\n"]), st.booleans(), st.booleans())
def test_a_list_is_read_whatever_its_editor_did_to_its_ends(keys, end, has_bom, is_cut):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.txt"
        text = end.join(
            ["\ufeff" * has_bom + "# why", "", *map(takedown.format_line, keys)]
        )
        path.write_bytes((text + end * (not is_cut)).encode())
        assert takedown.read_list(path) == keys


@settings(max_examples=25, deadline=None)
@given(st.lists(KEY, min_size=1, unique=True), st.sampled_from(["# a/b", "a/b"]))
@example([" a/b", "a/b", "a/b "], "a/b")
@example(["photos/pear#2.jpg", "photos/pear"], "# a/b")
@example(["e\u0301/a", "\xe9/a"], "# a/b")
def test_any_key_is_taken_down_and_no_other(keys, before):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        listed = point_at(patch, Path(folder), before)
        catalog = WORKS.iloc[[0] * len(keys)].assign(key=keys, sha256="")
        write_scale(Path(folder), "toy", catalog, {"all": keys})
        takedown.report(keys[:1], add=True)
        out = catalog[takedown.is_listed(catalog, takedown.read_list(listed))]
    same = [key for key in keys if normalize("NFC", key) == normalize("NFC", keys[0])]
    assert out["key"].tolist() == [key for key in keys if key in same or key == before]


def test_a_list_holds_keys_and_sums_and_comments(listing):
    text = f"# why\ntoy/cat  # asked by Ada\n\n{SUM}\n"
    assert takedown.read_list(listing(text)) == {"toy/cat", SUM}


def test_old_lines_and_hand_made_ones_are_read(listing):
    text = (
        """toy/cat#2.jpg\ntoy/dog # asked by Ada #2\n\t"a b" #c\n"\\u00e9 #"\r\n  # d"""
    )
    found = takedown.read_list(listing(text))
    assert found == {"toy/cat#2.jpg", "toy/dog", "a b", "\xe9 #"}


@pytest.mark.parametrize(
    "line",
    [
        "a cat",
        "toy/cat toy/dog",
        "my toys/cat #2",
        "/cat",
        "toy/",
        '"toy/cat',
    ]
    + ['"toy/cat" toy/dog', '"a"#b"', "toy/cat\u3000b"],
)
def test_a_line_that_is_neither_key_nor_sum_is_named(listing, line):
    path = listing(f"toy/a\n{line}\n")
    with pytest.raises(ParameterError, match="line 2") as error:
        takedown.read_list(path)
    assert "in double quotes" in str(error.value) and "\n" not in str(error.value)


def test_a_list_that_is_no_utf8_is_refused_in_one_line(tmp_path):
    (tmp_path / "list.txt").write_bytes("caf\xe9/a".encode("latin-1"))
    with pytest.raises(ParameterError, match="a list in UTF-8"):
        takedown.read_list(tmp_path / "list.txt")


def test_a_missing_list_is_not_an_empty_one(tmp_path):
    with pytest.raises(ParameterError, match="restore it"):
        takedown.read_list(tmp_path / "none.txt")


def test_the_committed_list_can_be_read():
    assert isinstance(takedown.read_list(), set)


def test_a_key_takes_one_row_and_a_sum_every_row_with_those_contents():
    assert WORKS[takedown.is_listed(WORKS, {"toy/cat"})]["key"].tolist() == ["toy/cat"]
    assert takedown.is_listed(WORKS, {SUM}).sum() == 2
    assert takedown.is_listed(WORKS, {takedown.parse_line(SUM.upper(), "")}).sum() == 2
    assert not takedown.is_listed(WORKS, set()).any()


def test_the_hash_of_the_source_s_bytes_takes_what_another_size_draws_otherwise():
    resized = WORKS.assign(sha256="99" * 32, source_sha256=[SUM, "", None, "12" * 32])
    assert takedown.is_listed(resized, {SUM})[0]
    assert takedown.is_listed(resized.drop(columns="sha256"), {SUM}).sum() == 1
    assert not takedown.is_listed(resized, {""}).any()


def test_the_report_names_copies_and_exactly_the_trainings_that_held_the_work(
    world, capsys
):
    takedown.report(["toy/cat"])
    printed = capsys.readouterr().out
    assert "toy/cat2 is a copy" in printed and "all was trained on 1" in printed
    assert "dogs" not in printed and "make pretrain" not in printed
    assert "Nothing is changed yet" in printed and "toy/cat" not in world.read_text()


def test_a_web_work_reaches_the_pretrained_parts(world, capsys):
    takedown.report(["web/sun"])
    printed = capsys.readouterr().out
    assert "no model was trained on them" in printed and "make pretrain" in printed


def test_adding_writes_keys_once_a_work_and_the_list_stays_readable(world, capsys):
    takedown.report([SUM], add=True)
    assert takedown.read_list(world) == {"toy/cat", "toy/cat2"}


def test_an_unknown_work_is_named_in_one_line(world):
    with pytest.raises(ParameterError, match="found no work toy/cow") as error:
        takedown.report(["toy/cat", "toy/cow"], add=True)
    assert "\n" not in str(error.value) and "toy/cat" not in world.read_text()


def test_a_renamed_source_is_caught_by_the_bytes_that_it_holds(world):
    source = WORKS.assign(source_sha256=["11" * 32, "22" * 32, "33" * 32, "44" * 32])
    source.to_parquet(paths.stage_dir("toy", "01_licenses") / "catalog.parquet")
    takedown.report(["toy/cat"], add=True)
    assert world.read_text().endswith(f"\n{'11' * 32}  # bytes of toy/cat\ntoy/cat\n")
    renamed = source.assign(key="new/" + source["key"], sha256="")
    out = renamed[takedown.is_listed(renamed, takedown.read_list())]
    assert out["key"].tolist() == ["new/toy/cat"]


def test_a_sum_of_one_scale_finds_the_work_in_the_others(world, capsys):
    source = WORKS.assign(source_sha256=["11" * 32, "22" * 32, "33" * 32, "44" * 32])
    source.to_parquet(paths.stage_dir("toy", "01_licenses") / "catalog.parquet")
    larger = source.assign(key="new/" + source["key"], sha256="00" * 32)
    write_scale(world.parents[1], "large", larger, {"big": ["new/toy/dog"]})
    takedown.report(["cd" * 32])
    printed = capsys.readouterr().out
    assert "04_train big was trained on 1" in printed and "dogs was trained" in printed


def test_what_is_listed_already_is_not_listed_twice(world):
    takedown.report(["toy/cat"], add=True)
    once = world.read_text()
    takedown.report([SUM, "toy/cat"], add=True)
    assert world.read_text() == once + "toy/cat2\n"


def test_a_list_whose_last_line_is_not_ended_keeps_it(world):
    world.write_bytes(b"\xef\xbb\xbftoy/owl\r\ntoy/dog")
    takedown.report(["toy/cat"], add=True)
    assert takedown.read_list() == {"toy/owl", "toy/dog", "toy/cat"}
    assert world.read_bytes() == b"\xef\xbb\xbftoy/owl\r\ntoy/dog\ntoy/cat\n"


def test_what_was_not_listed_is_not_said_to_be(world, monkeypatch, capsys):
    monkeypatch.setattr(takedown, "write_text", lambda path, text: None)
    with pytest.raises(ParameterError, match="toy/cat is still not listed"):
        takedown.report(["toy/cat"], add=True)
    assert "Listed" not in capsys.readouterr().out


def test_a_list_that_cannot_be_written_is_one_line(world, monkeypatch):
    def refuse(path, text):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(takedown, "write_text", refuse)
    with pytest.raises(ParameterError, match=r"nothing is listed: .*Permission denied"):
        takedown.report(["toy/cat"], add=True)


def test_no_title_or_key_steers_the_terminal(world, capsys):
    hostile = "\x1b[2J\u202e\x9b1m"
    works = WORKS.assign(title=hostile, author=hostile, reason=hostile)
    works.loc[0, "key"] = f"toy/{hostile}"
    works.to_parquet(paths.stage_dir("toy", "01_licenses") / "catalog.parquet")
    takedown.report([f"toy/{hostile}", "toy/dog"], add=True)
    printed = capsys.readouterr().out
    assert all(line == printable(line) for line in map(str.strip, printed.splitlines()))


def test_a_name_of_other_bytes_is_no_work():
    frame = pd.DataFrame({"key": ["a/b", "c/d"]})
    assert takedown.is_listed(frame, ["\udcff/x", "c/d"]).tolist() == [False, True]

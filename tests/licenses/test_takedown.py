"""What is listed goes, what was trained on it is named, nothing else is touched."""

import pandas as pd
import pytest

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
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


@pytest.fixture
def listing(tmp_path):
    def write(text):
        path = tmp_path / "takedown.txt"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def world(tmp_path, monkeypatch):
    """Lay out one scale with two trainings, and point the command at it."""
    (tmp_path / "docs").mkdir()
    listed = tmp_path / "docs" / "takedown.txt"
    listed.write_text("# none yet\n")
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(takedown, "LIST", listed)
    scale = tmp_path / "data" / "toy"
    (scale / "01_licenses").mkdir(parents=True)
    WORKS.to_parquet(scale / "01_licenses" / "catalog.parquet")
    for variant, keys in {"all": ["toy/cat", "toy/dog"], "dogs": ["toy/dog"]}.items():
        (scale / "04_train" / variant).mkdir(parents=True)
        works = pd.DataFrame({"key": keys})
        works.to_parquet(scale / "04_train" / variant / "works.parquet")
    return listed


def test_a_list_holds_keys_and_sums_and_comments(listing):
    text = f"# why\ntoy/cat  # asked by Ada\n\n{SUM}\n"
    assert takedown.read_list(listing(text)) == {"toy/cat", SUM}


@pytest.mark.parametrize("line", ["a cat", "AB" * 32, "toy/cat toy/dog"])
def test_a_line_that_is_neither_key_nor_sum_is_named(listing, line):
    path = listing(f"toy/a\n{line}\n")
    with pytest.raises(ParameterError, match="line 2"):
        takedown.read_list(path)


def test_a_missing_list_is_not_an_empty_one(tmp_path):
    with pytest.raises(ParameterError, match="restore it"):
        takedown.read_list(tmp_path / "none.txt")


def test_the_committed_list_can_be_read():
    assert isinstance(takedown.read_list(), set)


def test_a_key_takes_one_row_and_a_sum_every_row_with_those_contents():
    assert WORKS[takedown.is_listed(WORKS, {"toy/cat"})]["key"].tolist() == ["toy/cat"]
    assert takedown.is_listed(WORKS, {SUM}).sum() == 2
    assert not takedown.is_listed(WORKS, set()).any()


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

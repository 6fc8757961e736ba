"""The benchmark's rows are YFCC's in number and form, and its engines are compared."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks import licenses
from commoncanvas.catalog import made_up, splits
from commoncanvas.catalog.sources import yfcc
from commoncanvas.core.errors import SourceError


def test_at_a_hundred_million_rows_the_counts_are_the_published_ones():
    counts = made_up.scaled_counts(100_000_000)
    for slug, (_, photos, videos) in made_up.SHARES.items():
        assert counts[slug, 0] == photos and counts[slug, 1] == videos
    assert sum(n for (_, marker), n in counts.items() if not marker) == 99_206_564


@given(st.integers(0, 10**8))
@settings(max_examples=100)
def test_scaled_counts_add_up_and_stay_within_one_of_the_share(rows):
    counts = made_up.scaled_counts(rows)
    assert sum(counts.values()) == rows
    for (slug, marker), number in counts.items():
        exact = rows * made_up.SHARES[slug][1 + marker] / 10**8
        assert abs(number - exact) < 1.001


def test_the_split_of_all_photos_is_set_beside_the_paper_s():
    found = licenses.paper_split(licenses.expected_splits(100_000_000))
    assert found["c"]["found"] == 26_618_298 and found["c"]["paper"] == 26_232_417
    assert found["nc"]["found"] == 68_070_018 and found["nc"]["paper"] == 67_015_331
    assert 0.984 < found["nc"]["share"] < found["c"]["share"] < 0.986


@pytest.mark.parametrize("rows", [1, 2, 7, 5000])
def test_made_up_works_have_ids_and_licences_of_their_own(rows):
    connection = splits.connect()
    works = made_up.made_up(connection, rows)
    assert works.columns == yfcc.COLUMNS
    [(ids, number)] = works.query(
        "works", "SELECT count(DISTINCT photoid), count(licensename) FROM works"
    ).fetchall()
    assert ids == number == rows


def test_the_same_seed_gives_the_same_works_and_another_gives_others():
    connection = splits.connect()
    one, same, other = (
        made_up.made_up(connection, 500, seed).order("photoid").fetchall()
        for seed in (3, 3, 4)
    )
    assert one == same != other


def test_about_31_per_cent_of_the_works_have_a_description():
    works = made_up.made_up(splits.connect(), 20_000)
    [(share,)] = works.query(
        "works", "SELECT avg((description <> '')::INTEGER) FROM works"
    ).fetchall()
    assert abs(share - 0.31) < 0.015


@pytest.mark.parametrize("engine", ["ours", "pandas", "pandas by row", "polars"])
def test_every_engine_counts_and_keeps_the_same(tmp_path, engine):
    if engine == "polars":
        pytest.importorskip("polars")
    made_up.write_parquet(tmp_path / "a.parquet", 3000)
    out = tmp_path / "out"
    counts = licenses.ENGINES[engine](str(tmp_path / "a.parquet"), str(out))
    expected = licenses.expected_splits(3000)
    assert counts == {name: number for name, number in expected.items() if number}
    files = f"{out}/*/*.parquet" if out.is_dir() else str(out)
    kept = splits.connect().sql(
        f"SELECT key, license_slug, split FROM read_parquet('{files}') "
        "WHERE split <> 'rejected'"
    )
    [(rows, ids)] = kept.query(
        "k", "SELECT count(*), count(DISTINCT key) FROM k"
    ).fetchall()
    assert rows == ids == 3000 - expected["rejected"]


def test_packed_text_splits_as_the_same_works_in_parquet(tmp_path):
    licenses.write_bz2(tmp_path / "a.tsv.bz2", 3000)
    made_up.write_parquet(tmp_path / "a.parquet", 3000)
    counts = licenses.run_ours_bz2(tmp_path / "a.tsv.bz2", tmp_path / "out")
    assert counts == licenses.expected_splits(3000)
    connection = splits.connect()
    text = yfcc.read_tsv(connection, tmp_path / "a.tsv.bz2").order("key").fetchall()
    parquet = yfcc.read_parquet(connection, tmp_path / "a.parquet")
    assert text == parquet.order("key").fetchall()


def test_an_engine_that_fails_is_an_error_in_one_line(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"no parquet")
    with pytest.raises(SourceError, match="^ours: SourceError: cannot read") as error:
        licenses.measure("ours", tmp_path / "a.parquet", 1)
    assert "\n" not in str(error.value)


def test_a_goal_missed_is_reported_as_missed():
    run = {"seconds": 1.0, "cpu": 1.0, "mib": 100.0, "rows_per_second": 2e6}
    runs = dict.fromkeys(["ours", "ours, fewer rows", "ours, bz2", "bz2"], run)
    runs["pandas"] = run | {"seconds": 5.0}
    runs["pandas by row"] = run | {"seconds": 50.0}
    runs["polars"] = run | {"seconds": 0.9, "cpu": 1.1}
    holds = {g["goal"].split(" >")[0]: g["holds"] for g in licenses._goals(runs)}
    assert holds["rows a second"] and holds["speed to pandas by row"]
    assert not holds["speed to pandas"] and not holds["speed to polars"]
    assert holds["speed to polars by processor time"]


@pytest.mark.slow
def test_the_command_writes_a_report_that_names_no_place(tmp_path):
    report = tmp_path / "report.json"
    sizes = ["--rows", "4000", "--small-rows", "1000", "--bz2-rows", "1000"]
    command = [sys.executable, licenses.__file__, *sizes]
    command += ["--engines", "ours", "--repeats", "1", "--folder", str(tmp_path)]
    done = subprocess.run(
        [*command, "--json", str(report)], capture_output=True, text=True
    )
    assert done.returncode == 0 and "rows a second" in done.stdout
    found = json.loads(report.read_text())
    assert found["runs"]["ours"]["rows"] == 4000
    assert str(tmp_path) not in report.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]

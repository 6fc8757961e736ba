"""The pictures of the memory benchmark are real, and its slopes are slopes."""

import io
import json
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks import memory
from commoncanvas.catalog import catalog
from commoncanvas.core.errors import CommonCanvasError

GB, LESS = 1_000_000_000, 800_000_000


def test_the_pictures_are_real_different_and_of_their_size(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "ROWS_PER_FILE", 20)
    memory.write_pictures(tmp_path, 50)
    parts = sorted(folder.name for folder in tmp_path.iterdir())
    assert parts == ["00000", "00001", "00002"]
    rows = [
        row
        for part in parts
        for row in catalog.read_source(f"commoncatalog:256-512:{tmp_path / part}")
    ]
    assert len({row["key"] for row in rows}) == len(rows) == 50
    tables = [pq.ParquetFile(f).read(["jpg"]) for f in tmp_path.rglob("*.parquet")]
    files = {data for table in tables for data in table["jpg"].to_pylist()}
    opened = [Image.open(io.BytesIO(data)) for data in files]
    assert len(files) == 50 and {one.size for one in opened} == {(memory.EDGE,) * 2}
    assert {one.format for one in opened} == {"JPEG"}
    assert np.mean([np.asarray(one).std() for one in opened]) > 10


def test_every_picture_has_a_caption_of_its_own(tmp_path):
    memory.write_captions(tmp_path / "captions.jsonl", 30)
    lines = (tmp_path / "captions.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len({row["caption"] for row in rows}) == len({row["key"] for row in rows})
    memory.write_pictures(tmp_path / "pictures", 30)
    source = f"commoncatalog:256-512:{tmp_path / 'pictures' / '00000'}"
    assert {row["key"] for row in rows} == {
        r["key"] for r in catalog.read_source(source)
    }


def of(size):
    return {"bytes": size, "resident_bytes": size + GB}


def test_a_further_picture_is_told_by_the_size_before():
    found = {
        "1000": {"01_licenses": {**of(LESS), "cpu_seconds": 10.0}},
        "11000": {"01_licenses": {**of(GB), "cpu_seconds": 30.0}},
        "111000": {"01_licenses": {**of(2 * GB), "cpu_seconds": 330.0}},
    }
    first, second, third = memory.rows_of(found)
    assert "bytes_a_picture" not in first and first["MB"] == 800
    assert first["resident_MB"] == 1800
    assert second["bytes_a_picture"] == 20_000 and second["ms_a_picture"] == 2
    assert second["times"] == 1.25
    assert third["bytes_a_picture"] == 10_000 and third["ms_a_picture"] == 3
    expected = 2 + 1e-5 * (memory.CATALOG_C - 111_000)
    assert third["GB_at_26_million"] == pytest.approx(expected)
    (told,) = memory.verdicts([first, second, third])
    assert "10,000 bytes a picture" in told and "1.50 times as long" in told
    assert "more than linear" in told
    (told,) = memory.verdicts([first, second])
    assert "1.25 times the memory of the size before, flat" in told
    page = memory.as_markdown(found)
    assert page.count("\n| `01_licenses` |") == 3 and told not in page


def test_the_largest_process_counts_with_those_below_it():
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])"
    inner = "import time; a = b'x' * 200_000_000; time.sleep(3)"
    child = subprocess.Popen([sys.executable, "-c", code.format(inner)])
    peak = memory.Peak(child.pid)
    assert child.wait() == 0
    found = peak.close()
    assert 200_000_000 < found["bytes"] < found["resident_bytes"] < 300_000_000


def test_a_stage_that_fails_is_told_in_its_last_line(tmp_path, monkeypatch):
    file = tmp_path / "commoncanvas" / "__main__.py"
    file.parent.mkdir()
    file.write_text("import sys; print('one'); sys.exit('two is the reason')")
    with pytest.raises(CommonCanvasError, match="01_licenses of 5.*two is the reason"):
        memory.measure(tmp_path, 5, "01_licenses")


@pytest.mark.slow
def test_every_stage_is_measured_and_a_second_run_measures_nothing(
    tmp_path, monkeypatch
):
    words = ["--sizes", "100", "--root", tmp_path / "root"]
    words += ["--json", tmp_path / "memory.json", "--markdown", tmp_path / "MEMORY.md"]
    done = CliRunner().invoke(memory.main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "memory.json").read_text())
    assert list(found) == ["100"] and list(found["100"]) == memory.STAGES
    monkeypatch.setattr(memory, "measure", None)
    done = CliRunner().invoke(memory.main, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    assert "`references` | 100 |" in (tmp_path / "MEMORY.md").read_text()

"""The rows of the front page hold what each model drew for the same prompts."""

import io
import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from commoncanvas.analysis.sheets import contact_sheet
from commoncanvas.core import paths
from commoncanvas.core.picture_store import write_pictures
from commoncanvas.evaluate.prompts import gate_prompts
from commoncanvas.evaluate.results import write_samples
from commoncanvas.publish import side_by_side

PROMPTS = list(gate_prompts()["prompt"])
PICKED = {"value": 0.4, "interval": [0.3, 0.5], "n": 40}


def tiles(shade, num=8):
    return [np.full((16, 16, 3), shade + i, np.uint8) for i in range(num)]


def metrics(value=PICKED):
    by_prompt = {"human": {"retrieval_top1": value}, "gate": {"alignment": {"n": 8}}}
    protocol = {"sources": ["openmoji"]}
    return json.dumps({"by_prompt": by_prompt, "protocol": protocol})


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A finished run of `tiny`, a reference run of two rows and a released model."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    for variant, shade in (("cc_synthetic", 10), ("web_human", 30)):
        folder = paths.RESULTS / "full" / variant
        folder.mkdir(parents=True)
        contact_sheet(tiles(shade), PROMPTS[:8]).save(folder / "gate.png")
        (folder / "metrics.json").write_text(metrics())
    model = paths.RESULTS / "model"
    model.mkdir()
    stacked = [np.concatenate([t, t + 100]) for t in tiles(50, 24)]
    contact_sheet(stacked, PROMPTS[:24]).save(model / "sheet.png")
    (model / "sheet.json").write_text(json.dumps({"prompts": PROMPTS[:24]}))
    told = {"scale": "full", "variant": "cc_emoji"}
    told["facts"] = {"works": 99, "caption_source": "human"}
    (model / "manifest.json").write_text(json.dumps(told))
    own = paths.stage_dir("tiny", "05_evaluate", "cc_synthetic")
    write_samples(own / "gate", {3.0: np.stack(tiles(90))}, PROMPTS[:8])
    (own / "metrics.json").write_text(metrics(PICKED | {"interval": [0.05, 0.5]}))
    licensed = paths.stage_dir("tiny", "01_licenses")
    licensed.mkdir(parents=True)
    picture = io.BytesIO()
    Image.new("RGB", (96, 96), "red").save(picture, "PNG")
    works = [("openmoji/b", PROMPTS[2], True), ("openmoji/a", PROMPTS[2], True)]
    works += [("openmoji/c", PROMPTS[0], False), ("noto/d", PROMPTS[0], True)]
    rows = pd.DataFrame(works, columns=["key", "title", "is_holdout"])
    rows = rows.assign(
        split="c", file=0, author="An author", pageurl="https://a.example"
    )
    rows = rows.assign(license_title="CC0 1.0", license_deed="https://b.example")
    rows["source"] = rows["key"].str.partition("/")[0]
    rows.to_parquet(licensed / "catalog.parquet")
    stored = [(key, "c", picture.getvalue()) for key in rows["key"]]
    write_pictures(licensed, 0, stored)
    return tmp_path


def test_columns_are_the_reference_the_release_and_this_run(world):
    found = side_by_side.side_by_side("tiny")
    titles = [column["title"] for column in found["columns"]]
    assert titles == ["Reference run, full"] * 2 + ["Released model", "This run, tiny"]
    assert all(len(row["cells"]) == 4 for row in found["rows"])


def test_each_cell_is_what_its_model_drew_for_the_prompt(world):
    columns = side_by_side._reference("tiny")
    columns += side_by_side.released_columns() + side_by_side.own_column("tiny")
    shades = [column.drawn[PROMPTS[3]].mean() for column in columns]
    assert shades == pytest.approx([13, 33, 53, 93], abs=1)
    assert all(c.drawn[PROMPTS[3]].shape == (16, 16, 3) for c in columns)


def test_rows_begin_with_prompts_that_name_a_held_out_work_of_the_reference(world):
    rows = side_by_side.rows_of("tiny")
    assert [prompt for prompt, _ in rows[:2]] == [PROMPTS[2], PROMPTS[0]]
    assert rows[0][1]["key"] == "openmoji/a" and rows[1][1] is None
    assert len(rows) == side_by_side.NUM_ROWS


def test_every_released_model_has_a_column(world):
    shutil.copytree(paths.RESULTS / "model", paths.RESULTS / "model-other")
    file = paths.RESULTS / "model-other/manifest.json"
    told = json.loads(file.read_text())
    told["facts"] |= {"caption_source": "synthetic"}
    file.write_text(json.dumps(told))
    found = side_by_side.side_by_side("tiny")["columns"]
    details = [c["detail"] for c in found if c["title"] == "Released model"]
    assert details == ["99 works, human captions", "99 works, synthetic captions"]


def test_a_column_without_its_files_is_left_out(world):
    (paths.RESULTS / "full/web_human/gate.png").unlink()
    (paths.RESULTS / "model/sheet.png").unlink()
    columns = side_by_side.side_by_side("tiny")["columns"]
    assert [c["title"] for c in columns] == ["Reference run, full", "This run, tiny"]


def test_the_reference_run_s_own_page_shows_it_once(world):
    own = paths.stage_dir("full", "05_evaluate", "cc_synthetic")
    write_samples(own / "gate", {3.0: np.stack(tiles(90))}, PROMPTS[:8])
    (own / "metrics.json").write_text(metrics())
    titles = [c["title"] for c in side_by_side.side_by_side("full")["columns"]]
    assert titles == ["Reference run, full", "Released model", "Reference run, full"]


def test_without_any_samples_there_are_no_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path)
    assert side_by_side.side_by_side("tiny") is None


def test_shares_of_other_names_are_not_set_side_by_side():
    own = {"words": "30 %", "names": 100, "sources": ["openmoji"]}
    fewer, easier = own | {"names": 10}, own | {"sources": ["twemoji"]}
    found = side_by_side.comparable([easier, own, fewer, None, own])
    assert found == [None, own, None, None, own]
    assert side_by_side.comparable([None]) == [None]


def test_the_sentence_says_whether_this_run_beats_chance(world):
    told = side_by_side.side_by_side("tiny")["sentence"]
    assert "among 10 names" in told and "for 10 %;" in told
    assert told.endswith("This run, tiny: no more often than by chance.")
    file = paths.stage_dir("tiny", "05_evaluate", "cc_synthetic") / "metrics.json"
    file.write_text(metrics())
    told = side_by_side.side_by_side("tiny")["sentence"]
    assert told.endswith("This run, tiny: more often than by chance.")

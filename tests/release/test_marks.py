"""Marks that were trained on are told apart from those that were not."""

import json

import numpy as np
import pandas as pd
import pytest
from doors import call
from toys import write_store
from worlds import relist

from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.evaluate import results
from commoncanvas.release import marks

WORDS = [f"mark {i}" for i in range(8)]
ASKED = {
    "human": {"kind": "names"},
    "marks_named": {"kind": "names", "sources": ["logos"], "holdout": False, "num": 6},
    "marks_told": {"kind": "telephoned", "sources": ["logos"], "holdout": False},
}


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A scale `toy`: eight marks, of which the variant `few` learnt from three."""
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    above, trained, measured = (
        paths.stage_dir("toy", *place)
        for place in (("03_latents",), ("04_train", "few"), ("05_evaluate", "few"))
    )
    above.mkdir(parents=True)
    catalog = pd.DataFrame({"source": "logos", "title": WORDS, "split": "c"})
    catalog = catalog.assign(alt_text="", license_slug="cc0", is_holdout=False)
    catalog["order"] = np.arange(8) / 8
    catalog["key"] = "logos/" + catalog["title"]
    said = catalog[["key"]].assign(source="synthetic", caption="a sign")
    write_store(above, catalog, said, (4, 2, 2), (3, 8), np.random.default_rng(0))
    trained.mkdir(parents=True)
    catalog.loc[:2, ["key"]].to_parquet(trained / "works.parquet")
    gaps = np.array([9, 10, 11, 1, 2, 3, 2, 2.0])
    rows = {
        "human": {"likeness_gap": gaps},
        "marks_named": {"likeness_gap": gaps[:6] - 9},
        "marks_told": {"likeness_gap": gaps},
    }
    measured.mkdir(parents=True)
    results.write_rows(measured, rows)
    protocol = {"prompts": ASKED, "seed": 1}
    (measured / "metrics.json").write_text(json.dumps({"protocol": protocol}))
    for folder, *stage in (
        (above, "03_latents", "toy", None),
        (trained, "04_train", "toy", "few"),
        (measured, "05_evaluate", "toy", "few"),
    ):
        write_manifest(folder, *stage, 8, 8, {}, {})


def test_a_model_is_its_own_control(world):
    found = marks.measure("toy", "few")
    assert list(found) == ["marks_named", "marks_told"]  # the held-out set is left out
    named, told = found.values()
    assert (named["met"]["value"], named["met"]["n"]) == (1, 3)
    assert (named["never met"]["value"], named["never met"]["n"]) == (-7, 3)
    assert (told["met"]["value"], told["never met"]["value"]) == (10, 2)
    low, high = told["met"]["interval"]
    assert low < 10 < high


def test_all_variants_of_a_scale_are_kept(world):
    told = call("marks", "--scale", "toy")
    kept = json.loads((paths.RESULTS / "toy/marks.json").read_text())
    assert kept == {"few": marks.measure("toy", "few")}
    assert "few, marks_told: met 10.00 [" in told


def test_a_side_of_one_mark_has_no_interval(world):
    file = paths.stage_dir("toy", "04_train", "few") / "works.parquet"
    pd.DataFrame({"key": [f"logos/{word}" for word in WORDS[:7]]}).to_parquet(file)
    relist(file.parent)
    told = marks.measure("toy", "few")["marks_told"]
    assert told["met"]["n"] == 7 and told["never met"] is None


def test_a_stage_that_has_not_run_is_one_line(world):
    (paths.stage_dir("toy", "03_latents") / "manifest.json").unlink()
    assert "03_latents" in call("marks", "--scale", "toy", fails=True)
    told = call("marks", "--scale", "nowhere", fails=True)
    assert "no variant of nowhere was evaluated" in told
    with pytest.raises(CommonCanvasError):
        marks.measure("toy", "few")

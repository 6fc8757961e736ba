"""What a finished run leaves in results/ is what its stages wrote, and all of it."""

import json

import numpy as np
import pytest
from doors import call
from PIL import Image
from torch.utils.tensorboard import SummaryWriter

from commoncanvas.claims.rules import load_paper
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import read_json
from commoncanvas.core.manifest import write_manifest
from commoncanvas.evaluate import results
from commoncanvas.release import reference

CLAIMS = list(load_paper().claims)
PACKAGE = paths.ROOT / "commoncanvas"
METRICS = {"guidance_scale": 3.0, "by_prompt": {"human": {}}}


def finish(slug, variant=None):
    folder = paths.stage_dir("toy", slug, variant)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, slug, "toy", variant, 1, 1, {}, {})


@pytest.fixture
def world(tmp_path, monkeypatch):
    """A scale `toy` whose stages are done, with two variants."""
    for name in ("ROOT", "RESULTS", "RUNS", "PROFILES"):
        place = tmp_path if name == "ROOT" else tmp_path / name.lower()
        monkeypatch.setattr(paths, name, place)
    (tmp_path / "commoncanvas").symlink_to(PACKAGE)
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles/toy.yaml").write_text("common: {seed: 1}\n")
    for variant in ("a", "b"):
        trained, measured = (
            paths.stage_dir("toy", slug, variant)
            for slug in ("04_train", "05_evaluate")
        )
        trained.mkdir(parents=True)
        (trained / "log.csv").write_text("step,loss\n10,1\n20,0.5\n30,0.4\n")
        pixels = np.full((3, 8, 8, 3), 200, np.uint8)
        results.write_samples(measured / "gate", {3.0: pixels}, ["x", "y", "z"])
        (measured / "metrics.json").write_text(
            json.dumps(METRICS | {"variant": variant})
        )
        finish("04_train", variant)
        finish("05_evaluate", variant)
    with SummaryWriter(paths.RUNS / "toy-a" / "key") as writer:
        for step, clock in ((10, 100), (20, 820), (30, 1540)):
            writer.add_scalar("step", step, step, walltime=clock)
    for slug, names in (("06_figures", CLAIMS[:3]), ("07_speed", CLAIMS[3:])):
        folder = paths.stage_dir("toy", slug)
        folder.mkdir(parents=True)
        rows = [{"claim_id": name} for name in names[::-1]]
        (folder / "claims.json").write_text(json.dumps(rows))
        speed = {"hardware": {"device": "abacus", "threads": 1}}
        (folder / "metrics.json").write_text(json.dumps(speed))
    for slug in ("01_licenses", "02_captions"):
        folder = paths.stage_dir("toy", slug)
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"stage": slug}))
    for slug in reference.SHARED:
        finish(slug)
    return tmp_path


def test_everything_that_a_reader_needs_is_kept(world):
    folder = reference.keep("toy")
    files = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
    names = ("metrics.json", "log.csv", "gate.png")
    each = {f"{variant}/{name}" for variant in "ab" for name in names}
    shared = {f"{slug}.json" for slug in ("01_licenses", "02_captions", "07_speed")}
    assert files == {"run.json", "claims.json", *shared, *each}
    assert json.loads((folder / "02_captions.json").read_text())["stage"][:2] == "02"
    for variant in "ab":
        kept = json.loads((folder / variant / "metrics.json").read_text())
        assert kept == METRICS | {"variant": variant}
    assert Image.open(folder / "a/gate.png").width > 8 * 3


def test_the_scorecard_is_in_the_paper_s_order(world):
    rows = json.loads((reference.keep("toy") / "claims.json").read_text())
    assert [row["claim_id"] for row in rows] == CLAIMS


def test_the_run_names_its_machine_its_hours_and_its_hashes(world):
    run = json.loads((reference.keep("toy") / "run.json").read_text())
    assert run["hardware"]["device"] == "abacus"
    assert run["training_hours"] == {"a": 0.6, "b": None}  # three times 720 seconds
    assert set(run["outputs"]) == {
        *reference.SHARED,
        *(f"{slug}/{v}" for slug in ("04_train", "05_evaluate") for v in "ab"),
    }


def test_rows_that_are_planned_and_not_kept_are_named(world):
    rows = "rows: {experiment: [a, b], repeats: [a-18, b-18]}\n"
    (paths.ROOT / "profiles/toy.yaml").write_text(rows)
    assert read_json(reference.keep("toy") / "run.json")["not_run"] == ["a-18", "b-18"]
    (paths.ROOT / "profiles/toy.yaml").write_text("common: {}\n")
    assert read_json(reference.keep("toy") / "run.json")["not_run"] == []


def test_what_an_earlier_run_kept_of_other_rows_goes(world):
    reference.keep("toy")
    folder = reference.keep("toy", ["a"])
    assert (folder / "a").is_dir() and not (folder / "b").exists()


def test_what_was_measured_of_the_released_model_stays(world):
    for name, variant in (("model", "elsewhere"), ("model-other", "b")):
        model = paths.RESULTS / name
        model.mkdir(parents=True)
        write_manifest(model, "release", "toy", variant, 1, 1, {}, {})
    reference.keep("toy")
    assert (reference.keep("toy", ["a"]) / "b" / "metrics.json").is_file()


def test_other_outputs_have_another_hash(world):
    before = json.loads((reference.keep("toy") / "run.json").read_text())["outputs"]
    (paths.stage_dir("toy", "04_train", "a") / "log.csv").write_text("step\n1\n2\n3\n")
    finish("04_train", "a")
    after = json.loads((reference.keep("toy") / "run.json").read_text())["outputs"]
    assert {name for name in after if after[name] != before[name]} == {"04_train/a"}


@pytest.mark.parametrize("slug", ["02_captions", "07_speed"])
def test_an_unfinished_run_keeps_nothing(world, slug):
    (paths.stage_dir("toy", slug) / "manifest.json").unlink()
    with pytest.raises(CommonCanvasError, match=slug):
        reference.keep("toy")
    assert not (paths.RESULTS / "toy").exists()


def test_files_that_changed_since_are_not_kept(world):
    log = paths.stage_dir("toy", "04_train", "b") / "log.csv"
    log.write_text("step,loss\n10,1\n")
    with pytest.raises(CommonCanvasError, match="log.csv"):
        reference.keep("toy")
    assert not (paths.RESULTS / "toy").exists()


def test_a_run_without_its_scorecard_keeps_nothing(world):
    (paths.stage_dir("toy", "06_figures") / "claims.json").unlink()
    finish("06_figures")
    with pytest.raises(CommonCanvasError, match="claims.json"):
        reference.keep("toy")
    assert not (paths.RESULTS / "toy").exists()


def test_a_scale_without_a_variant_is_named_in_one_line(world):
    told = call("keep", "--scale", "nowhere", fails=True)
    assert "no variant of nowhere was evaluated" in told

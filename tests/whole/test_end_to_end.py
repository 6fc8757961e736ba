"""The tiny world through DVC, end to end: run, run again, change one thing.

One world is made for the module, in order: each test leaves it for the next, so all of
them run in one process.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from trees import copy_project

from commoncanvas.core import paths

pytestmark = pytest.mark.slow

VARIANTS = ["cc_synthetic", "cc_human"]
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A copy of what git keeps or would keep, at scale tiny with two variants."""
    root = tmp_path_factory.mktemp("world")
    copy_project(root, "tiny", VARIANTS)
    (root / "sources").symlink_to(paths.SOURCES)
    (root / "dvc.lock").unlink(missing_ok=True)
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    return root


def dvc(world, *arguments):
    """Run dvc in the world; return its output, failing with its last lines."""
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}"}
    environment["PYTHONPATH"] = str(world)
    done = subprocess.run(
        [BIN / "dvc", *arguments],
        cwd=world,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def ran(output):
    """Return the names of the stages that dvc ran, without the scale."""
    names = re.findall(r"Running stage '([^']+)'", output)
    return [name.replace("@tiny", "") for name in names]


def locked(world, prefix=""):
    """Return dvc.lock's entries whose names start with a prefix."""
    stages = yaml.safe_load((world / "dvc.lock").read_text())["stages"]
    return {k: v for k, v in stages.items() if k.startswith(prefix)}


def test_every_stage_runs_and_every_page_is_written(world):
    output = dvc(world, "repro")
    variants = [f"{s}-{v}" for s in ("04_train", "05_evaluate") for v in VARIANTS]
    singles = ["01_licenses", "02_captions", "03_latents", "06_figures", "07_speed"]
    assert ran(output)[0] == "settings"
    assert set(ran(output)) == {"settings", *singles, *variants, "pages", "index"}
    pages = {page.stem for page in (world / "reports/html/tiny").glob("*.html")}
    chapters = {page for page in pages if page[:2].isdigit()}
    assert chapters == {"00_pretrain", *singles, *variants}
    beside = {"explorer", "claims", "deviations", "glossary", "attribution"}
    assert beside <= pages - chapters
    assert (world / "reports/html/index.html").stat().st_size > 10_000


def test_rows_are_conserved_in_every_stage(world):
    for manifest in (world / "data/tiny").rglob("manifest.json"):
        counts = json.loads(manifest.read_text())["counts"]
        assert counts["in"] == counts["out"] + sum(counts["rejected"].values())


def test_the_scorecard_has_every_claim_of_the_paper(world):
    rows = []
    for slug in ("06_figures", "07_speed"):
        rows += json.loads((world / f"data/tiny/{slug}/claims.json").read_text())
    claims = yaml.safe_load((world / "docs/paper.yaml").read_text())["claims"]
    assert sorted(row["claim_id"] for row in rows) == sorted(claims)


def test_a_second_run_does_nothing_and_says_so_within_15_seconds(world):
    start = time.monotonic()
    output = dvc(world, "repro")
    assert ran(output) == [] and "up to date" in output
    assert time.monotonic() - start < 15


def test_a_cold_second_run_of_the_data_stages_gives_the_same_bytes(world):
    before = locked(world)
    shutil.rmtree(world / ".finished")
    stages = [f"{slug}@tiny" for slug in ("01_licenses", "02_captions", "03_latents")]
    dvc(world, "repro", "--force", "--single-item", *stages)
    assert locked(world) == before


def test_a_new_style_sheet_makes_pages_only(world):
    sheet = world / "reports/template/style.css"
    sheet.write_text(sheet.read_text() + "\n/* changed */\n")
    assert set(ran(dvc(world, "repro"))) == {"pages", "index"}


def test_a_variants_learning_rate_touches_that_variant_alone(world):
    params = world / "params.yaml"
    text = params.read_text()
    changed = text.replace(
        "cc_human: {caption_source: human}",
        "cc_human: {caption_source: human, learning_rate: 0.002}",
    )
    assert changed != text
    params.write_text(changed)
    expected = {"settings", "04_train-cc_human", "05_evaluate-cc_human", "06_figures"}
    assert set(ran(dvc(world, "repro"))) == expected | {"pages", "index"}


def test_the_trained_folder_draws_in_plain_diffusers(world):
    folder = world / "data/tiny/04_train/cc_synthetic/pipeline"
    code = (
        "import sys; sys.modules['commoncanvas'] = None\n"
        "from diffusers import StableDiffusionPipeline as P\n"
        f"pipe = P.from_pretrained({str(folder)!r})\n"
        "picture = pipe('red apple', num_inference_steps=2).images[0]\n"
        "assert picture.size == (64, 64)\n"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd="/", env=environment, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]

"""A release is small, whole, of open works alone, and draws without this package."""

import json
import os
import re
import shutil
import subprocess
import sys

import mistune
import numpy as np
import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from diffusers import StableDiffusionPipeline
from doors import call
from huggingface_hub import ModelCard
from PIL import Image
from safetensors.torch import load_file, save_file
from worlds import MARKUP, STAGES, write_trained_world

from commoncanvas.__main__ import door
from commoncanvas.analysis.sheets import cut_tiles
from commoncanvas.analysis.tables import digits
from commoncanvas.captions.names import OWN, captioner_of
from commoncanvas.core import paths
from commoncanvas.core.errors import LicenseError, ManifestError, ParameterError
from commoncanvas.core.files import read_json
from commoncanvas.core.manifest import read_manifest, write_manifest
from commoncanvas.core.text import markdown_text
from commoncanvas.evaluate.prompts import gate_prompts
from commoncanvas.licenses import attribution, takedown
from commoncanvas.licenses.license import read_license
from commoncanvas.licenses.policies import POLICIES
from commoncanvas.release import card, sample, strips
from commoncanvas.release import model as release

pytestmark = pytest.mark.slow  # each releases a model

GATE = gate_prompts()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """A scale whose stages are done, and its release in results/model."""
    root = tmp_path_factory.mktemp("root")
    write_trained_world(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        patch.setattr(strips, "gate_prompts", lambda: GATE[:6])
        torch.set_num_threads(1)
        release.release("toy", "cc_toy", root / "results" / "model")
    return root


@pytest.fixture
def here(root, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setattr(strips, "gate_prompts", lambda: GATE[:6])
    return root


@pytest.fixture
def copy(root, tmp_path, monkeypatch):
    """The same scale, free to be changed; weights are links, never written into."""

    def put(source, target):
        link = source.endswith(".safetensors")
        (os.link if link else shutil.copyfile)(source, target)

    shutil.copytree(root / "data", tmp_path / "data", copy_function=put)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def stage(root, slug):
    return next(root / "data/toy" / name for name in STAGES if slug in name)


def learnt(root):
    return pd.read_parquet(stage(root, "04") / "works.parquet")


def trained_keys(root):
    return learnt(root)["key"]


def read_works(root):
    rows = pd.read_parquet(stage(root, "01") / "ledger.parquet")
    return rows[rows["key"].isin(trained_keys(root))]


def contents(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def sealed(folder, facts=None):
    """Write a changed folder's manifest anew."""
    old = read_manifest(folder, verify=False)
    counts = old["counts"]["in"], old["counts"]["out"], {}
    name = old["stage"], old["scale"], old["variant"]
    write_manifest(folder, *name, *counts, facts or old["facts"])


def write_sealed(frame, file):
    frame.to_parquet(file)
    sealed(file.parent)


def change_rows(file, rows, column, value):
    frame = pd.read_parquet(file)
    frame.loc[frame["key"].isin(rows), column] = value
    write_sealed(frame, file)


def test_a_release_holds_what_it_should_and_no_text_encoder(root):
    model = root / "results" / "model"
    names = set(contents(model))
    assert {name.split("/")[0] for name in names} == {
        *("README.md", "ATTRIBUTION.md", "manifest.json", "model_index.json"),
        "ledger.parquet",
        *("samples.png", "samples.json", "sheet.png", "sheet.json"),
        *("unet", "vae", "scheduler", "tokenizer"),
    }
    assert release.size_of(model) == sum(map(len, contents(model).values()))
    assert release.size_of(model) < release.MAX_MB * 1e6
    read_manifest(model, verify=True)
    assert [p.name for p in model.parent.iterdir()] == ["model"]  # no leftovers


def test_weights_are_those_of_the_training_in_half_precision(root):
    for part in ("unet", "vae"):
        name = f"{part}/diffusion_pytorch_model.safetensors"
        full = load_file(stage(root, "04") / "pipeline" / name)
        half = load_file(root / "results/model" / name)
        assert half.keys() == full.keys()
        for key, weights in half.items():
            assert weights.dtype == torch.float16
            assert torch.equal(weights, full[key].half())


def test_no_file_names_the_machine(root):
    vae = "vae/config.json"
    told = json.loads((stage(root, "04") / "pipeline" / vae).read_text())
    assert told.pop("_name_or_path") == str(root / "vae")
    assert json.loads((root / "results/model" / vae).read_text()) == told
    for name, data in contents(root / "results/model").items():
        assert str(root).encode() not in data, name


def test_the_same_inputs_give_the_same_bytes(here, tmp_path):
    first, again = contents(here / "results/model"), tmp_path / "again"
    release.release("toy", "cc_toy", again)
    text = contents(again)["README.md"].decode()
    assert str(tmp_path) not in text
    text = text.replace('"again"', '"results/model"')
    text = text.replace("--model again", "--model results/model")
    assert text == first["README.md"].decode()
    (again / "notes.txt").write_text("a person's own")
    with pytest.raises(ParameterError, match=r"not of it .*notes\.txt"):
        release.release("toy", "cc_toy", again)
    (again / "notes.txt").unlink()
    second = contents(again)
    release.release("toy", "cc_toy", again)  # takes its place
    assert contents(again) == second
    for name in ("README.md", "manifest.json"):  # these say where they lie
        del first[name], second[name]
    assert second == first


def test_half_precision_draws_nearly_the_same_picture(root):
    full = StableDiffusionPipeline.from_pretrained(stage(root, "04") / "pipeline")
    full.set_progress_bar_config(disable=True)
    half, _ = sample.load(root / "results/model")
    assert half.unet.dtype == half.vae.dtype == torch.float32

    def drawn(pipeline, seed):
        return sample.draw(pipeline, "red apple", seed, 3.0, 8).astype(float)

    for seed in range(3):
        error = np.abs(drawn(half, seed) - drawn(full, seed)).mean()
        other = np.abs(drawn(full, seed) - drawn(full, seed + 1)).mean()
        assert error < 0.5 and error < other / 10


@pytest.mark.slow
def test_the_card_s_own_lines_draw_the_picture_that_the_command_draws(root):
    text = (root / "results/model/README.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    code = f"import sys\nsys.modules['commoncanvas'] = None\n{code}"
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=root, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    drawn = np.asarray(Image.open(root / "picture.png"))
    ((file, _),) = sample.sample("red apple", root / "own.png", folder=model_of(root))
    assert np.array_equal(drawn, np.asarray(Image.open(file)))


def model_of(root):
    return root / "results/model"


def test_the_card_names_every_licence_source_and_count(root):
    made = ModelCard.load(model_of(root) / "README.md")
    works = read_works(root)
    assert set(works["source"]) == {"twemoji", "openmoji", "logos"}
    for (source, title), rows in works.groupby(["source", "license"]):
        assert f"| {source} | {title} | {len(rows)} |" in made.text
    assert f"{len(works)} works" in made.text
    assert made.data.license == "cc-by-sa-4.0" and "share-alike" in made.text
    for part in (
        "[CC BY-SA 4.0](https://creativecommons.org/licenses/by-sa/4.0/)",
        *("cc_toy at toy\n", "| learning_rate | 0.1 |", "](ATTRIBUTION.md)"),
    ):
        assert part in made.text


def test_the_card_tells_figures_with_interval_and_count(root):
    text = (model_of(root) / "README.md").read_text()
    assert "| metric | human, n = 1000 | real |" in text
    assert "| fd_efficientnet | 41.5 [40, 43] | 9.25 [9, 9.5] |" in text
    assert "| alignment | 7 [6, 8] | – |" in text
    assert "| copy_rate, n = 160 | 0.0125 [0, 0.025] |" in text
    assert "guidance 3 and 2 DDIM steps" in text


def test_the_card_tells_what_the_inherited_parts_learnt_from(root):
    text = (model_of(root) / "README.md").read_text()
    measured = json.loads((paths.PRETRAINED / "metrics.json").read_text())["sets"]
    for name, run in measured.items():
        assert f"| {name} | {digits(run['psnr_db']['value'])} [" in text
    for part in ("noto (Apache-2.0)", "fluent-emoji (MIT)", "pairs of sentences"):
        assert part in text
    assert "| captioner, for the synthetic captions | captioned web icon" in text


@pytest.mark.parametrize("captioner", OWN)
def test_the_card_tells_what_each_captioner_of_ours_learnt_from(captioner):
    name = captioner_of({"captioner": captioner})
    table = card._inherited_parts([["captioner, for the x captions", name]])
    assert "| captioner, for the x captions | captioned web icon" in table


def test_the_card_of_other_parts_says_what_they_are_and_nothing_of_icons(copy):
    places = stage(copy, "03"), stage(copy, "02")
    found = [read_manifest(place, verify=False)["facts"] for place in places]
    found[0] |= {"vae": ["someone/sd", "c0ffee"], "text_encoder": ["someone/sd", "1"]}
    blip2 = {"captioner": "blip2", "model": "someone/blip2", "revision": "abc"}
    found[1]["synthetic"]["captioner"] = blip2
    for place, facts in zip(places, found, strict=True):
        sealed(place, facts)
    facts = release._settings("toy", "synthetic", release._metrics("toy", "cc_toy"))
    facts |= {"works": 7, "license": "CC BY 4.0", "attribution": "A.md", "samples": "x"}
    trained = read_json(stage(copy, "04") / "pipeline/card.json")
    license_, metrics = read_license("CC BY 4.0"), release._metrics("toy", "cc_toy")
    made = card.make_card(trained, "toy", copy / "m", facts, license_, metrics).text
    for part in (
        "| VAE, someone/sd at c0ffee | what its authors say",
        "| text encoder, someone/sd at 1 | what its authors say",
        "| captioner, for the synthetic captions, someone/blip2 at abc |",
        'StableDiffusionPipeline.from_pretrained("m")',
    ):
        assert part in made
    for word in ("pictogram", "icon", "MiniLM", "BertModel", "no photograph"):
        assert word not in made


def test_any_other_text_encoder_is_copied_and_loaded_from_the_folder(copy, tmp_path):
    pipeline = stage(copy, "04") / "pipeline"
    (tmp_path / "whole").mkdir()
    release.copy_halved(pipeline, tmp_path / "whole", is_open=False)
    loaded = sample.load_pipeline(tmp_path / "whole", 12)
    weights = next(loaded.text_encoder.parameters())
    assert weights.dtype == torch.float32
    stored = load_file(tmp_path / "whole/text_encoder/model.safetensors")
    assert all(
        w.dtype == torch.float16 for w in stored.values() if w.is_floating_point()
    )


def test_a_published_model_is_not_released(copy):
    facts = read_manifest(stage(copy, "04"), verify=False)["facts"]
    sealed(stage(copy, "04"), facts | {"published": {"pipeline": "someone/sd"}})
    refused(ParameterError, "is the published someone/sd", copy)


def test_a_training_without_its_card_s_facts_is_refused(copy):
    (stage(copy, "04") / "pipeline/card.json").unlink()
    sealed(stage(copy, "04"))
    refused(ManifestError, "card.json cannot be read", copy)


def test_the_committed_release_is_whole():
    read_manifest(paths.RESULTS / "model", verify=True)


@pytest.mark.parametrize(
    ("name", "variant"),
    [("model", "cc_emoji"), ("model-synthetic", "cc_emoji_synthetic")],
)
def test_the_committed_card_is_what_the_template_makes_of_its_facts(name, variant):
    folder = paths.RESULTS / name
    text = (folder / "README.md").read_text(encoding="utf-8")
    facts = read_manifest(folder)["facts"]
    tables = {
        head: [line.strip("| ").split(" | ") for line in rows.splitlines()[2:]]
        for head, rows in re.findall(r"## (Data|Recipe)\n\n((?:\|.*\n)+)", text)
    }
    (size,) = re.findall(r"A UNet of ([\d,]+) parameters", text)
    trained = {
        "variant": variant,
        "num_parameters": int(size.replace(",", "")),
        "num_works": facts["works"],
        "captions": facts["caption_source"],
        "license": "cc-by-sa-4.0",
        "works": [
            dict(zip(("source", "license", "works"), row, strict=True))
            for row in tables["Data"]
        ],
        "recipe": dict(tables["Recipe"]),
    }
    file = paths.RESULTS / f"full/{variant}/metrics.json"
    metrics = json.loads(file.read_text())
    license_ = read_license(facts["license"])
    made = card.make_card(trained, "full", folder, facts, license_, metrics)
    assert made.content == text


def test_every_work_is_credited_and_a_stranger_s_title_does_nothing(root):
    text = (model_of(root) / "ATTRIBUTION.md").read_text()
    works, page = read_works(root), mistune.html(text)
    assert text == attribution.attribution_text(works)
    for work in works.itertuples():
        assert markdown_text(work.title) in text and work.license_url in text
    assert MARKUP in set(works["title"])
    assert "<script>" not in page
    assert "javascript:" not in re.findall(r'href="([^"]*)"', page)
    assert MARKUP not in (model_of(root) / "README.md").read_text()


def test_a_long_attribution_is_packed(root, tmp_path, monkeypatch):
    monkeypatch.setattr(release, "MAX_TEXT_BYTES", 1000)
    assert release.write_attribution(tmp_path, read_works(root)) == "ATTRIBUTION.md.gz"
    packed = tmp_path / "ATTRIBUTION.md.gz"
    first = packed.read_bytes()
    assert first[4:8] == bytes(4)  # no clock
    release.write_attribution(tmp_path, read_works(root))
    assert packed.read_bytes() == first
    whole = (model_of(root) / "ATTRIBUTION.md").read_bytes()
    assert release.gzip.decompress(first) == whole


def test_the_licence_is_the_least_restrictive_possible(here):
    for sources, title in (
        (["logos"], "CC0 1.0"),
        (["twemoji", "logos"], "CC BY 4.0"),
        (["twemoji", "openmoji"], "CC BY-SA 4.0"),
    ):
        part = learnt(here)[learnt(here)["source"].isin(sources)]
        found, license_ = release.works_of("toy", "cc_toy", part)
        assert license_.title == title and set(found["key"]) == set(part["key"])


def refused(kind, words, root, **options):
    out = root / "results" / "model"
    with pytest.raises(kind, match=words) as error:
        words = {"variant": "cc_toy", **options}
        release.release("toy", out=out, **words)
    assert "\n" not in str(error.value) and str(error.value).count("; ") >= 1
    assert not out.exists() and not list(root.glob("results/*"))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_has_not_run_is_named(copy, name):
    (copy / "data/toy" / name / "manifest.json").unlink()
    slug, _, variant = name.partition("/")
    job = f"{slug}@toy{'-' * bool(variant)}{variant}"
    refused(ManifestError, f"Run `dvc repro {job}`", copy)


def test_an_unknown_variant_is_refused(copy):
    refused(ManifestError, "04_train/cc_none has no manifest", copy, variant="cc_none")


@pytest.mark.parametrize(
    ("title", "slug", "version"),
    [
        ("CC BY-NC 4.0", "by-nc", "4.0"),
        ("CC BY-ND 4.0", "by-nd", "4.0"),
        ("MIT", "mit", ""),
        ("No known copyright restrictions", "no-known-restrictions", ""),
    ],
)
def test_a_work_outside_c_is_refused_whatever_its_split(copy, title, slug, version):
    file = stage(copy, "01") / "catalog.parquet"
    row = trained_keys(copy)[-1:]
    change_rows(file, row, ["license_slug", "license_version"], [slug, version])
    assert set(POLICIES["c"]) == {"cc0", "pdm", "by", "by-sa"}
    refused(LicenseError, f"works under {title}; .*another variant", copy)
    # Beside the variant, the same work is nobody's business.
    works = learnt(copy)
    assert len(release.works_of("toy", "cc_toy", works[:-1])[0]) == len(works) - 1


def test_a_work_that_an_ancestor_met_under_a_closed_licence_is_refused(copy):
    """Whatever the catalogue says of it today."""
    file = stage(copy, "04") / "works.parquet"
    change_rows(file, trained_keys(copy)[:1], "license_slug", "by-nc")
    refused(LicenseError, "works under CC BY-NC", copy)


def test_what_an_ancestor_learnt_is_credited_too_and_must_be_known(copy):
    """The ancestor is of another scale, whose works this one's catalogue may lack."""
    earlier = copy / "data/first"
    shutil.copytree(copy / "data/toy", earlier)
    works = learnt(copy)
    works.loc[:2, "model"] = "first/cc_first"
    lost, catalog = set(works["key"][:3]), stage(copy, "01") / "catalog.parquet"
    frame = pd.read_parquet(catalog)
    write_sealed(frame[~frame["key"].isin(lost)], catalog)
    found, _ = release.works_of("toy", "cc_toy", works)
    assert set(found["key"]) == set(works["key"]) >= lost
    shutil.rmtree(earlier)
    with pytest.raises(ManifestError, match="data/first/01_licenses"):
        release.works_of("toy", "cc_toy", works)
    facts = read_manifest(stage(copy, "04"))["facts"]
    unknown = {"model": "other/unet", "folder": "x", "manifest": None, "facts": {}}
    facts["ancestor"] = unknown | {"num_works": None, "license": "cc-by-4.0"}
    sealed(stage(copy, "04"), facts)
    refused(LicenseError, "from 'other/unet', whose works are not known", copy)


def test_a_work_of_an_unknown_licence_is_refused(copy):
    file = stage(copy, "01") / "catalog.parquet"
    change_rows(file, trained_keys(copy)[:1], "license_slug", "free for all")
    refused(LicenseError, "cannot accept licence.*free for all", copy)


def test_a_work_without_its_credit_is_refused(copy):
    file = stage(copy, "01") / "ledger.parquet"
    work = read_works(copy).query("source == 'twemoji'")["key"][:1]
    change_rows(file, work, "author", " ")
    frame = pd.read_parquet(file)
    other = read_works(copy).query("source == 'logos'")["key"].iloc[0]
    write_sealed(frame[frame["key"] != other], file)
    refused(LicenseError, "2 works of cc_toy have no full row", copy)


def test_a_work_that_the_catalogue_lost_is_refused(copy):
    file = stage(copy, "01") / "catalog.parquet"
    frame = pd.read_parquet(file)
    write_sealed(frame[frame["key"] != trained_keys(copy).iloc[0]], file)
    refused(ManifestError, "that 01_licenses of toy lacks.*dvc repro", copy)


def test_a_work_that_was_taken_down_is_refused(copy, monkeypatch):
    listed = {trained_keys(copy).iloc[0]}
    monkeypatch.setattr(takedown, "read_list", lambda: listed)
    refused(ParameterError, "1 works that docs/takedown.txt lists", copy)


def test_a_changed_training_is_refused(copy):
    (stage(copy, "04") / "pipeline/vae/config.json").write_text("{}")
    refused(ManifestError, "changed: pipeline/vae/config.json", copy)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"copies": None}, "measured no copies"),
        ({"by_prompt": None}, "measured no by_prompt"),
        ({"num_train_pictures": 7}, "a model of 7 works, 04_train has one of"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(copy, change, words):
    file = stage(copy, "05") / "metrics.json"
    metrics = json.loads(file.read_text()) | change
    kept = {name: value for name, value in metrics.items() if value is not None}
    file.write_text(json.dumps(kept))
    sealed(stage(copy, "05"))
    refused(ManifestError, f"{words}.*dvc repro 05_evaluate@toy-cc_toy", copy)


def test_weights_beyond_half_precision_are_refused(copy):
    file = stage(copy, "04") / "pipeline/unet/diffusion_pytorch_model.safetensors"
    state = load_file(file)
    next(iter(state.values())).view(-1)[0] = 7e4
    file.unlink()
    save_file(state, file)
    sealed(stage(copy, "04"))
    refused(ParameterError, "unet/.* not finite in half precision", copy)


def test_a_model_beyond_the_limit_is_refused(copy, monkeypatch):
    monkeypatch.setattr(strips, "gate_prompts", lambda: GATE[:6])
    monkeypatch.setattr(strips, "NUM_SEEDS", 1)
    words = r"has \d+\.\d MB; expected at most 0.1 MB"
    refused(ParameterError, words, copy, max_mb=0.1)


def test_a_folder_of_something_else_is_left_alone(here, tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    for out in (tmp_path, tmp_path / "letter.txt", stage(here, "02")):
        before = contents(out) if out.is_dir() else out.read_bytes()
        with pytest.raises(ParameterError, match="something else.*another --out"):
            release.release("toy", "cc_toy", out)
        assert before == (contents(out) if out.is_dir() else out.read_bytes())


def test_the_pictures_are_fixed_prompts_and_seeds_and_stay_small(tmp_path, monkeypatch):
    asked, rng = [], np.random.default_rng(0)

    def noise(pipeline, *given):
        asked.append(given)
        return rng.integers(0, 256, (64, 64, 3), np.uint8)  # what packs worst

    monkeypatch.setattr(strips, "draw", noise)
    caption = strips.write_pictures(tmp_path, None, 3.0, 20)
    plain = GATE["prompt"][:24].tolist()
    strip = [(prompt, seed, 3.0, 20) for seed, prompt in enumerate(plain[:6])]
    sheet = [(prompt, seed, 3.0, 20) for prompt in plain for seed in range(4)]
    assert asked == strip + sheet
    assert (tmp_path / "samples.png").stat().st_size < 100_000
    assert (tmp_path / "sheet.png").stat().st_size < 400_000
    told = json.loads((tmp_path / "samples.json").read_text())
    assert told["caption"] == caption and told["seeds"] == [[i] for i in range(6)]
    assert "red apple" in caption and "seeds 0 to 5 in turn" in caption
    told = json.loads((tmp_path / "sheet.json").read_text())
    assert told["prompts"] == plain and told["seeds"] == [[0, 1, 2, 3]] * 24


def test_a_tile_of_the_strip_is_the_picture_of_its_seed(root):
    strip = Image.open(model_of(root) / "samples.png").convert("RGB")
    pipeline, _ = sample.load(model_of(root))
    for place, tile in enumerate(cut_tiles(strip, 6)):
        tile = tile[::2, ::2].astype(float)  # the strip is at twice the size
        errors = [
            np.abs(tile - sample.draw(pipeline, prompt, seed, 3.0, 2)).mean()
            for seed, prompt in enumerate(GATE["prompt"][:6])
        ]
        assert np.argmin(errors) == place
        assert errors[place] < min(np.delete(errors, place)) / 2


def test_the_command_releases_and_fails_in_one_line(here, tmp_path, monkeypatch):
    monkeypatch.setattr(strips, "NUM_SEEDS", 1)
    words = ["--variant", "cc_toy", "--out", tmp_path / "model"]
    told = call("release", "--scale", "toy", *words)
    num = len(trained_keys(here))
    assert re.search(rf"model: \d+\.\d MB, {num} works, CC BY-SA 4.0\n", told)
    told = call("release", "--scale", "none", *words, "--yes", fails=True)
    assert "04_train@none-cc_toy" in told


def test_the_command_uploads_the_model_that_it_wrote(root, monkeypatch, capsys):
    model, sent = model_of(root), []
    made = {"facts": {"works": 7, "license": "CC BY 4.0"}}
    monkeypatch.setattr(release, "release", lambda *_: made)
    monkeypatch.setattr(release, "upload", lambda *told: sent.append(told) or "a page")
    release.report("toy", "cc_toy", model, 25, None)
    assert not sent
    release.report("toy", "cc_toy", model, 25, "me/x")
    assert sent == [(model, "me/x", "model")]
    assert capsys.readouterr().out.endswith("7 works, CC BY 4.0\na page\n")


@pytest.mark.parametrize(
    ("answer", "is_replaced"), [("n\n", False), ("", False), ("y\n", True)]
)
def test_another_release_is_replaced_only_by_who_says_so(
    root, monkeypatch, answer, is_replaced
):
    model, made = model_of(root), []
    told = {"facts": {"works": 7, "license": "CC BY 4.0"}}
    monkeypatch.setattr(release, "release", lambda *words: made.append(words) or told)
    words = ["release", "--scale", "toy", "--out", str(model), "--variant"]
    runner = CliRunner()
    assert runner.invoke(door, [*words, "cc_toy"]).exit_code == 0  # the same again
    found = runner.invoke(door, [*words, "cc_other"], input=answer)
    assert "holds toy/cc_toy; replace it by toy/cc_other?" in found.output
    assert (len(made) == 2) == is_replaced
    assert is_replaced or "answer y, pass --yes" in str(found.output) + str(
        found.exception
    )
    assert runner.invoke(door, [*words, "cc_other", "--yes"]).exit_code == 0
    assert len(made) == 2 + is_replaced

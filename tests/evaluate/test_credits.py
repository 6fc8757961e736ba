"""The closest works are credited in full, and a stranger's words stay words."""

import json
import re
import shutil
import subprocess
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from doors import call
from PIL import Image
from toys import write_real_world
from worlds import relist

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError, PictureError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.evaluate import credits
from commoncanvas.evaluate.nearest import TrainingWorks, nearest
from commoncanvas.licenses import attribution
from commoncanvas.publish.fetches import fetches

MARKUP = "<script>alert(1)</script> ](javascript:x) **bold**\n\n# lines \x1b[31m & \"'"
THRESHOLD = 0.99


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """One scale with real pictures, a training and its evaluation."""
    root = tmp_path_factory.mktemp("root")
    stages = ["01_licenses", "04_train/all", "05_evaluate/all"]
    folders = [root / "data" / "toy" / stage for stage in stages]
    for folder in folders:
        folder.mkdir(parents=True)
    frame = write_real_world(folders[0], ["twemoji", "openmoji"], 40)
    frame = frame.drop(columns="svg")
    frame.loc[frame.index[0], ["title", "author"]] = MARKUP
    frame.to_parquet(folders[0] / "catalog.parquet")
    frame[["key"]].to_parquet(folders[1] / "works.parquet")
    measured = {"copies": {"threshold": THRESHOLD}}
    (folders[2] / "metrics.json").write_text(json.dumps(measured))
    for folder, stage in zip(folders, stages, strict=True):
        write_manifest(folder, stage.split("/")[0], "toy", None, 1, 1, {}, {})
    return root


@pytest.fixture
def here(root, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", root)
    return root


@pytest.fixture(scope="module")
def works(root):
    folder = root / "data" / "toy" / "01_licenses"
    return TrainingWorks(folder, pd.read_parquet(folder / "catalog.parquet")["key"])


@pytest.fixture(scope="module")
def pixels(works):
    """A copy of the work whose title and author a stranger chose."""
    return pictures_of(works.folder, works.keys[:1], 64)[0]


@pytest.fixture(scope="module")
def found(works, pixels):
    return credits.credits_of(pixels, works, THRESHOLD, 3)


def test_a_credit_has_all_that_a_licence_asks_for(found, works):
    assert set(attribution.COLUMNS.values()) <= set(found.columns) and len(found) == 3
    assert attribution.missing_credits(found).empty
    assert found["key"][0] == works.keys[0] and found["similarity"][0] == 1
    assert found["similarity"].is_monotonic_decreasing
    assert found["is_copy"].tolist() == (found["similarity"] > THRESHOLD).tolist()
    catalog = pd.read_parquet(works.folder / "catalog.parquet").set_index("key")
    for credit in found.itertuples():
        assert credit.license_url == catalog["license_deed"][credit.key]
        assert credit.author == catalog["author"][credit.key]


def test_a_picture_that_copies_nothing_is_credited_and_not_called_a_copy(works):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    found = credits.credits_of(noise, works, THRESHOLD)
    places, similarity = nearest(noise[None], works)
    assert found["key"].tolist() == works.keys[places[0]].tolist()
    assert found["similarity"].tolist() == similarity[0].tolist()
    assert len(found) == 5 and not found["is_copy"].any()


def test_origin_comes_back_from_the_file_as_it_was_written(tmp_path, pixels, found):
    file, prompt = tmp_path / "sample.png", "café <b>\n猫 \\ 100 %"
    thanks = attribution.attribution_text(found)
    credits.write_png(file, pixels, prompt, thanks, "toy all", 17)
    read, texts = credits.read_png(file)
    assert np.array_equal(read, pixels)
    expected = {"Title": prompt, "Copyright": thanks, "Source": "toy all", "Seed": "17"}
    assert texts == expected
    assert np.array_equal(credits.read_picture(file), pixels)
    credits.write_png(file, pixels, prompt, thanks, "toy all", 17, "20 steps")
    assert credits.read_png(file)[1] == texts | {"Comment": "20 steps"}


def test_a_generated_picture_says_that_a_trained_model_made_it(tmp_path, pixels):
    credits.write_png(tmp_path / "a.png", pixels, "", "", "toy all", 0)
    with Image.open(tmp_path / "a.png") as picture:
        packet = ElementTree.fromstring(picture.info["xmp"])
    (told,) = packet.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}Description")
    name = "{http://iptc.org/std/Iptc4xmpExt/2008-02-29/}DigitalSourceType"
    assert told.attrib[name].endswith("/digitalsourcetype/trainedAlgorithmicMedia")


@pytest.mark.skipif(not shutil.which("exiftool"), reason="exiftool is not installed")
def test_exiftool_reads_the_mark(tmp_path, pixels):
    credits.write_png(tmp_path / "a.png", pixels, "", "", "toy all", 0)
    command = ["exiftool", "-s3", "-DigitalSourceType", tmp_path / "a.png"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told.strip() == credits.TRAINED


def test_a_png_without_origin_has_none(tmp_path, pixels):
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert credits.read_png(tmp_path / "a.png")[1] == {}


def test_the_page_shows_a_strangers_title_and_runs_only_its_own_script(
    pixels, found, works
):
    text = credits.page(pixels, found, works)
    assert not fetches(text) and text.count("<main") == text.count("<h1") == 1
    page = BeautifulSoup(text, "html.parser").body
    links = {a["href"] for a in page("a")} - {"#main"}
    assert all(link.startswith("https://") for link in links) and links
    assert len(page("img")) == 4 and not page("script")
    assert all(image["src"].startswith("data:image/webp;") for image in page("img"))
    assert "<script>alert(1)</script>" in page.get_text()
    names = {name for node in page() for name in node.attrs}
    assert not any(name.startswith("on") for name in names)


def test_the_page_leads_back_to_its_models_page_where_there_is_one(
    here, tmp_path, pixels, monkeypatch
):
    monkeypatch.setattr(paths, "HTML", tmp_path / "html")
    file, page = tmp_path / "a.png", tmp_path / "a.html"
    Image.fromarray(pixels).save(file)
    own = paths.HTML / "toy" / "05_evaluate-all.html"
    for is_there in (False, True):
        if is_there:
            own.parent.mkdir(parents=True)
            own.touch()
        credits.report(file, "toy", "all", 1, page)
        found = re.findall(r'href="([^"]*05_evaluate-all.html)"', page.read_text())
        assert bool(found) == is_there
    assert all((tmp_path / href).resolve() == own.resolve() for href in found)


def test_the_command_names_works_copies_and_credit(here, tmp_path, pixels, capsys):
    file, page = tmp_path / "a.png", tmp_path / "a.html"
    Image.fromarray(pixels).save(file)
    credits.report(file, "toy", "all", 2, page)
    printed, warned = capsys.readouterr()
    text = printed + page.read_text()
    assert warned == ""
    closest = "a near copy; similarity 1.00, above the threshold of a near copy (0.99)"
    assert closest in printed and printed.count("CC BY") >= 3
    assert "resembles; similarity 0." in printed and "model learnt from it" not in text
    assert printed.count("A generated picture is a near copy of it.") == 1
    assert "\x1b" not in printed and "# Attribution" in printed
    assert "<figure" in page.read_text()


@pytest.mark.parametrize(
    ("similarity", "threshold", "words"),
    [
        (
            0.7412,
            0.93,
            "resembles; similarity 0.74, below the threshold of a near copy",
        ),
        (0.93, 0.93, "resembles; similarity 0.9300, below .* near copy .0.9300."),
        (0.9312, 0.9309, "a near copy; similarity 0.9312, above .* .0.9309."),
    ],
)
def test_closeness_in_words_agrees_with_the_threshold(similarity, threshold, words):
    assert re.match(words, credits.closeness(similarity, threshold))


def test_a_picture_of_another_model_is_pointed_out(here, tmp_path, pixels, capsys):
    file = tmp_path / "a.png"
    credits.write_png(file, pixels, "a", "", "toy all", 0)
    credits.report(file, "toy", "all", 1)
    assert capsys.readouterr().err == ""
    credits.write_png(file, pixels, "a", "", "full cc_emoji\x1b[31m", 0)
    credits.report(file, "toy", "all", 1)
    warned = capsys.readouterr().err
    assert "another model drew it, 'full cc_emoji[31m': the works below" in warned
    assert warned.count("\n") == 1 and "\x1b" not in warned


@pytest.mark.parametrize(
    ("stage", "name"),
    [("01_licenses", "01_licenses@toy"), ("05_evaluate/all", "05_evaluate@toy-all")],
)
def test_a_stage_that_was_not_run_is_named(here, stage, name):
    manifest = here / "data" / "toy" / stage / "manifest.json"
    text = manifest.read_text()
    manifest.unlink()
    with pytest.raises(ManifestError, match=f"dvc repro {name}`") as error:
        credits.open_works("toy", "all")
    manifest.write_text(text)
    assert "\n" not in str(error.value)
    assert len(credits.open_works("toy", "all")[0]) > 0


def test_an_evaluation_without_a_threshold_is_named(here):
    metrics = here / "data" / "toy" / "05_evaluate" / "all" / "metrics.json"
    text = metrics.read_text()
    metrics.write_text("{}")
    relist(metrics.parent)
    with pytest.raises(ManifestError, match="no copy threshold.*05_evaluate@toy-all"):
        credits.open_works("toy", "all")
    metrics.write_text(text)
    relist(metrics.parent)


def test_faults_end_in_one_line(tmp_path, here):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PictureError, match="not a readable picture"):
        credits.read_picture(tmp_path / "text.png")
    with pytest.raises(ParameterError, match="-k is 0"):
        credits.report("a.png", "toy", "all", 0)
    message = call("credits", tmp_path / "none.png", "--scale", "toy", fails=True)
    assert re.search("none.png cannot be read .*correct the path", message)


def test_a_model_whose_works_are_not_known_gives_no_credits(here):
    works = here / "data" / "toy" / "04_train" / "all" / "works.parquet"
    data = works.read_bytes()
    works.unlink()
    relist(works.parent)
    with pytest.raises(ParameterError, match="all is a published model.*--variant"):
        credits.open_works("toy", "all")
    works.write_bytes(data)
    relist(works.parent)

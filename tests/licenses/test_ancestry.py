"""A warm start takes over its ancestors' works, licences and take-downs."""

import json

import pandas as pd
import pytest

from commoncanvas.core import paths
from commoncanvas.core.errors import LicenseError, ManifestError, ParameterError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.licenses import ancestry, takedown
from commoncanvas.licenses.license import read_license
from commoncanvas.train.export import card_facts, model_card

TITLES = {
    "by": "CC BY 4.0",
    "nc": "CC BY-NC-SA 4.0",
    "sa": "CC BY-SA 4.0",
    "cc0": "CC0 1.0",
}


def works(**kinds):
    """Return works, of `licenses_of`: {key: kind of licence}."""
    rows = []
    for key, kind in kinds.items():
        one = read_license(TITLES[kind], "")
        split = "nc" if kind == "nc" else "c"
        rows.append(
            [f"toy/{key}", one.title, split, "toy", one.slug, one.version, one.port]
        )
    columns = ["key", "license", "split", "source", *ancestry.LICENSE]
    return pd.DataFrame(rows, columns=columns)


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(takedown, "LIST", tmp_path / "takedown.txt")
    takedown.LIST.write_text("")
    return tmp_path


def train(scale, variant, own, init_from="", init_license=""):
    """Do what stage 04 does but for the training; return (folder, works, card)."""
    inherited, ancestor = ancestry.read_ancestor(init_from, init_license)
    learnt = ancestry.learnt_from(own, inherited, f"{scale}/{variant}")
    facts = card_facts(variant, learnt, "human", 12, {"lr": 1}, "MiniLM", ancestor)
    folder = paths.stage_dir(scale, "04_train", variant)
    (folder / "pipeline" / "unet").mkdir(parents=True, exist_ok=True)
    (folder / "pipeline" / "card.json").write_text(json.dumps(facts))
    learnt.to_parquet(folder / "works.parquet")
    told = {"ancestor": ancestor, "unet": "small"}
    write_manifest(folder, "04_train", scale, variant, 9, 9, {}, told)
    return f"data/{scale}/04_train/{variant}/pipeline", learnt, facts


def test_without_an_ancestor_a_model_is_trained_from_noise_on_its_own_works():
    _, learnt, facts = train("a", "cc", works(cat="by", dog="cc0"))
    assert learnt["model"].tolist() == ["a/cc"] * 2
    assert (facts["license"], facts["ancestors"]) == ("cc-by-4.0", [])
    assert "trained from noise on 2 works" in model_card(facts).text


@pytest.mark.parametrize("place", ["", "/unet"])
@pytest.mark.parametrize("num_between", [0, 1, 3])
def test_a_non_commercial_ancestor_stays_whatever_is_trained_after_it(
    num_between, place
):
    start, _, first = train("a", "nc", works(cat="nc", dog="by"))
    assert first["license"] == "cc-by-nc-sa-4.0"
    for number in range(num_between):
        start, *_ = train(f"b{number}", "cc", works(sun="cc0"), start + place)
    _, learnt, facts = train("c", "cc", works(dog="by", tree="cc0"), start + place)
    assert facts["license"] == "cc-by-nc-sa-4.0"
    assert {"toy/cat", "toy/dog", "toy/tree"} <= set(learnt["key"])
    assert learnt["key"].is_unique and facts["num_works"] == len(learnt)
    assert learnt.set_index("key")["model"]["toy/cat"] == "a/nc"
    assert [one["model"] for one in facts["ancestors"]][-1] == "a/nc"
    assert len(facts["ancestors"]) == num_between + 1
    text = model_card(facts).text
    assert f"the weights of {facts['ancestors'][0]['model']} on 2 works" in text
    assert "The weights of a/nc were trained on 2 works" in text
    assert "noise" not in text and "| toy | CC BY-NC-SA 4.0 | 1 |" in text


def test_a_work_that_changed_its_licence_counts_under_both():
    start, *_ = train("a", "nc", works(cat="nc"))
    _, learnt, facts = train("b", "cc", works(cat="by"), start)
    assert learnt["key"].tolist() == ["toy/cat"] * 2
    assert facts["license"] == "cc-by-nc-sa-4.0"


def test_the_manifest_of_an_ancestor_is_named_with_its_facts():
    start, *_ = train("a", "nc", works(cat="nc"))
    start, *_ = train("b", "cc", works(dog="by"), start)
    _, ancestor = ancestry.read_ancestor(start)
    assert ancestor["folder"] == "data/b/04_train/cc" and ancestor["num_works"] == 2
    assert len(ancestor["manifest"]) == 64 and ancestor["facts"]["unet"] == "small"
    found = [one["model"] for one in ancestry.ancestors({"ancestor": ancestor})]
    assert found == ["b/cc", "a/nc"]


def test_a_take_down_names_every_model_that_holds_the_work(root, capsys):
    catalog = works(cat="nc", dog="by").assign(
        sha256="", title="x", author="y", reason="", near_group=None
    )
    for scale, rows in (("a", catalog), ("b", catalog[1:])):
        (root / f"data/{scale}/01_licenses").mkdir(parents=True)
        rows.to_parquet(root / f"data/{scale}/01_licenses/catalog.parquet")
    start, *_ = train("a", "nc", works(cat="nc"))
    train("a", "other", works(dog="by"))
    train("b", "cc", works(dog="by"), start)
    takedown.report(["toy/cat"])
    printed = capsys.readouterr().out
    assert "04_train nc was trained on 1 of them: retrain\n" in printed
    assert "b:\n  04_train cc was trained on 1 of them: retrain, a/nc first" in printed
    assert "other" not in printed


def test_weights_that_learnt_from_a_work_taken_down_start_nothing():
    start, *_ = train("a", "nc", works(cat="nc"))
    takedown.LIST.write_text("toy/cat\n")
    with pytest.raises(ParameterError, match="learnt from 1 works that docs/takedown"):
        ancestry.read_ancestor(start)


@pytest.mark.parametrize(
    ("license_", "spdx"),
    [("cc-by-4.0", "cc-by-4.0"), ("CC BY-NC 4.0", "cc-by-nc-4.0"), ("rail", "other")],
)
def test_weights_of_unknown_works_need_a_licence_and_the_card_says_so(
    root, license_, spdx
):
    (root / "bought").mkdir()
    with pytest.raises(LicenseError, match="'bought', which lists no works") as told:
        train("a", "cc", works(dog="cc0"), "bought")
    assert "\n" not in str(told.value) and "init_license" in str(told.value)
    start, _, facts = train("a", "cc", works(dog="cc0"), "bought", license_)
    assert facts["license"] == spdx and facts["ancestors"][0]["num_works"] is None
    words = f"bought were trained on works that are not known, and are under {license_}"
    assert words in model_card(facts).text
    _, _, later = train("b", "cc", works(sun="cc0"), start)
    assert later["license"] == spdx and words in model_card(later).text


def test_a_pipeline_that_was_copied_alone_still_has_its_licence(root):
    start, *_ = train("a", "nc", works(cat="nc"))
    (root / start).rename(root / "copied")
    _, _, facts = train("b", "cc", works(dog="by"), "copied", "cc0-1.0")
    assert facts["license"] == "cc-by-nc-sa-4.0"


@pytest.mark.parametrize("license_", ["cc-by-nd-4.0", "CC BY-NC-ND 2.0"])
def test_weights_closed_to_adaptation_start_nothing(root, license_):
    (root / "bought").mkdir()
    with pytest.raises(LicenseError, match="expected a licence open to adaptation"):
        ancestry.read_ancestor("bought", license_)


def test_a_list_of_works_that_was_changed_or_is_of_an_older_run_is_refused(root):
    start, learnt, _ = train("a", "cc", works(cat="by"))
    file = root / "data/a/04_train/cc/works.parquet"
    learnt[:0].to_parquet(file)
    with pytest.raises(ManifestError, match="changed: works.parquet"):
        ancestry.read_ancestor(start)
    learnt[["key"]].to_parquet(file)
    write_manifest(file.parent, "04_train", "a", "cc", 1, 1, {}, {})
    with pytest.raises(ManifestError, match="lacks license, .* train that model again"):
        ancestry.read_ancestor(start)

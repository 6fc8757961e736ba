"""The explorer shows each variant's samples with the works that they resemble."""

import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from browser import drive, needs_browser, opened
from toys import write_real_world

from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.core.picture_store import pictures_of
from commoncanvas.publish import beside, explorer, rows
from commoncanvas.publish.fetches import fetches

MARKUP = "</script><script>alert(1)</script> & **bold**"
PROMPTS = ["red apple", "cat face", "red apple"]
GATE = ["a dog", "a tree"]
SETS = {"human": {"kind": "names"}, "gate": {"kind": "gate"}}
PROTOCOL = {"prompts": SETS, "seed": 17, "sources": ["twemoji"]}


def write_row(root, name, samples, gate, works, **more):
    """Write what stages 04 and 05 leave of a variant; works None: a published one."""
    folder = root / "data/toy/05_evaluate" / name
    (folder / "gate").mkdir(parents=True)
    metrics = {"variant": name, "of": name, "guidance_scale": 3.0, "protocol": PROTOCOL}
    metrics |= {"copies": {"threshold": 0.9}, **more}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    np.savez(folder / "samples.npz", **{"guidance_3": samples})
    (folder / "prompts.json").write_text(json.dumps({"prompts": PROMPTS}))
    if gate:
        np.savez(folder / "gate/samples.npz", **gate)
        (folder / "gate/prompts.json").write_text(json.dumps({"prompts": GATE}))
    trained = root / "data/toy/04_train" / name
    trained.mkdir(parents=True)
    if works is not None:
        pd.DataFrame({"key": works}).to_parquet(trained / "works.parquet")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A scale with a variant that copies a work, two plain ones and a repeat."""
    root = tmp_path_factory.mktemp("world")
    licensed = root / "data/toy/01_licenses"
    licensed.mkdir(parents=True)
    frame = write_real_world(licensed, ["twemoji"], 12).drop(columns="svg")
    frame["license_deed"] = "https://creativecommons.org/licenses/by/4.0/"
    strange = [MARKUP, MARKUP, "javascript:x"]
    frame.loc[frame.index[0], ["title", "author", "pageurl"]] = strange
    frame.to_parquet(licensed / "catalog.parquet")
    write_manifest(licensed, "01_licenses", "toy", None, 12, 12, {}, {})
    keys = frame["key"].tolist()
    noise = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    copied = np.stack([*pictures_of(licensed, keys[:1], 32), *noise[1:]])
    tried = {"guidance_1": noise[:2], "guidance_3": copied[:2]}
    write_row(root, "cc_synthetic", copied, tried, keys[:6])
    write_row(root, "cc_human", noise, {"guidance_3": noise[:2]}, keys[6:])
    write_row(root, "cc_human-18", noise, {}, keys[6:], of="cc_human")
    write_row(root, "released", noise, {}, None)
    (root / "commoncanvas").symlink_to(paths.ROOT / "commoncanvas")  # its code's hash
    return root


@pytest.fixture
def root(world, tmp_path, monkeypatch):
    shutil.copytree(world, tmp_path, symlinks=True, dirs_exist_ok=True)
    catalog = pd.read_parquet(world / "data/toy/01_licenses/catalog.parquet")
    chosen = pd.DataFrame({"prompt": PROMPTS, "id": catalog["key"][:3]})
    monkeypatch.setattr(explorer, "read_prompts", lambda **_: chosen)
    for name in ("CHECKPOINTS", "FINISHED", "HTML"):
        monkeypatch.setattr(paths, name, tmp_path / name.lower())
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    return tmp_path


def content(page):
    text = page.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json"[^>]*>(.*?)</script>', text)
    return json.loads(found[1])


def test_a_sample_stands_beside_the_works_of_its_own_variant(root):
    page = explorer.write_explorer("toy")
    found = content(page)
    assert [row["name"] for row in found["rows"]] == [
        "cc_synthetic",
        "cc_human",
        "released",
    ]
    copying, plain, published = found["rows"]
    near = copying["drawn"]["human"]["3"][0][1]
    titles = [found["works"][place][0] for place, _ in near]
    assert titles[0] == MARKUP and near[0][1] == 1 > copying["threshold"]
    assert [score for _, score in near] == sorted(
        (score for _, score in near), reverse=True
    )
    trained = pd.read_parquet(root / "data/toy/04_train/cc_human/works.parquet")["key"]
    catalog = pd.read_parquet(root / "data/toy/01_licenses/catalog.parquet")
    own = set(catalog["title"][catalog["key"].isin(trained)])
    beside_plain = [
        place for _, near in plain["drawn"]["human"]["3"] for place, _ in near
    ]
    assert {found["works"][place][0] for place in beside_plain} <= own
    assert not published["searched"] and published["drawn"]["human"]["3"][0][1] == []


def test_prompts_name_their_works_and_scales_are_those_that_were_drawn(root):
    found = content(explorer.write_explorer("toy"))
    human, gate = found["sets"]
    assert human["prompts"] == PROMPTS and gate["named"] == [-1, -1]
    assert found["works"][human["named"][0]][0] == MARKUP
    drawn = {row["name"]: row["drawn"] for row in found["rows"]}
    assert list(drawn["cc_synthetic"]["gate"]) == ["1", "3"]
    assert list(drawn["cc_human"]["gate"]) == ["3"] and "gate" not in drawn["released"]


def test_the_page_fetches_nothing_and_a_strangers_words_stay_words(root):
    page = explorer.write_explorer("toy")
    text = page.read_text(encoding="utf-8")
    assert fetches(text) == [] and "<script>alert" not in text
    works = content(page)["works"]
    assert works[0][0] == MARKUP and works[0][4] == ""
    assert all(work[3].startswith("https://") for work in works)
    assert "learnt from" not in text


def test_the_search_is_done_once_for_the_same_samples_and_works(root, monkeypatch):
    first = explorer.write_explorer("toy").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(beside, "nearest", lambda *_: pytest.fail("searched again"))
        assert explorer.write_explorer("toy").read_bytes() == first
    works = root / "data/toy/04_train/cc_human/works.parquet"
    pd.read_parquet(works).iloc[1:].to_parquet(works)
    searched = []
    search = beside.nearest
    monkeypatch.setattr(beside, "nearest", lambda *a: searched.append(1) or search(*a))
    explorer.write_explorer("toy")
    assert searched


def test_a_page_that_would_be_too_large_holds_fewer_prompts(root, monkeypatch):
    whole = explorer.write_explorer("toy").stat().st_size
    monkeypatch.setattr(explorer, "MAX_PAGE_BYTES", whole - 1)
    fewer = content(explorer.write_explorer("toy"))
    assert [len(one["prompts"]) for one in fewer["sets"]] == [2, 2]


def test_too_many_works_are_not_searched_while_pages_are_written(root, monkeypatch):
    monkeypatch.setattr(beside, "MOST_WORKS", 5)
    assert not any(
        row["searched"] for row in content(explorer.write_explorer("toy"))["rows"]
    )


def test_other_prompts_than_the_others_are_refused(root):
    file = root / "data/toy/05_evaluate/cc_human/prompts.json"
    file.write_text(json.dumps({"prompts": PROMPTS[::-1][:2] + ["a hat"]}))
    with pytest.raises(ManifestError, match=r"cc_human has other prompts `human`"):
        rows.read_rows("toy")


def test_works_that_changed_after_the_prompts_were_chosen_are_refused(
    root, monkeypatch
):
    other = pd.DataFrame({"prompt": ["a", "b", "c"], "id": ["x", "y", "z"]})
    monkeypatch.setattr(explorer, "read_prompts", lambda **_: other)
    with pytest.raises(ManifestError, match="`human` of 05_evaluate .*dvc repro"):
        explorer.write_explorer("toy")


def test_without_samples_there_is_no_explorer(root):
    assert explorer.write_explorer("none") is None


@needs_browser
def test_its_own_security_policy_lets_the_page_work(root):
    told = opened(explorer.write_explorer("toy"), "dump-dom").stdout.decode()
    assert told.count('class="card"') == 4  # the work that is named, and three samples
    assert "A near copy, by this run" in told
    assert "similarity 1.00, above the threshold of a near copy (0.90)" in told


@needs_browser
def test_choices_change_what_is_shown(root):
    page = explorer.write_explorer("toy")
    text = page.read_text(encoding="utf-8")
    # The driver's own script is inline, which the page's policy would refuse.
    page.write_text(
        re.sub("script-src 'sha256-[^']*'", "script-src 'unsafe-inline'", text)
    )
    script = """
    addEventListener("load", () => {
      const at = name => document.getElementById(name);
      const change = (name, value) => {
        at(name).value = value; at(name).dispatchEvent(new Event("change")); };
      const heads = () =>
        [...document.querySelectorAll(".card h2")].map(head => head.textContent);
      const found = {
        samples: at("sample").options.length, prompts: at("prompt").options.length };
      at("on").click();
      found.next = at("prompt").value;
      change("set", "1");
      found.gate = heads();
      found.scales = [...at("guidance").options].map(o => o.value);
      change("guidance", "1");
      found.lacking = at("samples").textContent.split("Nothing was drawn").length - 1;
      document.querySelectorAll("#variants input")[1].click();
      found.fewer = heads();
      found.wide = document.documentElement.scrollWidth <= innerWidth;
      tell(found);
    });"""
    found = drive(page, script)
    assert found["prompts"] == 2 and found["samples"] == 2  # red apple is asked twice
    assert found["next"] == "cat face"
    assert found["gate"] == ["cc_synthetic", "cc_human", "released"]
    assert found["scales"] == ["own", "1", "3"] and found["lacking"] == 2
    assert found["fewer"] == ["cc_synthetic", "released"] and found["wide"]

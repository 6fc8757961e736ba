"""A released data set says what the catalogue says, to `datasets` and to ourselves."""

import json
import re
from io import BytesIO

import duckdb
import hub
import mistune
import pandas as pd
import pyarrow.parquet as pq
import pytest
from catalogues import MARKUP, write_catalogue
from doors import call
from huggingface_hub import DatasetCard, HfApi
from PIL import Image

from commoncanvas.captions.names import OWN
from commoncanvas.catalog import catalog
from commoncanvas.catalog.columns import STATED
from commoncanvas.catalog.sources import yfcc
from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.manifest import read_manifest
from commoncanvas.licenses import attribution, takedown
from commoncanvas.release import dataset, dataset_card, records, uploading
from tests.rehearsal.commoncatalog import STRUCT

DATE = "2026-11-28"
TAKEN = "set-1/work-010"


def settle_in(root, monkeypatch):
    """Write a scale whose stages 01 and 02 are done; take one work down since."""
    data = root / "data"
    monkeypatch.setattr(dataset, "stage_dir", lambda *names: data.joinpath(*names))
    for name in ("CHECKPOINTS", "FINISHED"):
        monkeypatch.setattr(paths, name, root / name.lower())
    (root / "takedown.txt").write_text(f"{TAKEN}\n")
    monkeypatch.setattr(takedown, "LIST", root / "takedown.txt")
    monkeypatch.setattr(dataset, "FILES_PER_SHARD", 2)
    return write_catalogue(root)


@pytest.fixture
def world(tmp_path, monkeypatch):
    return settle_in(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """The works that a data set should hold, and the data set; only to be read."""
    root = tmp_path_factory.mktemp("released")
    with pytest.MonkeyPatch.context() as patch:
        world = settle_in(root, patch)
        dataset.release_data("toy", root / "out", DATE)
    kept = world[world["split"].ne("web") & world["key"].ne(TAKEN)]
    return kept.set_index("key").sort_index(), root / "out"


def files_of(out):
    return sorted(out.glob("*/[0-9]/*/*/*.parquet"))


def read_all(out):
    tables = [pq.ParquetFile(file).read().to_pandas() for file in files_of(out)]
    return pd.concat(tables).set_index("key").sort_index()


def contents(out):
    files = [path for path in out.rglob("*") if path.is_file()]
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in files}


def test_columns_and_folders_are_commoncatalog_s(released):
    _, out = released
    for file in files_of(out):
        schema = pq.read_schema(file)
        assert {f.name: f.type for f in schema if f.name in STRUCT} == STRUCT
        part, size, shape = file.parts[-4:-1]
        low, high = map(int, size.removeprefix("least_dim_range=").split("-"))
        frame = pq.ParquetFile(file).read().to_pandas()
        sides = frame[["width", "height"]]
        assert sides.min(axis=1).between(low, high - 1).all() and part in "0123456789"
        assert shape.removeprefix("aspect_ratio_bucket=") in records.SHAPES
        sets = frame["license_slug"].map(records.set_name)
        assert set(sets) == {file.parts[-5]}


def test_every_work_is_there_once_with_its_credit_and_no_other_is(released):
    kept, out = released
    found = read_all(out)
    assert found.index.tolist() == kept.index.tolist()
    for name in "source author author_url alt_text date_seen split changes".split():
        assert found[name].tolist() == kept[name].tolist()
    assert found["work_title"].tolist() == kept["title"].tolist()
    assert found["is_holdout"].tolist() == kept["is_holdout"].tolist()
    assert found["near_group"].tolist() == kept["near_group"].tolist()
    for key, line in found["credit"].items():
        assert kept["license_deed"][key] in line and kept["pageurl"][key] in line
    assert "\x1b" not in "".join(found["credit"])


def test_every_caption_names_its_captioner(released):
    kept, out = released
    found = read_all(out)
    stated = found.index[found["captions"].map(str).str.contains("a person")]
    assert stated.tolist() == kept.index[kept["captioner"] == "human"].tolist()
    for key, captions in found["captions"].items():
        told = {c["caption_source"]: (c["captioner"], c["caption"]) for c in captions}
        if key in stated:
            assert told.pop("source") == ("human", "What a person told")
        if told:
            assert told == {
                "synthetic": (OWN["open"], f"a machine's {key}"),
                "other": ("a/b at c0", f"another's {key}"),
            }
    has = found["blip2_caption"].notna()
    assert has.sum() > 10 and not has[found["split"] == "nd"].any()
    assert (found.loc[has, "captioner"] == OWN["open"]).all()
    assert found.loc[~has, "captioner"].eq("").all()


def test_rows_in_are_rows_out_or_rejected_and_a_taken_down_work_is_nowhere(released):
    kept, out = released
    counts = read_manifest(out)["counts"]  # hashes every file, too
    rejected = pd.read_parquet(out / "rejected")
    assert counts["in"] == 32 and counts["out"] == len(kept)
    assert counts["rejected"][takedown.REASON] == 1
    assert counts["rejected"][dataset.WEB] == 1
    assert len(rejected) == counts["in"] - counts["out"] - 1
    assert set(rejected["key"]) == {"set-0/nobody", "web/one"}
    assert rejected["reason"].str.len().min() > 0
    for name, data in contents(out).items():
        if name.endswith(".parquet"):
            frame = pq.read_table(BytesIO(data)).to_pandas()
            assert TAKEN not in set(frame["key"]), name
        else:
            assert TAKEN.encode() not in data, name


def test_the_ledger_credits_every_work(released):
    kept, out = released
    ledger = pd.read_parquet(out / "ledger.parquet")
    assert ledger["key"].tolist() == kept.index.tolist()
    assert list(ledger) == [*attribution.COLUMNS.values(), "changes"]
    assert not len(attribution.missing_credits(ledger))
    text = (out / "ATTRIBUTION.md").read_text(encoding="utf-8")
    assert not re.search(r'<b>|href="javascript|\x1b', mistune.html(text))


def test_the_card_says_how_many_works_are_not_for_every_use(released):
    kept, out = released
    nc = int(kept["license_slug"].str.contains("nc").sum())
    nd = int(kept["license_slug"].str.contains("nd").sum())
    assert nc and nd
    said = f"{len(kept)} pictures under Creative Commons licences, {nc} of them for "
    said += f"non-commercial use only, {nd} of them not to be adapted, with "
    card = (out / "README.md").read_text(encoding="utf-8")
    told = json.loads((out / "croissant.json").read_text(encoding="utf-8"))
    assert said in card and told["description"].startswith(said)
    assert "openly" not in card + told["description"]
    assert "rai:dataCollectionTimeframe" not in told
    assert "for all others no upload is known" in card  # of dateuploaded


def test_a_set_of_open_licences_alone_is_called_so(released, tmp_path):
    files = sorted((released[1] / "cc-by").rglob("*.parquet"))
    facts = dataset_card.facts_of(files, {}, {})
    facts |= {"key": "a", "date": DATE, "taken_down": 0}
    dataset_card.write_card(tmp_path, "toy", facts, {"cc-by/0/a/b/part-00000": 1})
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "- openly-licensed" in card and " of them" not in card
    deed = "https://creativecommons.org/licenses/by/4.0/"
    facts = {"licenses": [["CC BY 4.0", deed, "c", 3]]}
    assert dataset_card.limits_of(facts) == ""
    closed = {"licenses": [["CC BY-NC 4.0", deed.replace("by", "by-nc"), "nc", 1119]]}
    told = ", 1,119 of them for non-commercial use only"
    assert dataset_card.limits_of(closed) == told


def test_read_back_it_gives_the_same_splits_captions_and_credits(released):
    kept, out = released
    sources = [f"commoncatalog:*:{f}" for f in sorted(out.glob("cc*"))]
    frame = catalog.assign_splits(catalog.read_frame(sources), [], 17)
    frame = catalog.choose(frame, 0, False, 0.3).set_index("key").sort_index()
    assert frame.index.tolist() == kept.index.tolist()
    # Of the captions, the leading captioner's comes back; see below.
    said = [name for name in STATED if name not in ("key", "caption", "captioner")]
    credits = ["license_title", "license_deed", "split", "is_holdout"]
    for name in [*said, *credits]:
        assert frame[name].tolist() == kept[name].tolist(), name
    found = read_all(out)
    for folder in sorted(out.glob("cc*")):
        rows = yfcc.read_commoncatalog(duckdb.connect(), folder)
        rows = rows.select("key, blip2_caption, captioner").df().set_index("key")
        own = found.loc[rows.index]
        assert rows["captioner"].tolist() == own["captioner"].tolist()
        both = zip(rows["blip2_caption"], own["blip2_caption"], strict=True)
        assert all(a == b or (pd.isna(a) and pd.isna(b)) for a, b in both)


def test_commoncatalog_s_own_files_are_read_as_before(tmp_path):
    from tests.rehearsal import commoncatalog, photographs

    photo = photographs.photographs(photographs.HERE / "photographs")[0]
    picture = Image.new("RGB", (300, 256))
    row = commoncatalog.row_of(7, "cc-by", photo, picture, "Grey", True)
    commoncatalog.write_set(tmp_path / "cc-by", [row], is_struct=True)
    (read,) = catalog.read_source(f"commoncatalog:*:{tmp_path}/cc-by")
    assert read["key"].startswith("commoncatalog/30000") and read["title"] == "Grey"
    assert read["source"] == "commoncatalog/cc-by"


@pytest.mark.slow
def test_plain_datasets_loads_it_row_by_row(released, tmp_path):
    import datasets

    kept, out = released
    loaded = datasets.load_dataset(str(out), cache_dir=str(tmp_path / "cache"))
    assert set(loaded) == {"train", "test"}
    assert set(loaded["test"]["key"]) == set(kept.index[kept["is_holdout"]])
    keys = []
    for part in loaded.values():
        for row in part:
            work = kept.loc[row["key"]]
            assert row["jpg"].size == (row["width"], row["height"])
            assert (row["author"], row["split"]) == (work["author"], work["split"])
            keys.append(row["key"])
    assert sorted(keys) == kept.index.tolist()
    one = datasets.load_dataset(str(out), "cc-by", cache_dir=str(tmp_path / "cache"))
    assert set(one["train"]["license_slug"]) == {"by"}
    left = datasets.load_dataset(str(out), "rejected", cache_dir=str(tmp_path / "c"))
    assert len(left["rejected"]) == 2


@pytest.mark.slow
def test_its_croissant_is_valid_and_its_records_have_licence_and_credit(released):
    import mlcroissant

    kept, out = released
    found = mlcroissant.Dataset(jsonld=str(out / "croissant.json"))
    issues = found.metadata.ctx.issues
    assert not issues.errors and not issues.warnings
    rows = {row["works/key"].decode(): row for row in found.records("works")}
    assert sorted(rows) == kept.index.tolist()
    for key, row in rows.items():
        assert row["works/license_deed"].decode() == kept["license_deed"][key]
        assert row["works/author"].decode() == kept["author"][key]
        assert row["works/pageurl"].decode() == kept["pageurl"][key]
        assert row["works/jpg"].size == (row["works/width"], row["works/height"])
        if row["works/blip2_caption"]:
            assert row["works/captioner"] == OWN["open"].encode()


def test_the_card_counts_what_is_there_and_a_stranger_s_words_do_nothing(released):
    kept, out = released
    card = DatasetCard.load(out / "README.md")
    for title, works in kept.groupby("license_title"):
        assert f"| {title} | " in card.text and f" | {len(works)} |" in card.text
    assert "| other | a/b at c0 |" in card.text and "taken down" in card.text
    assert MARKUP not in card.text and "\x1b" not in card.text
    assert card.data.to_dict()["license"] == "other"


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_bytes(
    world, tmp_path, monkeypatch
):
    dataset.release_data("toy", tmp_path / "whole", DATE)
    made, calls = records.make_records, []

    def stopped(*arguments):
        calls.append(len(arguments[0]))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return made(*arguments)

    monkeypatch.setattr(dataset, "make_records", stopped)
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        dataset.release_data("toy", out, DATE)
    assert not (out / "manifest.json").exists()
    calls += [0] * 10
    dataset.release_data("toy", out, DATE)
    assert len(calls) < 3 + 10 + 4  # the first shard was not made again
    assert contents(tmp_path / "whole") == contents(out)


def test_a_shard_that_was_changed_is_written_again(world, tmp_path):
    out = tmp_path / "out"
    dataset.release_data("toy", out, DATE)
    before, broken = contents(out), files_of(out)[0]
    broken.write_bytes(b"nothing")
    dataset.release_data("toy", out, DATE)
    assert contents(out) == before


def test_a_take_down_after_the_release_leaves_the_work_out_of_the_next(world, tmp_path):
    dataset.release_data("toy", tmp_path / "out", DATE)
    first = read_all(tmp_path / "out").index
    takedown.LIST.write_text(f"{TAKEN}\n{first[0]}\n")
    dataset.release_data("toy", tmp_path / "out", DATE)
    assert read_all(tmp_path / "out").index.tolist() == first.tolist()[1:]


def test_a_folder_s_name_is_no_pattern(world, tmp_path):
    dataset.release_data("toy", tmp_path / "out[1]", DATE)
    assert contents(tmp_path / "out[1]")


def test_what_somebody_added_to_a_data_set_is_never_lost(world, tmp_path):
    out = tmp_path / "out"
    dataset.release_data("toy", out, DATE)
    (out / ".git").mkdir()
    (out / ".git/HEAD").write_text("ref: main")
    before = contents(out)
    first = read_all(out).index[0]
    takedown.LIST.write_text(f"{TAKEN}\n{first}\n")  # another data set would replace it
    with pytest.raises(ParameterError, match="1 files that are not of it .*HEAD"):
        dataset.release_data("toy", out, DATE)
    assert contents(out) == before


def test_a_folder_of_something_else_is_refused_and_left_alone(world, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    with pytest.raises(ParameterError, match="holds something else"):
        dataset.release_data("toy", tmp_path / "mine", DATE)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("slug", ["01_licenses", "02_captions"])
def test_a_stage_that_has_not_run_is_named(world, tmp_path, slug):
    (tmp_path / "data/toy" / slug / "manifest.json").unlink()
    with pytest.raises(ManifestError, match=f"{slug} has no manifest"):
        dataset.release_data("toy", tmp_path / "out", DATE)


def test_the_command_writes_it_and_refuses_a_date_that_is_none(world, tmp_path):
    out = str(tmp_path / "out")
    words = ["release-data", "--scale", "toy", "--out", out]
    assert "--date is 'soon'" in call(*words, "--date", "soon", fails=True)
    assert call(*words, "--date", DATE).endswith(": 29 works, 3 rows left out\n")
    told = json.loads((tmp_path / "out/croissant.json").read_text(encoding="utf-8"))
    assert told["datePublished"] == DATE and len(told["license"]) == 5


def test_the_command_uploads_what_it_wrote(world, tmp_path, monkeypatch):
    with hub.serve() as server:
        client = HfApi(endpoint=server.address, token="hf_made_up")
        monkeypatch.setattr(uploading, "HfApi", lambda: client)
        words = ["release-data", "--scale", "toy", "--out", tmp_path / "out"]
        told = call(*words, "--date", DATE, "--repo", "me/x")
    assert told.splitlines()[-1] == f"{server.address}/datasets/me/x"
    assert server.files == contents(tmp_path / "out")

"""The rehearsal's world is what it says, and the paper's code path runs in it."""

import io
import subprocess
from urllib.parse import unquote_plus

import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image

from commoncanvas.catalog import catalog
from commoncanvas.core import paths
from commoncanvas.core.files import sha256_of
from commoncanvas.licenses.license import read_license
from tests.rehearsal import __main__ as rehearsal
from tests.rehearsal import commoncatalog, networks, photographs, world

KEPT = photographs.HERE / "photographs"


def test_the_photographs_kept_here_are_the_table_s_and_few():
    kept = {row["file"] for row in photographs.table() if row["is_kept"] == "yes"}
    files = list(KEPT.iterdir())
    assert {file.name for file in files} == kept and len(kept) <= 12
    assert sum(file.stat().st_size for file in files) < 1_500_000
    assert all(Image.open(file).format == "JPEG" for file in files)


def test_every_photograph_may_be_changed_and_shared_and_names_its_author():
    for row in photographs.table():
        found = read_license(row["license"], "")
        assert found.slug in ("by", "by-sa", "cc0") and row["author"], row["file"]
        assert row["package"] in photographs.DEB_SHA256


def test_no_crop_is_in_two_sets():
    found = photographs.photographs(KEPT)
    sets = commoncatalog.crops(found, 1)
    whole = [(c[0].path, c[1]) for crops in sets.values() for c in crops]
    assert len(set(whole)) == len(whole) == len(found) * photographs.NUM_CROPS
    assert len(sets["special"]) >= len(commoncatalog.SPECIALS)
    assert set(sets) == {*commoncatalog.SETS, "coco", "special"}


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    """The small world's rows, as stage 01 reads and judges them."""
    folder = tmp_path_factory.mktemp("commoncatalog")
    num = commoncatalog.write(folder, photographs.photographs(KEPT), 12)
    sources = [f"commoncatalog:256-512:{folder}/{name}" for name in commoncatalog.SETS]
    frame = catalog.assign_splits(catalog.read_sources(sources), [], 17)
    assert len(frame) == num
    return frame


@pytest.mark.slow
def test_the_six_sets_have_the_licences_that_they_state(judged):
    made_up = judged["author"].str.endswith(commoncatalog.MADE_UP)
    is_copy = judged["title"].str.startswith("Copy ")
    own = judged[~made_up & ~is_copy & judged["split"].ne("rejected")]
    titles = {photo.title: photo for photo in photographs.photographs(KEPT)}
    for row in own.itertuples():
        photo = next(p for title, p in titles.items() if row.title.startswith(title))
        assert row.license_slug == photo.license.slug
        assert row.license_version == photo.license.version
        assert row.author == photo.author
    splits = judged[judged["split"].ne("rejected")].groupby("license_slug")["split"]
    found = {slug: set(group) for slug, group in splits}
    assert {slug: found[slug] for slug in ("by", "by-sa", "by-nc", "by-nd")} == {
        "by": {"c"}, "by-sa": {"c"}, "by-nc": {"nc"}, "by-nd": {"nd"},
    }  # fmt: skip


def test_a_set_has_the_hub_s_columns_in_its_folders(tmp_path):
    photo = photographs.photographs(KEPT)[0]
    picture = Image.new("RGB", (300, 256))
    row = commoncatalog.row_of(7, "cc-by-nd", photo, picture, "Grey", True)
    assert row.keys() == commoncatalog.TYPES.keys() and len(row) == 35
    commoncatalog.write_set(tmp_path, [row], is_struct=True)
    (file,) = tmp_path.rglob("*.parquet")
    assert file.parts[-4:-1] == (
        "0", "least_dim_range=256-512", "aspect_ratio_bucket=1-1",
    )  # fmt: skip
    (read,) = catalog.read_source(f"commoncatalog:256-512:{tmp_path}")
    assert read["author"] == f"{photo.author} {commoncatalog.MADE_UP}"
    (stored,) = pq.ParquetFile(file).read(["jpg"])["jpg"].to_pylist()
    assert Image.open(io.BytesIO(stored["bytes"])).size == (300, 256)
    assert photo.caption in read["alt_text"] and "<a" not in read["alt_text"]


@pytest.mark.slow
def test_inception_has_the_bytes_that_the_profiles_pin(tmp_path):
    file = tmp_path / "inception-random.pth"
    networks.save_inception(file)
    for scale in (rehearsal.FIRST, rehearsal.SECOND):
        text = (paths.PROFILES / f"{scale}.yaml").read_text(encoding="utf-8")
        pinned = yaml.safe_load(text)["evaluate"]["features"]["inception"]["sha256"]
        assert sha256_of(file) == pinned


def test_pages_that_speak_of_icons_or_lack_a_metric_are_found(tmp_path):
    for scale in (rehearsal.FIRST, rehearsal.SECOND):
        folder = tmp_path / "reports" / "html" / scale
        folder.mkdir(parents=True)
        told = "photographs, <b>BLIP-2</b>, FID and CLIP <svg>emoji</svg>"
        (folder / "05.html").write_text(f"<style>icon {{}}</style>{told}")
        (folder / "00_pretrain.html").write_text("pictograms")
    assert rehearsal.faults(tmp_path) == []
    page = tmp_path / "reports" / "html" / rehearsal.FIRST / "05.html"
    page.write_text("photographs by BLIP-2: FID, and two <i>Pictograms</i>")
    lacking, foreign = rehearsal.faults(tmp_path)
    assert lacking.endswith("'CLIP'") and "says 'Pictogram'" in foreign


SMALLER = {
    "licenses": {"metadata_rows": 2000},
    "train": {"num_train_steps": 8, "checkpoint_steps": 4, "lr_warmup_steps": 2},
    "evaluate": {"num_samples": 6, "guidance_scales": [3.0], "num_choices": 6},
}


def shrink(root):
    """Make the rehearsals of a copy smaller still; the second starts no cluster."""
    here = dict.fromkeys(["licenses", "captions", "latents"], {"engine": "local"})
    for scale, more in ((rehearsal.FIRST, {}), (rehearsal.SECOND, here)):
        file = root / "profiles" / f"{scale}.yaml"
        profile = yaml.safe_load(file.read_text(encoding="utf-8"))
        for section, values in [*SMALLER.items(), *more.items()]:
            profile[section] |= values
        profile["evaluate"]["prompt_sets"]["validation"] |= {"skip": 6, "num": 3}
        file.write_text(yaml.safe_dump(profile))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A copy of the project in which a smaller rehearsal has run, with one row."""
    folder = tmp_path_factory.mktemp("rehearsal")
    world.make(folder / "made", every=4, full=False)
    root, rows = folder / "project", ["cc_synthetic"]
    rehearsal.prepare(root, folder / "made", rows)
    shrink(root)
    with (folder / "log.txt").open("w+") as log:
        for tries_left in (1, 0):  # a busy machine may stop it once: it goes on
            try:
                rehearsal.run(root, rows, log)
                break
            except subprocess.CalledProcessError as error:
                log.seek(0)
                told = f"{error}:\n{log.read()[-3000:]}"
                assert tries_left, told
    return root


@pytest.mark.slow
def test_a_smaller_rehearsal_runs_whole_and_speaks_of_photographs(finished):
    assert rehearsal.faults(finished) == []
    assert (finished / "reports/html/index.html").stat().st_size > 10_000


@pytest.mark.slow
def test_every_special_row_is_kept_or_refused_for_its_reason(finished):
    import pandas as pd

    folder = finished / "data" / rehearsal.FIRST / "01_licenses"
    found = pd.read_parquet(folder / "catalog.parquet").set_index("key")
    root = finished / "sources" / rehearsal.FIRST / "commoncatalog" / "cc-by"
    tables = [pd.read_parquet(file) for file in sorted(root.rglob("*.parquet"))]
    rows = pd.concat(tables)
    rows = rows[rows["machinetags"].str.startswith("special:")]
    for photoid, tag in zip(rows["photoid"], rows["machinetags"], strict=True):
        name = unquote_plus(tag.removeprefix("special:is="))
        row = found.loc[f"commoncatalog/{photoid}"]
        refused = name in commoncatalog.REFUSED
        assert (row["split"] == "rejected") == refused, (name, row["reason"])
        assert commoncatalog.REFUSED.get(name, "") in row["reason"], name
    assert len(rows) == len(commoncatalog.SPECIALS)

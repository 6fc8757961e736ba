"""Pictures are drawn shard by shard, stored as they came, and each in its own file."""

import functools
import io
import tarfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image
from shards import OPEN_IMAGES, gpic_shard, gpic_words

from commoncanvas.catalog import catalog, storing
from commoncanvas.catalog.drawing import KEPT, SQUARED, draw_picture
from commoncanvas.catalog.originals import with_originals
from commoncanvas.catalog.sources import openimages, yfcc
from commoncanvas.catalog.state import picture_path
from commoncanvas.core import paths, picture_store
from commoncanvas.core.errors import PictureError, SourceError
from commoncanvas.core.images import stored_pixels

PLACE = "least_dim_range=256-512/aspect_ratio_bucket=1-1"


class Here:
    """Draws as `Bounded` does, in this process, which costs no start."""

    def map(self, draw, rows):
        for row in rows:
            try:
                yield draw(row)
            except PictureError as error:
                yield error


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / "finished")
    monkeypatch.setattr(storing, "_pool", functools.cache(lambda _: Here()))


def file_of(seed, size=(20, 16), form="PNG"):
    noise = np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, form)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path):
    """Write a folder of seven pictures, of which one is none; return its source."""
    lines = ["file,author,pageurl,license"]
    for number in range(7):
        data = b"none" if number == 3 else file_of(number)
        (tmp_path / f"{number}.png").write_bytes(data)
        lines.append(f"{number}.png,Ada,https://example.org/{number},CC BY 4.0")
    (tmp_path / "works.csv").write_text("\n".join(lines))
    return f"folder:{tmp_path}/works.csv"


def store(source, out, size=8, gone=(), shard_size=2, engine="local"):
    """Store a source's works as stage 01 does; return the catalogue."""
    frame = catalog.assign_splits(catalog.read_sources([source]), [], 0)
    frame = catalog.choose(frame, 0, True, 0.0)
    kept = frame[frame["split"] != "rejected"]
    _, files = storing.draw_shards(kept, size, False, shard_size, engine)
    frame = storing.add_facts(frame, files, shard_size)
    left = frame[(frame["file"] >= 0) & ~frame["key"].str.endswith(tuple(gone))]
    views = storing.read_thumbnails(left, files)
    assert views.shape == (len(left), 24, 24, 3)
    storing.store_pictures(out, left, files)
    frame.drop(columns="svg", errors="ignore").to_parquet(out / "catalog.parquet")
    return frame


def contents(out):
    return {file.name: file.read_bytes() for file in picture_store.picture_files(out)}


def test_a_work_that_is_taken_down_changes_its_own_file_alone(folder, tmp_path):
    (whole, part) = (tmp_path / "whole", tmp_path / "part")
    frame = store(folder, whole)
    store(folder, part, gone=["4.png"])
    assert frame["file"].tolist() == [0, 0, 1, -1, 2, 2, 3]
    lost = frame[frame["file"] < 0]
    assert "not a readable picture" in lost["reason"].item()
    before, after = contents(whole), contents(part)
    assert before.keys() == after.keys() and len(before) == 4
    assert [n for n in before if before[n] != after[n]] == ["00002.parquet"]
    none = store(folder, tmp_path / "none", gone=["4.png", "5.png"])
    assert list(contents(tmp_path / "none")) == [f"{n:05d}.parquet" for n in (0, 1, 3)]
    assert none.equals(frame)


def test_a_second_run_finds_its_shards_and_a_changed_file_is_drawn_again(
    folder, tmp_path, monkeypatch
):
    store(folder, tmp_path / "a")
    with monkeypatch.context() as patched:
        drawn = lambda *_: pytest.fail("drawn again")  # noqa: E731
        patched.setattr(storing, "_draw_shard", drawn)
        store(folder, tmp_path / "b")
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    (tmp_path / "0.png").write_bytes(file_of(9, (21, 16)))
    monkeypatch.undo()  # and by the processes of a stage
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "checkpoints")
    store(folder, tmp_path / "c")
    changed = contents(tmp_path / "c")
    assert changed["00000.parquet"] != contents(tmp_path / "a")["00000.parquet"]


@pytest.mark.parametrize(
    ("form", "size", "is_kept"),
    [
        ("PNG", (20, 16), True),
        ("JPEG", (16, 12), True),
        ("JPEG", (6, 5), True),
        ("JPEG", (20, 17), False),
        ("PNG", (80, 16), False),
        ("WEBP", (16, 12), False),
    ],
)
def test_a_file_is_stored_as_it_came_or_cut_and_is_never_enlarged(form, size, is_kept):
    data = file_of(0, size, form)
    found = draw_picture({"picture": data}, 8)
    assert (found.picture == data) is is_kept
    edge = min(8, *size)
    assert found.changes == (KEPT if is_kept else SQUARED.format(size=edge))
    if not is_kept:
        assert Image.open(io.BytesIO(found.picture)).size == (edge, edge)
        assert (stored_pixels(found.picture, 8) == stored_pixels(data, 8)).all()


def test_what_is_not_enlarged_is_cut_at_its_own_size():
    found = draw_picture({"picture": file_of(0, (7, 5), "WEBP")}, 8)
    assert Image.open(io.BytesIO(found.picture)).size == (5, 5)
    kept = draw_picture({"picture": file_of(0, (7, 5))}, 8)
    assert Image.open(io.BytesIO(kept.picture)).size == (7, 5)
    assert len(kept.thumbnail) == 24 * 24 * 3


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_pictures_of_a_tar_come_from_their_places_in_it(tmp_path, mode):
    path = tmp_path / "0.tar"
    with tarfile.open(path, mode) as tar:
        for number in range(5):
            for name, data in (("json", b"{}"), ("png", file_of(number))):
                member = tarfile.TarInfo(f"{number}.{name}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    rows = catalog.read_source(f"webdataset:{path}")
    assert not any(isinstance(value, bytes) for row in rows for value in row.values())
    found = [one["picture"] for one in with_originals(rows)]
    assert found == [file_of(number) for number in range(5)]
    path.write_bytes(path.read_bytes()[:90])
    assert all("tar" in one["reason"] for one in with_originals(rows))


def write_commoncatalog(root, pictures, as_struct=False, **options):
    """Write pictures as one file of CommonCatalog's columns, two a row group."""
    row = dict.fromkeys(yfcc.CATALOG_COLUMNS, "")
    row |= {"unickname": "Ada", "pageurl": "https://www.flickr.com/photos/1/2/"}
    row |= {"licenseurl": "http://creativecommons.org/licenses/by/2.0/"}
    row |= {"dateuploaded": "1316432672"}
    columns = {name: [value] * len(pictures) for name, value in row.items()}
    columns["photoid"] = list(range(len(pictures)))[::-1]
    columns["jpg"] = pictures
    if as_struct:
        columns["jpg"] = [{"bytes": data, "path": None} for data in pictures]
    path = root / "0" / PLACE
    path.mkdir(parents=True)
    pq.write_table(pa.table(columns), path / "part-0.parquet", row_group_size=2)


@pytest.mark.parametrize("as_struct", [False, True])
@pytest.mark.parametrize("ranges", ["256-512", "*", ""])
def test_each_row_of_commoncatalog_gets_its_own_picture(tmp_path, ranges, as_struct):
    root = tmp_path / "commoncatalog-cc-by-nc-sa"
    pictures = [file_of(n) for n in range(6)] + [None]
    write_commoncatalog(root, pictures, as_struct)
    frame = store(f"commoncatalog:{ranges}:{root}", tmp_path / "out", shard_size=3)
    assert set(frame["source"]) == {"commoncatalog/cc-by-nc-sa"}
    # In the order of the rows, which is not that of the keys.
    assert frame["file"].tolist() == [-1, 1, 1, 1, 0, 0, 0]
    assert frame["reason"].tolist() == ["file is empty"] + [""] * 6
    keys = [f"commoncatalog/{6 - n}" for n in range(6)]
    assert picture_store.stored_bytes(tmp_path / "out", keys) == pictures[:6]


@pytest.mark.parametrize("start", [0, 3, 5])
def test_a_row_group_is_read_only_where_a_picture_of_it_is_asked_for(
    tmp_path, monkeypatch, start
):
    write_commoncatalog(tmp_path, [file_of(n) for n in range(6)])
    rows = [r for r in catalog.read_source(f"commoncatalog::{tmp_path}")]
    rows = sorted(rows, key=lambda row: row["start"])[start:]
    groups = []
    read = pq.ParquetFile.iter_batches

    def spy(self, size, row_groups, *others, **words):
        groups.extend(row_groups)
        return read(self, size, row_groups, *others, **words)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", spy)
    found = [one["picture"] for one in with_originals(rows)]
    assert found == [file_of(n) for n in range(start, 6)]
    assert groups == list(range(start // 2, 3))


def test_a_damaged_parquet_costs_its_rows_and_a_broken_network_stops(tmp_path):
    write_commoncatalog(tmp_path / "a", [file_of(0), file_of(1)])
    rows = catalog.read_source(f"commoncatalog::{tmp_path / 'a'}")
    next((tmp_path / "a").rglob("*.parquet")).write_bytes(b"none")
    for one in with_originals(rows):
        with pytest.raises(PictureError, match="part-0.parquet cannot be read again"):
            draw_picture(one, 8)
    far = [row | {"path": "memory://nothing/part-0.parquet"} for row in rows]
    with pytest.raises(SourceError, match="expected.*network") as error:
        list(with_originals(far))
    assert "\n" not in str(error.value)


def test_a_network_that_fails_while_metadata_is_read_is_one_line(tmp_path, monkeypatch):
    class Flaky(MemoryFileSystem):
        """A stand-in for a network that lists files and then breaks."""

        def _open(self, *arguments, **words):
            raise RuntimeError("Server disconnected\nwithout a response")

    write_commoncatalog(tmp_path, [file_of(0)])
    fsspec.filesystem("memory").put(str(tmp_path), "/flaky", recursive=True)
    monkeypatch.setattr(MemoryFileSystem, "_open", Flaky._open)
    with pytest.raises(SourceError, match="expected") as error:
        catalog.read_source("commoncatalog::memory://flaky")
    assert "\n" not in str(error.value)


def test_sources_of_several_forms_are_drawn_together_each_by_its_own_rules(tmp_path):
    """A tar, a folder, and Open Images, whose picture lies apart and is turned."""
    shard = gpic_shard(tmp_path / "0.tar", [gpic_words()], [file_of(1)])
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "1.png").write_bytes(file_of(2))
    lines = ["file,license,caption", "1.png,CC0,A cat"]
    (tmp_path / "own" / "works.csv").write_text("\n".join(lines))
    row = OPEN_IMAGES | {"Rotation": "90.0"}
    lines = [",".join(row), ",".join(row.values())]
    (tmp_path / "images.csv").write_text("\n".join(lines))
    address = f"{openimages.BUCKET}train/{row['ImageID']}.jpg"
    fetched = tmp_path / "pictures" / picture_path(address)
    fetched.parent.mkdir(parents=True)
    fetched.write_bytes(file_of(3))
    sources = [
        f"gpic:{shard}",
        f"folder:captioner=human:{tmp_path}/own/works.csv",
        f"openimages:pictures={tmp_path}/pictures:{tmp_path}/images.csv",
    ]
    frame = catalog.assign_splits(catalog.read_frame(sources), [], seed=0)
    assert frame["split"].tolist() == ["c", "c", "c"]
    _, files = storing.draw_shards(frame, 20, True, 2)
    frame = storing.add_facts(frame, files, 2).set_index("source")
    assert frame["reason"].tolist() == [""] * 3
    plain = Image.open(fetched)
    table = pa.concat_tables(map(pq.read_table, files)).to_pylist()
    (drawn,) = [one["picture"] for one in table if one["key"].startswith("openimages")]
    turned = Image.open(io.BytesIO(drawn))
    assert turned.size == plain.size[::-1] and frame["changes"]["gpic"] == KEPT
    assert frame["changes"]["openimages"] != KEPT
    frame.drop(columns=["path", "start", "length"]).to_parquet(tmp_path / "catalog")
    read = pq.read_table(tmp_path / "catalog").to_pandas()
    assert sorted(read["captioner"]) == ["", "human", "qwen3-vl-4b"]

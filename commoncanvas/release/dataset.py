"""The data set: a scale's catalogue with pictures and captions, for others to load.

`commoncanvas release-data --scale S --out FOLDER` writes parquet in CommonCatalog's
columns and folders, rejected rows apart, ledger, card, Croissant and manifest. It goes
file by file of stage 01's pictures, so memory holds one; a run that was stopped goes on
behind its last shard. Plain `datasets` loads the folder, and the source
`commoncatalog:*:FOLDER/cc-by` gives the catalogue's rows back.
"""

import datetime as dt
import glob
import itertools
import os
import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tqdm import tqdm

from commoncanvas.captions.names import STATED, captioners_of
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import (
    LEFTOVER,
    read_json,
    remove,
    sha256_of,
    shown,
    write_json,
    writing,
)
from commoncanvas.core.keys import code_hash, finish, key_of, work_folder
from commoncanvas.core.manifest import NAME, compare, read_manifest, write_manifest
from commoncanvas.core.paths import stage_dir
from commoncanvas.core.picture_store import (
    captions_file,
    count_pictures,
    picture_files,
    read_pictures,
)
from commoncanvas.core.works import works_by_file
from commoncanvas.licenses import attribution, takedown
from commoncanvas.release import dataset_card
from commoncanvas.release.folders import check_own
from commoncanvas.release.records import (
    NEEDED,
    SCHEMA,
    Caption,
    make_records,
    place_of,
)
from commoncanvas.release.uploading import upload

STAGE = "release-data"  # of the manifest
FILES_PER_SHARD = 64  # of stage 01's; few enough files for the Hub at a paper's size
SPLITS = ("c", "nc", "nd")  # what is released; the captioned web is not ours to give
REJECTED = "rejected"
ROWS = 1_000_000  # of a file of rejected rows
WEB = "captioned web, which no Creative Commons variant is trained on"
STATED_REJECTED = """key source title author author_url pageurl license_text license_url
date_seen reason""".split()
_MARK = ".release-data"  # holds the key of a data set that is not finished
_OURS = re.compile(  # what a run that is not finished may have written
    r"\.release-data|README\.md|ATTRIBUTION\.md|ledger\.parquet|croissant\.json|"
    r"manifest\.json|(.*/)?(part|holdout|rejected)-\d{5}(\.zstd)?\.parquet"
)
LEADING = "synthetic"  # the caption source that becomes CommonCatalog's column


def release_data(scale: str, out: Path | str, date: str) -> dict[str, Any]:
    """Write the data set of a scale whose stages 01 and 02 are done.

    Args:
        out: the folder: new, empty, an older data set, or one that was not finished.
        date: the ISO date of publication.

    Returns:
        Its manifest. Rows in are those of the catalogue: out, or rejected by reason.

    Raises:
        CommonCanvasError: a stage has not run, a work lacks a credit, or the folder
            holds something else.
    """
    out = Path(out).resolve()
    licensed, captioned = (
        stage_dir(scale, slug) for slug in ("01_licenses", "02_captions")
    )
    stages = [read_manifest(folder, verify=False) for folder in (licensed, captioned)]
    listed = takedown.read_list()
    key = key_of(  # of what is written, wherever it lies
        stages=[sha256_of(folder / NAME) for folder in (licensed, captioned)],
        takedown=sorted(listed),
        code=code_hash("release.records"),
    )
    _prepare(out, key)
    # Pictures and captions are compared file by file, as they are read.
    name = "catalog.parquet"
    compare(licensed, {name: stages[0]["files"][name]}, {name: licensed / name})
    work = key_of(content=key, out=str(out))
    shards = _Shards(out, work, stages, listed)
    places = shards.write(licensed, captioned)
    rejected, num_taken = write_rejected(out, licensed, listed)
    files = [out / place for place in places]
    if not files:
        raise ManifestError(
            f"01_licenses of {scale} has no work under a Creative Commons licence; "
            "expected one or more to release; see there why works were rejected."
        )
    write_ledger(out, files)
    facts = dataset_card.facts_of(files, rejected, captioners_of(stages[1]["facts"]))
    facts |= {"key": key, "date": date, "taken_down": num_taken}
    dataset_card.write_card(out, scale, facts, places)
    for old in out.glob(f"{LEFTOVER}*"):
        remove(old)
    remove(out / _MARK)
    if num_taken:
        rejected = rejected | {takedown.REASON: num_taken}
    num_in, num_out = stages[0]["counts"]["in"], facts["works"]
    manifest = write_manifest(out, STAGE, scale, None, num_in, num_out, rejected, facts)
    finish(work)
    return manifest


def _prepare(out: Path, key: str) -> None:
    """Make the folder ready: what another run left there goes, this one's stays."""
    mark = out / _MARK
    begun = mark.is_file()
    check_own(out, STAGE, lambda name: begun and bool(_OURS.fullmatch(name)))
    old = mark.read_text() if mark.is_file() else ""
    if not old and (out / NAME).is_file():
        old = read_manifest(out, verify=False)["facts"].get("key", "")
    with writing(out):
        if out.exists() and old != key:
            for path in out.iterdir():  # nothing but ours is there
                remove(path)
        out.mkdir(parents=True, exist_ok=True)
        mark.write_text(key)
        remove(out / NAME)


class _Shards:
    """Writes the records, some files of stage 01 a shard, each shard once."""

    def __init__(
        self, out: Path, key: str, stages: list[dict[str, Any]], listed: set[str]
    ) -> None:
        self.out, self.work, self.listed = out, work_folder(key), listed
        self.pictures, self.captions = (stage["files"] for stage in stages)
        self.captioners = captioners_of(stages[1]["facts"])

    def write(self, licensed: Path, captioned: Path) -> dict[str, int]:
        """Write what is not there yet; return {place of a file: rows}, sorted."""
        self.folder, self.captioned = licensed, captioned
        schema = pq.read_schema(licensed / "catalog.parquet").names
        columns = [*NEEDED, *(n for n in ("caption", "captioner") if n in schema)]
        numbers = {file: n for n, file in enumerate(picture_files(licensed))}
        works = works_by_file(licensed, columns)
        found: dict[str, int] = {}
        with tqdm(
            total=count_pictures(licensed), desc="data set", unit="", file=sys.stderr
        ) as bar:
            for shard, files in itertools.groupby(
                works, lambda one: numbers[one[0]] // FILES_PER_SHARD
            ):
                done = self._done(shard)
                if done is None:
                    done = self._write(shard, files, bar)
                else:
                    bar.update(sum(len(rows) for _, rows in files))
                found |= done
        return dict(sorted(found.items()))

    def _done(self, shard: int) -> dict[str, int] | None:
        """Return the files of a shard that was written whole, else None."""
        record = self.work / f"{shard:05d}.json"
        if not record.is_file():
            return None
        told = read_json(record)
        for place, facts in told.items():
            file = self.out / place
            if not file.is_file() or sha256_of(file) != facts["sha256"]:
                return None
        return {place: facts["rows"] for place, facts in told.items()}

    def _write(self, shard: int, files: Iterator[Any], bar: Any) -> dict[str, int]:
        part = self.out / f"{LEFTOVER}{shard:05d}"
        remove(part)
        writers: dict[str, pq.ParquetWriter] = {}
        rows: dict[str, int] = defaultdict(int)
        with writing(self.out):
            for file, works in files:
                for place, table in self._tables(shard, file, works):
                    if place not in writers:
                        (part / place).parent.mkdir(parents=True, exist_ok=True)
                        writers[place] = pq.ParquetWriter(
                            part / place, SCHEMA, compression="zstd"
                        )
                    writers[place].write_table(table)
                    rows[place] += len(table)
                bar.update(len(works))
            for place, writer in writers.items():
                writer.close()
                (self.out / place).parent.mkdir(parents=True, exist_ok=True)
                os.replace(part / place, self.out / place)
            remove(part)
        record = {
            place: {"rows": num, "sha256": sha256_of(self.out / place)}
            for place, num in rows.items()
        }
        write_json(self.work / f"{shard:05d}.json", record)
        return dict(rows)

    def _tables(
        self, shard: int, file: Path, works: pd.DataFrame
    ) -> Iterator[tuple[str, pa.Table]]:
        """Yield (place, records) of the works of one file that are released."""
        name = f"{file.parent.name}/{file.name}"
        compare(self.folder, {name: self.pictures[name]}, {name: file})
        is_in = works["split"].isin(SPLITS) & ~takedown.is_listed(works, self.listed)
        works = works[is_in].reset_index(drop=True)
        if works.empty:
            return
        picture_of = dict(read_pictures(file, SPLITS))
        data = [picture_of[key] for key in works["key"]]
        told = self._captions(file, works)
        frame = make_records(works, data, told, LEADING)
        sizes = zip(frame["license_slug"], frame["width"], frame["height"], strict=True)
        kind = frame["is_holdout"].map({False: "part", True: "holdout"})
        ends = kind + f"-{shard:05d}.zstd.parquet"
        places = [place_of(*size, shard) for size in sizes]
        for place, rows in frame.groupby(pd.Series(places) + "/" + ends):
            table = pa.Table.from_pandas(rows, SCHEMA, preserve_index=False)
            yield str(place), table.replace_schema_metadata(SCHEMA.metadata)

    def _captions(self, file: Path, works: pd.DataFrame) -> dict[str, list[Caption]]:
        """Return {key: its captions}: of stage 02, then what came with the work."""
        source = captions_file(self.captioned, file)
        name = f"{source.parent.name}/{source.name}"
        compare(self.captioned, {name: self.captions[name]}, {name: source})
        table = pq.read_table(source, columns=["key", "source", "caption"])
        found: dict[str, list[Caption]] = defaultdict(list)
        for row in table.filter(pc.field("caption") != "").to_pylist():
            captioner = self.captioners.get(row["source"], row["source"])
            found[row["key"]].append(_caption(row["source"], captioner, row["caption"]))
        if "caption" in works:
            stated = works[works["caption"].fillna("") != ""]
            for row in stated[["key", "captioner", "caption"]].itertuples():
                one = _caption(STATED, row.captioner, row.caption)
                found[row.key].append(one)
        return found


def _caption(source: str, captioner: str, caption: str) -> Caption:
    return {"caption_source": source, "captioner": captioner, "caption": caption}


def write_rejected(
    out: Path, licensed: Path, listed: set[str]
) -> tuple[dict[str, int], int]:
    """Write the rejected rows with their reasons, but no work that was taken down.

    Returns:
        ({reason: rows}, number of works of the catalogue that were taken down).
    """
    counts: dict[str, int] = defaultdict(int)
    num_taken, number = 0, 0
    columns = ", ".join([*STATED_REJECTED, "split", *takedown.SUMS])
    query = f"SELECT {columns} FROM read_parquet(?) ORDER BY key"
    with dataset_card.connect() as connection:
        file = glob.escape(str(licensed / "catalog.parquet"))
        reader = connection.sql(query, params=[file]).to_arrow_reader(2**16)
        writer, room = None, 0
        for batch in reader:
            rows = batch.to_pandas()
            is_taken = rows["reason"].eq(takedown.REASON)
            is_taken |= takedown.is_listed(rows, listed)
            num_taken += int(is_taken.sum())
            rows.loc[rows["split"] == "web", ["split", "reason"]] = [REJECTED, WEB]
            rows = rows[~is_taken & ~rows["split"].isin(SPLITS)]
            for reason, num in rows["reason"].value_counts().items():
                counts[str(reason)] += int(num)
            table = pa.Table.from_pandas(
                rows[STATED_REJECTED],
                pa.schema([(name, pa.string()) for name in STATED_REJECTED]),
                preserve_index=False,
            )
            if writer is None or room < len(table):
                if writer:
                    writer.close()
                place = out / REJECTED / f"rejected-{number:05d}.parquet"
                place.parent.mkdir(exist_ok=True)
                writer = pq.ParquetWriter(place, table.schema, compression="zstd")
                number, room = number + 1, ROWS
            writer.write_table(table)
            room -= len(table)
        if writer:
            writer.close()
    return dict(sorted(counts.items(), key=lambda one: (-one[1], one[0]))), num_taken


def write_ledger(out: Path, files: list[Path]) -> None:
    """Write the attribution ledger of all records, and its first works as text."""
    names = {"title": "work_title", "sha256": "pixels_sha256"}
    columns: Mapping[str, str] = attribution.COLUMNS
    chosen = [f"{names.get(own, own)} AS {name}" for own, name in columns.items()]
    query = f"SELECT {', '.join(chosen)}, changes FROM read_parquet(?) ORDER BY key"
    with dataset_card.connect() as connection, writing(out):
        listed = [glob.escape(str(file)) for file in files]
        rows = connection.sql(query, params=[listed])
        rows.to_parquet(str(out / "ledger.parquet"), compression="zstd")
    ledger = pq.ParquetFile(out / "ledger.parquet")
    lacking = 0
    for batch in ledger.iter_batches(2**16):
        lacking += len(attribution.missing_credits(batch.to_pandas()))
    if lacking:
        raise ManifestError(
            f"{lacking} works have no full row in the ledger; expected one each; run "
            "01_licenses again."
        )
    first = next(ledger.iter_batches(attribution.MOST)).to_pandas()
    text = attribution.attribution_text(first)
    if ledger.metadata.num_rows > len(first):
        text += dataset_card.MORE
    (out / "ATTRIBUTION.md").write_text(text, encoding="utf-8")


def report(scale: str, out: Path, date: str | None, repo: str | None) -> None:
    """Release the data set and print what was made; upload it if a repository is named.

    Args:
        date: of publication, ISO; None is today, UTC.
    """
    facts = release_data(scale, out, published_on(date))["facts"]
    left = sum(facts["rejected"].values()) + facts["taken_down"]
    print(f"{shown(out)}: {facts['works']:,} works, {left:,} rows left out")
    if repo:
        print(upload(Path(out).resolve(), repo, "dataset"))


def published_on(date: str | None) -> str:
    """Return an ISO date, today's (UTC) for None.

    Raises:
        ParameterError: it is none.
    """
    if date is None:
        return dt.datetime.now(dt.UTC).date().isoformat()
    try:
        return dt.date.fromisoformat(date).isoformat()
    except ValueError:
        raise ParameterError(
            f"--date is {date!r}; expected an ISO date such as 2026-11-28; correct it."
        ) from None

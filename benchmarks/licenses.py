"""Benchmark of the licence split: this package beside pandas and polars.

`python benchmarks/licenses.py` makes up metadata with YFCC100M's columns and licence
counts, and gives every engine the same job, each in a fresh process. All results are
reported, missed goals included.
"""

import argparse
import bz2
import datetime as dt
import importlib
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from commoncanvas.catalog import splits, streams
from commoncanvas.catalog.made_up import (
    made_up,
    paper_split,
    scaled_counts,
    write_parquet,
)
from commoncanvas.catalog.sources import yfcc
from commoncanvas.core.errors import CheckFailed, CommonCanvasError, SourceError
from commoncanvas.core.files import write_json

if TYPE_CHECKING:
    import pandas as pd

JOB = (
    "read photoid, marker, licensename and licenseurl from parquet; read every row's "
    "licence; count the rows by split, videos rejected; write key, license_slug and "
    "split of the rows kept as parquet"
)
NUM_THREADS = int(os.environ.get("BENCH_THREADS", 2))  # and cores


def expected_splits(rows: int) -> dict[str, int]:
    """Return {split: rows} that a split of `made_up` must find; videos are rejected."""
    names = {"by": "c", "by-sa": "c", "by-nc": "nc", "by-nc-sa": "nc"}
    counts = dict.fromkeys(splits.SPLITS, 0)
    for (slug, marker), number in scaled_counts(rows).items():
        counts["rejected" if marker else names.get(slug, "nd")] += number
    return counts


def write_bz2(path: Path | str, rows: int, seed: int = 0, num_threads: int = 2) -> None:
    """Write `made_up` works as YFCC100M's tab-separated text, packed; 23 columns."""
    works = made_up(splits.connect("4GB", num_threads), rows, seed)
    cells = ", ".join(f"CAST({name} AS VARCHAR)" for name in yfcc.COLUMNS)
    lines = works.select(f"concat_ws(chr(9), {cells}) || chr(10) AS line")
    with bz2.open(path, "wb") as file:
        for batch in lines.to_arrow_reader(100_000):
            file.write("".join(batch["line"].to_pylist()).encode())


def run_ours(path: str, out: str) -> dict[str, int]:
    """Do the job with this package; it also writes version, title, deed and reason."""
    connection = splits.connect(num_threads=NUM_THREADS)
    rows = yfcc.read_parquet(connection, path)
    return splits.split_metadata(connection, rows, out, ["key"]).splits


def run_ours_bz2(path: str, out: str) -> dict[str, int]:
    """Split a packed tab-separated file and write every column of it."""
    connection = splits.connect(num_threads=NUM_THREADS)
    rows = yfcc.read_tsv(connection, path)
    return splits.split_metadata(connection, rows, out).splits


def run_unpack(path: str, out: str) -> None:
    """Unpack a file with the same decompressor, and do nothing with it."""
    with pa.input_stream(str(path)) as stream:
        while stream.read(streams.BLOCK):
            pass


def run_pandas(path: str, out: str) -> dict[str, int]:
    """Do the job as an experienced user of pandas: each statement is read once."""
    import pandas as pd

    pair = ["licensename", "licenseurl"]
    frame = pd.read_parquet(path, columns=["photoid", "marker", *pair])
    statements = frame[pair].drop_duplicates()
    read = [splits.verdict(*row) for row in statements.itertuples(index=False)]
    verdicts = pd.DataFrame(read, statements.index)[["license_slug", "split"]]
    frame = frame.merge(statements.join(verdicts), on=pair)
    frame.loc[frame["marker"] == 1, "split"] = "rejected"
    return _keep_pandas(frame, out)


def run_pandas_rows(path: str, out: str) -> dict[str, int]:
    """Do the job as a beginner: a Python function for every row."""
    import pandas as pd

    name, url = "licensename", "licenseurl"
    frame = pd.read_parquet(path, columns=["photoid", "marker", name, url])
    read = frame.apply(lambda row: splits.verdict(row[name], row[url]), axis=1)
    frame["license_slug"] = [row["license_slug"] for row in read]
    frame["split"] = [row["split"] for row in read]
    frame.loc[frame["marker"] == 1, "split"] = "rejected"
    return _keep_pandas(frame, out)


def _keep_pandas(frame: "pd.DataFrame", out: str) -> dict[str, int]:
    kept = frame[frame["split"] != "rejected"]
    kept = kept.assign(key="yfcc100m/" + kept["photoid"].astype(str))
    kept[["key", "license_slug", "split"]].to_parquet(out)
    return frame["split"].value_counts().to_dict()


def run_polars(path: str, out: str) -> dict[str, int]:
    """Do the job with polars, lazily and streaming."""
    import polars as pl

    pair = ["licensename", "licenseurl"]
    frame = pl.scan_parquet(path).select("photoid", "marker", *pair)
    statements = frame.select(pair).unique().collect(engine="streaming")
    verdicts = pl.DataFrame([splits.verdict(*row) for row in statements.iter_rows()])
    statements = statements.with_columns(verdicts["license_slug"], verdicts["split"])
    split = pl.when(pl.col("marker") == 1).then(pl.lit("rejected"))
    frame = frame.join(statements.lazy(), on=pair, how="left")
    frame = frame.with_columns(split.otherwise("split").alias("split"))
    counts = frame.group_by("split").len().collect(engine="streaming")
    kept = frame.filter(pl.col("split") != "rejected")
    key = pl.format("yfcc100m/{}", "photoid").alias("key")
    kept.select(key, "license_slug", "split").sink_parquet(out)
    return dict(counts.iter_rows())


ENGINES = {
    "ours": run_ours,
    "pandas": run_pandas,
    "pandas by row": run_pandas_rows,
    "polars": run_polars,
    "ours, bz2": run_ours_bz2,
    "bz2": run_unpack,
}


def run_child(engine: str, path: str, out: str) -> dict[str, Any]:
    """Run one engine in this process; return its seconds, peak [MiB] and counts."""
    pa.set_cpu_count(NUM_THREADS)
    # Engines start threads besides those they are told of: cores bound them all alike.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-NUM_THREADS:])
    # Imports are not timed; pyarrow's writer imports pandas too.
    importlib.import_module("polars" if engine == "polars" else "pandas")
    start, worked = time.perf_counter(), time.process_time()
    counts = ENGINES[engine](path, out)
    seconds = time.perf_counter() - start
    cpu = time.process_time() - worked  # a busy machine leaves this nearly as it is
    # Not ru_maxrss, which a process inherits from the one that started it.
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {
        "seconds": seconds,
        "cpu": cpu,
        "mib": int(peak.split()[1]) / 1024,
        "counts": counts,
    }


def measure(engine: str, path: Path, repeats: int) -> dict[str, Any]:
    """Run an engine in fresh processes; return the fastest run, and the highest peak.

    Raises:
        SourceError: the engine is not installed, or failed.
    """
    names = ("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "BENCH_THREADS")
    limits = dict.fromkeys(names, str(NUM_THREADS))
    runs = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            command = [sys.executable, __file__, "--child"]
            command += [engine, str(path), f"{folder}/out"]
            done = subprocess.run(
                command, capture_output=True, text=True, env=os.environ | limits
            )
        run = json.loads(done.stdout or '{"error": "it was killed"}')
        if "error" in run:
            raise SourceError(f"{engine}: {run['error']}")
        runs.append(run)
    fastest = min(runs, key=lambda run: run["seconds"])
    return fastest | {"mib": max(run["mib"] for run in runs), "runs": repeats}


def benchmark(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make metadata up in `folder`, run every engine on it, and return the report.

    Raises:
        SourceError: an engine failed.
        CheckFailed: two engines count differently, or one not as it was made.
    """
    large, small, packed = (folder / n for n in ("large.pq", "small.pq", "m.tsv.bz2"))
    write_parquet(large, options.rows)
    write_parquet(small, options.small_rows)
    write_bz2(packed, options.bz2_rows)
    engines = ["ours", *options.engines.split(",")]
    tasks = {name: (name, large, options.rows) for name in engines}
    tasks |= {
        "ours, fewer rows": ("ours", small, options.small_rows),
        "pandas by row": ("pandas by row", small, options.small_rows),
        "bz2": ("bz2", packed, options.bz2_rows),
        "ours, bz2": ("ours, bz2", packed, options.bz2_rows),
    }
    runs = {}
    for name, (engine, path, number) in tasks.items():
        if engine == "polars" and not _version("polars"):
            print("polars is not installed; pip install polars")
            continue
        # Row by row takes minutes, so it is run once.
        run = measure(engine, path, 1 if engine == "pandas by row" else options.repeats)
        counts, expected = run.pop("counts"), expected_splits(number)
        if counts is not None and counts != expected:
            raise CheckFailed(
                f"{name} counts {counts}; expected {expected}; correct it."
            )
        run |= {"rows": number, "rows_per_second": number / run["seconds"]}
        runs[name] = run
        print(
            f"{name:18}{number:>12,}{run['seconds']:>9.2f}{run['mib']:>8,.0f}"
            f"{run['rows_per_second']:>14,.0f}",
            flush=True,
        )
    return {
        "job": JOB,
        "machine": _machine(),
        "threads": NUM_THREADS,
        "date": dt.date.today().isoformat(),
        "versions": {n: _version(n) for n in ("duckdb", "pyarrow", "pandas", "polars")},
        "runs": runs,
        "goals": _goals(runs),
        "paper": paper_split(expected_splits(100_000_000)),
    }


def _goals(runs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return for each goal its aim, the value measured and whether it holds."""
    ours, small = runs["ours"], runs["ours, fewer rows"]
    times = {name: run["seconds"] for name, run in runs.items()}
    found = [
        ("rows a second", ">=", 1e6, ours["rows_per_second"]),
        ("peak memory, all rows to fewer", "<=", 1.2, ours["mib"] / small["mib"]),
        ("time from bz2 to bz2 alone", "<=", 1.25, times["ours, bz2"] / times["bz2"]),
    ]
    for other, same, aim in (
        ("pandas", "ours", 10),
        ("pandas by row", "ours, fewer rows", 10),
        ("polars", "ours", 1),
    ):
        if other in runs:
            found.append((f"speed to {other}", ">=", aim, times[other] / times[same]))
    if "polars" in runs:
        cpu = runs["polars"]["cpu"] / ours["cpu"]
        found.append(("speed to polars by processor time", ">=", 1, cpu))
    return [
        {
            "goal": f"{name} {sign} {aim:,g}",
            "found": value,
            "holds": value >= aim if sign == ">=" else value <= aim,
        }
        for name, sign, aim, value in found
    ]


def _machine() -> str:
    info = [Path(f"/proc/{name}").read_text() for name in ("cpuinfo", "meminfo")]
    gib = round(int(info[1].split()[1]) / 2**20)
    return f"{os.cpu_count()} cores{', AVX2' * ('avx2' in info[0])}, {gib} GiB"


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark, print its table, and write the report if asked."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/licenses.py",
        description="Time the split by licence: this package, pandas, polars.",
    )
    add = parser.add_argument
    add("--rows", type=int, default=20_000_000, help="rows of metadata")
    add("--small-rows", type=int, default=1_000_000, help="rows to compare memory with")
    add("--bz2-rows", type=int, default=1_000_000, help="rows of packed text")
    add("--engines", default="ours,pandas,polars", help="some of ours,pandas,polars")
    add("--repeats", type=int, default=3, help="runs of each; the fastest counts")
    add("--folder", type=Path, help="where to write, 150 bytes a row")
    add("--json", type=Path, help="file to write the report to")
    add("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.child:
        try:
            print(json.dumps(run_child(*options.child)))
        except Exception as error:  # reported by the process that waits for it
            print(json.dumps({"error": f"{type(error).__name__}: {error}"}))
        return
    try:
        if options.folder:
            Path(options.folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            print(f"job: {JOB}\nengine{'rows':>24}{'s':>9}{'MiB':>8}{'rows/s':>14}")
            report = benchmark(Path(folder), options)
    except CommonCanvasError as error:
        sys.exit(str(error))
    for goal in report["goals"]:
        word = "holds" if goal["holds"] else "missed"
        print(f"{goal['goal']}: {goal['found']:,.2f}, {word}")
    if options.json:
        write_json(options.json, report)


if __name__ == "__main__":
    main()

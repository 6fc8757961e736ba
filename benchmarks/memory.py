"""Memory and time of stages 01 to 03 and of stage 05's references, by pictures.

`python -m benchmarks.memory --sizes 2000,20000,200000` makes up CommonCatalogs of so
many different real pictures of 64 px, runs each stage in a process of its own, and
keeps its largest resident size and the seconds of its processors. The networks are the
rehearsal's tiny ones, so what grows is what the pictures take. It goes on where it was
stopped; what is kept is kept by size and stage.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import read_json, write_json, write_text
from commoncanvas.core.settings import load_yaml
from tests.rehearsal import commoncatalog, networks
from tests.rehearsal.photographs import HERE, photographs
from tests.support.trees import copy_project

EDGE = 64  # of the pictures [pixels]
ROWS_PER_FILE = 10_000
STAGES = ["01_licenses", "02_captions", "03_latents", "references"]
FLAT = 1.3  # times the memory of a tenth of the pictures: no more is flat
LINEAR = 1.2  # times the time per picture of a tenth of the pictures
NUM_REFERENCE = 30_000  # the paper's [pictures]
CATALOG_C = 26_000_000  # about its pictures


def write_pictures(folder: Path, num: int, seed: int = 17) -> None:
    """Write a CommonCatalog of `num` different crops of photographs, 64 px, as JPEG."""
    rng = np.random.default_rng(seed)
    chosen = [p for p in photographs(HERE / "photographs") if p.license.slug == "by"]
    opened = [Image.open(photograph.path).convert("RGB") for photograph in chosen]
    for part, first in enumerate(range(0, num, ROWS_PER_FILE)):
        rows = []
        for number in range(first, min(first + ROWS_PER_FILE, num)):
            place = int(rng.integers(len(chosen)))
            width, height = opened[place].size
            edge = int(rng.integers(EDGE, 4 * EDGE))
            left, top = rng.integers(width - edge), rng.integers(height - edge)
            box = (int(left), int(top), int(left) + edge, int(top) + edge)
            image = opened[place].resize((EDGE, EDGE), Image.Resampling.BOX, box)
            title = f"{chosen[place].title} {number}"
            told = chosen[place], image, title, number % 3 == 0
            rows.append(commoncatalog.row_of(number, "cc-by", *told))
        commoncatalog.write_set(folder / f"{part:05d}", rows, is_struct=False)


def write_captions(file: Path, num: int) -> None:
    """Write a caption of each picture, all different, as another's captions come."""
    with file.open("w") as lines:
        for number in range(num):
            key = f"commoncatalog/{3_000_000_000 + number}"
            told = {"key": key, "caption": f"a photograph with the number {number}"}
            lines.write(json.dumps(told) + "\n")


def profile_of(num: int) -> dict[str, Any]:
    """Return the profile `rehearsal` for `num` pictures of 64 px, captions imported."""
    profile = load_yaml(paths.PROFILES / "rehearsal.yaml")
    parts = -(-num // ROWS_PER_FILE)
    roots = [f"pictures-{num}/{part:05d}" for part in range(parts)]
    sources = [f"commoncatalog:256-512:{root}" for root in roots]
    told = {"captioner": "imported", "file": f"captions-{num}.jsonl"}
    profile["licenses"] |= {"cc_sources": sources, "picture_size_px": EDGE}
    profile["licenses"] |= {"metadata_rows": 2000}
    profile["captions"] |= {"captioners": {"synthetic": told}, "prompt_file": ""}
    profile["latents"] |= {"resolution_px": EDGE}
    for section in profile.values():
        section |= {"engine": "local"} if "engine" in section else {}
    return profile


class Peak:
    """The most memory of any process below one [bytes], while it runs.

    `bytes` is what a process had for itself, looked at five times a second; `resident`
    has the pages of files besides, which the system takes back when it needs them.
    """

    def __init__(self, root: int) -> None:
        self.root, self.bytes, self.resident = root, 0, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(0.2):
            for pid in _below(self.root):
                own, resident = _memory(pid)
                self.bytes = max(self.bytes, own)
                self.resident = max(self.resident, resident)

    def close(self) -> dict[str, int]:
        self.ended.set()
        self.thread.join()
        return {"bytes": self.bytes, "resident_bytes": self.resident}


def _below(root: int) -> list[int]:
    """Return a process and all its descendants."""
    parent_of = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent_of[int(stat.parent.name)] = int(
                stat.read_text().rpartition(")")[2].split()[1]
            )
        except OSError:
            continue
    found = [root]
    for one in found:  # it grows
        found += [pid for pid, parent in parent_of.items() if parent == one]
    return found


def _memory(pid: int) -> tuple[int, int]:
    """Return a process's own memory, and the largest that was resident [bytes]."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0, 0
    found = dict(line.partition(":")[::2] for line in status.splitlines())
    told = [found.get(n, "0 kB") for n in ("RssAnon", "RssShmem", "VmHWM")]
    own, shared, largest = (1024 * int(text.split()[0]) for text in told)
    return own + shared, largest


def measure(root: Path, num: int, stage: str) -> dict[str, float]:
    """Run one stage of one size; return its bytes (see `Peak`) and CPU seconds.

    Raises:
        CommonCanvasError: the stage failed; the last line of what it printed.
    """
    scale = f"memory-{num}"
    command = [sys.executable, "-m", "commoncanvas", "run", stage, "--scale", scale]
    if stage == "references":
        command = [sys.executable, "-m", "benchmarks.memory", "--references", scale]
    environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    environment.pop("DVC_STAGE", None)
    with (root / f"{scale}-{stage}.log").open("w+b") as log:
        child = subprocess.Popen(
            command, cwd=root, env=environment, stdout=log, stderr=log
        )
        peak = Peak(child.pid)
        # With its children, all of which it has waited for.
        _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        largest = peak.close()
        if status:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().rpartition("\n")[2]
            raise CommonCanvasError(f"{stage} of {num} pictures: {last}")
    return largest | {"cpu_seconds": round(usage.ru_utime + usage.ru_stime, 2)}


def make_references(scale: str) -> None:
    """Take stage 05's reference of held-out works, and CLIP's features of it."""
    from commoncanvas.evaluate.extractors import load_extractors
    from commoncanvas.evaluate.references import find_reference
    from commoncanvas.latents.reader import Latents

    above = paths.stage_dir(scale, "03_latents")
    held = Latents(above, ["c"], "human", holdout=True)
    owned = paths.stage_dir(scale, "01_licenses")
    sets = {"names": {"kind": "names"}}
    reference = find_reference(sets, held, owned, NUM_REFERENCE, seed=17)
    clip = {"model": "models/clip-vit-base-patch32"}
    extractors = load_extractors({"efficientnet": {}, "clip": clip})
    features = reference.features(extractors, EDGE)
    click.echo({name: found.shape for name, found in features.items()})


def prepare(root: Path, sizes: Sequence[int]) -> None:
    """Copy the project to `root`, with networks, pictures and profiles beside it."""
    if not (root / "models").is_dir():
        networks.save_all(root / "new", photographs(HERE / "photographs"))
        (root / "new").rename(root / "models")
    copy_project(root, "tiny", ["cc_synthetic"])
    if not (root / "sources").is_symlink():
        (root / "sources").symlink_to(paths.SOURCES.resolve())
    for num in sizes:
        pictures = root / f"pictures-{num}"
        if not pictures.is_dir():
            shutil.rmtree(root / "new", ignore_errors=True)
            write_pictures(root / "new", num)
            (root / "new").rename(pictures)
        write_captions(root / f"captions-{num}.jsonl", num)
        text = json.dumps(profile_of(num)).replace("sources/rehearsal/", "")
        # JSON is YAML, too.
        (root / "profiles" / f"memory-{num}.yaml").write_text(text)


Found = Mapping[str, Mapping[str, Mapping[str, float]]]  # {size: {stage: measured}}


def rows_of(found: Found) -> list[dict[str, Any]]:
    """Return a row a stage and size: what was measured and what a picture more costs.

    The slope is that from the size before; bytes at 26 million are told by the last.
    """
    rows = []
    for stage in STAGES:
        sizes = sorted(int(num) for num, stages in found.items() if stage in stages)
        for place, num in enumerate(sizes):
            here = found[str(num)][stage]
            row = {"stage": stage, "pictures": num, "MB": here["bytes"] / 1e6}
            row["resident_MB"] = here["resident_bytes"] / 1e6
            row["cpu_seconds"] = here["cpu_seconds"]
            if place:
                less = sizes[place - 1]
                before = found[str(less)][stage]
                more = num - less
                slope = max(0.0, here["bytes"] - before["bytes"]) / more
                seconds = (here["cpu_seconds"] - before["cpu_seconds"]) / more
                row |= {"bytes_a_picture": slope, "ms_a_picture": 1e3 * seconds}
                row["times"] = here["bytes"] / before["bytes"]
                row["GB_at_26_million"] = (
                    here["bytes"] + slope * max(0, CATALOG_C - num)
                ) / 1e9
            rows.append(row)
    return rows


def verdicts(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say of each stage whether memory is flat and time linear at the largest size."""
    lines = []
    for stage in STAGES:
        some = [row for row in rows if row["stage"] == stage and "times" in row]
        if not some:
            continue
        last = some[-1]
        is_flat = last["times"] <= FLAT
        told = f"`{stage}`: {last['times']:.2f} times the memory of the size before, "
        told += "flat" if is_flat else f"{last['bytes_a_picture']:,.0f} bytes a picture"
        if len(some) > 1 and some[-2]["ms_a_picture"] > 0:
            ratio = last["ms_a_picture"] / some[-2]["ms_a_picture"]
            told += f"; a further picture takes {ratio:.2f} times as long as before, "
            told += "linear" if ratio <= LINEAR else "more than linear"
        lines.append(f"{told}.")
    return lines


def as_markdown(found: Found) -> str:
    """Return the page: a table of all rows, and what they say."""
    head = ["stage", "pictures", "memory [MB]", "with files' pages [MB]", "CPU [s]",
            "a further picture [bytes]", "a further picture [ms]",
            "at 26 million [GB]"]  # fmt: skip
    lines = [" | ".join(head), " | ".join(["---", *["---:"] * 7])]
    rows = rows_of(found)
    for row in rows:
        cells = [f"`{row['stage']}`", f"{row['pictures']:,}", f"{row['MB']:,.0f}"]
        cells += [f"{row['resident_MB']:,.0f}", f"{row['cpu_seconds']:,.1f}"]
        for name, form in (("bytes_a_picture", ",.0f"), ("ms_a_picture", ".2f"),
                           ("GB_at_26_million", ",.1f")):  # fmt: skip
            cells.append(format(row[name], form) if name in row else "–")
        lines.append(" | ".join(cells))
    table = "\n".join(f"| {line} |" for line in lines)
    told = "\n".join(f"- {line}" for line in verdicts(rows))
    return f"""# Memory and time by the number of pictures

Measured by `make bench-memory`: real pictures of {EDGE} px, as JPEG, all different, in
CommonCatalog's columns; each stage alone, on one machine, its captions imported, with
the rehearsal's tiny networks. Memory is the most that one process had for itself;
pages of files that it maps come on top while there is room, and are given back when
there is not. CPU is the seconds of all processes. `references` are stage 05's: at most
{NUM_REFERENCE:,} held-out works, which {5 * NUM_REFERENCE:,} pictures have here. What a
further picture costs is told by the size before.

{table}

{told}
"""


@click.command()
@click.option("--sizes", default="2000,20000,200000", help="Pictures: a,b,c.")
@click.option("--root", default=paths.RUNS / "memory", type=click.Path(path_type=Path))
@click.option("--json", "file", default=paths.RESULTS / "memory.json", help="To keep.")
@click.option("--markdown", default=paths.DOCS / "MEMORY.md", help="To write.")
@click.option("--references", "scale", hidden=True)
def main(
    sizes: str, root: Path, file: Path | str, markdown: Path | str, scale: str | None
) -> None:
    """Measure every stage at every size that is not measured yet; write the page."""
    if scale:
        make_references(scale)
        return
    numbers = sorted({int(num) for num in sizes.split(",")})
    file, markdown, failed = Path(file), Path(markdown), 0
    found = read_json(file) if file.exists() else {}
    prepare(root, numbers)
    for num in numbers:
        kept = found.setdefault(str(num), {})
        for stage in [stage for stage in STAGES if stage not in kept]:
            try:
                kept[stage] = measure(root, num, stage)
            except CommonCanvasError as error:
                click.echo(error, err=True)
                failed = 1
                break  # the next stages read this one's
            click.echo(f"{stage} of {num:,}: {kept[stage]}")
            write_json(file, found)
            write_text(markdown, as_markdown(found))
    sys.exit(failed)


if __name__ == "__main__":
    main()

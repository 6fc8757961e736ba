"""Run the hardening corpus and write its results and their page.

`make hardening` tries all of it; `--quick` every tenth named case and a hundredth of
the random inputs, without kills, disks and pairs of runs.
"""

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType

import click
from tqdm import tqdm

from commoncanvas.core.files import read_json, write_json, write_text
from commoncanvas.core.paths import DOCS, RESULTS
from tests.hardening import frame, page

KINDS = """pictures drawings licenses texts tables archives captions votes
takedowns manifests parameters servers kills disks runs rehearsed""".split()
STAGED = ("kills", "disks", "runs", "rehearsed")  # they run whole stages


def module_of(kind: str) -> ModuleType:
    """Return the module of a kind."""
    return importlib.import_module(f"tests.hardening.{kind}")


def corpus(kind: str, seed: int, share: float = 1, stride: int = 1) -> Iterator:
    """Yield a kind's named cases, every `stride`th, and a share of its random ones."""
    module = module_of(kind)
    yield from list(module.cases())[::stride]  # rows of a batch belong together
    if num := round(share * getattr(module, "RANDOM", 0)):
        yield from frame.random_cases(kind, module, num, seed)


def try_kinds(
    kinds: list[str], seed: int, jobs: int, share: float = 1, stride: int = 1
) -> Iterator[frame.Result]:
    """Try kinds, `jobs` at once, and yield every result."""
    waiting, lanes = list(kinds), []
    with tempfile.TemporaryDirectory(prefix="hardening-") as scratch:
        tempfile.tempdir = scratch  # of the lanes, too: nothing of theirs is left
        os.environ["TMPDIR"] = scratch
        try:
            while waiting or lanes:
                while waiting and len(lanes) < jobs:
                    kind = waiting.pop(0)
                    make = partial(corpus, kind, seed, share, stride)
                    lanes.append(frame.Lane(kind, make, Path(scratch, f"{kind}.log")))
                for lane in lanes:
                    yield from lane.look()
                lanes = [lane for lane in lanes if not lane.is_done]
        finally:
            tempfile.tempdir = None
            for lane in lanes:
                frame.left_after(partial(frame.members, lane.process.pid), 0)


@click.command()
@click.option("--only", multiple=True, type=click.Choice(KINDS), help="Try this kind.")
@click.option("--quick", is_flag=True, help="A small part, without whole stages.")
@click.option("--seed", default=17, help="Of the random inputs.")
@click.option("--jobs", default=1, help="Kinds at once.")
def main(only: tuple[str, ...], quick: bool, seed: int, jobs: int) -> None:
    """Try the hostile corpus; write its results and page; end with 1 on any fault.

    Without --quick, the kinds tried replace their entries in results/hardening.json
    and docs/HARDENING.md; Ctrl-C keeps what has been tried of the kinds so far.
    """
    kinds = list(only) or [kind for kind in KINDS if not (quick and kind in STAGED)]
    share, stride = (0.01, 10) if quick else (1, 1)
    tqdm.monitor_interval = 0  # its thread would be forked with the lanes
    results = []
    with contextlib.suppress(KeyboardInterrupt), tqdm(unit="", smoothing=0.05) as bar:
        for result in try_kinds(kinds, seed, jobs, share, stride):
            results.append(result)
            if result.fault:
                what, detail = result.fault
                bar.write(f"{result.kind}, {result.name}: {what}: {detail}")
            bar.set_description(result.kind, refresh=False)
            bar.update(max(result.num, 1))
    hows = {kind: module_of(kind).HOW for kind in kinds}
    found = page.summary(results, hows)
    if not quick:
        file = RESULTS / "hardening.json"
        known = read_json(file) if file.exists() else {}
        merged = {k: (known | found)[k] for k in KINDS if k in known | found}
        write_json(file, merged)
        untried = [kind for kind in KINDS if kind not in merged]
        write_text(DOCS / "HARDENING.md", page.markdown(merged, untried))
    total = page.total(found)
    click.echo(page.sentence(total))
    sys.exit(min(1, total["faults"]))


if __name__ == "__main__":
    main()

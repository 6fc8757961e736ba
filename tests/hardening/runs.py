"""Two runs of one thing at once."""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from tests.hardening.frame import Case, Fault
from tests.hardening.stages import COMMANDS, RUN_S, World, prepared

KIND = "runs"
HOW = "two runs of a stage, or of the downloader on one folder, at once"


def cases() -> Iterator[Case]:
    """Yield pairs of runs: started together, and one a little after the other."""
    yield from prepared(KIND)
    for stage in COMMANDS:
        for share in (0, 0.3, 0.7):
            act = partial(_both, stage, share)
            yield Case(
                KIND, f"two: {stage}, {share} apart", act, None, limit_s=2 * RUN_S
            )
    yield Case(KIND, "two: downloads of one folder", _downloads, None, limit_s=60.0)


def _both(stage: str, share: float) -> None:
    world = World()
    world.forget()
    first = world.start(COMMANDS[stage][-1])
    try:
        first.wait(timeout=share * world.known["seconds"][stage] + 0.01)
    except subprocess.TimeoutExpired:
        pass
    second = world.start(COMMANDS[stage][-1])
    printed = [process.communicate()[1] for process in (second, first)]
    world.expect_no_process()
    if any("Traceback (most recent" in text for text in printed):
        raise Fault("traceback", printed[0][-200:] + printed[1][-200:])
    codes = first.returncode, second.returncode
    if 0 not in codes or any(
        not text.strip() for text, c in zip(printed, codes[::-1], strict=True) if c
    ):
        raise Fault("wrong outcome", f"ended with {codes}")
    world.expect_as_before()


def _downloads() -> None:
    with tempfile.TemporaryDirectory() as folder:
        catalog = Path(folder, "catalog.parquet")
        urls = [f"http://127.0.0.1:9/{n}.jpg" for n in range(2000)]
        pd.DataFrame({"key": urls, "downloadurl": urls}).to_parquet(catalog)
        command = [
            sys.executable,
            "-m",
            "commoncanvas",
            "download",
            str(catalog),
            f"{folder}/to",
        ]
        command += ["--backoff", "0.01"]
        pair = [
            subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        printed = [process.communicate()[1] for process in pair]
        if any("Traceback" in text for text in printed):
            raise Fault("traceback", printed[0][-200:] + printed[1][-200:])
        done = subprocess.run(command, capture_output=True, text=True)
        if "2000 rows" not in done.stdout:
            raise Fault("lost row", done.stdout + done.stderr[-200:])

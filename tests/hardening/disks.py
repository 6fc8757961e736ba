"""Disks that are full or read-only, under stages, downloads and shards."""

import contextlib
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pandas as pd

from tests.hardening.frame import Case, Fault, Refused, refused
from tests.hardening.parameters import call
from tests.hardening.stages import COMMANDS, RUN_S, World, prepared

KIND = "disks"
HOW = (
    "stages where no file may grow beyond a limit, where a folder is a full or "
    "read-only file system (mounted, as root alone), then run again in order"
)
FOLDERS = (".checkpoints", "data/tiny", "reports/executed/tiny", "reports/html")


def cases() -> Iterator[Case]:
    """Yield troubles of disks; those that need a mount for root alone."""
    yield from prepared(KIND)
    for stage in COMMANDS:
        for size in (0, 1_000, 30_000, 300_000):
            act = partial(_limited, stage, size)
            yield Case(
                KIND, f"limit: {stage}, {size:,} bytes a file", act, None, limit_s=RUN_S
            )
        for option in ("ro", "size=64k") if os.geteuid() == 0 else ():
            for folder in FOLDERS:
                act = partial(_mounted, stage, folder, option)
                name = "read-only" if option == "ro" else "full"
                yield Case(KIND, f"{name}: {stage}, {folder}", act, None, limit_s=RUN_S)
        act = partial(_again, stage)
        yield Case(KIND, f"run after troubles: {stage}", act, None, limit_s=RUN_S)
    if os.geteuid() == 0:
        for option in ("ro", "size=64k"):
            act = partial(_download, option)
            yield Case(KIND, f"download: {option}", act, refused)


@contextlib.contextmanager
def mounted(folder: Path, option: str) -> Iterator[None]:
    """Lay a small or read-only file system over a folder, with what is in it."""
    folder.mkdir(parents=True, exist_ok=True)
    kind = ["--bind"] if option == "ro" else ["-t", "tmpfs"]
    place = str(folder) if option == "ro" else "tmpfs"
    options = [] if option == "ro" else ["-o", option]
    subprocess.run(["mount", *kind, *options, place, str(folder)], check=True)
    try:
        if option == "ro":
            remount = ["mount", "-o", "remount,bind,ro", str(folder)]
            subprocess.run(remount, check=True)
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _limited(stage: str, size: int) -> None:
    world = World()
    world.forget()

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    _expect_one_line(world, world.start(COMMANDS[stage][-1], preexec_fn=limit))


def _mounted(stage: str, folder: str, option: str) -> None:
    world = World()
    world.forget()
    with mounted(world.root / folder, option):
        process = world.start(COMMANDS[stage][-1])
        try:
            _expect_one_line(world, process)
        finally:
            process.kill()


def _expect_one_line(world: World, process: subprocess.Popen[str]) -> None:
    found = world.finish(process)
    world.expect_whole()
    if isinstance(found, Refused) and "unexpected pos" in found:
        raise Fault("wrong outcome", f"does not name the disk: {found}")


def _again(stage: str) -> None:
    world = World()
    world.forget()
    found = world.finish(world.start(COMMANDS[stage][-1]))
    if found:
        raise Fault("wrong outcome", found)
    world.expect_as_before()


def _download(option: str) -> object:
    with tempfile.TemporaryDirectory() as scratch:
        catalog = Path(scratch, "catalog.parquet")
        urls = [f"http://127.0.0.1:9/{n}.jpg" for n in range(5000)]
        pd.DataFrame({"key": urls, "downloadurl": urls}).to_parquet(catalog)
        with mounted(Path(scratch, "to"), option):
            return call("download", str(catalog), f"{scratch}/to", "--retries", "0")

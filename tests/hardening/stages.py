"""A copy of the project in which whole stages run, at a small scale."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.files import sha256_of
from commoncanvas.core.manifest import read_manifest
from tests.hardening.frame import LEFT_S, Case, Fault, Refused, left_after
from tests.rehearsal import world as rehearsal
from tests.support.trees import copy_project

VARIANT = "cc_human"
COMMANDS = {
    "01_licenses": [["run", "01_licenses"]],
    "02_captions": [["run", "02_captions"]],
    "03_latents": [["run", "03_latents"]],
    "04_train": [["run", "04_train", "--variant", v] for v in ("cc_synthetic",
    VARIANT)],
    "05_evaluate": [["run", "05_evaluate", "--variant", v] for v in ("cc_synthetic",
    VARIANT)],
    "06_figures": [["run", "06_figures"]],
    "07_speed": [["run", "07_speed"]],
    "pages": [["pages"]],
    "index": [["index"]],
}  # fmt: skip
RUN_S = 900.0  # the limit of a whole stage
TIMED = ("07_speed", "reports/html/index.html")  # these hold timings
WRITTEN = ("data", "reports/executed", "reports/html")


class World:
    """The copy, where every stage has run once undisturbed."""

    def __init__(self, scale: str = "tiny") -> None:
        self.scale = scale
        self.root = Path(tempfile.gettempdir(), f"world-{scale}")
        self.mark = f"HARDENING={uuid.uuid4()}"
        self.record = self.root / "undisturbed.json"
        self.known: dict[str, Any] = {"seconds": {}, "hashes": {}}
        if self.record.exists():
            self.known = json.loads(self.record.read_text())

    def copy(self) -> None:
        """Copy the project, and let its experiment have two variants."""
        shutil.rmtree(self.root, ignore_errors=True)
        if self.scale == "rehearsal":
            rehearsal.make(paths.SOURCES / self.scale)
        copy_project(self.root, self.scale, ["cc_synthetic", VARIANT])
        (self.root / "sources").symlink_to(paths.SOURCES.resolve())

    def start(self, words: list[str], **how: Any) -> subprocess.Popen[str]:
        """Start a verb of the command line in a session of its own."""
        name, _, value = self.mark.partition("=")
        environment = {**os.environ, name: value, "PYTHONPATH": str(self.root)}
        environment |= {"OMP_NUM_THREADS": "1"}
        environment.pop("DVC_STAGE", None)
        command = [sys.executable, "-m", "commoncanvas", *words]
        command += ["--scale", self.scale]
        command = how.pop("before", []) + command
        pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            command, cwd=self.root, env=environment, start_new_session=True,
            text=True, errors="replace", **pipes, **how,
        )  # fmt: skip

    def finish(self, process: subprocess.Popen[str]) -> Refused | int:
        """Wait for a run; return 0, or its last line; a traceback is a fault."""
        printed = process.communicate()[1]
        self.expect_no_process()
        last = (printed.strip().splitlines() or [""])[-1]
        if "Traceback (most recent" in printed:
            raise Fault("traceback", f"{last} …{printed[-150:]}")
        if process.returncode:
            if not last.strip():
                raise Fault(
                    "wrong outcome", f"ended with {process.returncode}, no word"
                )
            return Refused(last)
        return 0

    def run(self, stage: str) -> None:
        """Run a stage to its end, all its variants."""
        for words in COMMANDS[stage]:
            if found := self.finish(self.start(words)):
                raise Fault("wrong outcome", f"{stage}: {found}")

    def first_run(self, stage: str) -> None:
        """Run a stage undisturbed, and remember its seconds and files."""
        if stage == "01_licenses":
            self.copy()
        start = time.monotonic()
        self.run(stage)
        used = time.monotonic() - start
        self.known["seconds"][stage] = used / len(COMMANDS[stage])
        self.known["hashes"] = self.hashes()
        self.record.write_text(json.dumps(self.known))

    def hashes(self) -> dict[str, str]:
        """Hash every file that stages wrote; those that hold timings by name alone."""
        found = {}
        for place in WRITTEN:
            for path in sorted((self.root / place).rglob("*")):
                name = path.relative_to(self.root).as_posix()
                if path.is_file() and not name.startswith(f"data/{self.scale}/00"):
                    is_timed = any(part in name for part in TIMED)
                    found[name] = "timed" if is_timed else sha256_of(path)
        return found

    def expect_whole(self) -> None:
        """Raise a fault where a folder is not what its manifest says."""
        for path in (self.root / "data").rglob("manifest.json"):
            try:
                read_manifest(path.parent, verify=True)
            except CommonCanvasError as error:
                raise Fault("half-read file", error) from None

    def expect_as_before(self) -> None:
        """Raise a fault where the files differ from those of the undisturbed runs."""
        self.expect_whole()
        found, right = self.hashes(), self.known["hashes"]
        names = sorted(
            n for n in found.keys() | right.keys() if found.get(n) != right.get(n)
        )
        if names:
            raise Fault(
                "differing bytes", f"{len(names)} files: {', '.join(names[:4])}"
            )

    def processes(self) -> list[int]:
        """Return the processes that this world's runs have started."""
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                is_ours = self.mark.encode() in path.read_bytes()
                state = (path.parent / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if is_ours and state not in "ZX":
                found.append(int(path.parent.name))
        return found

    def expect_no_process(self) -> None:
        """Raise a fault where a process of a run is left after three seconds."""
        if left := left_after(self.processes):
            names = ", ".join(left)
            raise Fault("process left", f"{len(left)} after {LEFT_S:g} s: {names}")

    def kill(self, stage: str, share: float, how: str) -> None:
        """Kill a stage after a share of its known seconds; nothing may be left."""
        process = self.start(COMMANDS[stage][-1])
        wait_s = share * self.known["seconds"][stage]
        try:
            process.wait(timeout=wait_s)
        except subprocess.TimeoutExpired:
            signals = {"SIGTERM": signal.SIGTERM, "SIGINT": signal.SIGINT}
            if how == "SIGKILL to all":
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.send_signal(signals.get(how, signal.SIGKILL))
        process.stderr.close()  # type: ignore[union-attr]
        self.expect_no_process()  # the runner among them
        process.wait()
        self.expect_whole()

    def forget(self) -> None:
        """Remove kept work, so that a stage computes anew."""
        for name in (".checkpoints", ".finished"):
            shutil.rmtree(self.root / name, ignore_errors=True)


def prepared(kind: str, scale: str = "tiny") -> Iterator[Case]:
    """Yield the undisturbed runs, left out where an earlier process has made them."""
    for stage in COMMANDS:
        act = partial(_needed, stage, scale)
        yield Case(kind, f"undisturbed: {stage}", act, None, limit_s=RUN_S)


def _needed(stage: str, scale: str) -> None:
    world = World(scale)
    if stage not in world.known["seconds"]:
        world.first_run(stage)

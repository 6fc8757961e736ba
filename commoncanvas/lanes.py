"""Run the stages that changed side by side, where plain `dvc repro` takes turns.

DVC knows the graph and what has changed, and each stage is a `dvc repro --single-item`
of its own: dvc.lock and the run cache are DVC's work alone. A stage whose `meta` in
dvc.yaml says why it runs `alone` has the machine to itself.
"""

import functools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from commoncanvas.core import paths
from commoncanvas.core.determinism import die_with_parent
from commoncanvas.core.errors import CommonCanvasError, ParameterError
from commoncanvas.core.settings import load_yaml
from commoncanvas.core.text import printable
from commoncanvas.parameters import chosen_scale

PAUSE_S = 0.1  # between two looks at what runs
RETRY_S = 2.0  # before a stage asks for DVC's lock again
GRACE_S = 10.0  # for DVC to give its locks back after Ctrl-C
SHOWN = 15  # last lines of a failed stage's log
# What DVC says where another process has its lock, or that of a file.
IS_LOCKED = ("Unable to acquire lock", "is busy, it is being blocked by")
SKIPPED = {"didn't change, skipping": "unchanged", "is cached - skipping run": "cached"}


class LanesStopped(CommonCanvasError):
    """A stage failed, or DVC cannot say what there is to run."""


@dataclass(frozen=True)
class Plan:
    """What there is to run, by the stages' names, in the order of dvc.yaml.

    Attributes:
        needs: stage -> those of these that it reads from.
        alone: those that run with no other beside them.
        unchanged: those that need no run, because nothing before them runs either.
    """

    needs: Mapping[str, set[str]]
    alone: set[str]
    unchanged: set[str]

    def order(self) -> list[str]:
        """Return what is to run, that with the longest chain of others after it first.

        The order of dvc.yaml, which is that of the experiment, decides between equals.
        """

        @functools.cache
        def length(name: str) -> int:
            after = [other for other, needs in self.needs.items() if name in needs]
            return 1 + max(map(length, after), default=0)

        names = [name for name in self.needs if name not in self.unchanged]
        return sorted(names, key=length, reverse=True)

    def next(
        self, waiting: Sequence[str], busy: Sequence[str], num_lanes: int
    ) -> list[str]:
        """Return what may start now, while the stages of `busy` run.

        What runs alone waits until nothing else runs or could start.
        """
        if self.alone & {*busy}:
            return []
        unfinished = {*waiting, *busy}
        ready = [name for name in waiting if not self.needs[name] & unfinished]
        shared = [name for name in ready if name not in self.alone]
        return shared[: num_lanes - len(busy)] if shared or busy else ready[:1]


@dataclass
class Lane:
    """One stage that runs, in a process group of its own, its output in a log."""

    number: int
    stage: str
    options: Sequence[str]
    log: Path
    begun: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None
    again: float = 0.0  # when to ask for DVC's lock again

    def start(self) -> None:
        """Start the stage; it ends with this process, whatever ends that."""
        words = ["--wait-for-lock", "repro", "--single-item", *self.options, self.stage]
        # Stages are commands of `python`: this one, whether or not it is activated.
        here = str(Path(sys.executable).parent)
        path = os.pathsep.join([here, os.environ.get("PATH", os.defpath)])
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dvc", *words],
                cwd=paths.ROOT,
                env=os.environ | {"PATH": path},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )

    def poll(self) -> int | None:
        """Return the exit code of a stage that has ended, None while it goes on.

        Where DVC's lock is taken, it is started again after a moment.
        """
        if self.process is None:
            if time.monotonic() >= self.again:
                self.start()
            return None
        code = self.process.poll()
        if code and any(words in "\n".join(self.tail()) for words in IS_LOCKED):
            if not self.again:
                self.say("waits: another process has DVC's lock")
            self.process, self.again = None, time.monotonic() + RETRY_S
            return None
        return code

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the stage that are left."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def stop(self) -> None:
        """Wait for an interrupted stage, then end by force what is left of it."""
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_S)
            self.signal(signal.SIGKILL)
            self.process.wait()

    def tail(self) -> list[str]:
        """Return the last lines of the log."""
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return [line.rstrip() for line in text.splitlines() if line.strip()][-SHOWN:]

    def say(self, what: str) -> None:
        """Print a line of progress."""
        print(f"lane {self.number}  {self.stage}  {what}", flush=True)

    def told(self) -> str:
        """Return what became of a stage that has ended well, and how long it took."""
        text = "\n".join(self.tail())
        for words, why in SKIPPED.items():
            if words in text:
                return f"skipped: {why}"
        return f"done in {time.monotonic() - self.begun:.0f} s"


def repro(
    targets: Sequence[str] = (), lanes: int | None = None, **options: bool
) -> None:
    """Run the targets that changed and what stands before them, side by side.

    Args:
        targets: names of stages, as `dvc repro` takes them; none for all.
        lanes: how many stages at once, from 1 to the number of cores; None for
            `default_lanes`.
        **options: of `dvc repro`: `force`, `no_run_cache`.

    Raises:
        LanesStopped: a stage failed; those that ran by then have ended, and no other
            was started.
        ParameterError: more lanes than cores.
    """
    cores = num_cores()
    if lanes is not None and not 1 <= lanes <= cores:
        raise ParameterError(
            f"{lanes} lanes; 1 to {cores} expected, one a core; ask for fewer."
        )
    os.chdir(paths.ROOT)  # from where DVC names stages
    plan = read_plan(targets, options.get("force", False))
    for name in plan.unchanged:
        print(f"        {name}  skipped: unchanged")
    words = ["--" + name.replace("_", "-") for name, is_on in options.items() if is_on]
    run_plan(plan, lanes or default_lanes(), words)


def num_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def default_lanes() -> int:
    """Return 2; 1 with one core, or where the scale's stages fill the machine.

    They do where the profile has several threads for all stages or several training
    processes, which are one a GPU.
    """
    profile = load_yaml(paths.PROFILES / f"{chosen_scale()}.yaml")
    threads = profile["common"]["num_threads"]
    is_small = threads == profile["train"]["num_processes"] == 1
    return min(2, num_cores()) if is_small else 1


def read_plan(targets: Sequence[str] = (), force: bool = False) -> Plan:
    """Ask DVC for the stages, their order and what has changed.

    A frozen stage is left alone. `force` lets nothing count as unchanged.
    Raises: LanesStopped if DVC refuses the graph or a target, or is busy.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro

    try:
        with Repo(str(paths.ROOT)) as repo, repo.lock:
            graph = get_active_graph(repo.index.graph)
            chosen = collect_stages(repo, targets) if targets else None
            found = [s for s in plan_repro(graph, chosen) if not s.frozen]
            places = {stage: place for place, stage in enumerate(repo.index.stages)}
            before = {s: {n for n in graph[s] if not n.frozen} for s in found}
            unchanged: set[Any] = set()
            for stage in found:  # what it reads from comes first
                if not force and before[stage] <= unchanged and not _is_changed(stage):
                    unchanged.add(stage)
            found.sort(key=places.__getitem__)
            return Plan(
                {s.addressing: {n.addressing for n in before[s]} for s in found},
                {s.addressing for s in found if "alone" in (s.meta or {})},
                {s.addressing for s in found if s in unchanged},
            )
    except DvcException as error:
        raise LanesStopped(
            f"DVC stopped: {printable(str(error))}; mend that, then run it again."
        ) from None


def _is_changed(stage: Any) -> bool:
    from dvc.exceptions import DvcException

    try:
        return stage.changed()
    except (DvcException, OSError):
        return True  # its own run says what is wrong


def run_plan(plan: Plan, num_lanes: int, options: Sequence[str] = ()) -> None:
    """Run a plan's stages in `num_lanes` lanes, each once what it needs is done.

    Whatever ends this ends the stages that run, too.
    Raises: LanesStopped as `repro`.
    """
    folder = paths.RUNS / "lanes"
    folder.mkdir(parents=True, exist_ok=True)
    waiting, failed = plan.order(), list[Lane]()
    busy: dict[int, Lane] = {}
    try:
        while busy or (waiting and not failed):
            names = [lane.stage for lane in busy.values()]
            for name in [] if failed else plan.next(waiting, names, num_lanes):
                number = min({*range(1, num_lanes + 1)} - busy.keys())
                lane = Lane(number, name, options, folder / f"{name}.log")
                busy[number] = lane
                lane.start()
                waiting.remove(name)
                lane.say("started")
            for lane, code in _ended(busy):
                del busy[lane.number]
                if code:
                    failed.append(lane)
                lane.say(f"failed; its log: {lane.log}" if code else lane.told())
            time.sleep(PAUSE_S)
    finally:
        for lane in busy.values():
            lane.signal(signal.SIGINT)  # as Ctrl-C: DVC then gives its locks back
        for lane in busy.values():
            lane.stop()
    for lane in failed:
        print("\n".join([f"\n{lane.stage}:", *map(printable, lane.tail())]))
    if failed:
        stages = " and ".join(lane.stage for lane in failed)
        raise LanesStopped(
            f"{stages} failed, and {len(waiting)} stages were not started; the last "
            "lines are above. Mend the cause, then run it again to go on."
        )


def _ended(busy: Mapping[int, Lane]) -> Iterator[tuple[Lane, int]]:
    for lane in list(busy.values()):
        if (code := lane.poll()) is not None:
            yield lane, code

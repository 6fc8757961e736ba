"""Stages killed at random moments, and run again."""

import random
from collections.abc import Iterator
from functools import partial

from tests.hardening.frame import Case
from tests.hardening.stages import COMMANDS, RUN_S, World, prepared

KIND = "kills"
HOW = (
    "every stage from 01 on killed at random moments (SIGKILL to the runner or to its "
    "group, SIGTERM, Ctrl-C), five times in a row, then run to its end"
)
TIMES = 25  # of each stage
IN_A_ROW = 5
SIGNALS = ("SIGKILL", "SIGKILL to all", "SIGTERM", "SIGINT", "SIGKILL")


def cases() -> Iterator[Case]:
    """Yield kills and complete runs of each stage."""
    yield from killed(KIND, "tiny", TIMES)


def killed(kind: str, scale: str, times: int) -> Iterator[Case]:
    """Yield kills and complete runs of each stage at a scale."""
    yield from prepared(kind, scale)
    pick = random.Random(17)
    for first in range(0, times, IN_A_ROW):
        for stage in COMMANDS:
            for number in range(first, first + IN_A_ROW):
                share, how = pick.uniform(0.05, 0.95), SIGNALS[number % len(SIGNALS)]
                name = f"kill: {stage} {number + 1}, {how} at {share:.2f}"
                act = partial(_kill, scale, stage, share, how, number == first)
                yield Case(kind, name, act, None, limit_s=RUN_S)
            name = f"run after kills: {stage} {first + IN_A_ROW}"
            yield Case(kind, name, partial(_finish, scale, stage), None, limit_s=RUN_S)


def _kill(scale: str, stage: str, share: float, how: str, is_new: bool) -> None:
    world = World(scale)
    if is_new:
        world.forget()
    world.kill(stage, share, how)


def _finish(scale: str, stage: str) -> None:
    world = World(scale)
    found = world.finish(world.start(COMMANDS[stage][-1]))
    assert found == 0, found
    world.expect_as_before()

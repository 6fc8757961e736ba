"""Stages of the rehearsal, on Ray and in two processes, killed and run again."""

from collections.abc import Iterator

from tests.hardening.frame import Case
from tests.hardening.kills import killed

KIND = "rehearsed"
HOW = (
    "every stage at the scale `rehearsal`, on Ray and in two processes, killed at "
    "random moments as by `kills`"
)
TIMES = 10  # of each stage


def cases() -> Iterator[Case]:
    """Yield kills and complete runs of each stage."""
    yield from killed(KIND, "rehearsal", TIMES)

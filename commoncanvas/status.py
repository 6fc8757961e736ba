"""What of the graph of stages is done, what is not, and why."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError
from commoncanvas.core.text import printable

DONE, STALE, MISSING, FROZEN = "done", "stale", "missing", "frozen"
NOT_DONE = (STALE, MISSING)
NUM_CAUSES = 3  # that are named of a stale stage


class NoStatus(CommonCanvasError):
    """DVC cannot say what is done."""


@dataclass(frozen=True)
class State:
    """What DVC says of one stage.

    Attributes:
        name: as `dvc repro` takes it.
        word: `done`; `stale`, where something that it reads is not what it ran on;
            `missing`, where it has not run here; `frozen`, where it runs by hand alone.
        why: what changed, or which stage is to run before; may be empty.
    """

    name: str
    word: str
    why: str = ""


def states() -> list[State]:
    """Return the states of all stages that plain `dvc repro` sees, in its order.

    Raises:
        NoStatus: DVC refuses the graph, or another process has its lock.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo(str(paths.ROOT)) as repo, repo.lock:
            return list(_states(repo))
    except DvcException as error:
        raise NoStatus(
            f"DVC stopped: {printable(str(error))}; mend that, then ask again."
        ) from None


def _states(repo: Any) -> Iterator[State]:
    from dvc.repo.reproduce import get_active_graph, plan_repro

    graph = get_active_graph(repo.index.graph)
    found: dict[Any, State] = {}
    for stage in plan_repro(graph):  # what a stage reads from comes before it
        before = [
            found[one].name for one in graph[stage] if found[one].word in NOT_DONE
        ]
        if stage.frozen:
            word, why = FROZEN, "runs by hand alone"
        elif not all(out.exists for out in stage.outs):
            word, why = MISSING, ""
        else:
            why = ", ".join(_changes(stage))
            word = STALE if why or before else DONE
        if before and not why:
            why = f"after {before[0]}"
        found[stage] = State(stage.addressing, word, why)
    places = {stage: place for place, stage in enumerate(repo.index.stages)}
    yield from (found[stage] for stage in sorted(found, key=places.__getitem__))


def _changes(stage: Any) -> list[str]:
    """Return what changed since a stage ran, each in a few words."""
    changes = []
    for said in stage.status().get(stage.addressing, []):
        if isinstance(said, str):  # such as "changed command"
            changes.append(said)
            continue
        for places in said.values():  # {"changed deps": {place: "modified"}}
            changes += [f"{place} {how}" for place, how in places.items()]
    more = len(changes) - NUM_CAUSES
    return changes[:NUM_CAUSES] + ([f"and {more} more"] if more > 0 else [])


def report() -> None:
    """Print the state of every stage, and in one line what to do.

    Raises: NoStatus as `states`.
    """
    found = states()
    width = max((len(state.name) for state in found), default=0)
    for state in found:
        print(f"{state.word:8}{state.name:{width}}  {state.why}".rstrip())
    counts = Counter(state.word for state in found)
    print(", ".join(f"{num} {word}" for word, num in counts.items()) + ".")
    if counts[STALE] or counts[MISSING]:
        print("`make repro` runs what is stale or missing.")
    else:
        print("There is nothing to run.")

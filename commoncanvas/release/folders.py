"""The folder that is handed on: written whole, and never over what is not ours."""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import LEFTOVER, shown, writing
from commoncanvas.core.manifest import NAME, read_manifest


def check_own(
    out: Path, stage: str, is_part: Callable[[str], bool] = lambda name: False
) -> None:
    """Stop before a folder is written to that holds anything but what we wrote there.

    Args:
        out: new, empty, or what `stage` wrote.
        is_part: whether a name in the folder is of a run that was not finished.

    Raises:
        ParameterError: it holds something else, or something besides.
    """
    if not out.exists() or out.is_dir() and not any(out.iterdir()):
        return
    files = {
        path.relative_to(out).as_posix()
        for path in (out.rglob("*") if out.is_dir() else ())
        if not path.is_dir() or path.is_symlink()
    }
    others = sorted(n for n in files if not is_part(n) and LEFTOVER not in n)
    try:
        manifest = read_manifest(out, verify=False)
        found, named = manifest["stage"], {*manifest["files"], NAME}
    except ManifestError:
        found, named = "no manifest", set()
    if not out.is_dir() or (others and found != stage):
        raise ParameterError(
            f"{shown(out)} holds something else ({found}); expected a new folder, or "
            "what an earlier call wrote; give another --out."
        )
    if besides := [name for name in others if name not in named]:
        raise ParameterError(
            f"{shown(out)} also holds {len(besides)} files that are not of it and "
            f"would be lost, as {shown(besides[0])}; move them, or give another --out."
        )


@contextlib.contextmanager
def replacing(out: Path, stage: str) -> Iterator[Path]:
    """Give a folder to write, not there yet; it takes the place of `out` at the end.

    Where an error ends it, `out` stays as it was.

    Raises:
        ParameterError: `out` holds anything but what `stage` wrote.
    """
    check_own(out, stage)
    with swapping(out) as folder:
        yield folder


@contextlib.contextmanager
def swapping(out: Path) -> Iterator[Path]:
    """Give a folder as `replacing` does, whatever `out` holds."""
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=LEFTOVER) as part:
        folder = Path(part, out.name)
        yield folder
        with writing(out):
            if out.exists():
                os.replace(out, Path(part, "before"))
            os.replace(folder, out)

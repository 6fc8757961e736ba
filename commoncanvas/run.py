"""Run one stage's notebook with exactly the parameters DVC tracks.

Every stage of `dvc.yaml` calls this, and so may a reader. Unknown or missing parameters
stop it before a kernel starts. The executed copy is cleaned of clocks and chatter, so
that two runs of the same thing are the same bytes.
"""

import builtins
import contextlib
import os
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
import nbformat

from commoncanvas.core import errors, paths
from commoncanvas.core.determinism import set_environment
from commoncanvas.core.errors import CommonCanvasError, ParameterError
from commoncanvas.core.files import write_atomically, write_json
from commoncanvas.core.manifest import remove_folder
from commoncanvas.core.settings import load_yaml, names_of
from commoncanvas.core.text import printable
from commoncanvas.parameters import (
    check_names,
    chosen_scale,
    collect,
    published,
    read_sections,
    split_name,
)

VARIANT_STAGES = ("04_train", "05_evaluate")
FROZEN_STAGE = "00_pretrain"  # has no scale; its profile is profiles/pretrain.yaml
# The kernel's program: ipykernel without the system's configuration and start-up files;
# `set_environment` shuts out the reader's. It ends with the runner.
KERNEL = """
import os, signal
from commoncanvas.core.determinism import die_with_parent
die_with_parent(signal.SIGKILL)
if os.getppid() != {runner}:  # which died before this process asked
    os._exit(1)
from IPython.core import application
application.ENV_CONFIG_DIRS.clear()
application.SYSTEM_CONFIG_DIRS.clear()
from ipykernel.kernelapp import IPKernelApp
IPKernelApp.launch_instance()
"""


class StageFailed(CommonCanvasError):
    """A stage was refused, a cell raised or the kernel died; its name comes first."""


@dataclass(frozen=True)
class Stage:
    """One stage: a notebook, a scale (none for `00_pretrain`), a variant or none."""

    slug: str
    scale: str | None = None
    variant: str | None = None

    @property
    def name(self) -> str:
        """Its name in DVC, e.g. `04_train@mini-cc_human`."""
        axes = "-".join(part for part in (self.scale, self.variant) if part)
        return f"{self.slug}@{axes}" if axes else self.slug

    @property
    def executed(self) -> Path:
        """Where the executed copy of its notebook lies."""
        end = f"-{self.variant}" if self.variant else ""
        return paths.EXECUTED / (self.scale or "") / f"{self.slug}{end}.ipynb"


def run_stage(slug: str, scale: str | None = None, variant: str | None = None) -> None:
    """Run one stage by the names that a reader types; see `execute`.

    Raises:
        StageFailed: whatever stopped it, in one line that begins with its name.
    """
    name = slug
    try:
        stage = chosen_stage(slug, scale, variant)
        name = stage.name
        with only_one(stage), interrupted_by(signal.SIGTERM):
            execute(stage)
    except StageFailed as failure:
        raise StageFailed(f"{name} {failure}") from None
    except (CommonCanvasError, OSError, MemoryError) as error:
        raise StageFailed(f"{name}: {errors.in_one_line(error)}") from None


def declared_by(slug: str) -> dict[str, Any]:
    """Return what a notebook declares in its parameters cell."""
    import papermill  # 3 s, and `--help` needs none of it

    os.chdir(paths.ROOT)  # papermill takes `{}` in a path for a template: stay relative
    source = f"notebooks/{slug}.ipynb"
    try:
        return papermill.inspect_notebook(source)
    except (ValueError, AttributeError, nbformat.ValidationError) as error:
        raise ParameterError(
            f"{source} cannot be read as a notebook ({error}); restore it with git."
        ) from None


@contextlib.contextmanager
def only_one(stage: Stage) -> Iterator[None]:
    """Hold a stage's lock: two runs of one stage would write the same files.

    A killed run leaves the lock's file, with its process's number, but not the lock.

    Raises:
        StageFailed: another process runs this stage.
    """
    file = paths.ROOT / ".checkpoints" / "locks" / f"{stage.name}.lock"
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(file)
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise StageFailed(
            f"is running already, in process {file.read_text() or '?'}; wait until it "
            "has ended or end it, then run this again."
        ) from None
    try:
        file.write_text(str(os.getpid()))
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def interrupted_by(number: int) -> Iterator[None]:
    """Let a signal end what runs as Ctrl-C does, so that the kernel is ended, too."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt(number)

    before = signal.signal(number, interrupt)
    try:
        yield
    finally:
        signal.signal(number, before)


def execute(stage: Stage) -> None:
    """Execute one notebook and write its cleaned copy under `reports/executed/`.

    Raises:
        ParameterError: parameters and the notebook's declarations disagree.
        StageFailed: a cell failed; `<name>.failed.ipynb` beside shows how far it came.
    """
    import papermill
    from nbclient.exceptions import DeadKernelError

    declared = declared_by(stage.slug)
    sections = read_sections(stage.slug, stage.scale)
    values = collect(stage.slug, stage.scale, stage.variant, sections, declared)
    word = stage.slug.split("_", 1)[1]
    settings = {**(sections.get("common") or {}), **(sections.get(word) or {})}
    source = None
    if stage.slug == "04_train" and stage.variant:
        source = published(stage.variant, sections)
    partial = stage.executed.with_name(f"{stage.executed.stem}.failed.ipynb")
    partial.parent.mkdir(parents=True, exist_ok=True)
    partial.unlink(missing_ok=True)
    if stage.scale:  # the next stage must not take an earlier run's for this one's
        remove_folder(stage.scale, stage.slug, stage.variant)
    try:
        with tempfile.TemporaryDirectory(prefix="commoncanvas-") as empty:
            _install_kernel(Path(empty))
            set_environment(settings, Path(empty))
            # transformers draws a bar for every network that it loads.
            os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
            if source:
                _take(source, values, partial)
            else:
                papermill.execute_notebook(
                    f"notebooks/{stage.slug}.ipynb",
                    os.path.relpath(partial),
                    parameters=values,
                    kernel_name="python3",
                    progress_bar=False,
                    stdout_file=sys.stdout,
                    stderr_file=sys.stderr,
                    extra_arguments=["--log-level=CRITICAL"],
                    shutdown_kernel="immediate",  # all is written; Ctrl-C need not wait
                )
    except papermill.PapermillExecutionError as error:
        if not _is_told(error.ename):
            print("\n".join(error.traceback), file=sys.stderr)
        number = _failed_cell(partial)
        message = printable(f"{error.ename}: {error.evalue}")
        raise StageFailed(f"failed in cell {number}: {message}") from None
    except DeadKernelError as error:
        raise StageFailed(
            f"failed: its kernel died, perhaps for memory ({error})"
        ) from None
    notebook = clean(nbformat.read(partial, as_version=4))
    write_atomically(stage.executed, lambda part: nbformat.write(notebook, part))
    partial.unlink()


def _take(source: tuple[str, str], values: dict[str, Any], page: Path) -> None:
    """Take a published pipeline in place of a training; its page says what it is."""
    from commoncanvas.train.published import take_pipeline

    told = nbformat.v4.new_markdown_cell(take_pipeline(source, values))
    nbformat.write(nbformat.v4.new_notebook(cells=[told]), page)


def _install_kernel(folder: Path) -> None:
    """Write the kernel that Jupyter is to find first: this interpreter."""
    kernel = KERNEL.format(runner=os.getpid())
    argv = [sys.executable, "-c", kernel, "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "Python 3", "language": "python"}
    write_json(folder / "kernels" / "python3" / "kernel.json", spec)


def clean(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """Drop what differs between two runs of the same notebook.

    That is clocks, random ids, what went to stderr (it was shown live) and where
    stdout happened to be cut. Cell ids become `cell-N`, counted from 1.
    The notebook is changed in place and returned.
    """
    kept = ("kernelspec", "title")
    metadata = {k: notebook.metadata[k] for k in kept if k in notebook.metadata}
    metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.metadata = nbformat.from_dict(metadata)
    count = 0
    for number, cell in enumerate(notebook.cells, start=1):
        cell.id = f"cell-{number}"
        tags = cell.metadata.get("tags")
        cell.metadata = nbformat.from_dict({"tags": tags} if tags else {})
        if cell.cell_type != "code":
            continue
        count += 1
        cell.execution_count = count
        cell.outputs = _joined(o for o in cell.outputs if o.get("name") != "stderr")
        for output in cell.outputs:
            if output.output_type == "execute_result":
                output.execution_count = count
    return notebook


def _joined(outputs: Iterable[Any]) -> list[Any]:
    """Join neighbouring pieces of stdout; the cuts depend on timing."""
    joined: list[Any] = []
    for output in outputs:
        last = joined[-1] if joined else None
        if last and last.output_type == output.output_type == "stream":
            last.text += output.text
        else:
            joined.append(output)
    return joined


def chosen_stage(slug: str, scale: str | None, variant: str | None) -> Stage:
    """Return the stage of these names, or say which there are."""
    slugs = [path.stem for path in sorted(paths.NOTEBOOKS.glob("*.ipynb"))]
    if slug not in slugs:
        raise ParameterError(
            f"there is no such stage; choose one of {names_of(slugs)}."
        )
    params = load_yaml(paths.ROOT / "params.yaml")
    check_names(params)
    if slug == FROZEN_STAGE and scale is not None:
        raise ParameterError(
            f"got the scale {scale!r}; it has none. Leave --scale out."
        )
    if slug != FROZEN_STAGE:
        scale = chosen_scale() if scale is None else scale
        scales = [p.stem for p in paths.PROFILES.glob("*.yaml") if p.stem != "pretrain"]
        if scale not in scales:
            raise ParameterError(
                f"there is no scale {scale!r}; choose one of {names_of(scales)}."
            )
    if (slug in VARIANT_STAGES) != bool(variant):
        known = names_of(params.get("variants") or {})
        wanted = f"one of {known}" if slug in VARIANT_STAGES else "none"
        raise ParameterError(f"got the variant {variant!r}; give --variant {wanted}.")
    if variant:
        split_name(variant, params["variants"])
    return Stage(slug, scale, variant)


def _failed_cell(path: Path) -> int | str:
    """Return the place, counted from 1, of the failed cell in the source."""
    added = {"injected-parameters", "papermill-error-cell-tag"}
    cells = nbformat.read(path, as_version=4).cells
    cells = [c for c in cells if not added & set(c.metadata.get("tags", []))]
    kinds = [[o.output_type for o in cell.get("outputs", [])] for cell in cells]
    return next((n for n, kind in enumerate(kinds, start=1) if "error" in kind), "?")


def _is_told(name: str) -> bool:
    """Tell whether one line says enough: our errors, and those of disk and memory."""
    kind = getattr(errors, name, getattr(builtins, name, None))
    return isinstance(kind, type) and issubclass(
        kind, CommonCanvasError | OSError | MemoryError
    )

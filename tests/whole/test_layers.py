"""Imports go one way, modules stay small, and nothing unsafe or private is kept."""

import ast
import graphlib
import re

import pytest
from trees import kept_files

from commoncanvas.core import paths
from commoncanvas.core.keys import modules_imported, source_file

PACKAGE = paths.ROOT / "commoncanvas"
# A room imports only from itself and those above; `parameters` is a module among them.
ROOMS = """
core parameters analysis models licenses catalog captions latents train evaluate
claims speed pretrain publish release
""".split()
DOORS = {
    "papermill": {"run"},
    "ray": {"core.shards"},
    "nbconvert": {"publish.pages", "publish.markdown"},
}
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts)
    for path in PACKAGE.rglob("[!_]*.py")
)
MAX_LINES = 400
SLASH = "/"  # apart, so that this file does not hold what it looks for
MACHINE_PATH = re.compile(rf"(?<![\w.}}/]){SLASH}(work|root|home|tmp){SLASH}\w")
REGISTRY = re.compile(
    r"https?://[^\s\"']*(registry|artifact|nexus|simple/|mirror|pythonhosted|npmjs)"
    r"|index-url\s*[=]|--(extra-)?index-url\s+\S|_auth(?:Token)",
    re.IGNORECASE,
)
# Credits have the works' addresses, and a work may be a mirror.
NAMES_WORKS = re.compile(r"ATTRIBUTION\.md$|/site/full/(attribution|explorer)[\w-]*\.")


def tree(name):
    return ast.parse(source_file(name).read_text(encoding="utf-8"))


def imports(name):
    """Return every imported module of a file; relative imports are not used."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports relatively"
            found |= {node.module}
    return found


def own_imports(name):
    return modules_imported(source_file(name).read_text(encoding="utf-8"))


def room(name):
    return name.partition(".")[0]


def kept_texts():
    """Yield name and text of each file that git keeps or would keep, if it is text."""
    for path in kept_files():
        data = path.read_bytes()
        if b"\0" not in data:
            yield path.relative_to(paths.ROOT).as_posix(), data.decode("utf-8")


def test_every_module_stands_in_a_room_or_is_a_door():
    assert {room(name) for name in MODULES} - set(ROOMS) == {
        *("run", "lanes", "status", "checking"),
    }


def test_every_room_says_what_it_is_for_and_imports_nothing():
    for name in set(ROOMS) - {"parameters"}:
        source = ast.parse((PACKAGE / name / "__init__.py").read_text(encoding="utf-8"))
        assert ast.get_docstring(source) and len(source.body) == 1, name


def test_the_table_of_rooms_for_contributors_is_in_the_order_of_imports():
    text = (paths.ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)
    assert named == [room for room in ROOMS if room != "parameters"]


@pytest.mark.parametrize("name", MODULES)
def test_a_room_imports_only_from_the_rooms_above(name):
    own = room(name)
    above = set(ROOMS[: ROOMS.index(own) + 1]) if own in ROOMS else {*ROOMS, "run"}
    assert {room(other) for other in own_imports(name)} - above == set()


def test_no_circle_between_modules():
    graph = {name: own_imports(name) for name in MODULES}
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(("library", "doors"), DOORS.items())
def test_a_tool_is_known_at_its_door_alone(library, doors):
    users = {n for n in MODULES if any(i.split(".")[0] == library for i in imports(n))}
    assert users and users <= doors


@pytest.mark.parametrize("name", MODULES)
def test_a_module_fits_in_one_reading(name):
    text = source_file(name).read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_for(name):
    first = (ast.get_docstring(tree(name)) or "").partition("\n")[0]
    assert first and len(first) <= 85


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_a_drawer_for_everything(name):
    assert not {"utils", "helpers", "common", "misc"} & set(name.split("."))


@pytest.mark.parametrize("name", MODULES)
def test_torchvision_is_never_imported(name):
    assert not any(i.split(".")[0] == "torchvision" for i in imports(name))


@pytest.mark.parametrize("name", MODULES)
def test_nothing_runs_code_that_came_with_data(name):
    faults = []
    for node in ast.walk(tree(name)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        words = {k.arg: ast.unparse(k.value) for k in node.keywords}
        if called == "torch.load" and words.get("weights_only") != "True":
            faults.append(f"line {node.lineno}: torch.load without weights_only=True")
        # Without a word, transformers asks on the terminal.
        asks = re.match(r"Auto\w+\.from_pretrained", called) and None not in words
        trusts = words.get("trust_remote_code", "a reader" if asks else "False")
        if trusts != "False" or called in {"pickle.load", "pickle.loads"}:
            faults.append(f"line {node.lineno}: {called}")
    assert faults == []


def test_no_kept_file_names_a_machine_or_a_registry():
    faults = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in kept_texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line)
        or (REGISTRY.search(line) and not NAMES_WORKS.search(name))
    ]
    assert faults == []


@pytest.mark.parametrize(
    "line",
    [f"see {SLASH}home{SLASH}me", f"'{SLASH}tmp{SLASH}x'", "https:" + "//registry.x/y"],
)
def test_the_search_for_addresses_can_fail(line):
    assert MACHINE_PATH.search(line) or REGISTRY.search(line)


def test_package_lock_holds_hashes_but_no_addresses():
    text = (paths.ROOT / "package-lock.json").read_text(encoding="utf-8")
    assert "integrity" in text and "resolved" not in text

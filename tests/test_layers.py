"""Imports go one way, modules stay small, and nothing unsafe or private is kept."""

import ast
import re
import subprocess

import pytest

from commoncanvas import paths

PACKAGE = paths.ROOT / "commoncanvas"
# A module imports only from the names above its own.
ORDER = """
errors paths processes manifest checkpoints cluster shards seeds licenses policies
sources images buckets statements streams ledger iconify folders openclipart answers
downloads yfcc metadata made_up bench_licenses takedown duplicates catalog augment
features captioner hub blip2 recaptions telephoning captions scorer websets pretraining
autoencoder mixing encoders mirrors latents prompts snapshots batches schedules
denoising sharding train_state training sampling launching moments metrics inception
clip judges caption_study ballots review evaluation pairs repeats nearest copies
preference rules claims speed ablation bench_training parts checks plots figures credits
sample strips markdown card release recognition marks parameters rates workload plan
documents pages verdicts reference report run
""".split()
DOORS = {"papermill": {"run"}, "ray": {"cluster"}, "nbconvert": {"report", "pages"}}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem[0] != "_")
MAX_LINES = 300
SLASH = "/"  # apart, so that this file does not hold what it looks for
MACHINE_PATH = re.compile(rf"(?<![\w.}}/]){SLASH}(work|root|home|tmp){SLASH}\w")
REGISTRY = re.compile(
    r"https?://[^\s\"']*(registry|artifact|nexus|simple/|mirror|pythonhosted|npmjs)"
    r"|index-url\s*[=]|--(extra-)?index-url\s+\S|_auth(?:Token)",
    re.IGNORECASE,
)


def tree(name):
    return ast.parse((PACKAGE / f"{name}.py").read_text(encoding="utf-8"))


def imports(name):
    """Return every imported module of a file, `commoncanvas.x` in full."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            start = "commoncanvas" if node.level else ""
            start = ".".join(part for part in (start, node.module) if part)
            found |= {f"{start}.{alias.name}" for alias in node.names}
    return found


def own_imports(name):
    """Return the modules of this package that a module imports."""
    parts = [i.split(".") for i in imports(name) if i.startswith("commoncanvas.")]
    return {part[1] for part in parts}


def kept_files():
    """Return the files that git keeps or would keep, as text where they are text."""
    command = ["git", "ls-files", "-co", "--exclude-standard", "-z"]
    told = subprocess.run(command, cwd=paths.ROOT, capture_output=True, check=True)
    for name in sorted(set(told.stdout.decode().split("\0")) - {""}):
        path = paths.ROOT / name
        data = path.read_bytes() if path.is_file() else b""
        if b"\0" not in data:
            yield name, data.decode("utf-8")


def test_every_module_has_its_place():
    assert set(MODULES) - set(ORDER) == set(), "give the new module a place in ORDER"


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_only_from_above(name):
    above = set(ORDER[: ORDER.index(name)])
    assert own_imports(name) - above == set()


@pytest.mark.parametrize(("library", "doors"), DOORS.items())
def test_a_tool_is_known_at_its_door_alone(library, doors):
    users = {n for n in MODULES if any(i.split(".")[0] == library for i in imports(n))}
    assert users and users <= doors


@pytest.mark.parametrize("name", MODULES)
def test_a_module_fits_in_one_reading(name):
    text = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= MAX_LINES


@pytest.mark.parametrize("name", MODULES)
def test_a_module_says_what_it_is_for(name):
    first = (ast.get_docstring(tree(name)) or "").partition("\n")[0]
    assert first and len(first) <= 85


@pytest.mark.parametrize("name", MODULES)
def test_no_module_is_a_drawer_for_everything(name):
    assert name not in {"utils", "helpers", "common", "misc"}


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
        if "trust_remote_code" in words or called in {"pickle.load", "pickle.loads"}:
            faults.append(f"line {node.lineno}: {called}")
    assert faults == []


def test_no_kept_file_names_a_machine_or_a_registry():
    faults = [
        f"{name}:{number}: {line.strip()[:80]}"
        for name, text in kept_files()
        for number, line in enumerate(text.splitlines(), start=1)
        if MACHINE_PATH.search(line) or REGISTRY.search(line)
        if not name.endswith("ATTRIBUTION.md")  # a work may be a mirror
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

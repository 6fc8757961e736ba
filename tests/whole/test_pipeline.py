"""Graph, settings, notebooks and environment tell one story."""

import functools
import itertools
import json
import re
import tomllib

import nbformat
import networkx
import papermill
import pytest
import yaml
from dvc.repo import Repo
from trees import STAGES

from commoncanvas.core import paths
from commoncanvas.core.keys import modules_reached, source_file
from commoncanvas.parameters import check_names, collect
from commoncanvas.run import FROZEN_STAGE, VARIANT_STAGES

NESTED = {  # name: settings
    "captioners",
    "second_captioner",
    "detector",
    "caption_weights",
    "labels",
    "features",
    "scorer",
    "prompt_sets",
}
REPEATS = {"04_repeat": "04_train", "05_repeat": "05_evaluate"}
SCALES = ["tiny", "mini", "full", "rehearsal", "rehearsal-512"]
SCALES += ["pilot", "paper", "paper-512"]
# Documents that a run reads, each by one module.
READERS = {
    "docs/paper.yaml": "claims.rules",
    "docs/prompts.yaml": "evaluate.prompts",
}
PAGES = ("reports/html", "reports/executed")


@functools.cache
def load(name):
    return yaml.safe_load((paths.ROOT / name).read_text(encoding="utf-8"))


def stage(slug):
    return load("dvc.yaml")["stages"][slug]


def names_in(entries):
    """Return dependencies or outputs, which may carry options."""
    return [e if isinstance(e, str) else next(iter(e)) for e in entries]


def tracked(slug):
    """Return {file: [key]} of the parameters that DVC tracks for a stage."""
    found = {}
    for entry in stage(slug).get("params", []):
        entry = {"params.yaml": [entry]} if isinstance(entry, str) else entry
        for file, keys in entry.items():
            found.setdefault(file, []).extend(keys or [])
    return found


@functools.cache
def closure(slug):
    """Return the modules that a notebook imports, directly or through another."""
    notebook = nbformat.read(paths.NOTEBOOKS / f"{slug}.ipynb", as_version=4)
    code = "\n".join(c.source for c in notebook.cells if c.cell_type == "code")
    return modules_reached(code)


def test_every_notebook_is_a_stage_and_every_stage_of_the_runner_a_notebook():
    run = [s for s in load("dvc.yaml")["stages"] if "commoncanvas run" in str(stage(s))]
    assert sorted(run) == sorted([*STAGES, *REPEATS])


@pytest.mark.parametrize("slug", STAGES)
def test_a_stage_runs_its_own_notebook(slug):
    # DVC writes `${item}` as one option for each axis of the matrix.
    axes = ["scale", "variant"] if slug in VARIANT_STAGES else ["scale"]
    frozen = slug == FROZEN_STAGE
    command = f"python -m commoncanvas run {slug}" + ("" if frozen else " ${item}")
    assert stage(slug)["cmd"] == command
    assert list(stage(slug).get("matrix", {})) == ([] if frozen else axes)


@pytest.mark.parametrize(("slug", "first"), REPEATS.items())
def test_a_repeat_is_its_stage_with_a_seed_after_the_name(slug, first):
    text = json.dumps(stage(first)).replace("${item.variant}", "${item.row}")
    # A row's own variant cannot be read off its name here: it follows all of them.
    expected = json.loads(text.replace("variants.${item.row}", "variants"))
    options = "--scale ${item.scale} --variant ${item.row}"
    expected["cmd"] = f"python -m commoncanvas run {first} {options}"
    expected["matrix"] = {"scale": ["${scale}"], "row": "${repeats}"}
    assert stage(slug) == expected


@pytest.mark.parametrize(
    ("slug", "kind", "suffix", "writer"),
    [
        ("04_train", "plots", "csv", 'to_csv(folder.with_suffix(\\".csv\\")'),
        ("05_evaluate", "metrics", "json", "results.write_all(folder, trained"),
    ],
)
def test_dvc_compares_the_losses_and_values_of_every_variant(
    slug, kind, suffix, writer
):
    (file,) = names_in(stage(slug)[kind])
    assert file == "data/${item.scale}/" + f"{slug}/${{item.variant}}.{suffix}"
    assert writer in (paths.NOTEBOOKS / f"{slug}.ipynb").read_text(encoding="utf-8")


@pytest.mark.parametrize("slug", STAGES)
def test_a_stage_depends_on_exactly_the_rooms_that_its_notebook_reaches(slug):
    deps = names_in(stage(slug)["deps"])
    rooms = [d.partition("/")[2] for d in deps if d.startswith("commoncanvas/")]
    assert sorted(rooms) == sorted({name.partition(".")[0] for name in closure(slug)})


@pytest.mark.parametrize("slug", STAGES)
def test_a_stage_depends_on_its_notebook_and_the_environment(slug):
    wanted = {f"notebooks/{slug}.ipynb", "constraints.txt"}
    assert wanted <= set(names_in(stage(slug)["deps"]))


@pytest.mark.parametrize("slug", STAGES)
def test_no_stage_depends_on_a_page_or_an_executed_notebook(slug):
    assert not [d for d in names_in(stage(slug)["deps"]) if d.startswith(PAGES)]


@pytest.mark.parametrize("slug", STAGES[1:])
def test_a_stage_writes_its_own_folder_and_its_executed_notebook(slug):
    outs = names_in(stage(slug)["outs"])
    variant = slug in VARIANT_STAGES
    data = "data/${item.scale}/" + slug + ("/${item.variant}" if variant else "")
    copy = "reports/executed/${item.scale}/" + slug
    copy += "-${item.variant}.ipynb" if variant else ".ipynb"
    assert sorted(outs) == sorted([data, copy])


@pytest.mark.parametrize("slug", STAGES[1:])
def test_a_stage_reads_only_folders_of_smaller_numbers(slug):
    data = [d for d in names_in(stage(slug)["deps"]) if d.startswith("data/")]
    numbers = [re.search(r"/(\d\d)_", name) for name in data]
    assert all(n is None or int(n[1]) < int(slug[:2]) for n in numbers)


@pytest.mark.parametrize("slug", STAGES[1:])
def test_the_axes_of_a_matrix_are_scale_then_variant(slug):
    axes = ["scale", "variant"] if slug in VARIANT_STAGES else ["scale"]
    assert list(stage(slug)["matrix"]) == axes
    assert stage(slug)["matrix"]["scale"] == ["${scale}"]


@functools.cache
def graph():
    """Return DVC's own graph of stages; an edge leads to what a stage reads."""
    return Repo(str(paths.ROOT)).index.graph


def stale_after(file):
    """Return the stages, without scale and variant, that a changed file reaches."""
    place = str(paths.ROOT / file)
    first = [s for s in graph() if any(d.fs_path == place for d in s.deps)]
    reached = {
        s.name for one in first for s in (one, *networkx.ancestors(graph(), one))
    }
    return {name.partition("@")[0] for name in reached}


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
def test_a_changed_rule_judges_anew_and_runs_nothing_upstream():
    expected = {"06_figures", "07_speed", "pages", "index"}
    assert stale_after("docs/paper.yaml") == expected


@pytest.mark.filterwarnings("ignore::DeprecationWarning:dvc")
def test_the_graph_shows_what_a_change_upstream_reaches():
    assert stale_after("commoncanvas/latents") == {*STAGES[3:], "pages", "index"}


@pytest.mark.parametrize(("file", "reader"), READERS.items())
@pytest.mark.parametrize("slug", STAGES)
def test_only_a_stage_that_declares_a_document_can_read_it(slug, file, reader):
    declared = file in names_in(stage(slug)["deps"])
    assert declared == (reader in closure(slug))
    files = [paths.NOTEBOOKS / f"{slug}.ipynb"]
    files += [source_file(name) for name in closure(slug) - {reader}]
    texts = {file.name: file.read_text(encoding="utf-8") for file in files}
    named = file.removeprefix("docs/")
    assert [o for o, text in texts.items() if f'"{named}"' in text] == []


def test_the_pretrained_parts_are_frozen():
    assert stage(FROZEN_STAGE)["frozen"] is True


def test_the_experiment_lists_variants_once_each():
    params = load("params.yaml")
    assert {*params["experiment"]} <= {*params["variants"]}
    assert len({*params["experiment"]}) == len(params["experiment"])
    assert all("-" not in name for name in params["variants"])


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_plans_rows_that_its_settings_fit(scale):
    params = load("params.yaml")
    rows = params | load(f"profiles/{scale}.yaml").get("rows", {})
    check_names(rows)
    if scale == params["scale"]:
        assert rows == params  # as `commoncanvas choose` leaves it


def test_the_variants_that_stage_06_compares_are_in_params():
    compared = load("docs/paper.yaml")["comparison"]
    names = {compared["against"], *compared["captions"], *compared["sizes"]}
    assert names <= set(load("params.yaml")["variants"])


def test_there_is_a_profile_for_each_scale():
    profiles = {path.stem for path in paths.PROFILES.glob("*.yaml")}
    assert profiles == {*SCALES, "pretrain"}
    assert load("params.yaml")["scale"] == "mini"


@pytest.mark.parametrize("scale", [*SCALES, "pretrain"])
def test_a_profile_is_flat_and_literal_but_for_captioners(scale):
    profile = load(f"profiles/{scale}.yaml")
    words = {slug.partition("_")[2] for slug in STAGES}
    assert set(profile) <= {"common", "unets", "rows", "own_variants", *words}
    of_names = ("unets", "own_variants")
    sections = [s for name, s in profile.items() if name not in of_names]
    sections += [s for name in of_names for s in profile.get(name, {}).values()]
    items = [item for section in sections for item in section.items()]
    assert not [name for name, value in items if value is None]
    assert {name for name, value in items if isinstance(value, dict)} <= NESTED


def runs():
    """Return every (stage, scale, variant) that can be run."""
    variants = list(load("params.yaml")["variants"])
    yield FROZEN_STAGE, None, None
    for slug, scale in itertools.product(STAGES[1:], SCALES):
        for variant in variants if slug in VARIANT_STAGES else [None]:
            yield slug, scale, variant


@pytest.mark.parametrize("slug", STAGES)
def test_what_dvc_tracks_is_what_the_notebook_declares(slug):
    declared = papermill.inspect_notebook(str(paths.NOTEBOOKS / f"{slug}.ipynb"))
    for _, scale, variant in [run for run in runs() if run[0] == slug]:
        sections = {}
        for file, keys in tracked(slug).items():
            file = file.replace("${item.scale}", str(scale))
            for key in keys:
                key = key.replace("${item.variant}", str(variant))
                top, _, inner = key.partition(".")
                value = load(file)[top]
                value = {inner: value[inner]} if inner else value
                sections[top] = value
        # It raises where they differ.
        values = collect(slug, scale, variant, sections, declared)
        if variant:
            seed = values["seed"] + (1 if slug == "04_train" else 0)
            again = collect(slug, scale, f"{variant}-{seed}", sections, declared)
            assert again == {**values, "variant": f"{variant}-{seed}", "seed": seed}


@functools.cache
def pinned():
    text = (paths.ROOT / "constraints.txt").read_text(encoding="utf-8")
    pairs = [line.split("==") for line in text.splitlines() if "==" in line]
    return {name: version for name, version in pairs}


def needed():
    """Return the direct requirements of the default environment."""
    text = (paths.ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    return project["dependencies"] + project["optional-dependencies"]["dev"]


def test_the_two_lists_of_requirements_are_one():
    lists = load("environment.yml")["dependencies"]
    pip = next(entry["pip"] for entry in lists if isinstance(entry, dict))
    assert sorted(e for e in pip if not e.startswith("-")) == sorted(needed())
    assert {"-c constraints.txt", "-e ."} <= set(pip)
    assert "python=3.11" in lists


@pytest.mark.parametrize("requirement", needed())
def test_a_requirement_is_pinned_to_its_constraint(requirement):
    name, _, version = requirement.partition("==")
    name = re.sub(r"[-_.]+", "-", name.partition("[")[0]).lower()
    assert name in pinned()
    assert version in ("", pinned()[name])


@pytest.mark.parametrize("library", ["torchvision", "ipywidgets", "torch-fidelity"])
def test_what_breaks_the_environment_is_not_in_it(library):
    assert library not in pinned()

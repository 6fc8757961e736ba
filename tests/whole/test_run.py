"""The only door: exact parameters, clean copies, and one last line that says why."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from click.testing import CliRunner
from doors import call

from commoncanvas import checking, parameters, run
from commoncanvas.__main__ import door
from commoncanvas.core import paths, settings
from commoncanvas.core.errors import ParameterError

FIXTURES = paths.ROOT / "tests" / "fixtures"
PROFILE = """
common: {seed: 17, num_threads: 1, offline: true}
chapter: {num_steps: 3, learning_rate: 1e-3, names: [b, c]}
"""
DECLARED = {
    name: {"name": name, "inferred_type_name": kind}
    for name, kind in {"scale": "str", "variant": "str", "steps": "int"}.items()
}


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Make a repository of one stage, `01_chapter`, at the scale `mini`."""
    for name in ("notebooks", "profiles"):
        (tmp_path / name).mkdir()
    (tmp_path / "params.yaml").write_text("scale: mini\nvariants: {base: {}}\n")
    (tmp_path / "profiles" / "mini.yaml").write_text(PROFILE)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(paths, "PROFILES", tmp_path / "profiles")
    monkeypatch.setattr(paths, "EXECUTED", tmp_path / "reports" / "executed")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", os.environ.copy())
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    monkeypatch.delenv("DVC_STAGE", raising=False)
    install(tmp_path, "01_chapter")
    return tmp_path


def install(house, fixture):
    shutil.copy(FIXTURES / f"{fixture}.ipynb", house / "notebooks" / "01_chapter.ipynb")


def executed(house, name="01_chapter"):
    return house / "reports" / "executed" / "mini" / f"{name}.ipynb"


def lines_of_failure():
    done = CliRunner().invoke(door, ["run", "01_chapter"])
    assert done.exit_code == 1
    return done.stderr.strip().splitlines()


def edit(house, old, new):
    file = house / "profiles" / "mini.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))


@pytest.mark.slow
@pytest.mark.parametrize("own", [None, 2])
def test_a_stage_has_the_threads_of_its_own_section_or_the_common_ones(house, own):
    if own:
        edit(house, "chapter: {", f"chapter: {{num_threads: {own}, ")
    run.run_stage("01_chapter")
    assert os.environ["OMP_NUM_THREADS"] == str(own or 1)


@pytest.mark.slow
def test_two_runs_write_the_same_clean_bytes(house, capfd):
    run.run_stage("01_chapter", "mini")
    first = executed(house).read_bytes()
    run.run_stage("01_chapter")
    assert executed(house).read_bytes() == first
    assert "['b', 'c']" in capfd.readouterr().out
    assert not executed(house, "01_chapter.failed").exists()


@pytest.mark.slow
def test_the_copy_holds_results_but_no_chatter(house):
    run.run_stage("01_chapter")
    notebook = nbformat.read(executed(house), as_version=4)
    nbformat.validate(notebook)
    ids = [cell.id for cell in notebook.cells]
    assert ids == [f"cell-{n}" for n in range(1, len(ids) + 1)]
    assert set(notebook.metadata) == {"kernelspec", "title", "language_info"}
    outputs = [o for c in notebook.cells for o in c.get("outputs", [])]
    assert {o.get("name", "result") for o in outputs} == {"stdout", "result"}
    assert outputs[1].text == "['b', 'c']\n0.001\n"


@pytest.mark.slow
def test_our_own_error_is_one_line_without_a_traceback(house):
    install(house, "01_raises_our_error")
    assert call("run", "01_chapter", fails=True) == (
        "01_chapter@mini failed in cell 8: ShapeError: found 1, expected 2. Add one."
    )
    assert not executed(house).exists()
    assert executed(house, "01_chapter.failed").exists()


@pytest.mark.slow
def test_another_error_shows_its_traceback_and_ends_in_the_same_line(house):
    install(house, "01_raises_foreign_error")
    lines = lines_of_failure()
    assert lines[-1] == "01_chapter@mini failed in cell 8: ValueError: two lines"
    assert any("Traceback" in line for line in lines)


@pytest.mark.slow
def test_a_kernel_that_dies_is_told_in_one_line(house):
    install(house, "01_kernel_dies")
    assert "01_chapter@mini failed: its kernel died" in lines_of_failure()[-1]


@pytest.fixture
def outputs(house):
    """Make outputs that DVC linked to its cache; return their folder and the cache."""
    cache, folder = house / "cache", house / "data" / "mini" / "01_chapter"
    (folder / "deep").mkdir(parents=True)
    cache.mkdir()
    for name in ("hard", "symbolic", "whole"):
        (cache / name).write_text("kept")
        (cache / name).chmod(0o444)
    os.link(cache / "hard", folder / "hard.txt")
    (folder / "deep" / "symbolic.txt").symlink_to(cache / "symbolic")
    (folder / "folder").symlink_to(cache)
    return folder, cache


@pytest.mark.slow
def test_a_run_by_hand_writes_through_no_link_into_the_cache(house, outputs):
    folder, cache = outputs
    notebook = house / "notebooks" / "01_chapter.ipynb"
    cells = nbformat.read(notebook, as_version=4)
    write = (
        "from pathlib import Path\nPath('data/mini/01_chapter').mkdir(parents=True)\n"
    )
    write += "Path('data/mini/01_chapter/hard.txt').write_text('new')"
    cells.cells.append(nbformat.v4.new_code_cell(write))
    nbformat.write(cells, notebook)
    run.run_stage("01_chapter")
    assert [path.name for path in folder.iterdir()] == ["hard.txt"]
    assert (folder / "hard.txt").read_text() == "new"
    assert {path.read_text() for path in cache.iterdir()} == {"kept"}


def test_a_refused_run_leaves_what_is_there(house, outputs):
    edit(house, "seed", "sead")
    call("run", "01_chapter", fails=True)
    assert (outputs[0] / "hard.txt").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed", "sead", r"unknown parameters `sead` and lacks `seed`.*`names`"),
        ("num_steps: 3, ", "", r"unknown parameters none and lacks `num_steps`"),
        ("num_steps: 3", "num_steps: 3.5", r"`num_steps` is 3.5, a float; .* int"),
        ("num_steps: 3", "num_steps: true", r"`num_steps` is True, a bool; .* int"),
        ("[b, c]", "[b, 1]", r"`names` is .*declares list\[str\]"),
        ("[b, c]", "b", r"`names` is 'b', a str"),
    ],
)
def test_a_wrong_parameter_stops_in_one_line(house, old, new, message):
    edit(house, old, new)
    error = call("run", "01_chapter", fails=True)
    assert re.match(r"01_chapter@mini: ", error) and re.search(message, error)
    assert not executed(house).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["09_absent"], "`01_chapter`"),
        (["01_chapter", "--scale", "huge"], "`mini`"),
        (["01_chapter", "--variant", "base"], "--variant none"),
    ],
)
def test_a_wrong_choice_names_the_right_ones(house, arguments, message):
    assert message in call("run", *arguments, fails=True)


def test_a_stage_with_variants_needs_one(house):
    (house / "notebooks" / "01_chapter.ipynb").rename("notebooks/04_train.ipynb")
    assert "--variant one of `base`" in call("run", "04_train", fails=True)


def test_a_variant_changes_exactly_its_keys():
    sections = {"train": {"steps": 1}, "variants": {"long": {"steps": 9}, "base": {}}}
    collect = parameters.collect
    base = collect("04_train", "mini", "base", sections, DECLARED)
    assert base == {"scale": "mini", "variant": "base", "steps": 1}
    long = collect("04_train", "mini", "long", sections, DECLARED)
    assert long == {**base, "variant": "long", "steps": 9}


def test_a_variant_may_not_invent_a_parameter():
    sections = {"train": {"steps": 1}, "variants": {"odd": {"stepz": 9}}}
    with pytest.raises(ParameterError, match="`stepz`; it may change `steps`"):
        parameters.collect("04_train", "mini", "odd", sections, DECLARED)


def sections_of(**own):
    return {
        "train": {"steps": 1},
        "variants": {"base": {}, "web": {"steps": 9}},
        "own_variants": own,
    }


def test_a_profile_says_what_a_row_is_at_its_scale():
    collect, row = parameters.collect, ("04_train", "pilot", "web")
    assert collect(*row, sections_of(), DECLARED)["steps"] == 9
    assert collect(*row, sections_of(web={"steps": 3}), DECLARED)["steps"] == 3
    # DVC hands a training its own row alone.
    alone = sections_of(other={"steps": 3}) | {"variants": {"web": {"steps": 9}}}
    assert collect(*row, alone, DECLARED)["steps"] == 9


def test_a_row_that_a_profile_alone_has_is_refused():
    parameters.check_own(sections_of(web={}))
    with pytest.raises(ParameterError, match="names `wed`; `variants` .* lacks them"):
        parameters.check_own(sections_of(wed={}))
    swept = sections_of() | {"evaluate": {"swept_variants": ["base"]}}
    parameters.check_own(swept)
    swept["evaluate"]["swept_variants"] += ["wed", {}]
    with pytest.raises(ParameterError, match="`swept_variants` .* names `wed`, `{}`"):
        parameters.check_own(swept)
    parameters.check_own(sections_of() | {"evaluate": {"swept_variants": 3}})


def test_a_published_row_is_the_base_and_a_pipeline():
    sections = sections_of(web={"pipeline": "someone/model", "revision": "abc"})
    values = parameters.collect("04_train", "pilot", "web", sections, DECLARED)
    assert values == {"scale": "pilot", "variant": "web", "steps": 1}
    assert parameters.published("web", sections) == ("someone/model", "abc")
    assert parameters.published("web-18", sections) == ("someone/model", "abc")
    assert parameters.published("base", sections) is None
    local = sections_of(web={"pipeline": "some/folder"})
    assert parameters.published("web", local) == ("some/folder", "")


def test_a_published_row_is_pinned_by_a_commit_before_any_row_is_trained():
    checking.check_published("someone/model", "5" * 40)
    for revision, found in (("main", "the revision 'main'"), ("", "no revision")):
        with pytest.raises(ParameterError, match=f"has {found}; .* by its commit"):
            checking.check_published("someone/model", revision)


@pytest.mark.parametrize(
    "row", [{"pipeline": "a/b", "steps": 2}, {"pipeline": ["a/b", "c"]}]
)
def test_a_published_row_says_nothing_else(row):
    with pytest.raises(ParameterError, match="`pipeline` and `revision`, both text"):
        parameters.collect("04_train", "pilot", "web", sections_of(web=row), DECLARED)


def test_a_published_row_is_taken_and_told_in_place_of_a_training(house, monkeypatch):
    (house / "notebooks" / "01_chapter.ipynb").rename(
        house / "notebooks/04_train.ipynb"
    )
    text = PROFILE.replace("chapter:", "train:")
    text += "own_variants: {base: {pipeline: sd2}}\n"
    (house / "profiles" / "mini.yaml").write_text(text)
    (house / "sd2").mkdir()
    told = []

    def take(source, values, page):
        told.append((source, values))
        note = nbformat.v4.new_markdown_cell("# 04 · Train\n\nNothing was trained.")
        nbformat.write(nbformat.v4.new_notebook(cells=[note]), page)

    monkeypatch.setattr(run, "_take", take)
    monkeypatch.setattr(run, "collect", lambda *_: {"num_steps": 3})
    run.run_stage("04_train", "mini", "base")
    assert told == [(("sd2", ""), {"num_steps": 3})]
    written = nbformat.read(executed(house, "04_train-base"), as_version=4)
    assert [cell.id for cell in written.cells] == ["cell-1"]
    assert not executed(house, "04_train-base.failed").exists()


def test_a_published_folder_that_is_missing_is_told_before_anything_runs(house):
    with pytest.raises(ParameterError, match="'sd2' is no folder here .* `experiment`"):
        checking.check_published("sd2", "")
    checking.check_published("someone/model", "5" * 40)
    (house / "sd2").mkdir()
    checking.check_published("sd2", "")


def test_a_seed_of_a_variant_is_its_training_s_alone():
    declared = {"seed": {"name": "seed", "inferred_type_name": "int"}, **DECLARED}
    sections = {
        "common": {"seed": 1},
        "train": {"steps": 1},
        "evaluate": {"steps": 1},
        "variants": {"again": {"seed": 2}},
    }
    seeds = [
        parameters.collect(slug, "mini", "again", sections, declared)["seed"]
        for slug in ("04_train", "05_evaluate")
    ]
    assert seeds == [2, 1]


def test_a_repeat_is_its_variant_from_another_seed():
    parameter = {"name": "of", "inferred_type_name": "str"}
    declared = {"of": parameter, "seed": {"name": "seed", "inferred_type_name": "int"}}
    declared |= DECLARED
    sections = {
        "common": {"seed": 1},
        "train": {"steps": 1},
        "variants": {"long": {"steps": 9}},
    }
    first, again = (
        parameters.collect("04_train", "mini", name, sections, declared)
        for name in ("long", "long-18")
    )
    assert first["of"] == "long"
    assert again == {**first, "variant": "long-18", "seed": 18}


@pytest.mark.parametrize("name", ["lon-18", "long-", "long-x", "long18", "long-18-19"])
def test_a_name_that_is_no_variant_nor_a_repeat_is_refused(name):
    with pytest.raises(ParameterError, match=f"no variant '{name}'.*has `long`"):
        parameters.split_name(name, {"long": {}})


def test_repeats_are_rows_after_those_of_the_experiment():
    rows = {"experiment": ["b", "a"], "repeats": ["b-18", "a-18", "a-19"]}
    assert parameters.experiment_names(rows) == ["b", "a", "b-18", "a-18", "a-19"]
    assert parameters.experiment_names({"experiment": ["b"]}) == ["b"]


PARAMS = """# The scale.
scale: tiny

experiment:
  [b,
   a]  # in order

variants:
  a: {}
  b: {}
repeats: []
"""


@pytest.fixture
def own_params(tmp_path, monkeypatch):
    """Return params.yaml of a project with profiles: `tiny` plans no rows, `x` does."""
    (tmp_path / "profiles").mkdir()
    (tmp_path / "profiles" / "tiny.yaml").write_text("common: {}\n")
    rows = "{experiment: [a], repeats: [a-18, b-19]}"
    (tmp_path / "profiles" / "x.yaml").write_text(f"rows: {rows}\n")
    (tmp_path / "params.yaml").write_text(PARAMS)
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    monkeypatch.setattr(paths, "PROFILES", tmp_path / "profiles")
    return tmp_path / "params.yaml"


def test_a_scale_is_chosen_with_the_rows_that_it_plans(own_params):
    assert parameters.choose("x") == ["a", "a-18", "b-19"]
    chosen = "scale: x\n\nexperiment: [a]\n\nvariants:\n  a: {}\n  b: {}\n"
    assert own_params.read_text() == f"# The scale.\n{chosen}repeats: [a-18, b-19]\n"


def test_a_scale_without_rows_keeps_those_that_are_there(own_params):
    assert parameters.choose("tiny") == ["b", "a"]
    assert own_params.read_text() == PARAMS


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        ("rows: {experiment: [c]}", "no variant 'c'"),
        ("rows: {repeats: [a]}", "`repeats` of params.yaml has 'a'"),
        (
            "rows: {variants: [a]}",
            "has `variants`; expected `experiment` and",
        ),
        (None, "no scale 'y'; profiles/ has `tiny`, `x`"),
    ],
)
def test_a_scale_that_cannot_be_chosen_changes_nothing(own_params, profile, message):
    if profile:
        (own_params.parent / "profiles" / "y.yaml").write_text(profile)
    with pytest.raises(ParameterError, match=message):
        parameters.choose("y")
    assert own_params.read_text() == PARAMS


def test_a_variant_may_not_change_what_the_runner_fixes():
    sections = {
        "common": {"seed": 1, "num_threads": 1},
        "train": {"steps": 1},
        "variants": {"fast": {"num_threads": 8}},
    }
    with pytest.raises(ParameterError, match="`num_threads`; it may change `seed`"):
        parameters.collect("04_train", "mini", "fast", sections, DECLARED)


def test_under_dvc_evaluation_knows_no_variants():
    values = parameters.collect(
        "05_evaluate", "mini", "any", {"evaluate": {"steps": 1}}, DECLARED
    )
    assert values["steps"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: {b: 1\n", "params.yaml, line 2"),
        ("a: 1\na: 2\n", "params.yaml, line 2: found duplicate key"),
        ("- a\n", "params.yaml holds a list; expected names with values"),
    ],
)
def test_settings_that_are_no_settings_are_one_line(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParameterError) as error:
        settings.load_yaml(tmp_path / "params.yaml")
    assert message in str(error.value) and "correct it" in str(error.value)


def test_evaluation_ignores_what_only_training_knows():
    sections = {
        "train": {"unet": "small"},
        "evaluate": {"steps": 1},
        "variants": {"odd": {"unet": "large"}},
    }
    values = parameters.collect("05_evaluate", "mini", "odd", sections, DECLARED)
    assert values["steps"] == 1


def test_the_chosen_unet_is_passed_whole():
    declared = {
        **DECLARED,
        "unet": {"name": "unet", "inferred_type_name": "str"},
        "unet_config": {"name": "unet_config", "inferred_type_name": "dict"},
    }
    sections = {
        "train": {"steps": 1, "unet": "small"},
        "unets": {"small": {"layers": 1}, "large": {"layers": 2}},
        "variants": {"cc_large": {"unet": "large"}},
    }
    values = parameters.collect("04_train", "mini", "cc_large", sections, declared)
    assert values["unet_config"] == {"layers": 2}


def test_an_unknown_unet_is_refused_with_the_known_ones():
    sections = {"chapter": {"unet": "huge"}, "unets": {"small": {}}}
    with pytest.raises(ParameterError, match="'huge'.*`small`"):
        parameters.collect("01_chapter", "mini", None, sections, DECLARED)


def test_a_whole_number_serves_where_a_float_is_declared():
    declared = {"rate": {"name": "rate", "inferred_type_name": "float"}}
    values = parameters.collect(
        "00_chapter", None, None, {"chapter": {"rate": 1}}, declared
    )
    assert type(values["rate"]) is float


def test_pieces_of_output_are_joined_whatever_their_timing():
    def notebook(*pieces):
        outputs = [nbformat.v4.new_output("stream", text=piece) for piece in pieces]
        cell = nbformat.v4.new_code_cell("x", outputs=outputs)
        return nbformat.v4.new_notebook(cells=[cell])

    assert run.clean(notebook("a", "b")) == run.clean(notebook("ab"))


@pytest.mark.slow
def test_under_dvc_only_what_the_stage_tracks_is_read(house):
    edit(house, "common", "unused: {x: 1}\ncommon")
    command = f"{sys.executable} -m commoncanvas run 01_chapter --scale ${{item.scale}}"
    (house / "dvc.yaml").write_text(
        "stages:\n  01_chapter:\n    matrix: {scale: [mini]}\n"
        f"    cmd: {command}\n    params:\n"
        "      - profiles/${item.scale}.yaml: [common]\n"
    )
    # The package takes its root from its own place, so it is copied into the house.
    source = Path(run.__file__).parent
    shutil.copytree(source, house / "commoncanvas")
    environment = {**os.environ, "PYTHONPATH": str(house), "DVC_NO_ANALYTICS": "1"}
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "-q"], check=True, env=environment)
    done = subprocess.run(
        [*dvc, "repro"], env=environment, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert "01_chapter@mini: got unknown parameters none and lacks" in done.stderr
    file = house / "dvc.yaml"
    file.write_text(file.read_text().replace("[common]", "[common, chapter]"))
    subprocess.run([*dvc, "repro", "-q"], check=True, env=environment)
    assert executed(house).exists()

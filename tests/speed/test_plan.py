"""A plan agrees with what was measured, adds up, and says where each number is from."""

import copy
import functools
import json
import shutil

import huggingface_hub
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner
from doors import call
from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError
from shards import PD12M

from commoncanvas.__main__ import door
from commoncanvas.analysis.tables import digits
from commoncanvas.catalog.sources import iconify, yfcc
from commoncanvas.catalog.sources.iconify import read_members, read_pins
from commoncanvas.claims.rules import load_paper
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.settings import load_yaml
from commoncanvas.parameters import read_sections
from commoncanvas.speed import needs, plan, workload
from commoncanvas.speed.rates import Quantity, Rates

RATES = json.loads((paths.RESULTS / "rates.json").read_text(encoding="utf-8"))["rates"]
# Measured on one core of an AMD EPYC beside a busy second one, 2026-11-25: pictures a
# second on stage 04's bar (`mini`: all 6,400 in 23.6 s, median of seven variants;
# `full`: the first 706,016 in 59 min 14 s), and the folder of stage 03 at `full`, of
# 27,174 licensed and 34,653 pictures in all.
TRAINED, FULL_BYTES = {"mini": 330.0, "full": 198.6}, 622_339_000
FULL_PICTURES = Quantity(27_174, ("stage 01",)), Quantity(34_653, ("stage 01",))


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Build each network once for all tests, and read no package unless one asks."""
    monkeypatch.setattr(plan, "count_unet", once(workload.count_unet))
    monkeypatch.setattr(plan, "shapes_of", once(workload.shapes_of))
    monkeypatch.setattr(plan, "count_pictures", lambda *_: FULL_PICTURES)


@functools.cache
def once(function):
    """Keep what a function returns, whatever it is given."""
    kept = {}

    def call(*arguments):
        key = json.dumps(arguments)
        if key not in kept:
            kept[key] = function(*arguments)
        return kept[key]

    return call


@functools.cache
def as_committed(scale, machine):
    return plan.plan(scale, ["cc_synthetic"], machine)


def rows(*arguments, **words):
    return {row["stage"]: row for row in plan.plan(*arguments, **words)["rows"]}


def change(monkeypatch, section, **changes):
    """Let a plan read a profile of which some values differ."""

    def read(slug, scale):
        sections = copy.deepcopy(read_sections(slug, scale))
        sections[section] |= changes
        return sections

    monkeypatch.setattr(plan, "read_sections", read)


def training_seconds(*arguments, num=1, **words):
    hours = rows(*arguments, **words)["04_train"]["hours"]
    return hours * 3600 - num * RATES["notebook"]["value"]


@pytest.mark.parametrize("scale", TRAINED)
def test_training_takes_what_was_measured_or_half_as_much_again(scale):
    seen = rows(scale, ["cc_synthetic"])["04_train"]["pictures"]
    planned = seen / training_seconds(scale, ["cc_synthetic"])
    assert 1 / 1.5 < planned / TRAINED[scale] < 1.5


def test_the_bytes_of_stage_03_are_those_that_full_wrote(monkeypatch):
    # With the captions of one captioner, as it was run.
    change(monkeypatch, "captions", captioners={"synthetic": {"captioner": "open"}})
    assert rows("full")["03_latents"]["bytes"] == pytest.approx(FULL_BYTES, rel=0.02)


@pytest.mark.slow
def test_the_paper_s_two_stages_cost_what_the_authors_paid():
    """$31,230 on eight A100s, UNet alone. Source: mosaicml-diffusion, README."""
    hours = sum(
        training_seconds(scale, ["cc_synthetic"], machine="a100") / 3600
        for scale in ("paper", "paper-512")
    )
    assert hours * RATES["price_a100"]["value"] == pytest.approx(31_230, rel=0.01)


@pytest.mark.parametrize(("scale", "rate"), [("paper", 1100), ("paper-512", 290)])
def test_eight_a100s_train_as_fast_as_the_authors_say(scale, rate):
    seconds = training_seconds(scale, ["cc_synthetic"], machine="a100")
    seen = rows(scale, ["cc_synthetic"])["04_train"]["pictures"]
    assert 8 * seen / seconds == pytest.approx(rate, rel=0.01)


def test_published_hours_of_captions_and_latents_come_out_again(monkeypatch):
    claim = load_paper().claims["caption_cost"]
    assert "99.2 million pictures" in claim.tests[0].metric

    def hours(scale, stage, num):
        pictures = Quantity(num, ("all of them",))
        monkeypatch.setattr(plan, "count_pictures", lambda *_: (pictures, pictures))
        return rows(scale, ["cc_synthetic"], machine="a100")[stage]["hours"]

    found = hours("paper", "02_captions", 99.2e6)
    assert found == pytest.approx(claim.value, rel=0.01)
    both = [hours(scale, "03_latents", 1.1264e9) for scale in ("paper", "paper-512")]
    assert sum(both) == pytest.approx(3784, rel=0.01)


@pytest.mark.parametrize(("machine", "scale"), [("cpu", "mini"), ("a100", "paper")])
def test_twice_the_steps_are_twice_the_hours(monkeypatch, machine, scale):
    once = training_seconds(scale, ["cc_synthetic"], machine=machine)
    steps = read_sections("04_train", scale)["train"]["num_train_steps"]
    change(monkeypatch, "train", num_train_steps=2 * steps)
    twice = training_seconds(scale, ["cc_synthetic"], machine=machine)
    assert twice == pytest.approx(2 * once)


def test_a_scale_that_plans_its_rows_is_counted_with_them():
    planned = load_yaml(paths.PROFILES / "full.yaml")["rows"]
    names = planned["experiment"] + planned["repeats"]
    found = plan.plan("full", pictures=100)
    assert found["variants"] == names
    assert next(plan.as_lines(found)).startswith(f"full: {len(names)} rows; seeds: 1")
    assert (
        plan.plan("tiny")["variants"]
        == load_yaml(paths.ROOT / "params.yaml")["experiment"]
    )


def test_variants_add_up_and_seeds_multiply():
    numbers = ("pictures", "bytes", "hours")
    one, other = (rows("mini", [name]) for name in ("cc_human", "cc_large"))
    both, thrice = (rows("mini", ["cc_human", "cc_large"], num_seeds=n) for n in (1, 3))
    for stage in both:
        for n in numbers:
            if stage in ("04_train", "05_evaluate"):
                assert both[stage][n] == pytest.approx(one[stage][n] + other[stage][n])
                assert thrice[stage][n] == pytest.approx(3 * both[stage][n])
            else:
                assert both[stage][n] == thrice[stage][n] == one[stage][n]


def test_a_larger_unet_takes_longer_and_no_variant_is_the_experiment():
    small, large = (rows("mini", [name]) for name in ("cc_synthetic", "cc_large"))
    for stage in ("04_train", "05_evaluate"):
        assert large[stage]["hours"] > small[stage]["hours"]
    experiment = read_sections("04_train", "mini")["experiment"]
    assert plan.plan("mini") == plan.plan("mini", experiment)


def test_the_total_is_the_sum_of_the_stages():
    found = plan.plan("mini", price=0.5)
    for name, total in found["total"].items():
        assert total == pytest.approx(sum(row[name] or 0 for row in found["rows"]))
    assert found["total"]["money"] == pytest.approx(found["total"]["hours"] / 2)


@pytest.mark.parametrize("machine", ["cpu", "h100"])
def test_money_is_left_out_where_no_price_is_known(machine):
    found = plan.plan("mini", machine=machine)
    assert found["total"]["money"] is None
    assert "give --price" in list(plan.as_lines(found))[-1]
    assert rows("mini", machine="a100")["04_train"]["money"] > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scale", "machine"), [("mini", "cpu"), ("mini", "a100"), ("paper", "h100")]
)
def test_every_number_has_a_source_and_every_source_a_number(scale, machine):
    found = plan.plan(scale, machine=machine, price=1.0)
    for row in found["rows"]:
        assert row["sources"] and row["hours"] > 0
    cited = {number for row in found["rows"] for number in row["sources"]}
    assert cited == set(range(1, len(found["sources"]) + 1))
    assert all(line and "\n" not in line for line in found["sources"])


@pytest.mark.slow
@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(
    ("scale", "machine"), [("full", "cpu"), ("paper", "a100"), ("paper", "cpu")]
)
def test_no_number_depends_on_a_rate_that_it_does_not_name(
    tmp_path, monkeypatch, name, scale, machine
):
    """A rate is changed: what changes with it must be a row that names it."""
    before = as_committed(scale, machine)
    results = tmp_path / "results"
    shutil.copytree(paths.RESULTS, results)
    changed = copy.deepcopy(RATES)
    changed[name]["value"] *= 2
    (results / "rates.json").write_text(json.dumps({"rates": changed}))
    monkeypatch.setattr(paths, "RESULTS", results)
    after = plan.plan(scale, ["cc_synthetic"], machine)
    named = [n for n, s in enumerate(before["sources"], 1) if s.startswith(f"{name}: ")]
    for old, new in zip(before["rows"], after["rows"], strict=True):
        differs = new | {"sources": old["sources"]} != old
        assert differs == bool(set(named) & set(old["sources"])), old["stage"]


@pytest.mark.parametrize("name", RATES)
def test_every_rate_says_what_when_and_where(name):
    rate = RATES[name]
    assert set(rate) == {"value", "unit", "machine", "date", "from"}
    assert rate["value"] > 0 and all(rate.values())
    measured = rate["date"].startswith("2026-")
    cited = [key for key in load_paper().sources if f"{key}, " in rate["from"]]
    assert measured != bool(cited), "measured here, or published by a known source"


def test_a_gpu_s_own_measurement_goes_before_the_data_sheet(tmp_path, monkeypatch):
    sheet = Rates("h100").training()
    shutil.copytree(paths.RESULTS, tmp_path / "results")
    monkeypatch.setattr(paths, "RESULTS", tmp_path / "results")
    measured = json.loads((paths.RESULTS / "bench_train_mini.json").read_text())
    measured["hardware"]["device"] = "NVIDIA H100 80GB HBM3"
    (paths.RESULTS / "bench_train_sd2.json").write_text(json.dumps(measured))
    assert Rates("h100").training().value == Rates("cpu").training().value
    assert "data-sheets" in sheet.sources[1]
    assert "bench_train_sd2.json" in Rates("h100").training().sources[0]
    assert "data-sheets" in Rates("a100").training().sources[1]


def test_figures_keep_the_sources_of_all_they_were_made_of():
    a, b = Quantity(6.0, ("a",)), Quantity(2.0, ("b", "a"))
    for found, value in ((a + b, 8), (a * b, 12), (a / b, 3), (sum([a, b]), 8)):
        assert found.value == value and set(found.sources) == {"a", "b"}
    assert 2 * a == a * 2 == a + a


@pytest.mark.parametrize("name", ["cif", "zmdi", "emojione-v1"])
def test_a_package_states_as_many_pictures_as_it_shows(name):
    (info,) = read_members(read_pins()[name], "info.json")
    assert info["total"] == sum(not row["is_hidden"] for row in iconify.read_set(name))


def counted(cc_sources, most=0, web_sources=(), given=None):
    words = {"cc_sources": cc_sources, "web_sources": list(web_sources)}
    licenses = {"max_per_source": most, **words}
    return workload.count_pictures("unheard-of", licenses, Rates("cpu"), given)


def test_pictures_are_counted_from_packages_before_stage_01_has_run():
    (cif,) = read_members(read_pins()["cif"], "info.json")
    clipart = RATES["openclipart"]["value"]
    licensed, stored = counted(["cif", "openclipart"], web_sources=["cif"])
    assert licensed.value == cif["total"] + clipart
    assert stored.value == licensed.value + cif["total"]
    assert counted(["cif", "openclipart"], 7)[0].value == 14
    assert "upper bound" in licensed.sources[0]


def test_pictures_are_stage_01_s_where_it_has_run(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    folder = paths.stage_dir("unheard-of", "01_licenses")
    folder.mkdir(parents=True)
    splits = {"c": 5, "nc": 3, "nd": 2, "web": 4, "rejected": 100}
    (folder / "metrics.json").write_text(json.dumps({"splits": splits}))
    with pytest.raises(ParameterError, match="give --pictures a number"):
        counted(["webdataset:photos/*.tar"])  # it has written no manifest yet
    (folder / "manifest.json").write_text("{}")
    licensed, stored = counted(["webdataset:photos/*.tar"])
    assert (licensed.value, stored.value) == (8, 14)
    assert "data/unheard-of/01_licenses/metrics.json" in stored.sources[0]


def test_a_profile_without_sources_is_refused_in_one_line():
    with pytest.raises(ParameterError, match="names no picture: cc_sources") as error:
        counted([])
    assert "--pictures" in str(error.value) and "\n" not in str(error.value)


def write_catalog(root, least, numbers):
    """Write CommonCatalog's folders with files of so many rows."""
    for place, number in enumerate(numbers):
        folder = root / str(place) / f"least_dim_range={least}"
        folder = folder / "aspect_ratio_bucket=1-1"
        folder.mkdir(parents=True)
        columns = {n: pa.array(["1"] * number) for n in yfcc.CATALOG_COLUMNS}
        columns["jpg"] = pa.array([b"no picture"] * number)
        pq.write_table(pa.table(columns), folder / "part-0.parquet")


def test_commoncatalog_is_counted_by_the_ends_of_its_files(tmp_path):
    write_catalog(tmp_path / "by", "256-512", [3, 4])
    write_catalog(tmp_path / "by", "512-768", [5])
    licensed, _ = counted([f"commoncatalog:256-512:{tmp_path}/by"])
    assert licensed.value == 7
    both = counted([f"commoncatalog:256-512,512-768:{tmp_path}/by"])[0]
    assert both.value == 12
    assert counted([f"commoncatalog:256-512:{tmp_path}/by"], 2)[0].value == 2


@pytest.mark.parametrize(
    "source", ["commoncatalog:256-512:no/such", "webdataset:shards/*.tar"]
)
def test_what_cannot_be_counted_takes_a_number(source):
    with pytest.raises(ParameterError, match="--pictures a number") as error:
        counted([source])
    assert "\n" not in str(error.value)
    licensed, stored = counted([source], given=1000)
    assert licensed == stored and licensed.value == 1000
    assert "as given" in licensed.sources[0]


def test_a_gpu_that_is_too_small_is_refused(monkeypatch):
    assert plan.plan("paper", ["cc_synthetic"], "h100")["refused"] == []
    change(monkeypatch, "train", micro_batch_size=512)
    found = plan.plan("paper", ["cc_synthetic"], "h100")
    (line,) = found["refused"]
    assert list(plan.as_lines(found))[-1] == f"does not fit: {line}"
    assert "04_train takes" in line and "has 80.0GB" in line and "lower" in line
    words = "--scale paper --variants cc_synthetic --machine h100".split()
    assert "the run would not fit" in call("plan", *words, fails=True)


def test_stage_07_at_the_paper_s_size_fits_a_card_of_80_gb():
    found = rows("paper", ["cc_synthetic"], "h100")["07_speed"]
    assert 30e9 < found["gpu_memory"] < 60e9


def test_the_h100_trains_at_512_px_as_fast_as_was_published():
    seconds = training_seconds("paper-512", ["cc_synthetic"], machine="h100")
    seen = rows("paper-512", ["cc_synthetic"])["04_train"]["pictures"]
    assert seen / seconds == pytest.approx(127.3, rel=0.01)


def profile_of(**changes):
    """Return sections that ask for nothing but what is named."""
    licenses = {"cc_sources": [], "web_sources": []}
    return {"licenses": licenses, **changes}


def test_memory_and_disk_that_are_not_here_are_named():
    memory, disk = needs.too_small(1e18, 1e18)
    assert memory.startswith("memory: ") and "1.00EB needed" in memory
    assert disk.startswith("disk: ") and "1.00EB needed" in disk
    assert list(needs.too_small(1, 1)) == list(needs.lacks(profile_of())) == []


def test_a_gpu_that_is_not_here_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (line,) = needs.lacks(profile_of(), "h100")
    assert line.startswith("GPU: ") and "H100" in line
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert list(needs.lacks(profile_of(), "h100")) == []


def test_files_and_pictures_that_are_not_here_are_named():
    coco = {"file": "no/coco.json", "pictures": "no/val2014.zip"}
    sections = profile_of(evaluate={"prompt_sets": {"coco": coco, "validation": coco}})
    sections["licenses"]["cc_sources"] = ["commoncatalog:256-512:no/by", "nonsense"]
    lines = list(needs.lacks(sections))
    kinds = [line.partition(" ")[0] for line in lines]
    assert kinds == 2 * ["file:"] + 2 * ["pictures:"]  # each file once
    assert "no/coco.json" in lines[0] and "no/val2014.zip" in lines[1]
    assert "no/by is missing" in lines[2] and "kinds are folder, " in lines[3]
    sources = ["gpic:split=nano:no/*.tar", "pd12m:pictures=p:s3://x/*", "monet:x"]
    sections["licenses"]["cc_sources"] = [*sources, "pd3m:s3://x/*"]
    told = {"captioner": "imported", "file": "hf://datasets/a/b@0/c.parquet"}
    own = {"captioner": "imported", "file": "data/x/01_licenses/catalog.parquet"}
    sections |= {"captions": {"captioners": {"told": told, "own": own}}}
    *_, tars, folder, refused, unnamed = needs.lacks(sections)
    assert "no/*.tar is missing" in tars and "individual rights remain" in refused
    assert "p is missing, pictures of pd12m:pictures=p:s3://x/*" in folder
    assert "pd3m:s3://x/* names no folder" in unnamed


def test_a_published_row_that_is_planned_is_a_model(monkeypatch):
    asked = []
    monkeypatch.setattr(needs, "_no_access", lambda *words: asked.append(words) or "")
    pinned = {"pipeline": "someone/else", "revision": "5" * 40}
    sections = profile_of(variants={"released": pinned, "a": {}}, own_variants={})
    assert list(needs.lacks(sections, "cpu", ["a"])) == [] and asked == []
    assert list(needs.lacks(sections, "cpu", ["a", "released"])) == []
    assert asked == [("someone/else", "5" * 40, "model")]


def test_what_is_missing_is_said_though_pictures_cannot_be_counted(monkeypatch):
    monkeypatch.setattr(plan, "count_pictures", workload.count_pictures)
    monkeypatch.setattr(plan, "lacks", lambda *_: iter(["file: no/x is missing."]))
    sources = {"cc_sources": ["gpic:no/*.tar"], "web_sources": []}
    change(monkeypatch, "licenses", **sources)
    monkeypatch.setattr(workload.paths, "stage_dir", lambda *_: paths.ROOT / "none")
    words = ["plan", "--scale", "mini", "--here"]
    done = CliRunner().invoke(door, words)
    assert done.exit_code == 1
    assert done.stdout == "missing here: file: no/x is missing.\n"
    assert "commoncanvas audit --no-pictures gpic:no/*.tar" in done.stderr
    assert CliRunner().invoke(door, words[:-1]).stdout == ""


def test_an_empty_file_is_no_file(tmp_path):
    whole, empty = tmp_path / "a.tar", tmp_path / "b.tar"
    whole.write_bytes(b"pictures")
    empty.touch()
    sections = profile_of(evaluate={"prompt_sets": {"coco": {"file": str(empty)}}})
    sections["licenses"]["cc_sources"] = [f"gpic:{tmp_path}/*.tar", f"gpic:{whole}"]
    prompts, pictures = needs.lacks(sections)
    assert prompts.startswith(f"file: {empty} is empty; ")
    assert pictures.startswith(f"pictures: {empty} is empty; ")


def test_a_folder_of_one_s_own_is_counted_by_its_table(tmp_path):
    rows = ["file,title,license", "a.png,A,cc0-1.0", "b.png,B,cc0-1.0"]
    (tmp_path / "works.csv").write_text("\n".join(rows))
    licensed, stored = counted([f"folder:{tmp_path}/works.csv"])
    assert licensed.value == stored.value == 2
    with pytest.raises(ParameterError, match="write folder:own/works.csv;"):
        counted(["own/works.csv"])


def test_a_table_of_parquet_is_counted_by_its_ends(tmp_path):
    columns = {name: [value] * 5 for name, value in PD12M.items()}
    for number in range(2):
        pq.write_table(pa.table(columns), tmp_path / f"{number}.parquet")
    assert counted([f"pd12m:{tmp_path}/*.parquet"])[0].value == 10


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (GatedRepoError, "is gated; accept its terms"),
        (RepositoryNotFoundError, "neither here nor on the Hub"),
        (ConnectionError, "the Hub does not answer"),
        (None, None),
    ],
)
def test_a_model_that_the_hub_does_not_give_is_named(monkeypatch, error, words):
    asked = []

    def auth_check(name, repo_type):
        asked.append((name, repo_type))
        if error:
            found = error.__new__(error)
            Exception.__init__(found, "no")
            raise found

    def nothing(*_, **words):
        raise OSError("not here")

    monkeypatch.setattr(huggingface_hub, "auth_check", auth_check)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", nothing)
    captioners = {"synthetic": {"captioner": "blip2", "revision": "5" * 40}}
    sections = profile_of(captions={"captioners": captioners})
    source = "gpic:split=nano:hf://datasets/common-canvas/by@" + "4" * 40
    sections["licenses"]["cc_sources"] = [f"{source}/train/*.tar"]
    lines = list(needs.lacks(sections))
    wanted = [("Salesforce/blip2-opt-2.7b", "model"), ("common-canvas/by", "dataset")]
    assert asked == wanted
    assert len(lines) == (2 if error else 0)
    for line, (name, _) in zip(lines, wanted, strict=bool(error)):
        assert name in line and words in line and "\n" not in line


def test_samples_are_counted_over_scales_and_prompt_sets():
    evaluate = {
        "prompt_sets": {
            "a": {"kind": "names"},
            "b": {"kind": "gate", "num": 900},
            "tried": {"kind": "names", "skip": 10, "num": 6},
        },
        "sweep_prompts": "tried",
        "swept_variants": [],
        "num_samples": 10,
        "guidance_scales": [1.0, 3.0],
        "common_guidance": 3.0,
        "num_inference_steps": 4,
    }
    judged = 10 + 40, 50 * 4 * 2
    every = judged[0] + 6 * 2, judged[1] + 6 * 4 * 3
    assert workload.count_samples(evaluate) == every
    evaluate["swept_variants"] = ["x"]
    assert workload.count_samples(evaluate, "x") == every
    assert workload.count_samples(evaluate, "y") == judged


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--scale", "huge"], "no scale `huge`; expected one of `full`, `mini`"),
        (["--machine", "abacus"], "no machine `abacus`; expected one of `a100`, `cpu`"),
        (["--variants", "cc_human,cc_no"], "no variant 'cc_no'; params.yaml has `cc_"),
    ],
)
def test_what_is_not_there_is_refused_with_what_is(words, message):
    assert message in call("plan", *words, fails=True)


def test_a_captioner_of_unknown_speed_is_refused(monkeypatch):
    change(monkeypatch, "captions", captioners={"told": {"captioner": "parrot"}})
    with pytest.raises(ParameterError, match="no rate 'caption_parrot'; expected one"):
        plan.plan("mini")


def test_a_captioner_of_one_s_own_is_left_out_and_the_plan_says_so(monkeypatch):
    own = {"captioner": "endpoint", "url": "http://h/v1", "model": "qwen-vl"}
    change(monkeypatch, "captions", captioners={"big": own})
    line = "02_captions: `endpoint` takes what its model takes, which is left out"
    assert any(line in told for told in plan.as_lines(plan.plan("mini")))
    sections = profile_of(captions={"captioners": {"big": own}})
    assert not any("qwen-vl" in told for told in needs.lacks(sections))


def test_imported_captions_take_no_time_and_two_captioners_take_twice(monkeypatch):
    def seconds(*kinds):
        captioners = {str(place): {"captioner": k} for place, k in enumerate(kinds)}
        change(monkeypatch, "captions", captioners=captioners)
        hours = rows("mini")["02_captions"]["hours"]
        return hours * 3600 - RATES["notebook"]["value"]

    once_open = seconds("open", "imported")
    assert seconds("imported") == pytest.approx(0)
    assert once_open == pytest.approx(27_174 / RATES["caption_open"]["value"])
    assert seconds("open", "open") == pytest.approx(2 * once_open)


def test_the_table_and_the_file_say_the_same(tmp_path):
    file = tmp_path / "plan.json"
    words = ["--scale", "mini", "--machine", "a100", "--seeds", "2"]
    printed = call("plan", *words, "--variants", "cc_human", "--json", file)
    found = json.loads(file.read_text())
    assert found == plan.plan("mini", ["cc_human"], "a100", 2)
    lines = printed.splitlines()
    assert lines == list(plan.as_lines(found))
    stages = [line.split()[0] for line in lines[2:10]]
    slugs = [path.stem for path in sorted(paths.NOTEBOOKS.glob("0[1-7]_*.ipynb"))]
    assert stages == [*slugs, "total"]
    end = lines[1].index("hours") + len("hours")
    hours = [float(line[:end].split()[-1].replace(",", "")) for line in lines[2:10]]
    assert hours[-1] == pytest.approx(sum(hours[:-1]), rel=0.01)


PLANNED = {"pilot": 1_000_000, "paper": 26_232_417, "paper-512": 26_232_417}


@pytest.mark.slow
@pytest.mark.parametrize("scale", PLANNED)
def test_the_page_for_the_paper_says_what_a_plan_says(monkeypatch, scale):
    monkeypatch.setattr(plan, "count_pictures", workload.count_pictures)
    words = {"pictures": PLANNED[scale], "price": 2.5}
    found = plan.plan(scale, ["cc_synthetic"], "h100", **words)
    text = (paths.ROOT / "docs" / "PAPER.md").read_text(encoding="utf-8")
    one, whole = [
        part.partition("<!-- /plan -->")[0] for part in text.split("<!-- plan:")[1:]
    ]
    lines = [line.strip("| ").split(" | ") for line in one.splitlines()[1:]]
    (place,) = [i for i, head in enumerate(lines[0]) if head.startswith(f"{scale},")]
    cells = {line[0]: line[place] for line in lines[2:]}
    total = {"stage": "together", **found["total"]}
    for row in [*found["rows"], total]:
        hours, money = digits(row["hours"]), digits(row["money"])
        assert cells[row["stage"]] == f"{hours} h, ${money}", row["stage"]
    assert set(cells) == {row["stage"] for row in [*found["rows"], total]}
    found = plan.plan(scale, [], "h100", **words)
    hours, money = (digits(found["total"][name]) for name in ("hours", "money"))
    num = len(found["variants"])
    assert f"| {scale} | {num} | {hours} h | ${money} |" in whole.splitlines()


def test_help_names_every_option():
    printed = call("plan", "--help")
    for word in (
        "--scale",
        "--variants",
        "--machine",
        "--seeds",
        "--price",
        "--json",
        "--pictures",
        "--here",
    ):
        assert word in printed
    assert "Example:" in printed

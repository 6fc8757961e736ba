"""Prompt sets keep their ids, are drawn by seed alone, and are refused when broken."""

import hashlib
import json
from collections import Counter

import numpy as np
import pytest
from toys import CAPTIONS, CATALOG, write_store

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.evaluate.prompts import COLUMNS, leading, read_prompts, write_ids
from commoncanvas.latents.reader import Latents
from commoncanvas.latents.selection import read_works

# A real file, where this machine has it; see the Apache-2.0 repository of Parti.
PARTI = paths.ROOT.parent / "shared" / "data" / "PartiPrompts.tsv"
ROWS = [  # as the real file has them: quotes stand for themselves
    ("bond", "Abstract", "Basic", "Biology-inspired concepts with multiple meanings"),
    ('"hi" on a sign', "Outdoor Scenes", "Basic", ""),
    ("a cat", "Animals", "Basic", "n"),
    ("bond", "Arts", "Basic", "n"),
    ("two dogs", "Animals", "Quantity", "n"),
]
HEAD = ("Prompt", "Category", "Challenge", "Note")
# Rows of COCO's own file (CC BY 4.0), then one with a line end and blanks as it has
# too, then made-up ones.
ANNOTATIONS = [
    (203564, 37, "A bicycle replica with a clock as the front wheel."),
    (322141, 49, "A room with blue walls and a white sink and door."),
    (16977, 89, "A car that seems to be parked illegally behind a legally parked car"),
    (106140, 98, "A large passenger airplane flying through the air."),
    (106140, 101, "There is a GOL plane taking off in a partly cloudy sky."),
    (391895, 770337, "A man with\na  red helmet. "),
]
ANNOTATIONS += [
    (image, 1000 * image + n, f"{image} {n}") for image in range(40) for n in (1, 2)
]


def write_coco(path, annotations=ANNOTATIONS):
    rows = [{"image_id": i, "id": n, "caption": text} for i, n, text in annotations]
    images = [
        {"id": i, "file_name": f"COCO_val2014_{i:012d}.jpg"} for i, _, _ in annotations
    ]
    path.write_text(json.dumps({"images": images, "annotations": rows}))
    return str(path)


def write_parti(path, rows=ROWS, head=HEAD, end="\n"):
    text = end.join("\t".join(cells) for cells in (head, *rows)) + end
    path.write_bytes(text.encode())
    return str(path)


@pytest.fixture
def coco(tmp_path):
    return write_coco(tmp_path / "captions.json")


@pytest.fixture(scope="module")
def latents(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latents")
    rng = np.random.default_rng(0)
    write_store(folder, CATALOG, CAPTIONS, (4, 2, 2), (3, 5), rng)
    return folder


def test_coco_gives_one_caption_an_image_with_both_ids(coco):
    prompts = read_prompts("coco", file=coco)
    assert list(prompts) == COLUMNS and set(prompts["source"]) == {"coco"}
    captions = {f"coco/{i}/{n}": " ".join(text.split()) for i, n, text in ANNOTATIONS}
    assert all(captions[row.id] == row.prompt for row in prompts.itertuples())
    images = [one.split("/")[1] for one in prompts["id"]]
    assert sorted(images) == sorted({str(i) for i, _, _ in ANNOTATIONS})
    assert "A man with a red helmet." in set(prompts["prompt"])


def test_two_parts_of_one_list_are_disjoint_and_in_its_order(coco):
    every = read_prompts("coco", file=coco)
    first = read_prompts("coco", file=coco, num=5)
    rest = read_prompts("coco", file=coco, skip=5, num=7)
    together = [*first["prompt"], *rest["prompt"]]
    assert together == every["prompt"].tolist()[:12] and list(rest.index) == [*range(7)]
    last = read_prompts("coco", file=coco, skip=len(every) - 1)
    assert last["id"].tolist() == every["id"].tolist()[-1:]


@pytest.mark.parametrize("more", [0, 1])
def test_nothing_left_after_a_skip_is_one_line(coco, more):
    num = len(read_prompts("coco", file=coco))
    with pytest.raises(ParameterError, match=f"skips {num + more} of its {num} prompt"):
        read_prompts("coco", file=coco, skip=num + more)
    with pytest.raises(ParameterError, match="skips -1 of"):
        read_prompts("coco", file=coco, skip=-1)


def test_the_order_depends_on_the_seed_and_not_on_the_file_s_order(tmp_path, coco):
    drawn = read_prompts("coco", file=coco, seed=0)
    turned = write_coco(tmp_path / "turned.json", ANNOTATIONS[::-1])
    assert read_prompts("coco", file=turned, seed=0).equals(drawn)
    other = read_prompts("coco", file=coco, seed=1)
    assert list(other["id"]) != list(drawn["id"])
    assert list(drawn["id"]) != sorted(drawn["id"])


def test_an_image_with_more_captions_is_no_likelier_to_come_first(tmp_path):
    rows = [(i, 100 * i + n, "x") for i in range(50) for n in range(1 + 60 * (i == 7))]
    file = write_coco(tmp_path / "captions.json", rows)
    firsts = [read_prompts("coco", 5, file=file, seed=seed)["id"] for seed in range(40)]
    hits = sum(ids.str.startswith("coco/7/").any() for ids in firsts)
    assert hits < 15  # 4 expected; 40 if its best caption stood for it
    last = {read_prompts("coco", file=file, seed=s)["id"].max() for s in range(3)}
    assert last <= {f"coco/9/{900}"}


@pytest.mark.parametrize("kind", ["coco", "parti"])
def test_a_smaller_number_is_the_start_of_a_larger_one(tmp_path, kind):
    write = {"coco": write_coco, "parti": write_parti}[kind]
    file = write(tmp_path / "file")
    whole = read_prompts(kind, file=file, seed=3)
    assert read_prompts(kind, 2, file=file, seed=3).equals(whole.head(2))
    assert len(read_prompts(kind, 10**6, file=file)) == len(whole)


def test_a_recorded_selection_comes_back_whatever_the_seed(tmp_path, coco):
    drawn = read_prompts("coco", 20, file=coco, seed=5)
    write_ids(tmp_path / "ids.txt", drawn)
    again = read_prompts("coco", ids=tmp_path / "ids.txt", file=coco, seed=6)
    assert again.equals(drawn)
    # Also captions that this seed would never have drawn beside each other.
    (tmp_path / "ids.txt").write_text("coco/3/3002\ncoco/3/3001\n")
    pair = read_prompts("coco", ids=tmp_path / "ids.txt", file=coco)
    assert list(pair["prompt"]) == ["3 2", "3 1"]


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        ("coco/3/3001\ncoco/3/9\n", "1 of 2 ids are not in the set, as coco/3/9"),
        ("coco/3/3001\ncoco/3/3001\n", "2 ids, 1 different"),
        ("", "0 ids"),
        (None, "No such file"),
    ],
)
def test_ids_that_do_not_fit_are_refused_in_one_line(tmp_path, coco, ids, match):
    if ids is not None:
        (tmp_path / "ids.txt").write_text(ids)
    with pytest.raises(ParameterError, match=match) as refused:
        read_prompts("coco", ids=tmp_path / "ids.txt", file=coco)
    assert "expected" in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "not json",
        "[]",
        '{"images": []}',
        '{"annotations": [{"image_id": 1, "id": 2}]}',
        '{"annotations": [{"image_id": 1, "id": 2, "caption": null}]}',
        '{"annotations": [{"image_id": "x", "id": 2, "caption": "a"}]}',
        '{"annotations": [{"image_id": 1, "id": 2, "caption": "a"},'
        ' {"image_id": 3, "id": 2, "caption": "b"}]}',
    ],
)
def test_a_file_that_is_not_coco_s_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "captions.json").write_text(text)
    with pytest.raises(ParameterError, match="expected annotations with") as refused:
        read_prompts("coco", file=tmp_path / "captions.json")
    assert "captions.json: " in str(refused.value) and "\n" not in str(refused.value)


def test_a_blank_caption_is_no_prompt(tmp_path):
    file = write_coco(
        tmp_path / "captions.json", [(1, 1, " \n"), (2, 2, "a"), (1, 3, "b")]
    )
    assert set(read_prompts("coco", file=file)["prompt"]) == {"a", "b"}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_parti_keeps_categories_and_quotes_and_the_first_of_equal_prompts(
    tmp_path, end
):
    prompts = read_prompts("parti", file=write_parti(tmp_path / "p.tsv", end=end))
    rows = {row.prompt: (row.id, row.category) for row in prompts.itertuples()}
    assert rows == {
        "bond": ("parti/2", "Abstract"),
        '"hi" on a sign': ("parti/3", "Outdoor Scenes"),
        "a cat": ("parti/4", "Animals"),
        "two dogs": ("parti/6", "Animals"),
    }
    assert len(prompts) == 4 and set(prompts["source"]) == {"parti"}


def test_the_real_partiprompts_are_read_whole():
    if not PARTI.exists():
        pytest.skip("the real file is not on this machine")
    prompts = read_prompts("parti", file=PARTI)
    # Source: parti; the counts of its 12 categories, largest and smallest.
    counts = Counter(prompts["category"])
    assert len(prompts) == 1632 and len(counts) == 12
    assert counts["Animals"] == 314 and counts["Indoor Scenes"] == 40
    lines = PARTI.read_text(encoding="utf-8").split("\n")
    for row in prompts.itertuples():
        cells = lines[int(row.id.removeprefix("parti/")) - 1].split("\t")
        assert cells[:2] == [row.prompt, row.category]


@pytest.mark.parametrize(
    ("rows", "head", "match"),
    [
        (ROWS, HEAD[:3], "first line is"),
        ([*ROWS, ("a", "b", "c")], HEAD, "line 7 has the cells"),
        ([*ROWS, ("a", "b", "c", "d", "e")], HEAD, "line 7 has the cells"),
        ([(" ", "b", "c", "d")], HEAD, "line 2 has the cells"),
    ],
)
def test_a_file_that_is_not_parti_s_is_refused_in_one_line(tmp_path, rows, head, match):
    file = write_parti(tmp_path / "p.tsv", rows, head)
    with pytest.raises(ParameterError, match=match) as refused:
        read_prompts("parti", file=file)
    assert "expected columns Prompt" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_held_out_names_are_what_latents_hold_out(latents):
    held = Latents(latents, ["c"], "human", holdout=True, sources=["b"])
    prompts = read_prompts("names", folder=latents, sources=["b"])
    assert list(prompts["prompt"]) == held.texts()
    assert list(prompts["id"]) == held.keys and held.keys
    assert set(prompts["source"]) == {"human"} and set(prompts["category"]) == {"toy"}
    assert read_prompts("names", folder=latents, sources=[]).equals(prompts)
    trained = Latents(latents, ["c"], "human").keys
    assert not set(prompts["id"]) & set(trained)


def test_telephoned_prompts_are_captions_of_the_same_pictures_in_the_same_order(
    latents,
):
    names = read_prompts("names", folder=latents, licenses=["c", "nc"])
    found = read_prompts("telephoned", folder=latents, licenses=["c", "nc"])
    captions = dict(zip(CAPTIONS["key"], CAPTIONS["caption"], strict=True))
    expected = [(key, captions[key]) for key in names["id"] if key in captions]
    assert list(zip(found["id"], found["prompt"], strict=True)) == expected
    assert 0 < len(found) < len(names)  # one held-out picture has no caption
    assert set(found["source"]) == {"synthetic"} and list(found) == COLUMNS


def test_equal_names_of_two_pictures_both_stay(latents):
    prompts = read_prompts("names", folder=latents, licenses=["c", "nc"])
    assert prompts["id"].is_unique and prompts["prompt"].duplicated().any()


def test_the_gate_is_frozen():
    gate = read_prompts("gate")
    groups = Counter(gate["category"])
    assert groups.pop("plain subject") == 24 and sum(groups.values()) == 16
    assert len(groups) == 3 and gate["prompt"].is_unique
    digest = hashlib.sha256("\n".join(gate["prompt"]).encode()).hexdigest()
    # Another list is another gate: say so in docs/LOG.md before this line changes.
    assert digest == "b596dd4fd723efe04cbffdd34edcc2a802bd5fd5d7b34862d9527486207ccfb9"


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"kind": "flickr"}, "expected one of names, telephoned, coco, parti, gate"),
        ({"kind": "coco"}, "lacks `file`"),
        ({"kind": "names"}, "lacks `folder`"),
        ({"kind": "gate", "file": "x"}, "does not take `file`"),
    ],
)
def test_a_wrong_setting_is_named(settings, match):
    with pytest.raises(ParameterError, match=match):
        read_prompts(**settings)


def test_the_first_set_leads_and_none_is_empty():
    sets = {"gate": read_prompts("gate", num=2), "few": read_prompts("gate", num=1)}
    assert leading(sets) == "gate"
    with pytest.raises(ParameterError, match="`prompt_sets` has no set; expected one"):
        leading({})
    with pytest.raises(ParameterError, match="has no prompts in none; expected"):
        leading({**sets, "none": read_prompts("gate", num=0)})


@pytest.mark.parametrize("num", [1, 2, 3])
def test_the_first_prompts_of_training_works_are_those_of_a_model_of_so_many(
    latents, num
):
    asked = {"folder": latents, "sources": ["a"], "holdout": False, "num": num}
    for kind, source in [("names", "human"), ("telephoned", "synthetic")]:
        trained = read_works(latents, ["c"], source, sources=["a"], num=num)
        prompts = read_prompts(kind, **asked)
        if kind == "names":
            assert prompts["id"].tolist() == trained["key"].tolist()
            assert prompts["prompt"].tolist() == trained["text"].tolist()
        else:  # of those that have a name, too
            known = trained[trained["key"].isin(prompts["id"])]
            pairs = dict(zip(prompts["id"], prompts["prompt"], strict=True))
            assert [pairs[key] for key in known["key"]] == known["text"].tolist()


def write_gpic(path, lines):
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return str(path)


def test_gpics_captions_keep_their_order_and_name_the_samples_files(tmp_path):
    rows = [
        {"key": "b7", "caption": "a café\nby night", "caption_type": "long"},
        {"key": "a1", "caption": "dog, grass", "caption_type": "tag"},
        {"key": "a2", "caption": "dog, grass", "caption_type": "tag"},
    ]
    file = write_gpic(tmp_path / "gpic.jsonl", map(json.dumps, rows))
    found = read_prompts("gpic", file=file)
    assert list(found.columns) == COLUMNS
    assert found["prompt"].tolist() == [row["caption"] for row in rows]
    assert found["id"].tolist() == ["gpic/long_b7", "gpic/tag_a1", "gpic/tag_a2"]
    assert found["category"].tolist() == ["long", "tag", "tag"]
    assert read_prompts("gpic", num=2, file=file, seed=3)["id"].tolist() == [
        "gpic/long_b7",
        "gpic/tag_a1",
    ]


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        '{"key": "a", "caption": "x"}',
        '{"key": "a", "caption": 3, "caption_type": "tag"}',
        '{"key": "a", "caption": "x", "caption_type": "huge"}',
        "[1]",
    ],
)
def test_a_line_that_is_no_caption_of_gpics_is_named(tmp_path, line):
    good = '{"key": "a", "caption": "x", "caption_type": "tag"}'
    file = write_gpic(tmp_path / "gpic.jsonl", [good, line])
    with pytest.raises(
        ParameterError, match="after 1 captions: .*expected a json"
    ) as e:
        read_prompts("gpic", file=file)
    assert "\n" not in str(e.value)

"""Rights are handed over as the ledger has them, and nothing is said for a person."""

import io
import json
import re

import mlcroissant
import pandas as pd
import pytest
from catalogues import MARKUP
from doors import call
from hypothesis import example, given, settings
from hypothesis import strategies as st
from spdx_python_model import v3_0_1 as bindings

from commoncanvas.captions.names import OWN
from commoncanvas.core import paths
from commoncanvas.core.errors import ManifestError, ParameterError
from commoncanvas.core.files import write_text
from commoncanvas.core.keys import key_of
from commoncanvas.core.manifest import read_manifest, write_manifest
from commoncanvas.core.text import is_seen
from commoncanvas.licenses.license import read_license
from commoncanvas.release import credited, questions, rights, spdx
from commoncanvas.release.inherited import web_sets

DATE = "2026-11-28"
CHOICES = [item.key for item in questions.items() if item.by == "choice"]
DATES = [item.key for item in questions.items() if item.by == "date"]
PEOPLE = [i.key for i in questions.items() if i.by == "person" and not i.after]
WORKS = [
    ("emoji/cat", "CC BY 4.0", "Ada", "2026-01-02"),
    ("emoji/dog", "CC BY 4.0", "Ada", "2026-02-03"),
    ("emoji/sun", "CC0 1.0", "", "2025-12-30"),
    ("photos/sea", "CC BY-SA 3.0 DE", MARKUP, "2026-03-04"),
]


def ledger():
    rows = []
    for key, title, author, date in WORKS:
        source, _, name = key.partition("/")
        one = read_license(title)
        rows.append(
            {
                "key": key,
                "title": MARKUP if name == "sea" else name,
                "author": author,
                "author_url": "",
                "source": source,
                "source_url": f"https://{source}.example.org/works/{name}/",
                "license_slug": one.slug,
                "license": one.title,
                "license_version": one.version,
                "license_url": one.url,
                "date_seen": date,
                "sha256": "ab" * 32,
                "changes": "Drawn at 96 px on white.",
            }
        )
    return pd.DataFrame(rows)


@pytest.fixture
def model(tmp_path):
    """A released model's folder, its weights a word."""
    folder = tmp_path / "model"
    (folder / "unet").mkdir(parents=True)
    (folder / "unet/diffusion_pytorch_model.safetensors").write_bytes(b"weights")
    ledger().to_parquet(folder / "ledger.parquet", index=False)
    facts = {
        "works": len(WORKS),
        "works_key": key_of(keys=sorted(key for key, *_ in WORKS)),
        "license": "CC BY-SA 4.0",
        "note": "Drawn by a model that learnt from 4 works.",
        "unet": "c0ffee" * 10,
        "parts": [["VAE", "a/b at 1"], ["captioner, for the told captions", "vlm"]],
        "caption_source": {"human": 0.5, "told": 0.5},
        "max_tokens": 12,
        "attribution": "ATTRIBUTION.md",
    }
    write_manifest(folder, "release", "toy", "cc_toy", 4, 4, {}, facts)
    return folder


def write(model, tmp_path, answers=""):
    file = tmp_path / "mine.yaml"
    file.write_text(answers, encoding="utf-8")
    return rights.write_rights(tmp_path / "out", model, file, DATE), tmp_path / "out"


def fields_of(made):
    return {k: f for section in made["sections"] for k, f in section["fields"].items()}


def test_every_work_has_licence_creator_page_and_captioner(model, tmp_path):
    _, out = write(model, tmp_path)
    works = pd.read_parquet(out / "works.parquet")
    assert works.drop(columns="captioner").equals(ledger())
    assert set(works["captioner"]) == {"human, vlm"}
    read_manifest(out)


def test_croissant_is_valid_without_a_warning_and_gives_each_record_s_rights(
    model, tmp_path
):
    _, out = write(model, tmp_path)
    found = mlcroissant.Dataset(jsonld=str(out / "croissant.json"))
    issues = found.metadata.ctx.issues
    assert not issues.errors and not issues.warnings
    assert found.metadata.data_biases and found.metadata.data_collection  # RAI
    told = json.loads((out / "croissant.json").read_text(encoding="utf-8"))
    (records,) = told["recordSet"]
    states = {
        field["@id"]: field.get("equivalentProperty", []) for field in records["field"]
    }
    assert "sc:license" in states["works/license_url"]
    assert "sc:creator" in states["works/author"]
    assert "prov:wasDerivedFrom" in states["works/source_url"]
    assert "prov:wasAttributedTo" in states["works/captioner"]
    rows = [*found.records("works")]
    for row, work in zip(rows, ledger().itertuples(), strict=True):
        assert row["works/license_url"].decode() == work.license_url
        assert row["works/author"].decode() == work.author
        assert row["works/source_url"].decode() == work.source_url


def read_spdx(file):
    """Read a document with the model's own bindings, which check kinds and counts."""
    found = bindings.SHACLObjectSet()
    with open(file, "rb") as stream:
        bindings.JSONLDDeserializer().read(stream, found)
    bindings.JSONLDSerializer().write(found, io.BytesIO())  # and once more: counts
    return found


# What the profiles ask for beyond the model, 3.0.1: "external properties".
ASKED = {
    "ai_AIPackage": """releaseTime suppliedBy software_downloadLocation
    software_packageVersion software_primaryPurpose""".split(),
    "dataset_DatasetPackage": """originatedBy builtTime releaseTime dataset_datasetType
    software_downloadLocation software_primaryPurpose""".split(),
}


def test_spdx_reads_by_its_own_model_and_has_what_its_profiles_ask_for(model, tmp_path):
    _, out = write(model, tmp_path)
    found = read_spdx(out / "spdx.json")
    assert not found.missing_ids
    graph = json.loads((out / "spdx.json").read_text(encoding="utf-8"))["@graph"]
    ties = [element for element in graph if element["type"] == "Relationship"]
    for kind, properties in ASKED.items():
        packages = [element for element in graph if element["type"] == kind]
        assert packages
        for package in packages:
            assert set(properties) <= package.keys()
            for tie in ("hasDeclaredLicense", "hasConcludedLicense"):
                own = [t for t in ties if t["from"] == package["spdxId"]]
                assert sum(t["relationshipType"] == tie for t in own) == 1
    (trained,) = [t for t in ties if t["relationshipType"] == "trainedOn"]
    sets = [e for e in graph if e["type"] == "dataset_DatasetPackage"]
    assert sorted(trained["to"]) == sorted(e["spdxId"] for e in sets)
    assert {e["name"]: e["dataset_datasetSize"] for e in sets} == {
        "emoji": 3,
        "photos": 1,
    }
    terms = [e.get("simplelicensing_licenseExpression") for e in graph]
    assert {"CC-BY-4.0 AND CC0-1.0", "CC-BY-SA-3.0-DE", "CC-BY-SA-4.0"} <= {*terms}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dataset_datasetSize", "many"),
        ("dataset_datasetType", ["emoji"]),
        ("dataset_datasetType", []),
        ("no_such_property", 1),
    ],
)
def test_the_reading_of_spdx_can_fail(model, tmp_path, name, value):
    _, out = write(model, tmp_path)
    told = json.loads((out / "spdx.json").read_text(encoding="utf-8"))
    for element in told["@graph"]:
        if element["type"] == "dataset_DatasetPackage":
            element[name] = value
    (out / "wrong.json").write_text(json.dumps(told))
    with pytest.raises((ValueError, TypeError, KeyError, AttributeError)):
        read_spdx(out / "wrong.json")


def test_without_a_person_each_choice_and_each_of_a_person_s_words_is_open(
    model, tmp_path
):
    made, out = write(model, tmp_path)
    optional = {item.key for item in questions.items() if item.optional}
    assert optional == {"other"}  # the template leaves no more open
    assert set(made["open"]) == {*CHOICES, *PEOPLE, *DATES} - optional
    assert not made["is_complete"]
    for key, field in fields_of(made).items():
        assert field["by"] == ("ledger" if field["answer"] is not None else None), key
    text = (out / "training_summary.md").read_text(encoding="utf-8")
    assert text.count("Open: a person") == len(made["open"]) and "Yes" not in text


def test_the_ledger_fills_all_that_a_person_need_not_say(model, tmp_path):
    made, out = write(model, tmp_path)
    fields = fields_of(made)
    for item in questions.items():
        if item.by == "ledger":
            assert fields[item.key]["answer"], item.key
    large = fields["large_sets"]["answer"]
    assert [(r["set"], r["works"], r["share"]) for r in large] == [
        ("emoji", 3, "75.0%"),
        ("photos", 1, "25.0%"),
    ]
    assert large[0]["link"] == "https://emoji.example.org/works/"
    # When a set was packed or seen is no date of acquisition; nobody said that one.
    assert "between 2025-12-30 and 2026-03-04" in fields["dates_seen"]["answer"]
    assert fields["latest_date"]["answer"] is None and "latest_date" in made["open"]
    assert "rai:dataCollectionTimeframe" not in json.loads(
        (out / "croissant.json").read_text(encoding="utf-8")
    )
    image, text, *_ = fields["modalities"]["answer"]
    assert image["size"].startswith("less than 1 million images: 4")
    assert "96 at most" in text["size"]  # 4 works, 2 captions, 12 tokens
    assert fields["domains"]["answer"][0] == {"domain": "emoji.example.org", "works": 3}


def whole():
    answers = {key: "no" for key in CHOICES} | {"crawlers": "yes", "public_sets": "yes"}
    answers |= {key: "told" for key in PEOPLE} | {"page": "https://example.org/m"}
    answers |= {"placed_on_market": "2027-01-31", "latest_date": "11/2026"}
    answers |= {"synthetic_data": "yes", "synthetic_told": "vlm"}
    return answers | {
        item.key: "told" for item in questions.items() if item.after == "crawlers"
    }


def test_a_person_s_answers_complete_it_and_are_told_from_the_ledger_s(model, tmp_path):
    answers = whole() | {"model": "Toy 1.0"}
    told = "".join(f"{key}: {value}\n" for key, value in answers.items())
    made, out = write(model, tmp_path, told)
    assert made["open"] == [] and made["is_complete"]
    fields = fields_of(made)
    assert (
        fields["crawlers"]["answer"] == "yes" and fields["crawlers"]["by"] == "person"
    )
    assert fields["model"]["answer"] == "Toy 1.0"
    assert "cc_toy at toy" in fields["model"]["from_ledger"]
    croissant = json.loads((out / "croissant.json").read_text(encoding="utf-8"))
    assert croissant["url"] == "https://example.org/m"
    assert croissant["creator"]["name"] == "told"
    # What a person wrote comes back, to be gone on with.
    again = questions.read_answers(out / "answers.yaml")
    assert again == questions.read_answers(tmp_path / "mine.yaml")


def test_a_yes_asks_what_follows_from_it(model, tmp_path):
    made, _ = write(model, tmp_path, "crawlers: yes\nprivate_sets: no\n")
    assert "crawler_behaviour" in made["open"] and "crawlers" not in made["open"]
    assert "private_sets_told" not in made["open"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crawlers: perhaps", "crawlers is 'perhaps'; expected yes or no"),
        ("crawler: yes", "'crawler', which nobody asked"),
        ("provider: [a, b]", "provider is a list; expected text"),
        ("a: b: c", "expected YAML"),
        ("other: !!set {a, b}", "other is a set; expected text"),
        ("other: !!binary aGk=", "other is a bytes; expected text"),
        ("other: !!bool abc", "expected YAML"),
        (f"other: 0x{'f' * 5000}", "other is a int; expected text"),
        ('other: "a \\ud800"', "other has half a character"),
        ("page: javascript:alert(1)", "page is 'javascript:alert(1)'; expected an"),
        ("placed_on_market: soon", "placed_on_market is 'soon'; expected a day or a"),
        ("placed_on_market: 2026-02-30", "placed_on_market is '2026-02-30'; expected"),
        ("latest_date: 13/2026", "latest_date is '13/2026'; expected a day or a month"),
        ("latest_date: 2026-11-29", "latest_date is 2026-11-29, and the summary is of"),
        ("latest_date: 12/2026", "latest_date is 12/2026, and the summary is of 2026"),
        (
            "crawlers: no\ncrawler_names: x",
            "crawler_names is filled, and crawlers is no; expected yes, or an empty",
        ),
        (
            "synthetic_data: no",
            "synthetic_data is no, and vlm wrote captions that the model was trained",
        ),
    ],
)
def test_answers_that_cannot_be_read_are_one_line(model, tmp_path, text, words):
    with pytest.raises(ParameterError, match=re.escape(words)) as error:
        write(model, tmp_path, text)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


@settings(deadline=None, derandomize=True)
@given(
    st.dictionaries(
        st.sampled_from(
            [i.key for i in questions.items() if i.by in ("person", "ledger")]
        ),
        st.text("a é😀 \t\n\r\x07\x85\u2028\u200b\ufeff\U000e0001#:|\"'\\-&*{%@"),
    )
)
@example({"provider": "ACME\aInc", "other": "a\u2028b\rc", "languages": "\u200b"})
def test_what_is_asked_for_reads_back_as_it_was_answered(tmp_path_factory, told):
    told = {k: text.strip() for k, text in told.items() if k != "page"}
    told |= {"page": "https://example.org/a"}
    file = tmp_path_factory.getbasetemp() / "asked.yaml"
    write_text(file, questions.questionnaire(told))
    seen = {key: text for key, text in told.items() if is_seen(text)}
    assert questions.read_answers(file) == seen


def test_lines_of_an_answer_stay_lines_and_questions_stand_apart(model, tmp_path):
    told = "provider: |\n  ACME\n  1 Main Street\n\n  # Room 7\n"
    _, out = write(model, tmp_path, told)
    text = (out / "training_summary.md").read_text(encoding="utf-8")
    name = "#### Provider's name and contact details"
    assert f"{name}\n\nACME\\\n1 Main Street\n\n\\# Room 7\n" in text
    page = (out / "index.html").read_text(encoding="utf-8")
    assert re.search(r"details</h4>\s*<p>ACME<br ?/?>\s*1 Main Street</p>", page)


# The release's own VAE and captioner, and a text encoder by others.
OWN_PARTS = [
    ["text encoder", "MiniLM"],
    ["VAE", "pretrained/vae"],
    ["captioner, for the told captions", OWN["open"]],
]


def test_what_the_parts_learnt_from_is_named_with_its_licences(model, tmp_path):
    facts = read_manifest(model)["facts"] | {"parts": OWN_PARTS}
    (model / "vae").mkdir()
    (model / "vae/diffusion_pytorch_model.safetensors").write_bytes(b"vae")
    write_manifest(model, "release", "toy", "cc_toy", 4, 4, {}, facts)
    made, out = write(model, tmp_path)
    fields = fields_of(made)
    sets = {row["set"].split()[0]: row for row in fields["part_sets"]["answer"]}
    assert sets["noto"]["licences"] == "Apache-2.0"
    assert sets["fluent-emoji"]["licences"] == "MIT"
    assert sets["noto"]["part"] == "VAE and captioner"
    assert "drawings of web icon sets" in str(fields["modalities"]["answer"])
    rights_kept = fields["reservations"]["answer"]
    for words in (
        "The UNet was trained only on works whose source states an open licence",
        "The VAE (commoncanvas-replicated/vae) and the captioner (commoncanvas-repl",
        "noto (Apache-2.0)",
        "starts from EfficientNet-Lite0, whose authors state",
        "The text encoder (MiniLM): made by others, who state what each was trained",
    ):
        assert words in rights_kept
    told = json.loads((out / "croissant.json").read_text(encoding="utf-8"))
    assert "noto (Apache-2.0)" in told["description"]
    for name in ("training_summary.json", "croissant.json", "spdx.json"):
        assert "pretrained/vae" not in (out / name).read_text(encoding="utf-8")
    assert not read_spdx(out / "spdx.json").missing_ids
    graph = json.loads((out / "spdx.json").read_text(encoding="utf-8"))["@graph"]
    names = {e["spdxId"]: e.get("name") for e in graph if "spdxId" in e}
    ties = {
        (names[e["from"]], e["relationshipType"]): e["to"]
        for e in graph
        if e["type"] == "Relationship"
    }
    vae = "VAE: commoncanvas-replicated/vae"
    learnt = [names[one] for one in ties[vae, "trainedOn"]]
    assert learnt[0] == "noto, web icon set" and len(learnt) == len(web_sets())
    assert ties[vae, "trainedOn"] == ties[names_of(names, "captioner"), "trainedOn"]
    (license_,) = ties[vae, "hasDeclaredLicense"]
    assert license_.endswith("license-CC-BY-SA-4.0")
    (license_,) = ties["noto, web icon set", "hasDeclaredLicense"]
    assert license_.endswith("license-Apache-2.0")
    assert "made elsewhere" not in json.dumps(graph)


def names_of(names, start):
    return next(name for name in names.values() if name and name.startswith(start))


def test_a_stranger_s_words_do_nothing(model, tmp_path):
    _, out = write(model, tmp_path, "provider: '<script>alert(1)</script> **b**'\n")
    for name in ("training_summary.md", "index.html"):
        text = (out / name).read_text(encoding="utf-8")
        assert "<script>alert" not in text and "\x1b" not in text
    page = (out / "index.html").read_text(encoding="utf-8")
    assert "<strong>b</strong>" not in page and "&lt;script&gt;" in page
    assert "\x1b" not in json.loads((out / "spdx.json").read_text())["@graph"][-5].get(
        "name", ""
    )


def test_the_same_inputs_give_the_same_bytes(model, tmp_path):
    _, out = write(model, tmp_path)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    _, out = write(model, tmp_path)
    assert first == {path.name: path.read_bytes() for path in out.iterdir()}


def test_works_that_are_not_the_model_s_are_refused(model, tmp_path):
    facts = read_manifest(model)["facts"] | {"works_key": "0" * 16}
    write_manifest(model, "release", "toy", "cc_toy", 4, 4, {}, facts)
    with pytest.raises(ManifestError, match="not those that it was trained on"):
        write(model, tmp_path)


def test_a_ledger_that_changed_is_refused(model, tmp_path):
    ledger().head(3).to_parquet(model / "ledger.parquet")
    with pytest.raises(ManifestError, match=r"changed: ledger\.parquet"):
        write(model, tmp_path)


def test_rights_that_fail_leave_those_of_before_whole(model, tmp_path, monkeypatch):
    out = tmp_path / "out"
    rights.write_rights(out, model, None, DATE)
    before = {path: path.read_bytes() for path in out.iterdir()}
    monkeypatch.setattr(rights, "_write_page", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        rights.write_rights(out, model, None, "2027-01-01")
    assert {path: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(ZeroDivisionError):
        rights.write_rights(tmp_path / "new", model, None, DATE)
    assert [path for path in tmp_path.iterdir() if "new" in path.name] == []


def test_what_a_person_answered_in_the_folder_is_kept(model, tmp_path):
    out = tmp_path / "out"
    rights.report(out, model, None, DATE)
    answers = (out / "answers.yaml").read_text()
    told = answers.replace("provider:", "provider: ACME #", 1)
    (out / "answers.yaml").write_text(told)
    rights.report(out, model, None, DATE)
    assert "ACME" in (out / "answers.yaml").read_text()
    assert "ACME" in (out / "training_summary.md").read_text()


def test_what_is_no_release_and_what_is_no_place_are_refused(model, tmp_path):
    with pytest.raises(ParameterError, match="is no released model"):
        rights.write_rights(tmp_path / "out", tmp_path, None, DATE)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("mine")
    with pytest.raises(ParameterError, match="holds something else"):
        write(model, tmp_path)


def test_a_licence_without_an_spdx_id_gets_one_of_ours_with_its_address():
    graph = spdx._Graph("urn:x")
    graph.license("urn:x#a", [read_license("CC BY 3.0 PL")])
    element = graph.elements[0]
    assert element["simplelicensing_licenseExpression"] == "LicenseRef-CC-BY-3.0-PL"
    (entry,) = element["simplelicensing_customIdToUri"]
    assert entry["value"] == "https://creativecommons.org/licenses/by/3.0/pl/"


@pytest.mark.slow
def test_the_committed_model_s_ledger_is_rebuilt_and_its_summary_lacks_a_person_alone(
    tmp_path,
):
    model = paths.RESULTS / "model"
    manifest = read_manifest(model, verify=False)
    works = credited.read_ledger(model, manifest)
    assert len(works) == manifest["facts"]["works"] and works["date_seen"].min() > "2"
    told = call("rights", "--out", tmp_path / "out", "--date", DATE)
    made = json.loads((tmp_path / "out/training_summary.json").read_text())
    asked = {item.key: item.by for item in questions.items()}
    assert all(asked[key] != "ledger" for key in made["open"])
    assert told.splitlines()[-1].startswith("open, for a person to answer: provider, ")

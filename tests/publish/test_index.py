"""The pages keep their promises: offline, described, linked, escaped, repeatable."""

import html
import json
import re

import nbformat
import numpy as np
import pandas as pd
import pytest
from browser import laid_out, needs_browser
from doors import call
from nbformat import v4

from commoncanvas.analysis import figures, plots
from commoncanvas.analysis.checks import Checks
from commoncanvas.core import paths
from commoncanvas.core.errors import CommonCanvasError, ManifestError
from commoncanvas.core.manifest import write_manifest
from commoncanvas.core.templates import assets
from commoncanvas.publish import index, pages

EVIL = "<script>alert(1)</script>"
STAGES = {
    "01_licenses": "Licences",
    "02_captions": "Captions",
    "03_latents": "Latents",
    "04_train": "Training",
    "05_evaluate": "Evaluation",
    "06_figures": "Figures",
    "07_speed": "Speed",
}
CLAIMED = {"06_figures": "data_saturation", "07_speed": "speedup_total"}
VARIANTS = ["cc_human", "cc_synthetic", "web_human"]
CLAIM = {
    "claim_id": "data_saturation",
    "says": "Fewer pictures are enough " + EVIL,
    "paper": "no loss down to 1 M pictures",
    "source": "commoncanvas-cvpr, §5.2",
    "differs": None,
    "closeness": "analogue",
    "outcome": "transfers",
    "why": "The intervals overlap.",
    "stage": "05_evaluate",
    "requires": [],
    "tests": [
        {
            "name": "it is so",
            "metric": "alignment gap, a − b",
            "aim": "not_lower",
            "result": "passes",
            "why": "The interval shows more.",
            "value": 0.12,
            "interval": [0.1, 0.14],
            "n": 500,
            "unit": "prompts",
            "trainings": 3,
            "margin": 0.2,
            "control": {"value": -0.4, "interval": [-0.5, -0.3], "n": 500},
        }
    ],
}


def output(thing):
    data = {"text/html": thing._repr_html_(), "text/plain": "<object>"}
    return v4.new_output("display_data", data)


def code(source, *outputs, tags=()):
    metadata = {"tags": list(tags)} if tags else {}
    return v4.new_code_cell(source, outputs=list(outputs), metadata=metadata)


def notebook(slug, title):
    text = v4.new_markdown_cell
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    plot = plots.curves(
        {"cc_synthetic": ([0, 1, 2], [3, 2, 1]), "Paper": ([0, 1, 2], [2, 1.5, 1])},
        alt="Loss falls",
        caption="Training loss",
        x_label="steps",
        y_label="loss",
    )
    check = Checks()
    check.that("rows in = out + rejected", 10, "==", 7 + 3)
    check("titles are complete", True)
    cells = [
        text(f"# {slug[:2]} · {title}\n\nPictures go in, numbers come out. And more."),
        text("## What the paper says\n\n**Paper ·** It keeps $\\bar\\alpha_t$ (§4.1)."),
        text("## What we do differently\n\n**Here ·** See [02](02_captions.html)."),
        code('seed: int = 17  # of every draw\nname: str = "a"', tags=["parameters"]),
        code("# Parameters\nseed = 18\n", tags=["injected-parameters"]),
        code("import json", tags=["hide-input"]),
        text("## The idea\n\nLook at\n\n$$x_t = \\sqrt{\\bar\\alpha_t}\\,x_0$$"),
        code("figures.curves(losses)", output(plot), output(plot)),
        text("## The idea\n\nThe same heading again: `data_saturation`."),
        code(
            "figures.sheet(pixels, labels)",
            output(figures.sheet(pixels, [(EVIL, "b")] * 6, alt="Noise", caption="N")),
            output(figures.table(pd.DataFrame({"title": [EVIL], "n": [1.5]}), "T")),
            v4.new_output("stream", name="stdout", text=EVIL),
        ),
        text("## Checks"),
        code("check.close()", output(check.close()), tags=["check"]),
        text(f"## What we saw\n\n- A result {EVIL}\n- Next, [04](04_train.ipynb)."),
    ]
    for number, cell in enumerate(cells, start=1):
        cell.id = f"cell-{number}"
    return v4.new_notebook(cells=cells)


def save(path, book):
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, path)


def build(root):
    """Lay out a small finished run: notebooks, manifests, claims, a catalogue."""
    for slug, title in STAGES.items():
        book = notebook(slug, title)
        save(root / f"notebooks/{slug}.ipynb", book)
        for variant in VARIANTS if slug[:2] in ("04", "05") else [None]:
            stem = f"{slug}-{variant}" if variant else slug
            save(root / f"reports/executed/mini/{stem}.ipynb", book)
            folder = root / "data/mini" / slug / (variant or "")
            folder.mkdir(parents=True, exist_ok=True)
            if slug == "01_licenses":
                licenses = ["CC BY 4.0", "CC0 1.0", EVIL, "MIT"]
                splits = ["c", "c", "nc", "rejected"]
                deeds = ["https://creativecommons.org/licenses/by/4.0/", "", "", ""]
                rows = pd.DataFrame({"license_title": licenses, "split": splits})
                rows = rows.assign(license_deed=deeds, is_holdout=False, file=-1)
                for name in ("key", "title", "author", "pageurl", "source"):
                    rows[name] = name
                rows.to_parquet(folder / "catalog.parquet")
            if slug[:2] in ("06", "07"):
                claim = CLAIM | {"claim_id": CLAIMED[slug]}
                (folder / "claims.json").write_text(json.dumps([claim]), "utf-8")
            rejected = {"licence unreadable": 3}
            used = {"captioner": "vlm", "model": "a/b", "revision": "c0"}
            facts = {"synthetic": {"captioner": used}} if slug[:2] == "02" else {}
            write_manifest(folder, slug, "mini", variant, 1010, 1007, rejected, facts)
    save(root / "reports/executed/00_pretrain.ipynb", notebook("00", "Pretraining"))
    (root / "docs").mkdir(exist_ok=True)
    (root / "docs/prompts.yaml").write_text("gate: {plain subject: [red apple]}\n")


@pytest.fixture(scope="module")
def patch():
    with pytest.MonkeyPatch.context() as monkeypatch:
        yield monkeypatch


@pytest.fixture(scope="module")
def site(tmp_path_factory, patch):
    """The pages of a small finished run: {name: HTML}."""
    root = tmp_path_factory.mktemp("repository")
    places = {"ROOT": ".", "NOTEBOOKS": "notebooks", "PRETRAINED": "pretrained"}
    places |= {"EXECUTED": "reports/executed", "HTML": "reports/html", "DOCS": "docs"}
    places |= {"RESULTS": "results"}
    for name, place in places.items():
        patch.setattr(paths, name, root / place)
    build(root)
    assert re.fullmatch(r"wrote \d+ pages\n", call("pages", "--scale", "mini"))
    assert call("index", "--scale", "mini") == "wrote reports/html/index.html\n"
    return read(paths.HTML)


def read(folder):
    found = sorted(folder.rglob("*.html"))
    return {p.relative_to(folder).as_posix(): p.read_text("utf-8") for p in found}


def tags(text, name):
    return re.findall(rf"<{name}\b[^>]*>", text)


def test_every_executed_notebook_has_a_page(site):
    assert len(site) == 1 + 1 + 5 + 2 * len(VARIANTS)


def test_no_page_names_a_remote_resource(site):
    for name, text in site.items():
        assert not pages.fetches(text), name
        assert not re.search(r"url\(\s*['\"]?(?:\w+:)?//|@import", text), name


def test_every_picture_is_described(site):
    for name, text in site.items():
        is_index = name == "index.html"  # this run has no samples to show there
        assert tags(text, "img") or "<svg" in text or is_index, name
        assert all(re.search(r'\salt="[^"]+"', tag) for tag in tags(text, "img")), name
        assert all("aria-label=" in tag for tag in tags(text, "svg")), name


def test_ids_are_unique_within_a_page(site):
    for name, text in site.items():
        ids = re.findall(r'\sid="([^"]+)"', text)
        assert len(ids) == len(set(ids)), name


def test_every_link_inside_the_site_resolves(site):
    for name, text in site.items():
        for href in re.findall(r'<a\b[^>]*\shref="([^"]+)"', text):
            if href.startswith("https://"):  # a reader's click, and no request
                continue
            file, _, anchor = href.partition("#")
            target = (paths.HTML / name).parent / file if file else paths.HTML / name
            key = target.resolve().relative_to(paths.HTML.resolve()).as_posix()
            assert key in site, (name, href)
            assert not anchor or f' id="{anchor}"' in site[key], (name, href)


@needs_browser
def test_no_page_overflows_or_says_or_fetches_anything_at_any_width(site, tmp_path):
    names = ["index.html", "mini/03_latents.html", "mini/05_evaluate-cc_human.html"]
    shown = {name: site[name] for name in names}
    found = laid_out(tmp_path, shown, (390, 768, 1440))
    quiet = {"said": [], "asked": [], "over": 0}
    assert found == {(name, w): quiet for name in names for w in (390, 768, 1440)}


def test_every_page_is_smaller_than_3_mb(site):
    assert max(len(text.encode()) for text in site.values()) < 3_000_000


def test_next_leads_from_the_first_page_through_every_stage(site):
    name, visited = "mini/01_licenses.html", []
    while name:
        visited.append(name.removeprefix("mini/")[:2])
        found = re.search(r'rel="next" href="([^"]+)"', site[name])
        name = f"mini/{found[1]}" if found else None
    assert visited == [*(f"0{i}" for i in range(1, 8)), "00"]  # told last


def test_no_page_leads_to_the_first_and_every_page_counts_to_the_last_number(site):
    assert 'rel="prev"' not in site["mini/01_licenses.html"]
    pages = [text for name, text in site.items() if name.startswith("mini/")]
    assert all(" / 07 " in text for text in pages)


def test_previous_undoes_next(site):
    for name, text in site.items():
        if found := re.search(r'rel="next" href="([^"]+)"', text):
            back = re.search(r'rel="prev" href="([^"]+)"', site[f"mini/{found[1]}"])
            assert back[1][:2] == name.removeprefix("mini/")[:2]


def test_the_base_variant_stands_for_its_stage(site):
    link = 'rel="next" href="04_train-cc_synthetic.html"'
    assert link in site["mini/03_latents.html"]


def test_a_variant_page_links_all_its_siblings(site):
    text = site["mini/04_train-cc_human.html"]
    assert all(f'href="04_train-{variant}.html"' in text for variant in VARIANTS)


def test_a_script_in_a_title_is_text(site):
    for name, text in site.items():
        assert "<script>alert" not in text, name
    assert "&lt;script&gt;alert(1)" in site["mini/03_latents.html"]
    assert "&lt;script&gt;alert(1)" in site["index.html"]


def test_the_front_page_shows_works_by_licence_and_who_captioned_them(site):
    section = re.search(r'<h2 id="rights">.*?</section>', site["index.html"], re.S)[0]
    row = re.search(r"<tr><th scope=.row.>.*?CC BY 4.0.*?</tr>", section)[0]
    assert 'href="https://creativecommons.org/licenses/by/4.0/"' in row
    assert re.sub(r"<[^>]+>", " ", row).split() == "CC BY 4.0 c 1".split()
    assert "captions are by a/b at c0" in section and "MIT" not in section
    assert "commoncanvas rights --out FOLDER" in section


def test_only_the_pages_own_script_may_run(site):
    for name, text in site.items():
        assert text.count("<script") == 1, name
        assert "script-src 'sha256-" in text and "default-src 'none'" in text, name


def test_the_same_inputs_give_the_same_bytes(site):
    pages.write_pages("mini")
    index.write_index("mini")
    assert read(paths.HTML) == site


def test_no_page_shows_a_path_of_this_machine(site):
    assert all(str(paths.ROOT) not in text for text in site.values())


def test_parameters_are_a_table_and_the_injected_cell_is_gone(site):
    text = site["mini/03_latents.html"]
    row = re.search(r'<tr class="changed">(.*?)</tr>', text)[1]
    assert re.sub(r"<[^>]+>", " ", row).split() == "seed 18 17 of every draw".split()
    assert "# Parameters" not in text


def test_hidden_code_is_folded_and_other_code_is_not(site):
    text = site["mini/03_latents.html"]
    assert text.count('<details class="code">') == 1
    assert text.count('<div class="code">') == 3


def test_formulas_are_mathml(site):
    text = site["mini/03_latents.html"]
    assert text.count("<math") == 2 and "\\alpha" not in text


def test_the_two_voices_have_rules_of_their_own(site):
    text = site["mini/03_latents.html"]
    assert '<p class="voice paper">' in text and '<p class="voice here">' in text


def test_the_page_title_counts_the_checks(site):
    assert "2 of 2 checks</title>" in site["mini/03_latents.html"]


def test_contents_hold_every_section(site):
    text = site["mini/03_latents.html"]
    side = re.search(r'<nav class="side".*?</nav>', text, re.DOTALL)[0]
    assert side.count("<li>") == 6


def test_the_index_gives_each_outcome_a_word_and_an_interval(site):
    text = site["index.html"]
    assert "<b>+0.12</b> [0.1, 0.14]<small>n = 500 prompts, 3 trainings" in text
    assert re.search(r'class="verdict yes">.*?transfers</span>', text)


def test_every_claim_has_an_anchor_that_chapters_link_to(site):
    assert ' id="claim-data_saturation"' in site["index.html"]
    link = '<a href="../index.html#claim-data_saturation">data_saturation</a>'
    assert f"<code>{link}</code>" in site["mini/03_latents.html"]


def test_a_variant_stays_itself_from_chapter_to_chapter(site):
    trained = site["mini/04_train-cc_human.html"]
    assert 'rel="next" href="05_evaluate-cc_human.html"' in trained
    back = site["mini/05_evaluate-cc_human.html"]
    assert 'rel="prev" href="04_train-cc_human.html"' in back


def numbers(text):
    """Return the numbers that a reader of a page sees."""
    seen = re.sub(r"<(style|script).*?</\1>|<[^>]*>", " ", text, flags=re.DOTALL)
    return set(re.findall(r"\d[\d.,]*\d|\d", html.unescape(seen)))


def renumbered(thing):
    """Return the same JSON with every number in it another one."""
    if isinstance(thing, dict):
        return {key: renumbered(value) for key, value in thing.items()}
    if isinstance(thing, list):
        return [renumbered(value) for value in thing]
    if isinstance(thing, str):
        return re.sub(r"\d+", lambda found: str(int(found[0]) + 31), thing)
    return thing if thing is None else thing + 31


@pytest.fixture
def another_run(site):
    """The index of the same stages, where every file of the run has other numbers."""
    cards = {"06_figures": ["transfers"] * 11 + ["does not transfer"] * 12}
    cards["07_speed"] = ["no test here"] * 13
    kept = {key: CLAIM[key] for key in ("claim_id", "stage", "differs", "closeness")}
    for slug, found in cards.items():
        rows = [renumbered(CLAIM) | kept | {"outcome": outcome} for outcome in found]
        folder = paths.ROOT / "data/mini" / slug
        (folder / "claims.json").write_text(json.dumps(rows), "utf-8")
    catalog = paths.stage_dir("mini", "01_licenses") / "catalog.parquet"
    rows = pd.concat([pd.read_parquet(catalog)] * 607)
    for column in ("license_title", "license_deed"):
        rows[column] = rows[column].map(renumbered)
    rows.to_parquet(catalog)
    for slug in STAGES:
        for variant in VARIANTS if slug[:2] in ("04", "05") else [None]:
            folder = paths.stage_dir("mini", slug, variant)
            rejected = {"licence unreadable": 77}
            write_manifest(folder, slug, "mini", variant, 5077, 5000, rejected, {})
    index.write_index("mini")
    yield (paths.HTML / "index.html").read_text("utf-8")
    build(paths.ROOT)
    index.write_index("mini")
    assert read(paths.HTML) == site


def test_every_number_of_the_index_comes_from_a_file_of_the_run(site, another_run):
    seen = numbers(another_run)
    changed = "31.1 531 34 11 12 13 607"
    assert set(changed.split()) <= seen
    stages = {"00", *(slug[:2] for slug in STAGES)}
    # CVPR 2024, and 95 % intervals, are what this code says itself.
    # Every axis begins at 0. Of the plan's rows both runs lack the same four.
    constant = stages | {"2024", "95", "0", "4"}
    assert numbers(site["index.html"]) & seen == constant


def test_the_reference_run_stands_beside_this_one(site):
    assert "Reference run" not in site["index.html"]
    file = paths.RESULTS / "full/claims.json"
    file.parent.mkdir(parents=True)
    test = CLAIM["tests"][0] | {"metric": "rate", "value": 31.4, "control": None}
    kept = {"tests": [test], "outcome": "does not transfer", "why": "It was slower."}
    file.write_text(json.dumps([CLAIM | kept]), "utf-8")
    index.write_index("mini")
    text = (paths.HTML / "index.html").read_text("utf-8")
    file.unlink()
    index.write_index("mini")
    assert read(paths.HTML) == site
    assert "Reference run" in text and "It was slower" in text
    assert "<b>+31.4</b> [0.1, 0.14]" in text
    assert text.index(CLAIM["why"]) < text.index("It was slower")
    assert "repeats 0 and contradicts 1" in text


def test_the_template_of_the_index_holds_no_number_of_a_run():
    text = (paths.TEMPLATE / "contents.html.j2").read_text(encoding="utf-8")
    text = re.sub(r"\{\{.*?\}\}|\{%.*?%\}|\{#.*?#\}", " ", text)
    text = re.sub(r"<[^>]*>", " ", text)
    # The stages' numbers, and the intervals' level, are no results of a run.
    stages = [f"0{number}" for number in range(1, 8)]
    assert re.findall(r"\d+", text) == ["2024", *stages, "95"]


@pytest.mark.parametrize(
    "missing",
    ["06_figures/claims.json", "07_speed/claims.json"],
)
def test_a_missing_input_names_the_stage_to_run(site, missing):
    path = paths.ROOT / "data/mini" / missing
    content = path.read_bytes()
    path.unlink()
    command = f"dvc repro {path.parent.name}@mini"
    with pytest.raises(CommonCanvasError, match=command) as caught:
        index.write_index("mini")
    path.write_bytes(content)
    assert "\n" not in str(caught.value)


def test_a_stage_without_manifest_is_named(site):
    path = paths.ROOT / "data/mini/03_latents/manifest.json"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(ManifestError, match="03_latents"):
        pages.write_pages("mini")
    path.write_bytes(content)


def test_a_scale_that_was_not_run_is_one_clear_line(site):
    assert "reports/executed/full" in call("pages", "--scale", "full", fails=True)


def renderer():
    return pages.PageRenderer(set())


def test_a_picture_without_alt_text_is_refused():
    bare = v4.new_output("display_data", {"image/png": "AAAA", "text/plain": "x"})
    with pytest.raises(CommonCanvasError, match="alt text"):
        pages._output(bare, renderer(), "03_latents, cell 7")


@pytest.mark.parametrize(
    "text",
    [
        '<img alt="a" src="//b.example/c">',
        "<IMG alt=a SRC = http://b.example/c>",
        '<p title="a > b"><img alt=">" src="https://b.example/c"></p>',
        '<img srcset="a.png 1x, https://b.example/c 2x">',
        '<svg><image xlink:href="http://b.example/c"/></svg>',
        '<video poster=" https://b.example/c"></video>',
        '<link rel="stylesheet" href="https://b.example/c">',
        '<p style="background: url(https://b.example/c)">',
        "<style>p { background: url( '//b.example/c' ) }</style>",
        '<style>@import "https://b.example/c";</style>',
    ],
)
def test_a_page_that_would_fetch_something_is_refused(tmp_path, text):
    with pytest.raises(CommonCanvasError, match=r"would fetch .*b\.example/c"):
        pages.write_page(tmp_path / "a.html", text)


TITLES = [
    "href=http://a.example",
    " src=//a.example",
    "url(https://a.example) @import '//a.example'",
    "<img src=http://a.example>",
    '" src="http://a.example"',
    "<style>p{background:url(//a.example)}",
]


@pytest.mark.parametrize("title", TITLES)
def test_a_title_that_looks_like_an_attribute_stops_no_page(tmp_path, title):
    tile = np.zeros((1, 4, 4, 3), np.uint8)
    shown = [
        figures.sheet(tile, [(title, title)], alt=title, caption=title).data,
        figures.table(pd.DataFrame({title: [title]}), title).data,
        plots.bars([title], {title: [1.0]}, title, title, title).data,
        f'<style>p {{}}</style><p>{html.escape(title)}</p><a href="http://a.example">a</a>',
    ]
    written = pages.write_page(tmp_path / "a.html", "".join(shown))
    assert len(re.findall("a\\.example", written.read_text("utf-8"))) >= 8


def test_a_title_is_not_changed_by_what_makes_ids_and_links_of_a_page_fit():
    title = 'id="main" href="#main" url(#main) href="03_latents.html"'
    plot = plots.bars([title], {"here": [1.0]}, "a bar").data
    text = pages._unique_ids(f'<p id="main">a</p>{plot}', "c1", {"main"})
    text = pages.link_stages(text + '<a href="03_latents.html#x">b</a>', {})
    assert title in text
    assert '<p id="c1-main">' in text and '<a href="../index.html#x">' in text


def test_a_page_that_is_too_large_is_refused(tmp_path):
    with pytest.raises(CommonCanvasError, match="at most"):
        pages.write_page(tmp_path / "a.html", "x" * 3_000_001)


@pytest.mark.parametrize("formula", ["\\left( x", "\\nosuch", "x_"])
def test_a_formula_that_cannot_be_set_is_named(formula):
    with pytest.raises(CommonCanvasError, match=re.escape(repr(formula))):
        renderer().inline_math(formula)


def test_ids_that_come_twice_are_renamed_with_their_references():
    text = '<g id="a"></g><use href="#a"/>'
    assert pages._unique_ids(text, "c1", {"a"}).count("c1-a") == 2


def test_no_text_on_a_screen_is_smaller_than_four_fifths_of_the_browser_s():
    styles = [assets(name)["style"] for name in ("", "explorer", "demo")]
    screen = [re.sub(r"@media print \{.*?\n\}", "", s, flags=re.DOTALL) for s in styles]
    found = re.findall(r"font(?:-size)?:[^;}]*?(\d*\.?\d+)rem", "".join(screen))
    assert len(found) > 50 and min(map(float, found)) >= 0.8
    tile = np.zeros((1, 8, 8, 3), np.uint8)
    assert "font-size:0.8rem" in figures.sheet(tile, ["a"], alt="a tile").data


def test_rows_that_the_plan_has_and_the_run_lacks_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "PROFILES", tmp_path)
    rows = "rows: {experiment: [cc_human, web_human], repeats: [cc_human-18]}\n"
    (tmp_path / "small.yaml").write_text(rows)
    (tmp_path / "bare.yaml").write_text("common: {seed: 17}\n")
    evaluated = [{"slug": "05_evaluate", "variant": "cc_human"}]
    trained = [{"slug": "04_train", "variant": "web_human"}]
    assert index._num_missing("small", evaluated + trained) == 2
    assert index._num_missing("bare", evaluated) == 0

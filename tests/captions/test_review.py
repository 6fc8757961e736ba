"""People vote on captions offline, and their votes come back as counted."""

import io
import json
import os
import re
import tempfile
from pathlib import Path
from unicodedata import normalize

import numpy as np
import pytest
from browser import drive, needs_browser
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from commoncanvas.analysis import estimates
from commoncanvas.captions import review
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.images import encode_png
from commoncanvas.core.text import is_seen, printable

TEXT = st.text(st.characters(exclude_categories=["Cs"])).filter(is_seen)
TEXT = TEXT.map(lambda text: normalize("NFC", text))
HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"


def png(colour):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), colour).save(file, "PNG")
    return file.getvalue()


ROWS = [
    ("icons/apple", png("red"), "a red apple"),
    ("icons/pear", png("green"), HOSTILE),
    ("icons/plum", png("purple"), "a “plum” \u2028 & 1 leaf"),
    ("icons/fig", png("blue"), "a fog"),
]
SAMPLE = review.sample_id(ROWS)


def line(key="icons/apple", vote="accept", rater="AB", correction="", sample=SAMPLE):
    fields = {"sample": sample, "rater": rater, "key": key, "vote": vote}
    fields |= {"caption": "a\u2028b", "correction": correction}
    return json.dumps(fields, ensure_ascii=False)


def write(file, *lines):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(text + "\n" for text in lines), encoding="utf-8")


def read(folder, *lines):
    write(folder / "votes.jsonl", *lines)
    return review.read_votes(folder, ROWS)


def test_sample_id_is_of_keys_and_captions_and_not_of_order():
    assert re.fullmatch("[0-9a-f]{12}", SAMPLE)
    assert review.sample_id(ROWS[::-1]) == SAMPLE
    assert review.sample_id(ROWS[1:]) != SAMPLE
    assert review.sample_id([*ROWS[:3], (*ROWS[3][:2], "a fig")]) != SAMPLE


def test_the_same_rows_give_the_same_page_without_machine_paths(tmp_path):
    first, second = tmp_path / "a/page.html", tmp_path / "b.html"
    review.write_page(first, ROWS, "Captions")
    review.write_page(second, ROWS, "Captions")
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text(encoding="utf-8")
    assert str(tmp_path) not in text and str(paths.ROOT) not in text
    assert list(first.parent.iterdir()) == [first]


def test_the_page_needs_no_network(tmp_path):
    review.write_page(tmp_path / "page.html", ROWS, "Captions")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.|<link|@import|src=\"(?!data:)", text)
    assert "default-src 'none'" in text


def test_a_caption_cannot_leave_the_data_and_a_title_is_escaped(tmp_path):
    review.write_page(tmp_path / "page.html", ROWS, "<b>Captions & co")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 2
    assert "<img src=x" not in text and "&lt;b&gt;Captions &amp; co" in text
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    shown = json.loads(data)
    assert shown["sample"] == SAMPLE
    assert [(row["key"], row["caption"]) for row in shown["rows"]] == [
        (key, caption) for key, _, caption in ROWS
    ]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([], "0 rows, 0 different keys"),
        ([ROWS[0], ROWS[0]], "2 rows, 1 different keys"),
        ([(7, png("red"), "seven")], "all of it text"),
    ],
)
def test_a_sample_that_cannot_be_voted_on_is_refused(tmp_path, rows, words):
    with pytest.raises(ParameterError, match=re.escape(words)):
        review.write_page(tmp_path / "page.html", rows, "Captions")
    assert not list(tmp_path.iterdir())


def test_pictures_are_small_and_so_is_the_page(tmp_path, monkeypatch):
    noise = np.random.default_rng(0).integers(0, 256, (400, 600, 3), np.uint8)
    rows = [(f"{i}", encode_png(noise), "noise") for i in range(4)]
    jpegs = review._shrunk(rows)
    assert Image.open(io.BytesIO(jpegs[0])).size == (256, 171)
    monkeypatch.setattr(review, "MAX_BYTES", sum(map(len, jpegs)) // 2)
    smaller = review._shrunk(rows)
    assert sum(map(len, smaller)) <= review.MAX_BYTES
    assert Image.open(io.BytesIO(smaller[0])).width in review.EDGES[1:]
    monkeypatch.setattr(review, "MAX_BYTES", 100)
    with pytest.raises(ParameterError, match="4 pictures are too many for a page"):
        review.write_page(tmp_path / "page.html", rows, "Captions")
    assert not list(tmp_path.iterdir())


def test_votes_come_back_as_they_were_written(tmp_path):
    write(tmp_path / "b/b.jsonl", line(rater="CD"), "")
    write(
        tmp_path / "a.jsonl",
        line("icons/fig", "correct", correction="a fig"),
        line("icons/pear", "reject"),
    )
    (tmp_path / "notes.txt").write_text("not votes", encoding="utf-8")
    votes = review.read_votes(tmp_path, ROWS)
    assert list(votes.columns) == ["rater", "key", "vote", "correction"]
    assert votes.values.tolist() == [
        ["AB", "icons/pear", "reject", ""],
        ["AB", "icons/fig", "correct", "a fig"],
        ["CD", "icons/apple", "accept", ""],
    ]
    assert votes.attrs == {"other_samples": 0}


def test_the_last_vote_of_a_rater_on_a_key_counts(tmp_path):
    changed = [line(vote="reject"), line(vote="reject", rater="CD"), line()]
    votes = read(tmp_path, *changed)
    assert votes[["rater", "vote"]].values.tolist() == [
        ["AB", "accept"],
        ["CD", "reject"],
    ]


def test_a_later_download_follows_the_earlier_one(tmp_path):
    write(tmp_path / "votes.jsonl", line(vote="reject"))
    write(tmp_path / "votes (2).jsonl", line(vote="reject"))
    write(tmp_path / "votes (10).jsonl", line())
    assert list(review.read_votes(tmp_path, ROWS)["vote"]) == ["accept"]


def test_votes_on_another_sample_are_left_out_and_counted(tmp_path):
    others = [line("elsewhere", sample="0" * 12), line(sample="1" * 12)]
    votes = read(tmp_path, line(), *others)
    assert len(votes) == 1 and votes.attrs["other_samples"] == 2


def test_without_folder_or_files_there_are_no_votes_but_columns(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        votes = review.read_votes(folder, ROWS)
        assert votes.empty and list(votes.columns) == review.COLUMNS
        assert review.accuracy(votes) is None and review.agreement(votes) is None


@pytest.mark.parametrize(
    ("bad", "found", "expected"),
    [
        ('{"sample": ', '{"sample":', "JSON texts"),
        ("[1]", "[1]", "JSON texts"),
        (line(key=7), '"key": 7', "JSON texts"),
        (line(rater=" "), '"rater": " "', "JSON texts"),
        (line(correction=None), '"sample":', "JSON texts"),
        (line(vote="maybe"), "vote maybe", "one of accept, correct, reject"),
        (line("icons/quince"), "key icons/quince", "a key of this sample"),
        (line(vote="correct", correction=" "), "correction ' '", "a correction with"),
        (line(correction="a fig"), "vote accept with the", "a correction with"),
    ],
)
def test_a_bad_line_is_named_with_file_number_and_remedy(
    tmp_path, bad, found, expected
):
    with pytest.raises(ParameterError) as caught:
        read(tmp_path, line(), "", bad)
    message = str(caught.value)
    assert message.startswith("votes.jsonl, line 3: found ") and "\n" not in message
    assert found in message and f"; expected {expected}" in message
    assert message.endswith("Mend the line or export again.")


def odd_line(**fields):
    return json.dumps(json.loads(line()) | fields)  # pure ASCII


@pytest.mark.parametrize(
    "bad",
    [
        "[" * 100_000 + "]" * 100_000,
        '{"a":' * 100_000 + "}" * 100_000,
        odd_line(rater="\ud800"),
        odd_line(key="\udfff"),
        odd_line(rater="\u200b\u3164"),
        odd_line(vote=float("nan")),
        odd_line(sample=float("inf")),
        '{"a": ' + "9" * 5000 + "}",
        "\x1b[2J\u202e",
    ],
)
def test_a_hostile_line_is_one_line_that_steers_nothing(tmp_path, bad):
    with pytest.raises(ParameterError, match=r"^votes.jsonl, line 1: found ") as caught:
        read(tmp_path, bad)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "name",
    ["a.JSONL", "a.json", "a.Json", "a.ndjson", "a.jsonl.txt", "deep.jsonl/a.jsonl"],
)
def test_votes_are_read_whatever_became_of_the_name(tmp_path, name):
    write(tmp_path / name, "\ufeff" + line())
    assert list(review.read_votes(tmp_path, ROWS)["vote"]) == ["accept"]


def test_a_dangling_link_and_what_is_no_file_are_named(tmp_path):
    makers = {
        "link.jsonl": lambda path: path.symlink_to(tmp_path / "nowhere"),
        "linked": lambda path: path.symlink_to(tmp_path),
        "pipe.jsonl": os.mkfifo,
    }
    for name, make in makers.items():
        folder = tmp_path / f"votes-{name}"
        folder.mkdir()
        make(folder / name)
        with pytest.raises(ParameterError, match=f"^{name}: found .* link"):
            review.read_votes(folder, ROWS)
    (tmp_path / "votes").write_text("")
    with pytest.raises(ParameterError, match="votes: found a file; expected a folder"):
        review.read_votes(tmp_path / "votes", ROWS)


def test_names_are_one_however_their_accents_are_composed(tmp_path):
    rows = [("icons/caf\xe9", *ROWS[0][1:])]
    sample = review.sample_id(rows)
    lines = [
        line("icons/cafe\u0301", "reject", "Ren\xe9", sample=sample),
        line("icons/caf\xe9", "accept", "Rene\u0301", sample=sample),
    ]
    write(tmp_path / "votes.jsonl", *lines)
    votes = review.read_votes(tmp_path, rows)
    assert votes.values.tolist() == [["Ren\xe9", "icons/caf\xe9", "accept", ""]]


@given(TEXT, TEXT, TEXT)
def test_a_vote_is_read_as_it_was_written(key, rater, correction):
    rows = [(key, ROWS[0][1], "a caption")]
    with tempfile.TemporaryDirectory() as folder:
        vote = line(key, "correct", rater, correction, review.sample_id(rows))
        write(Path(folder) / "votes.jsonl", vote)
        votes = review.read_votes(folder, rows)
    assert votes.values.tolist() == [[printable(rater), key, "correct", correction]]


def test_accuracy_of_one_rater_is_a_share_of_pictures(tmp_path):
    votes = read(
        tmp_path,
        line(),
        line("icons/pear"),
        line("icons/plum", "reject"),
        line("icons/fig", "correct", correction="a fig"),
    )
    # Wilson for 2 of 4: centre 1/2, half width z / 2 / sqrt(4 + z²), z² = 3.8415.
    share = review.accuracy(votes)
    assert (share.value, share.n) == (0.5, 4)
    assert (share.low, share.high) == pytest.approx((0.1500, 0.8500), abs=5e-5)
    assert review.agreement(votes) is None


def test_accuracy_of_several_raters_is_the_mean_over_pictures(tmp_path):
    votes = read(
        tmp_path,
        *(line(rater=rater) for rater in ("AB", "CD")),
        line("icons/pear"),
        line("icons/pear", "reject", "CD"),
        line("icons/plum", "reject"),
        line("icons/plum", "correct", "CD", "a plum"),
        line("icons/fig"),
    )
    # Shares 1, 1/2, 0, 1; of two raters nothing can be said of others.
    share = review.accuracy(votes)
    assert (share.value, share.low, share.high, share.n) == (0.625, 0, 1, 4)
    # Three pictures have two raters: alike on apple, and on plum as not accepted.
    assert review.agreement(votes) == estimates.wilson(2, 3)


def test_raters_who_all_agree_do_not_make_accuracy_certain(tmp_path):
    votes = read(tmp_path, *(line(rater=rater) for rater in ("AB", "CD")))
    assert review.accuracy(votes) == estimates.wilson(1, 1)


# Real key events; after one reload, what the page kept and would export.
DRIVER = """
const seen = [];
if (!sessionStorage.getItem("again")) {
  sessionStorage.setItem("again", "1");
  press("a");                                    // no initials yet: not a vote
  seen.push(votes.size, document.activeElement.id);
  const [rater, field] = document.querySelectorAll("input, textarea");
  rater.value = "a/b"; press("r", rater);        // typing is not voting
  press("Enter", rater);
  seen.push(votes.size, where());
  press("r"); press("r", document.body, { repeat: true });
  press("r", document.body, { ctrlKey: true });
  seen.push(votes.size, where());
  press("a"); press("ArrowRight"); press("c");
  seen.push(where(), field.value);
  field.value = ""; press("Enter", field);       // an empty correction is not taken
  field.value = " a  fig "; press("Enter", field);
  seen.push(where(), document.getElementById("correct").textContent);
  press("ArrowLeft"); press("ArrowLeft"); press("C"); press("Escape", field);
  seen.push(where(), votes.size);
  press("ArrowLeft"); press("ArrowLeft"); press("ArrowLeft"); press("A");
  sessionStorage.setItem("seen", JSON.stringify(seen));
  location.reload();
} else {
  tell({ seen: JSON.parse(sessionStorage.getItem("seen")), text: exportText(),
    name: exportName(), where: where(), ran: String(window.ran) });
}"""


@pytest.fixture(scope="module")
def driven(tmp_path_factory):
    """Return what the page told after a person's keys and a reload."""
    folder = tmp_path_factory.mktemp("review")
    review.write_page(folder / "page.html", ROWS, "Captions")
    return drive(folder / "page.html", DRIVER)


@needs_browser
def test_keys_vote_and_move_but_not_while_typing(driven):
    assert driven["seen"] == [
        *(0, "rater", 0, "1 of 4"),
        *(1, "2 of 4", "4 of 4", "a fog"),
        *("End of 4", "1", "3 of 4", 3),
    ]


@needs_browser
def test_votes_survive_a_reload_and_come_back_from_the_export(driven, tmp_path):
    assert driven["name"] == f"captions-{SAMPLE}-A_B.jsonl"
    assert driven["where"] == "3 of 4"  # the first without a vote
    (tmp_path / driven["name"]).write_text(driven["text"], encoding="utf-8")
    votes = review.read_votes(tmp_path, ROWS)
    assert votes.values.tolist() == [
        ["A/B", "icons/apple", "accept", ""],
        ["A/B", "icons/pear", "accept", ""],
        ["A/B", "icons/fig", "correct", "a fig"],
    ]
    assert json.loads(driven["text"].split("\n")[1])["caption"] == HOSTILE


@needs_browser
def test_a_hostile_caption_does_not_run(driven):
    assert driven["ran"] == "undefined"

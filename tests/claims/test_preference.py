"""People choose between two pictures blindly, and their votes come back as counted."""

import base64
import io
import json
import re

import numpy as np
import pandas as pd
import pytest
import torch
from browser import drive, needs_browser
from PIL import Image
from scipy.special import expit
from torchmetrics.functional.nominal import fleiss_kappa

from commoncanvas.analysis import ballots, estimates
from commoncanvas.claims import preference
from commoncanvas.claims.outcomes import judge_test
from commoncanvas.claims.preference import NOISE, SAME
from commoncanvas.claims.rules import load_paper
from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError

HOSTILE = "</script><script>window.ran = 1</script><img src=x onerror='window.ran = 1'>"
CC, NC, WEB = "cc_synthetic", "cc_nc", "web_human"


def draw(num=44, variants=(CC, NC, WEB), size=8):
    """Return samples of random pixels, as stage 05's are read."""
    rng = np.random.default_rng(1)
    prompts = [HOSTILE, "a “plum” \u2028 & 1 leaf"]
    prompts += [f"work {i}" for i in range(2, num)]
    shape = (num, size, size, 3)
    return {v: (rng.integers(0, 256, shape, np.uint8), prompts) for v in variants}


DRAWN = draw()
PAIRS = preference.draw_pairs(DRAWN, [CC, NC], WEB, 20, 17)
CHECKS = [pair for pair in PAIRS if NOISE in pair.variants]
CC_PAIRS = [pair for pair in PAIRS if CC in pair.variants]


def line(pair, side=0, rater="AB", **more):
    """Write a vote for the variant (0), for the other side (1), or for neither."""
    vote = SAME if side is None else pair.codes[side]
    sample = preference.sample_id(PAIRS)
    fields = {"sample": sample, "rater": rater, "key": pair.key, "vote": vote}
    return json.dumps(fields | {"left": pair.codes[0], "prompt": "a\u2028b"} | more)


def read(folder, *lines):
    text = "".join(text + "\n" for text in lines)
    (folder / "votes.jsonl").write_text(text, encoding="utf-8")
    return preference.read_votes(folder, PAIRS)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("preference") / "page.html"
    preference.write_page(path, PAIRS, "Which do you like <b>better</b>?")
    return path


def test_a_pair_is_of_one_prompt_and_one_place():
    for pair in PAIRS:
        (place,) = [i for i, p in enumerate(DRAWN[CC][1]) if p == pair.prompt]
        for variant, pixels in zip(pair.variants, pair.pixels, strict=True):
            if variant != NOISE:
                assert np.array_equal(pixels, DRAWN[variant][0][place])


def test_each_variant_has_its_pairs_and_no_sample_comes_twice():
    assert [sum(v in p.variants for p in PAIRS) for v in (CC, NC, NOISE)] == [20, 20, 4]
    assert all(WEB in pair.variants for pair in PAIRS)
    assert len({code for pair in PAIRS for code in pair.codes}) == 2 * len(PAIRS)
    assert len({pair.prompt for pair in PAIRS}) == len(PAIRS)


def test_a_check_is_a_sample_beside_noise_drawn_from_the_seed():
    again = preference.draw_pairs(DRAWN, [CC, NC], WEB, 20, 17)
    other = preference.draw_pairs(DRAWN, [CC, NC], WEB, 20, 18)
    assert [p.key for p in again] == [p.key for p in PAIRS]
    differ = [a.key != b.key for a, b in zip(PAIRS, other, strict=True)]
    assert differ == [NOISE in pair.variants for pair in PAIRS]
    noise = np.stack([pair.pixels[1] for pair in CHECKS])
    # Uniform over 0 … 255: mean 127.5, deviation 73.9.
    assert noise.mean() == pytest.approx(127.5, abs=10)
    assert noise.std() == pytest.approx(73.9, abs=5)


def test_what_was_not_drawn_is_not_compared():
    pairs = preference.draw_pairs(DRAWN, ["cc_large", NC], WEB, 20, 17)
    assert {pair.variants for pair in pairs} == {(NC, WEB), (WEB, NOISE)}
    assert preference.draw_pairs(DRAWN, ["cc_large"], WEB, 20, 17) == []
    assert preference.draw_pairs(draw(variants=[CC]), [CC], WEB, 20, 17) == []


def test_too_few_prompts_are_refused_with_both_counts():
    with pytest.raises(ParameterError, match="need 47 prompts; 44 were sampled"):
        preference.draw_pairs(DRAWN, [CC, NC], WEB, 21, 17)


def test_the_page_names_no_variant_and_its_order_tells_none(page):
    text = page.read_text(encoding="utf-8")
    assert not [name for name in (*DRAWN, NOISE) if name in text]
    data = re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1]
    rows = json.loads(data)["rows"]
    assert {tuple(row) for row in rows} == {("key", "pictures", "prompt")}
    assert [row["key"] for row in rows] == sorted(pair.key for pair in PAIRS)
    of_web = {pair.codes[pair.variants.index(WEB)] for pair in PAIRS}
    codes = [[picture["code"] for picture in row["pictures"]] for row in rows]
    assert codes == [sorted(pair) for pair in codes]
    # Hashes are fair coins: of 44, within four deviations.
    assert abs(sum(first in of_web for first, _ in codes) - 22) < 4 * np.sqrt(44) / 2


def test_the_same_pairs_give_the_same_page_whatever_their_order(page, tmp_path):
    title = "Which do you like <b>better</b>?"
    preference.write_page(tmp_path / "again.html", PAIRS[::-1], title)
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()
    assert str(paths.ROOT) not in page.read_text(encoding="utf-8")


def test_the_page_needs_no_network_and_escapes_prompts_and_title(page):
    text = page.read_text(encoding="utf-8")
    assert not re.search(r"https?:|//\w+\.|<link|@import|src=\"(?!data:)", text)
    assert "default-src 'none'" in text and "like &lt;b&gt;better" in text
    assert text.count("<script") == text.count("</script>") == 2


@pytest.mark.parametrize(
    ("pairs", "words"),
    [([], "0 pairs, 0 different"), ([PAIRS[0]] * 2, "2 pairs, 1 different")],
)
def test_a_page_without_pairs_or_with_one_twice_is_refused(tmp_path, pairs, words):
    with pytest.raises(ParameterError, match=words):
        preference.write_page(tmp_path / "page.html", pairs, "Which?")
    assert not list(tmp_path.iterdir())


def test_pages_are_named_after_pictures_and_prompts():
    pair = PAIRS[3]
    brighter = preference.Pair(pair.prompt, pair.variants, pair.pixels // 2)
    renamed = preference.Pair("another", pair.variants, pair.pixels)
    names = {preference.sample_id([p]) for p in (pair, brighter, renamed)}
    assert len(names) == 3 and preference.sample_id(PAIRS[::-1]) == (
        preference.sample_id(PAIRS)
    )


def test_votes_come_back_by_rater_and_as_the_pairs(tmp_path):
    changed = line(PAIRS[2], 1), line(PAIRS[2], 0)
    other = line(PAIRS[0], sample="0" * 12)
    votes = read(
        tmp_path, line(PAIRS[1], 1, "CD"), *changed, "", line(PAIRS[0], None), other
    )
    assert votes.values.tolist() == [
        ["AB", PAIRS[0].key, CC, WEB, "same"],
        ["AB", PAIRS[2].key, CC, WEB, "variant"],
        ["CD", PAIRS[1].key, NC, WEB, "against"],
    ]
    assert votes.attrs == {"other_samples": 1, "inattentive": 0}


@pytest.mark.parametrize("pairs", [PAIRS, []])
def test_without_votes_there_are_columns_and_no_estimates(tmp_path, pairs):
    votes = preference.read_votes(tmp_path / "nowhere", pairs)
    assert list(votes.columns) == preference.COLUMNS and votes.empty
    assert preference.share_preferred(votes, CC, WEB) is None
    assert preference.agreement(votes) is None
    ((name, share, interval, paper),) = preference.beside_paper(votes, {CC: 0.37}, WEB)
    assert (name, interval, paper) == (CC, None, 0.37) and np.isnan(share)
    assert preference.tally(votes).startswith("votes: 0, raters: 0, pairs: 0")


@pytest.mark.parametrize(
    ("bad", "found", "expected"),
    [
        ('{"sample": ', '{"sample":', "JSON texts"),
        (line(PAIRS[0], vote=1), '"sample":', "JSON texts"),
        (line(PAIRS[0], rater=" "), '"sample":', "JSON texts"),
        (line(PAIRS[0], key="quince"), "key quince", "a key of this sample"),
        (line(PAIRS[0], vote="left"), "vote left", f"one of {PAIRS[0].codes[0]}, "),
        (line(PAIRS[0], vote=PAIRS[1].codes[0]), "vote ", "one of "),
    ],
)
def test_a_bad_line_is_named_with_file_number_and_remedy(
    tmp_path, bad, found, expected
):
    with pytest.raises(ParameterError) as caught:
        read(tmp_path, line(PAIRS[0]), "", bad)
    message = str(caught.value)
    assert message.startswith("votes.jsonl, line 3: found ") and "\n" not in message
    assert found in message and f"; expected {expected}" in message


@pytest.mark.parametrize(
    ("sides", "max_failed", "stays"),
    [
        ([], 0.2, True),  # no check seen yet: kept
        ([0, 0, 0, 0], 0.2, True),
        ([0, 0, 0, 1], 0.2, False),
        ([0, 0, 0, None], 0.2, False),  # no difference from noise: not looked
        ([0, 0, 0, 1], 0.25, True),  # a quarter is not more than a quarter
        ([1], 0.25, False),
    ],
)
def test_who_fails_too_many_checks_is_left_out(tmp_path, sides, max_failed, stays):
    checks = [line(CHECKS[i], side) for i, side in enumerate(sides)]
    read(tmp_path, line(PAIRS[0]), *checks, line(PAIRS[0], 1, "CD"))
    votes = preference.read_votes(tmp_path, PAIRS, max_failed)
    assert set(votes["rater"]) == {"AB", "CD"} - (set() if stays else {"AB"})
    assert votes.attrs["inattentive"] == (0 if stays else 1)
    assert NOISE not in set(votes["against"])


def test_with_one_rater_no_difference_counts_half_in_wilsons_interval(tmp_path):
    sides = [0] * 3 + [None] * 2 + [1] * 5
    exported = [line(pair, side) for pair, side in zip(CC_PAIRS, sides, strict=False)]
    votes = read(tmp_path, *exported, line(PAIRS[1], 0))
    assert preference.share_preferred(votes, CC, WEB) == estimates.wilson(4, 10)
    assert preference.share_preferred(votes, NC, WEB) == estimates.wilson(1, 1)


def test_several_raters_share_a_pair(tmp_path):
    exported = []
    for a, b, c, d in (CC_PAIRS[:4], CC_PAIRS[4:8]):
        exported += [line(a, 0, "AB"), line(a, 1, "CD"), line(b, 0, "AB")]
        exported += [line(b, None, "CD"), line(c, 1, "AB"), line(d, 0, "CD")]
    share = preference.share_preferred(read(tmp_path, *exported), CC, WEB)
    # Pairs of 1/2, 3/4, 0 and 1, twice; of two raters nothing can be said of others.
    assert (share.value, share.low, share.high, share.n) == (0.5625, 0, 1, 8)


@pytest.mark.parametrize("spread", [0.0, 0.6, 1.0])  # of raters, on the logit
def test_the_share_of_several_raters_covers_that_of_all_people(spread):
    rng, num_raters, num_pairs = np.random.default_rng(4), 10, 60
    people = rng.normal(-0.5, np.hypot(spread, 0.6), 400_000)
    truth, covered = expit(people).mean(), []
    table = pd.MultiIndex.from_product(
        [range(num_raters), range(num_pairs)], names=["rater", "key"]
    ).to_frame(index=False)
    for _ in range(250):
        raters = rng.normal(0, spread, num_raters)[table["rater"]]
        pairs = rng.normal(-0.5, 0.6, num_pairs)[table["key"]]
        scores = pd.Series(rng.random(len(table)) < expit(raters + pairs))
        found = ballots.share(scores, table)
        covered.append(found.low <= truth <= found.high)
    assert 0.92 <= np.mean(covered) <= 0.995


def test_the_share_of_one_side_is_what_the_other_lacks(tmp_path):
    sides = np.random.default_rng(2).choice([0, 0, 1, None], 20)
    exported = [line(pair, side) for pair, side in zip(CC_PAIRS, sides, strict=True)]
    turned = [None if side is None else 1 - side for side in sides]
    exported += [line(p, s, "CD") for p, s in zip(CC_PAIRS, turned, strict=True)]
    votes = read(tmp_path, *exported)
    both = [
        preference.share_preferred(votes[votes["rater"] == rater], CC, WEB)
        for rater in ("AB", "CD")
    ]
    assert both[0].value + both[1].value == pytest.approx(1)
    assert both[0].low == pytest.approx(1 - both[1].high)
    assert preference.share_preferred(votes, CC, WEB).value == pytest.approx(0.5)


def test_the_claim_is_judged_by_the_votes_of_two_hundred_pairs(tmp_path):
    pairs = preference.draw_pairs(draw(220), [CC], WEB, 200, 17)
    name = preference.sample_id(pairs)
    exported = [line(p, 0 if i < 74 else 1, sample=name) for i, p in enumerate(pairs)]
    (tmp_path / "votes.jsonl").write_text("\n".join(exported[:200]))
    votes = preference.read_votes(tmp_path, pairs)
    liked = preference.share_preferred(votes, CC, WEB)
    assert liked == estimates.wilson(74, 200)
    alone = preference.shares_of_votes(votes, [CC], WEB, [CC, WEB])
    assert alone[f"votes.{CC}"].startswith("One person voted")
    exported = exported[:200] + [
        line(p, 0 if shift < i < 74 + shift else 1, rater, sample=name)
        for shift, rater in enumerate(["CD", "EF", "GH", "IJ", "KL"])
        for i, p in enumerate(pairs[:200])
    ]
    (tmp_path / "votes.jsonl").write_text("\n".join(exported))
    votes = preference.read_votes(tmp_path, pairs)
    liked = preference.share_preferred(votes, CC, WEB)
    given = preference.shares_of_votes(votes, [CC, "cc_nc"], WEB, [CC, WEB])
    assert given[f"votes.{CC}"].estimate == liked
    assert given["votes.cc_nc"] == "`cc_nc` is no row of this run's experiment."
    (first, *_) = load_paper().claims["preference_37_38_50"].tests
    assert judge_test(first, given[first.given]).result == "passes"


def test_without_votes_the_claim_says_that_nobody_voted(tmp_path):
    pairs = preference.draw_pairs(draw(20), [CC], WEB, 9, 1)
    votes = preference.read_votes(tmp_path, pairs)
    given = preference.shares_of_votes(votes, [CC], WEB, [CC, WEB])
    assert given == {f"votes.{CC}": "Nobody has voted yet."}


def test_alpha_is_that_of_krippendorffs_example():
    # Four observers, twelve units, missing values: nominal alpha is 0.743.
    units = ["111", "2223", "3333", "3333", "2222", "1234", "4444", "1121", "2222"]
    counts = [[unit.count(c) for c in "12345"] for unit in [*units, "555", "11"]]
    assert ballots.krippendorff_alpha(counts) == pytest.approx(0.743, abs=5e-4)


def test_alpha_is_fleiss_kappa_but_for_the_size_of_the_sample():
    counts = np.random.default_rng(3).multinomial(4, [0.5, 0.3, 0.2], 30)
    kappa = fleiss_kappa(torch.from_numpy(counts), mode="counts").item()
    alpha = 1 - (1 - kappa) * (counts.sum() - 1) / counts.sum()
    assert ballots.krippendorff_alpha(counts) == pytest.approx(alpha, abs=1e-5)


def test_raters_who_guess_agree_by_chance_alone(tmp_path):
    sides = np.random.default_rng(4).choice([0, 1, None], (2, 40))
    exported = [
        line(pair, sides[rater, i], "ABCD"[rater])
        for rater in (0, 1)
        for i, pair in enumerate(PAIRS[:40])
    ]
    found = preference.agreement(read(tmp_path, *exported))
    assert found.low < 0 < found.high and found.n == 40


def test_raters_who_choose_alike_agree_fully(tmp_path):
    exported = [
        line(pair, i % 2, rater)
        for i, pair in enumerate(PAIRS[:10])
        for rater in ("AB", "CD", "EF")[: 2 + i % 2]
    ]
    # One vote alone on a pair neither agrees nor disagrees.
    votes = read(tmp_path, *exported, line(PAIRS[12]))
    found = preference.agreement(votes)
    assert (found.value, found.high, found.n) == (1, 1, 10)
    assert "alpha: 1.00 [1.00, 1.00]" in preference.tally(votes)


@pytest.mark.parametrize("raters", [["AB"], ["AB", "CD"]])
def test_agreement_needs_two_raters_and_votes_that_differ(tmp_path, raters):
    votes = read(tmp_path, *(line(p, 0, r) for p in CC_PAIRS for r in raters))
    assert preference.agreement(votes) is None
    text = preference.tally(votes)
    assert text.startswith(f"votes: {20 * len(raters)}, ") and "alpha" not in text


# Real key events; after one reload, what the page kept, showed and would export.
DRIVER = """
const shown = () => ["left", "right"].map((side) => document.getElementById(side).src);
const seen = [], cast_ = [];
const kept = () =>
  JSON.parse(localStorage.getItem(`${KIND} ${sample} ${rater}`)).length;
const choose = (key) => { cast_.push([rows[at].key, key, ...shown()]); press(key); };
if (!sessionStorage.getItem("again")) {
  sessionStorage.setItem("again", "1");
  press("ArrowLeft");                             // no initials yet: not a vote
  seen.push(votes.size, document.activeElement.id);
  const [field] = document.querySelectorAll("input");
  field.value = "a/b"; press("ArrowDown", field); // typing is not voting
  press("Enter", field);
  seen.push(votes.size, where());
  choose("ArrowLeft"); choose("ArrowRight"); choose("ArrowDown");
  press("ArrowLeft", document.body, { repeat: true });
  press("ArrowLeft", document.body, { ctrlKey: true });
  seen.push(votes.size, where());
  press("u"); press("Backspace");                 // the last two are taken back
  seen.push(votes.size, where());
  cast_.length = 1;
  press("g"); choose("ArrowRight");               // the second is left open
  document.querySelector("#left").parentElement.click(); // a picture is a button too
  seen.push(votes.size, where(), kept());
  press("u"); seen.push(kept());
  sessionStorage.setItem("seen", JSON.stringify([seen, cast_, shown()]));
  location.reload();
} else {
  const [seen, cast, last] = JSON.parse(sessionStorage.getItem("seen"));
  const after = [where(), votes.size];
  press("g");                                     // over the third, which has a vote
  after.push(where(), JSON.stringify(shown()) === JSON.stringify(last));
  const text = exportText(), name = exportName();
  while (at < rows.length) press("ArrowLeft");
  after.push(where(), document.getElementById("open").textContent);
  press("G");                                     // back to the first open one
  after.push(where()); press("ArrowDown"); press("g");
  after.push(where());
  setRater("cd"); after.push(votes.size, where());
  const orders = {};
  for (let i = 0; i < 60; i++) {
    setRater(`r${i}`);
    orders[rater] = rows.map((row) => [row.key, row.pictures[0].code]);
  }
  tell({ seen, cast, after, text, name, orders, ran: String(window.ran) });
}"""


@pytest.fixture(scope="module")
def driven(page):
    return drive(page, DRIVER)


@needs_browser
def test_keys_vote_undo_and_go_on_but_not_while_typing(driven):
    assert driven["seen"] == [
        *(0, "rater", 0, "1 of 44"),
        *(3, "4 of 44"),
        *(1, "2 of 44"),
        *(3, "5 of 44", 3, 2),
    ]
    assert driven["after"] == [
        *("2 of 44", 2, "4 of 44", True),
        *("End of 44", "1", "2 of 44", "End of 44"),
        *(0, "1 of 44"),
    ]


@needs_browser
def test_the_export_says_which_picture_was_liked_as_it_was_seen(driven, tmp_path):
    assert driven["name"] == f"preferences-{preference.sample_id(PAIRS)}-A_B.jsonl"
    (tmp_path / driven["name"]).write_text(driven["text"], encoding="utf-8")
    votes = preference.read_votes(tmp_path, PAIRS, max_failed=1)
    by_key = {pair.key: pair for pair in PAIRS}
    wanted, lefts = {}, {}
    for key, pressed, *sources in driven["cast"]:
        shown = [decode(source) for source in sources]
        pixels = by_key[key].pixels
        left = int(apart(shown[0], pixels[0]) > apart(shown[0], pixels[1]))
        assert apart(shown[1], pixels[1 - left]) < apart(shown[1], pixels[left])
        lefts[key] = by_key[key].codes[left]
        side = 1 - left if pressed == "ArrowRight" else left
        wanted[key] = ("variant", "against")[side]
    exported = [json.loads(line) for line in driven["text"].splitlines()]
    assert {v["key"]: v["left"] for v in exported} == lefts and len(lefts) == 2
    wanted = {k: v for k, v in wanted.items() if by_key[k] not in CHECKS}
    assert dict(zip(votes["key"], votes["vote"], strict=True)) == wanted
    assert {*votes["rater"]} <= {"A/B"}


def decode(source):
    data = base64.b64decode(source.removeprefix("data:image/webp;base64,"))
    return np.asarray(Image.open(io.BytesIO(data)))


def apart(one, other):
    """Return how far two pictures are apart; the page's are compressed."""
    return np.abs(one.astype(int) - other).mean()


@needs_browser
def test_each_rater_has_an_order_and_sides_of_their_own(driven):
    orders = [[key for key, _ in order] for order in driven["orders"].values()]
    assert {tuple(sorted(order)) for order in orders} == {
        tuple(sorted(pair.key for pair in PAIRS))
    }
    assert len({tuple(order) for order in orders}) == 60
    first = {pair.key: pair.codes[0] for pair in PAIRS}
    shown = [dict(order) for order in driven["orders"].values()]
    left = np.array([[order[key] == first[key] for key in first] for order in shown])
    # 60 raters and 44 pairs, all fair coins: 4 deviations from a half.
    assert abs(left.mean() - 0.5) < 4 * 0.5 / np.sqrt(left.size)
    assert np.abs(left.mean(0) - 0.5).max() < 4 * 0.5 / np.sqrt(60)
    assert np.abs(left.mean(1) - 0.5).max() < 4 * 0.5 / np.sqrt(44)
    assert len({row.tobytes() for row in left}) == 60


@needs_browser
def test_a_side_does_not_depend_on_the_place(driven):
    least = {pair.key: min(pair.codes) for pair in PAIRS}
    early = [o[: len(PAIRS) // 2] for o in driven["orders"].values()]
    found = np.array([[code == least[key] for key, code in order] for order in early])
    assert abs(found.mean() - 0.5) < 4 * 0.5 / np.sqrt(found.size)


@needs_browser
def test_a_pair_may_come_at_any_place(driven):
    places = np.array(
        [np.argsort([key for key, _ in order]) for order in driven["orders"].values()]
    )
    # The mean place of a pair: uniform over 0 … 43, deviation 12.7 / sqrt(60).
    means = np.argsort(places, axis=1).mean(0)
    assert np.abs(means - 21.5).max() < 4 * 12.7 / np.sqrt(60)


@needs_browser
def test_a_hostile_prompt_does_not_run(driven):
    assert driven["ran"] == "undefined"

"""A human check of captions: one offline page to vote on, and the votes' reader.

A person accepts, corrects or rejects a random sample of captions by keyboard. The
page holds all it needs, pictures too; votes leave it as a file of JSON lines, and the
share of accepted captions comes back with its interval. Rows are always a list of
(key, png, caption), one per picture and in random order.
"""

import base64
import hashlib
import json
import re
from pathlib import Path

import jinja2
import pandas as pd

from commoncanvas import paths
from commoncanvas.checkpoints import write_atomically
from commoncanvas.errors import ParameterError
from commoncanvas.metrics import Estimate, mean_interval, wilson

COLUMNS = ["rater", "key", "vote", "correction"]
VOTES = ("accept", "correct", "reject")
_TEMPLATE = "review.html"
_PNG = b"\x89PNG\r\n\x1a\n"


def sample_id(rows):
    """Name a sample after its keys and captions, so that votes never mix.

    Args:
        rows: list of (key, png, caption); neither order nor pictures count.

    Returns:
        12 hexadecimal digits.

    Raises:
        ParameterError: there are no rows, a key occurs twice, or one is not text.
    """
    pairs = sorted((key, caption) for key, _, caption in _checked(rows))
    return hashlib.sha256(json.dumps(pairs).encode()).hexdigest()[:12]


def write_page(path, rows, title):
    """Write the page on which a person votes; the same rows give the same bytes.

    Args:
        path: the HTML file; its folder is made if need be.
        rows: list of (key, png, caption), shown in this order; png is bytes.
        title: the heading, plain text.

    Raises:
        ParameterError: see `sample_id`, or a picture is not PNG.
    """
    pictures = []
    for key, png, caption in _checked(rows):
        if not bytes(png).startswith(_PNG):
            raise ParameterError(
                f"the picture of {key!r} is not PNG; bytes of PNG expected; convert it."
            )
        src = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
        pictures.append({"key": key, "caption": caption, "src": src})
    loader = jinja2.FileSystemLoader(paths.TEMPLATE)
    page = jinja2.Environment(loader=loader, autoescape=True).get_template(_TEMPLATE)
    # The template's `tojson` writes every `<` as \u003c: no caption ends its script.
    data = {"sample": sample_id(rows), "rows": pictures}
    text = page.render(title=title, data=data) + "\n"
    write_atomically(path, lambda part: part.write_bytes(text.encode()))


def read_votes(folder, rows):
    """Read the votes on one sample from all `*.jsonl` below a folder.

    Files come in order of name, numbers as numbers, so that a second download
    ("… (1).jsonl") follows the first. The last vote of a rater on a key counts.

    Args:
        folder: where exported votes lie; it need not exist.
        rows: list of (key, png, caption), the sample that was voted on.

    Returns:
        DataFrame with the columns rater, key, vote ("accept", "correct" or
        "reject") and correction (empty unless the vote is "correct"), by rater, then
        as `rows`; `attrs["other_samples"]` counts votes on other samples, left out.

    Raises:
        ParameterError: a line is malformed, a vote or key is unknown, or a
            correction is missing or out of place; the message names file and line.
    """
    sample, votes, num_others = sample_id(rows), {}, 0
    places = {key: place for place, (key, _, _) in enumerate(rows)}
    for where, line in _lines(Path(folder)):
        vote = _parsed(where, line)
        if vote["sample"] == sample:
            _check_vote(where, vote, places)
            votes[vote["rater"], places[vote["key"]]] = vote
        else:
            num_others += 1
    table = [[votes[i][name] for name in COLUMNS] for i in sorted(votes)]
    frame = pd.DataFrame(table, columns=COLUMNS, dtype=str)
    frame.attrs["other_samples"] = num_others
    return frame


def accuracy(votes):
    """Estimate the share of captions that people accepted as they stand.

    A corrected caption counts as not accepted. With one rater, each picture is a
    trial of Wilson's interval. With several, a picture counts by the share of its
    raters who accepted it, and the interval is the normal one over pictures, cut to
    0 and 1; where all shares are alike it is Wilson's again, because a spread of
    nothing would claim certainty.

    Args:
        votes: DataFrame from `read_votes`, one vote per rater and key.

    Returns:
        Estimate whose n counts the pictures that were voted on; None without votes.
    """
    if votes.empty:
        return None
    shares = (votes["vote"] == "accept").groupby(votes["key"]).mean()
    if votes["rater"].nunique() == 1 or shares.nunique() == 1:
        return wilson(float(shares.sum()), len(shares))
    mean = mean_interval(shares)
    return Estimate(mean.value, max(mean.low, 0.0), min(mean.high, 1.0), mean.n)


def agreement(votes):
    """Estimate how often raters agree on accepting, or on not accepting, a caption.

    "correct" and "reject" count alike: both say that the caption is wrong.

    Args:
        votes: DataFrame from `read_votes`, one vote per rater and key.

    Returns:
        Estimate of the share of pictures on which all raters agree, with Wilson's
        interval; n counts the pictures with two raters or more; None without any.
    """
    accepted = (votes["vote"] == "accept").groupby(votes["key"])
    alike = accepted.nunique()[accepted.size() >= 2] == 1
    return wilson(int(alike.sum()), len(alike)) if len(alike) else None


def tally(votes):
    """Return {"accepted as they stand", "raters agree"} as `Estimate.as_dict`.

    Args:
        votes: DataFrame from `read_votes`; what nobody voted on is left out.
    """
    found = {
        "accepted as they stand": accuracy(votes),
        "raters agree": agreement(votes),
    }
    return {name: estimate.as_dict() for name, estimate in found.items() if estimate}


def _checked(rows):
    rows = list(rows)
    keys = [key for key, _, _ in rows]
    texts = all(isinstance(t, str) for key, _, caption in rows for t in (key, caption))
    if not rows or len(set(keys)) < len(keys) or not texts:
        raise ParameterError(
            f"a sample has {len(rows)} rows, {len(set(keys))} different keys; one row "
            "or more, a key each, all of it text, expected. Draw it again."
        )
    return rows


def _lines(folder):
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jsonl")]
    for name in sorted(names, key=_natural):
        # Only \n ends a line of JSON; captions may hold what `splitlines` cuts at.
        for number, line in enumerate((folder / name).read_bytes().split(b"\n"), 1):
            if line.strip():
                yield f"{name}, line {number}", line


def _natural(name):
    parts = re.split(r"([0-9]+)", name.removesuffix(".jsonl"))
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def _parsed(where, line):
    fields = ["sample", "rater", "key", "vote"]
    try:
        vote = {"correction": ""} | json.loads(line)
    except (TypeError, ValueError):
        vote = {}
    texts = all(isinstance(vote.get(name), str) for name in (*fields, "correction"))
    if not texts or not all(vote[name].strip() for name in fields):
        raise _wrong(where, line.decode(errors="replace"), f"JSON texts {fields}")
    return vote


def _check_vote(where, vote, keys):
    if vote["vote"] not in VOTES:
        raise _wrong(where, f"vote {vote['vote']}", f"one of {', '.join(VOTES)}")
    if vote["key"] not in keys:
        raise _wrong(where, f"key {vote['key']}", "a key of this sample")
    if bool(vote["correction"].strip()) != (vote["vote"] == "correct"):
        found = f"vote {vote['vote']} with the correction {vote['correction']!r}"
        raise _wrong(where, found, "a correction with the vote correct, and only there")


def _wrong(where, found, expected):
    found = " ".join(found.split())
    found = found if len(found) <= 80 else found[:79] + "…"
    return ParameterError(
        f"{where}: found {found}; expected {expected}. Mend the line or export again."
    )

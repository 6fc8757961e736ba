"""A human check of captions: one offline page to vote on, and the votes' reader.

A person accepts, corrects or rejects a random sample of captions by keyboard. Votes
leave the page as a file of JSON lines, and the share of accepted captions comes back
with its interval. Rows are always a list of (key, png, caption), one per picture and
in random order.
"""

import pandas as pd

from commoncanvas.analysis import ballots
from commoncanvas.analysis.estimates import wilson
from commoncanvas.core.errors import ParameterError

COLUMNS = ["rater", "key", "vote", "correction"]
VOTES = ("accept", "correct", "reject")
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
    return ballots.digest(sorted((key, caption) for key, _, caption in _checked(rows)))


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
        pictures.append({"key": key, "caption": caption, "src": ballots.data_uri(png)})
    ballots.write_page(path, "review.html", title, sample_id(rows), pictures)


def read_votes(folder, rows):
    """Read the votes on one sample from all `*.jsonl` below a folder.

    The last vote of a rater on a key counts, see `ballots.read_votes`.

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
    keys = [key for key, _, _ in rows]
    votes, num_others = ballots.read_votes(
        folder, sample_id(rows), keys, _check_vote, correction=""
    )
    frame = pd.DataFrame(votes, columns=COLUMNS, dtype=str)
    frame.attrs["other_samples"] = num_others
    return frame


def accuracy(votes):
    """Estimate the share of captions that people accepted as they stand.

    A corrected caption counts as not accepted. See `ballots.share` for the interval
    and for several raters.

    Args:
        votes: DataFrame from `read_votes`, one vote per rater and key.

    Returns:
        Estimate whose n counts the pictures that were voted on; None without votes.
    """
    return ballots.share(votes["vote"] == "accept", votes)


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


def _check_vote(where, vote):
    if vote["vote"] not in VOTES:
        found, expected = f"vote {vote['vote']}", f"one of {', '.join(VOTES)}"
        raise ballots.wrong(where, found, expected)
    if bool(vote["correction"].strip()) != (vote["vote"] == "correct"):
        found = f"vote {vote['vote']} with the correction {vote['correction']!r}"
        expected = "a correction with the vote correct, and only there"
        raise ballots.wrong(where, found, expected)

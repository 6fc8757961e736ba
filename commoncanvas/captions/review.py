"""A human check of captions: one offline page to vote on, and a reader of the votes.

A person accepts, corrects or rejects a random sample of captions by keyboard. The page
exports votes as a file of JSON lines, from which the share of accepted captions is
estimated.
"""

import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from commoncanvas.analysis import ballots
from commoncanvas.analysis.estimates import Estimate, wilson
from commoncanvas.core.errors import ParameterError
from commoncanvas.core.pictures import decode_picture

COLUMNS = ["rater", "key", "vote", "correction"]
VOTES = ("accept", "correct", "reject")
Row = tuple[str, bytes, str]  # key, stored bytes and caption of one picture
EDGES = (256, 192, 128, 96)  # of pictures on the page; the first that fits [pixels]
MAX_BYTES = 8 * 2**20  # of all pictures on the page
QUALITY = 85  # of their JPEGs


def sample_id(rows: Iterable[Row]) -> str:
    """Name a sample by 12 hexadecimal digits, so that votes never mix.

    They depend on keys and captions, and not on the order or the pictures.

    Raises:
        ParameterError: there are no rows, a key occurs twice, or one is not text.
    """
    return ballots.digest(sorted((key, caption) for key, _, caption in _checked(rows)))


def write_page(path: Path | str, rows: Iterable[Row], title: str) -> None:
    """Write the page on which a person votes; the same rows give the same bytes.

    Args:
        path: the HTML file; its folder is made if need be.
        rows: shown in this order.
        title: the heading, plain text.

    Raises:
        ParameterError: see `sample_id`; or the pictures would take more than
            `MAX_BYTES` however small.
        PictureError: a picture cannot be read.
    """
    rows = _checked(rows)
    pictures = [
        {"key": key, "caption": caption, "src": ballots.data_uri(jpeg)}
        for (key, _, caption), jpeg in zip(rows, _shrunk(rows), strict=True)
    ]
    ballots.write_page(path, "review.html", title, sample_id(rows), pictures)


def _shrunk(rows: list[Row]) -> list[bytes]:
    """Return JPEGs of the pictures, of the largest of `EDGES` that fits on the page."""
    for edge in EDGES:
        jpegs = [_jpeg(data, edge) for _, data, _ in rows]
        if sum(map(len, jpegs)) <= MAX_BYTES:
            return jpegs
    raise ParameterError(
        f"{len(rows)} pictures are too many for a page of {MAX_BYTES >> 20} MB; "
        "expected fewer; lower `num_reviewed` in the profile."
    )


def _jpeg(data: bytes, edge: int) -> bytes:
    picture, buffer = decode_picture(data), io.BytesIO()
    picture.thumbnail((edge, edge))
    picture.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def read_votes(folder: Path | str, rows: list[Row]) -> pd.DataFrame:
    """Read the votes on one sample from all `*.jsonl` and `*.json` below a folder.

    The last vote of a rater on a key counts, see `ballots.read_votes`. The folder need
    not exist; `rows` are the sample that was voted on.

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


def accuracy(votes: pd.DataFrame) -> Estimate | None:
    """Estimate the share of captions that people accepted as they stand.

    A corrected caption counts as not accepted; n counts the pictures that were voted
    on; None without votes. See `ballots.share` for the interval and several raters.
    """
    return ballots.share(votes["vote"] == "accept", votes)


def agreement(votes: pd.DataFrame) -> Estimate | None:
    """Estimate the share of captions on which all raters agree: right, or wrong.

    "correct" and "reject" both say that the caption is wrong. n counts the pictures
    with two raters or more; None without any.
    """
    accepted = (votes["vote"] == "accept").groupby(votes["key"])
    alike = accepted.nunique()[accepted.size() >= 2] == 1
    return wilson(int(alike.sum()), len(alike)) if len(alike) else None


def tally(votes: pd.DataFrame) -> dict[str, dict]:
    """Return "accepted as they stand" and "raters agree" as `Estimate.as_dict`.

    What nobody voted on is left out.
    """
    found = {
        "accepted as they stand": accuracy(votes),
        "raters agree": agreement(votes),
    }
    return {name: estimate.as_dict() for name, estimate in found.items() if estimate}


def _checked(rows: Iterable[Row]) -> list[Row]:
    """Return the rows, or refuse a sample that cannot be voted on."""
    rows = list(rows)
    keys = [key for key, _, _ in rows]
    texts = all(isinstance(t, str) for key, _, caption in rows for t in (key, caption))
    if not rows or len(set(keys)) < len(keys) or not texts:
        raise ParameterError(
            f"a sample has {len(rows)} rows, {len(set(keys))} different keys; one row "
            "or more, a key each, all of it text, expected. Draw it again."
        )
    return rows


def _check_vote(where: str, vote: dict[str, str]) -> None:
    """Refuse a vote that the page does not offer."""
    if vote["vote"] not in VOTES:
        found, expected = f"vote {vote['vote']}", f"one of {', '.join(VOTES)}"
        raise ballots.wrong(where, found, expected)
    if bool(vote["correction"].strip()) != (vote["vote"] == "correct"):
        found = f"vote {vote['vote']} with the correction {vote['correction']!r}"
        expected = "a correction with the vote correct, and only there"
        raise ballots.wrong(where, found, expected)

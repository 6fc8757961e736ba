"""What a host's answer means: a picture, gone, refused, failed, or to be left alone.

Used by `downloads` on the headers of every answer, before a byte of it is read.
"""

import contextlib
import email.utils
import re
import time

import httpx

# A redirect stays on its host or leads to one of these: Flickr's and the public bucket.
REDIRECT_HOSTS = re.compile(
    r"[\w-]+\.staticflickr\.com|multimedia-commons\.s3-us-west-2\.amazonaws\.com"
)
MAX_PAUSE_S = 120  # the longest wait, whoever asks for it
OPT_OUTS = {"noai", "noimageai", "noindex", "noimageindex", "none"}


class Outcome(Exception):
    """`gone`, `refused` or `failed` (worth another request), and the reason."""


def checked_url(text: str) -> httpx.URL:
    """Return an address that a connection can be made to, or raise an `Outcome`."""
    with contextlib.suppress(httpx.InvalidURL, UnicodeError):
        url = httpx.URL(text)
        url.host.encode("idna")  # else another error, raised while connecting
        if url.scheme in ("http", "https") and url.host and (url.port or 0) < 2**16:
            return url
    raise Outcome("refused", f"{text!r} is no http address")


def classify(answer: httpx.Response) -> str:
    """Return the content type of a picture, or of a redirect that may be followed.

    Raises:
        Outcome: the headers alone decide that there is no picture.
    """
    code, url, target = answer.status_code, answer.url, answer.next_request
    if target is not None:
        url = target.url
    if code in (404, 410) or "photo_unavailable" in url.path:  # Flickr's own sign
        raise Outcome("gone", f"status {code}, {url}")
    if code in (408, 425, 429) or code >= 500:
        raise Outcome("failed", f"status {code}")
    for line in filter(opts_out, answer.headers.get_list("x-robots-tag")):
        raise Outcome("refused", f"opted out (X-Robots-Tag: {line})")
    kind = answer.headers.get("content-type", "none").partition(";")[0].lower()
    if target is None and (code != 200 or not kind.startswith("image/")):
        raise Outcome("refused", f"status {code}, content type {kind}")
    if url.host != answer.url.host and not REDIRECT_HOSTS.fullmatch(url.host):
        raise Outcome("refused", f"redirected to {url.host}")
    return kind


def opts_out(line: str) -> bool:
    """Say whether an X-Robots-Tag header asks us, or everyone, to leave a picture."""
    agent = ""
    for part in line.lower().split(","):
        # Before a colon stands an agent's name, which holds for all that follows, or a
        # directive with a value, and none of `OPT_OUTS` has one.
        name, colon, rest = (word.strip() for word in part.rpartition(":"))
        if colon and re.fullmatch(r"(?!max-|unavailable_)[\w*.-]+", name):
            agent, colon = name, ""
        if not colon and agent in ("", "*", "commoncanvas") and rest in OPT_OUTS:
            return True
    return False


def retry_after_s(text: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, from 0 to 120.

    It holds seconds or an HTTP date; no header, or nonsense, asks for 0.
    """
    try:
        text = text or ""
        when = email.utils.parsedate_tz(text)
        wait_s = email.utils.mktime_tz(when) - time.time() if when else int(text)
        return min(max(wait_s, 0), MAX_PAUSE_S)
    except (ValueError, TypeError, OverflowError):
        return 0

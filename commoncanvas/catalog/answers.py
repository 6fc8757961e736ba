"""What a host's answer means: a picture, gone, refused, failed, or to be left alone.

Used by `downloads` on the headers of every answer, before a byte of it is read.
"""

import contextlib
import email.utils
import re
import time
from typing import Any

import httpx

from commoncanvas.catalog.reservations import FIELD

# A redirect stays on its host or leads to one of these: Flickr's and the public bucket.
REDIRECT_HOSTS = re.compile(
    r"[\w-]+\.staticflickr\.com|multimedia-commons\.s3-us-west-2\.amazonaws\.com"
)
REDIRECTS = (301, 302, 303, 307, 308)
# Content types by which a host says that it does not know: the decoder then decides.
GENERIC = re.compile(
    r"image/.*|[^/]*|\*/\*|(binary|unknown)/.*"
    r"|application/(x-)?(octet-stream|binary|(force-)?download|unknown(-content-type)?)"
    r"|application/(x-)?(jpe?g|jpg|png|gif|webp|bmp|tiff?)"
)
MAX_PAUSE_S = 86_400  # a host that asks for longer is taken to ask for a day
OPT_OUTS = {"noai", "noimageai", "noml", "noindex", "noimageindex", "none"}


class Outcome(Exception):
    """`gone`, `refused` or `failed` (worth another request), and the reason."""


def checked_url(text: Any) -> httpx.URL:
    """Return an address that a connection can be made to, or raise an `Outcome`.

    Credentials in it are left out: they are never sent, nor kept.
    """
    with contextlib.suppress(httpx.InvalidURL, UnicodeError, TypeError):
        url = httpx.URL(text)
        url.host.encode("idna")  # else another error, raised while connecting
        port = 80 if url.port is None else url.port
        if url.scheme in ("http", "https") and url.host and 0 < port < 2**16:
            return url.copy_with(userinfo=b"") if url.userinfo else url
    raise Outcome("refused", f"{str(text)!r} is no http address")


def classify(answer: httpx.Response) -> tuple[str, httpx.URL | None]:
    """Return the content type of a picture, and where a redirect leads, or None.

    Raises:
        Outcome: the headers alone decide that there is no picture.
    """
    code, location = answer.status_code, answer.headers.get("location")
    moved = code in REDIRECTS and location
    with contextlib.suppress(httpx.InvalidURL):
        location = answer.url.join(location) if moved else answer.url
    if code in (404, 410) or "photo_unavailable" in str(location):  # Flickr's own sign
        raise Outcome("gone", f"status {code}, {location}")
    if code in (408, 425, 429) or code >= 500:
        raise Outcome("failed", f"status {code}")
    for line in filter(opts_out, answer.headers.get_list("x-robots-tag")):
        raise Outcome("refused", f"opted out (X-Robots-Tag: {line})")
    if any(line.strip() == "1" for line in answer.headers.get_list(FIELD)):
        raise Outcome("refused", f"opted out ({FIELD}: 1)")
    kind = re.split("[;,]", answer.headers.get("content-type", "none"))[0]
    kind = kind.strip().lower()
    if not moved:
        if code != 200 or not GENERIC.fullmatch(kind):
            raise Outcome("refused", f"status {code}, content type {kind}")
        return kind, None
    target = checked_url(location)
    if target.host != answer.url.host and not REDIRECT_HOSTS.fullmatch(target.host):
        raise Outcome("refused", f"redirected to {target.host}")
    return kind, target


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


def pause_s(answer: httpx.Response) -> float:
    """Return the seconds for which an answer asks to leave its host alone.

    Beside a picture, Retry-After has no meaning.
    """
    if answer.status_code == 200:
        return 0
    return max(map(retry_after_s, answer.headers.get_list("retry-after")), default=0)


def retry_after_s(text: str | None) -> float:
    """Return the seconds that a Retry-After header asks for, from 0 to a day.

    It holds seconds or an HTTP date; no header, or nonsense, asks for 0.
    """
    text = (text or "").strip()
    try:
        if re.fullmatch(r"\d+(\.\d*)?", text, re.ASCII):
            wait_s = float(text)
        else:
            when = email.utils.parsedate_tz(text)
            wait_s = email.utils.mktime_tz(when) - time.time() if when else 0
    except (ValueError, TypeError, OverflowError, IndexError):
        wait_s = 0
    return min(max(wait_s, 0), MAX_PAUSE_S)

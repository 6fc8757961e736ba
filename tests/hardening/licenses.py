"""Licence statements and credits, judged as stage 01 judges its rows."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from commoncanvas.catalog.catalog import assign_splits
from commoncanvas.catalog.columns import STATED
from commoncanvas.licenses.policies import verdict
from tests.hardening.frame import Case, Fault

KIND = "licenses"
HOW = "statements of licence, author and page, judged as stage 01 judges its rows"
RANDOM = 25_000
SLUGS = ("by", "by-sa", "by-nc", "by-nc-sa", "by-nd", "by-nc-nd")
VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
SPLITS = {"by": "c", "by-sa": "c", "by-nc": "nc", "by-nc-sa": "nc", "by-nd": "nd"}
SPLITS |= {"by-nc-nd": "nd", "cc0": "c", "pdm": "c"}
CC = "https://creativecommons.org/"
WHOLE = {
    "source": "photos", "spec": "photos", "title": "a cat", "author": "Ann",
    "date_seen": "2024-05-01",
    "author_url": "https://example.org/ann", "pageurl": "https://example.org/cat",
    "license_text": "CC BY 4.0",
}  # fmt: skip
INVISIBLE = {
    "no-break space": "\xa0", "zero-width space": "\u200b", "joiner": "\u200d",
    "non-joiner": "\u200c", "word joiner": "\u2060", "byte order mark": "\ufeff",
    "soft hyphen": "\xad", "left to right": "\u200e", "right to left": "\u200f",
    "override": "\u202e", "isolate": "\u2066", "Hangul filler": "\u3164",
    "half-width filler": "\uffa0", "ideographic space": "\u3000", "NUL": "\0",
    "escape": "\x1b", "delete": "\x7f", "C1": "\x9b", "line separator": "\u2028",
    "variation": "\ufe0f", "tag": "\U000e0041", "tab": "\t", "several": "\u200b \u200d",
    "Mongolian": "\u180e", "Braille blank": "\u2800", "combining": "\u034f",
    "invisible times": "\u2062", "deprecated": "\u206a",
}  # fmt: skip


def stated(**columns: str) -> dict[str, str]:
    """Return a whole row with some columns changed."""
    return dict.fromkeys(STATED, "") | WHOLE | columns


def judge(rows: list[dict[str, str]]) -> list[tuple[str, str, str]]:
    """Return slug, version and split of each row, whose keys are set here."""
    keys = [f"photos/{place:06d}" for place in range(len(rows))]
    keyed = [row | {"key": key} for row, key in zip(rows, keys, strict=True)]
    frame = assign_splits(keyed, [], 17)
    if list(frame["key"]) != keys:
        raise Fault("lost row", f"{len(keys)} in, {len(frame)} out")
    silent = frame[(frame["split"] == "rejected") & (frame["reason"].str.strip() == "")]
    if len(silent):
        raise Fault(
            "wrong outcome", f"rejected without a reason: {list(silent['key'])}"
        )
    columns = frame[["license_slug", "license_version", "split"]]
    return list(columns.itertuples(index=False, name=None))


def cases() -> Iterator[Case]:
    """Yield all named cases, judged together when the first is asked for."""
    rows: list[dict[str, str]] = []
    found: list[Any] = []

    def add(row: dict[str, str]) -> Callable[[], Any]:
        rows.append(row)
        place = len(rows) - 1

        def get() -> Any:
            if not found:
                found.extend(judge(rows))
            return found[place]

        return get

    def rejected(outcome: Any) -> bool:
        return outcome[2] == "rejected"

    for name, text, url, right in _statements():
        row = stated(license_text=text, license_url=url)
        yield Case(KIND, name, add(row), right or rejected)
    right = ("by", "4.0", "c")
    for name, sign in INVISIBLE.items():
        for field in ("author", "pageurl"):
            row = stated(**{field: sign})
            yield Case(KIND, f"credit: {field} of {name}", add(row), rejected)
        row = stated(author=f"An{sign}n", title=sign)
        yield Case(KIND, f"credit: name with {name} within", add(row), right)
    for page in (
        "n/a", "none", "-", "javascript:x", "http://", "https:///cat", "example",
        "null",
        "ftp://example.org/a", "data:text/html,x", "mailto:ann@example.org", "//",
        "https:",
        "file:///a", "about:blank", "http:/example.org", "http:// example.org",
        "https://?",
        "javascript:alert('https://example.org')", "https://#", "http://:80/",
        "https://[::1]/a",  # nobody else can read it
    ):  # fmt: skip
        yield Case(KIND, f"credit: page {page}", add(stated(pageurl=page)), rejected)
    for page in (
        "http://example.org/a", "HTTPS://EXAMPLE.ORG/", "https://example.org",
        "https://example.org:8080/a?b=c#d", "https://bücher.example/é",
        "https://example.org/a(b)",
    ):  # fmt: skip
        yield Case(KIND, f"credit: page {page}", add(stated(pageurl=page)), right)
    for day in ("2024-02-30", "yesterday", "01/02/2024", "", " "):
        row = stated(date_seen=day)
        yield Case(KIND, f"credit: seen {day!r}", add(row), lambda found: True)


Statement = tuple[str, str, str, Any]  # name, text, address, verdict or None


def _statements() -> Iterator[Statement]:
    for slug in SLUGS:
        for version in VERSIONS:
            right = slug, version, SPLITS[slug]
            page = f"creativecommons.org/licenses/{slug}/{version}"
            title = f"CC {slug.upper()} {version}"
            spdx = title.replace(" ", "-")
            for form, text, url in (
                ("title", title, ""), ("SPDX", spdx, ""),
                ("address", "", f"https://{page}/"),
                ("http", "", f"http://{page}"), ("deed", "", f"https://{page}/deed.fr"),
                ("text", "", f"https://www.{page}/legalcode"),
                ("both", title, f"https://{page}/"), ("small", title.lower(), ""),
                ("address as text", f"https://{page}/", ""),
            ):  # fmt: skip
                yield f"read: {slug} {version} as {form}", text, url, right
            other = next(v for v in VERSIONS if v != version)
            against = f"{CC}licenses/{slug}/{other}/"
            yield f"two versions: {slug} {version} and {other}", title, against, None
        for port in ("de", "us", "jp", "uk"):
            version = {"jp": "2.1", "uk": "2.0"}.get(port, "3.0")
            url = f"{CC}licenses/{slug}/{version}/{port}/"
            yield f"port: {slug} {port}", "", url, (slug, version, SPLITS[slug])
        for version in ("4.1", "5.0", "0.1", "3", "2.1"):
            url = f"{CC}licenses/{slug}/{version}/"
            yield f"never published: {slug} {version}", "", url, None
        for port in ("xx", "eu", "de/at", "zz"):
            url = f"{CC}licenses/{slug}/3.0/{port}/"
            yield f"never published: {slug} 3.0 {port}", "", url, None
        for form in ("{}?", "not {}", "{} or CC0", "{} (revoked)", "!{}", "{} NC ND",
        "~{}",
                     "{} for friends", "{} except logos", "ⅭⅭ {}",
                     "{}\u200bX"):  # fmt: skip
            text = form.format(f"CC {slug.upper()} 4.0")
            yield f"doubtful: {text!a}", text, "", None
    numbers = [None, ("by-nc-sa", "2.0"), ("by-nc", "2.0"), ("by-nc-nd", "2.0"),
    ("by", "2.0"),
               ("by-sa", "2.0"), ("by-nd", "2.0"), None, None, ("cc0", "1.0"),
               ("pdm", "1.0"),
               *((slug, "4.0") for slug in ("by", "by-sa", "by-nd", "by-nc", "by-nc-sa",
                                            "by-nc-nd"))]  # fmt: skip
    for number, one in enumerate(numbers):
        right = (*one, SPLITS[one[0]]) if one else None
        yield f"Flickr's number: {number}", str(number), "", right
        if number > 10 and one:
            url = f"{CC}licenses/{one[0]}/4.0/"
            yield f"Flickr's number: {number} with address", str(number), url, right
    for text in (*map(str, range(17, 30)), "-1", "99", "1.0", "04", "１１", "1e1"):
        yield f"no number of Flickr's: {text}", text, "", None
    for name, text, url, right in (
        ("CC0", "CC0 1.0", "", "cc0"),
        ("CC0 page", "", f"{CC}publicdomain/zero/1.0/", "cc0"),
        ("mark", "", f"{CC}publicdomain/mark/1.0/", "pdm"),
        ("CC0 SPDX", "CC0-1.0", "", "cc0"),
    ):  # fmt: skip
        yield f"public domain: {name}", text, url, (right, "1.0", "c")
    for text in (
        "", "None", "free", "MIT", "GPL-3.0", "All rights reserved", "CC", "CC BY",
        "BY",
        "public domain", "copyleft", "Creative Commons", "CC-BY-XX-4.0", "n/a", "null",
        "0",
        "CC BY BY 4.0", "CC SA 4.0", "CC ND-SA 4.0", "<b>CC BY 4.0</b>",
        "CC BY 4.0; CC BY-NC 4.0",
        "см. лицензию", "\0", "CC BY 4.0\0", "a" * 100_000,
    ):  # fmt: skip
        yield f"no licence: {text[:40]!a}", text, "", None
    for url in (
        "https://creativecommons.org/", f"{CC}licenses/", f"{CC}licenses/by",
        "https://[",
        "https://creativecommons.org.evil.example/licenses/by/4.0/",
        f"{CC}licenses/by/4.0/../",
        "https://evil.example/creativecommons.org/licenses/by/4.0/", "javascript:CC0",
        "//",
        "https://creativecommons.org@evil.example/licenses/by/4.0/",
        "https://xn--creativecommns-hqb.org/licenses/by/4.0/",
        f"{CC}publicdomain/zero/9.0/",
    ):  # fmt: skip
        yield f"no licence's address: {url}", "", url, None


WORDS = [
    *SLUGS,
    *VERSIONS,
    "CC",
    "BY",
    "NC",
    "ND",
    "SA",
    "cc0",
    "Public Domain",
    "Mark",
]
WORDS += [
    "Attribution",
    "NonCommercial",
    "ShareAlike",
    "NoDerivs",
    "License",
    "Germany",
]
WORDS += [
    "International",
    "Unported",
    "(",
    ")",
    "-",
    " ",
    "/",
    "not",
    "de",
    "?",
    "é",
    "\0",
]
WORDS += [
    "https://",
    "creativecommons.org/licenses/",
    "legalcode",
    "MIT",
    "4",
    "11",
    "\u200b",
]


def attack(rng: np.random.Generator, num: int) -> None:
    """Read statements made of random words; what is read reads back as itself."""
    pick = random.Random(int(rng.integers(1 << 60)))
    for _ in range(num):
        text = pick.choice(["", " "]).join(pick.choices(WORDS, k=pick.randint(0, 6)))
        url = "".join(pick.choices(WORDS, k=pick.randint(0, 5)))
        if pick.random() < 0.5:
            url = f"{CC}licenses/{pick.choice(SLUGS)}/{pick.choice(VERSIONS)}/"
        for one in ((text, url), (text, ""), ("", url)):
            found = verdict(*one)
            if found["split"] == "rejected":
                if not found["reason"] or "\n" in found["reason"]:
                    raise Fault("wrong outcome", f"{one}: {found}")
                continue
            again = verdict("", found["license_deed"])
            if any(again[name] != found[name] for name in found):
                raise Fault("wrong outcome", f"{one}: {found}, read again: {again}")
            if found["split"] != SPLITS[found["license_slug"]]:
                raise Fault("wrong outcome", f"{one}: {found}")

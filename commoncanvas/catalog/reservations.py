"""Reservations of text and data mining that a host states for its files: TDMRep.

`/.well-known/tdmrep.json` lists patterns of paths, each with 1 where mining is reserved
and 0 where it is not. Of the patterns that match, the longest counts; of two as long,
the one that reserves. A policy that may be bought instead is a matter for people, so a
reservation is heeded whether it names one or not.

Source: tdmrep, the W3C community group's report; RFC 9309 for the patterns.
"""

import asyncio
import contextlib
import json
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote_to_bytes

import httpx

PATH = "/.well-known/tdmrep.json"
FIELD = "tdm-reservation"  # in that file, and as a header of any answer
MAX_BYTES = 2**20  # of the file, unpacked; what a longer one states is not known
MAX_STARS = 1000  # patterns with a star, each tried on every path; more are not read
MAX_REDIRECTS = 3
REDIRECTS = (301, 302, 303, 307, 308)
_GZIP = b"\x1f\x8b"
Send = Callable[[httpx.Request], Awaitable[httpx.Response]]


@dataclass(frozen=True)
class Rule:
    """One line of the file: a pattern of paths, and whether mining is reserved."""

    location: str
    is_reserved: bool


class Rules:
    """What a host states, made ready once: the heaviest pattern that matches counts.

    Attributes:
        unknown: why it is not known what the host states, "" where it is.
    """

    def __init__(self, rules: Iterable[Rule] = (), unknown: str = "") -> None:
        self.unknown = unknown
        self.plain: dict[str, Rule] = {}  # by the beginning of a path
        starred: list[tuple[int, bool, _Pattern]] = []
        for rule in rules:
            pattern = _Pattern(rule)
            if pattern.is_plain:
                first = pattern.parts[0]
                if first not in self.plain or rule.is_reserved:
                    self.plain[first] = rule
            else:
                starred.append((pattern.weight, rule.is_reserved, pattern))
        if len(starred) > MAX_STARS:
            starred = []
            self.unknown = f"it has more than {MAX_STARS:,} patterns with a star"
        self.starred = sorted(starred, key=lambda one: one[:2], reverse=True)
        self.lengths = sorted({len(first) for first in self.plain}, reverse=True)

    def reserved_by(self, path: str) -> str:
        """Return the pattern that reserves a path, "" where none does.

        Args:
            path: with its query, as it is asked for: "/photos/1.jpg?size=b".
        """
        path = _decoded(path)
        found: list[tuple[int, bool, str]] = []
        for length in self.lengths:
            if rule := self.plain.get(path[:length]) if length <= len(path) else None:
                found.append((length, rule.is_reserved, rule.location))
                break
        for weight, is_reserved, pattern in self.starred:
            if found and (weight, is_reserved) <= found[0][:2]:
                break
            if pattern.matches(path):
                found.append((weight, is_reserved, pattern.location))
                break
        _, is_reserved, location = max(found, default=(0, False, ""))
        return location if is_reserved else ""


class _Pattern:
    """A pattern as robots.txt has them: a prefix, `*` for anything, `$` for the end.

    No regular expression: a stranger's pattern could take hours.
    """

    def __init__(self, rule: Rule) -> None:
        self.location = rule.location
        self.is_whole = rule.location.endswith("$")
        bare = re.sub(r"\*+", "*", rule.location.removesuffix("$"))
        # Split before decoding, since %2A is a star in a name.
        self.parts = [_decoded(part) for part in bare.split("*")]
        self.num_signs = sum(map(len, self.parts))
        self.is_plain = len(self.parts) == 1 and not self.is_whole
        self.weight = self.num_signs + len(self.parts) - 1 + self.is_whole

    def matches(self, path: str) -> bool:
        first, *parts = self.parts
        if self.num_signs > len(path) or not path.startswith(first):
            return False
        at = len(first)
        if not self.is_whole:
            last = None
        elif parts:
            last = parts.pop()
        else:
            return at == len(path)
        for part in parts:
            found = path.find(part, at)
            if found < 0:
                return False
            at = found + len(part)
        return last is None or (path.endswith(last) and len(path) - len(last) >= at)


def _decoded(text: str) -> str:
    """Return a path's bytes, its escapes undone, each as one character."""
    return unquote_to_bytes(text.encode("utf-8", "surrogatepass")).decode("latin-1")


def read_rules(data: bytes) -> Rules:
    """Read the file, perhaps packed by gzip; if it is none, `unknown` says why."""
    if data.startswith(_GZIP):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            data = unpacker.decompress(data, MAX_BYTES + 1)
        except zlib.error:
            return Rules(unknown="it cannot be unpacked")
        if len(data) <= MAX_BYTES and not unpacker.eof:
            return Rules(unknown="it cannot be unpacked")
    if len(data) > MAX_BYTES:
        return Rules(unknown=f"it has more than {MAX_BYTES:,} bytes")
    try:
        listed = json.loads(data)  # in UTF-8, 16 or 32, with a mark or without
    except (ValueError, RecursionError):
        return Rules(unknown="it is no JSON")
    if not isinstance(listed, list):
        return Rules(unknown="it is no list")
    rules = []
    for one in listed:
        if isinstance(one, dict) and isinstance(location := one.get("location"), str):
            says = _says(one.get(FIELD))
            path = re.sub("^https?://[^/]*", "", location.strip())
            path = path if path.startswith(("/", "*")) else f"/{path}"
            if says is not None:
                rules.append(Rule(path, says))
    return Rules(rules)


def _says(value: Any) -> bool | None:
    text = str(value).strip().lower()
    return {"1": True, "true": True, "1.0": True, "0": False, "false": False,
            "0.0": False}.get(text)  # fmt: skip


async def ask(
    send: Send, url: httpx.URL, headers: Mapping[str, str], limit_s: float
) -> Rules | None:
    """Return what the host of an address reserves, None where it does not answer.

    Args:
        send: makes a request, and returns the answer without its body.
        limit_s: deadline of the request as a whole, redirects included [s].
    """
    target = url.copy_with(raw_path=PATH.encode())
    try:
        async with asyncio.timeout(limit_s):
            for _ in range(MAX_REDIRECTS + 1):
                answer = await send(httpx.Request("GET", target, headers=headers))
                async with contextlib.aclosing(answer):
                    location = answer.headers.get("location")
                    if answer.status_code not in REDIRECTS or not location:
                        return await _read(answer)
                target = target.join(location)
                if target.scheme not in ("http", "https") or target.host != url.host:
                    return Rules(unknown="it leads to another host")
                target = target.copy_with(userinfo=b"")
            return Rules(unknown=f"it has more than {MAX_REDIRECTS} redirects")
    except Exception:  # whatever a stranger's answer brings about
        return None


async def _read(answer: httpx.Response) -> Rules | None:
    if (code := answer.status_code) != 200:
        return None if code in (408, 425, 429) or code >= 500 else Rules()
    data = bytearray()
    async for chunk in answer.aiter_raw():
        data += chunk
        if len(data) > MAX_BYTES:
            break
    return read_rules(bytes(data[: MAX_BYTES + 1]))

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
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import httpx

PATH = "/.well-known/tdmrep.json"
FIELD = "tdm-reservation"  # in that file, and as a header of any answer
MAX_BYTES = 2**20  # of the file; a longer one states nothing


@dataclass(frozen=True)
class Rule:
    """One line of the file: a pattern of paths, and whether mining is reserved."""

    location: str
    is_reserved: bool


def read_rules(data: bytes) -> tuple[Rule, ...]:
    """Read the file; what is not of its form states nothing."""
    try:
        listed = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return ()
    rules = []
    for one in listed if isinstance(listed, list) else []:
        if isinstance(one, dict) and isinstance(location := one.get("location"), str):
            says = str(one.get(FIELD)).strip()
            path = re.sub("^https?://[^/]*", "", location.strip())
            path = path if path.startswith(("/", "*")) else f"/{path}"
            if says in ("0", "1"):
                rules.append(Rule(path, says == "1"))
    return tuple(rules)


async def ask(
    send: Callable[[httpx.Request], Awaitable[httpx.Response]],
    url: httpx.URL,
    headers: Mapping[str, str],
    limit_s: float,
) -> tuple[Rule, ...] | None:
    """Return what the host of an address reserves, None where it does not answer.

    Args:
        send: makes a request, and returns the answer without its body.
        limit_s: deadline of the request as a whole [s].
    """
    asked = httpx.Request("GET", url.copy_with(raw_path=PATH.encode()), headers=headers)
    data = bytearray()
    try:
        async with asyncio.timeout(limit_s):
            answer = await send(asked)
            async with contextlib.aclosing(answer):
                if (code := answer.status_code) != 200:
                    return None if code in (408, 425, 429) or code >= 500 else ()
                async for chunk in answer.aiter_raw():
                    data += chunk
                    if len(data) > MAX_BYTES:
                        return ()
    except Exception:  # whatever a stranger's answer brings about
        return None
    return read_rules(bytes(data))


def reserved_by(rules: tuple[Rule, ...], path: str) -> str:
    """Return the pattern that reserves a path, "" where none does.

    Args:
        path: with its query, as it is asked for: "/photos/1.jpg?size=b".
    """
    found = [rule for rule in rules if _matches(rule.location, path)]
    last = max(found, key=lambda r: (len(r.location), r.is_reserved), default=None)
    return last.location if last is not None and last.is_reserved else ""


def _matches(location: str, path: str) -> bool:
    """Match as robots.txt does: a prefix, `*` for anything, `$` for the end.

    No regular expression: a stranger's pattern could take for ever.
    """
    first, *parts = location.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not location.endswith("$"):
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

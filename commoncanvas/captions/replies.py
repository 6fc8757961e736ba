"""What a server of models answers to one request, within a time and a size."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio
import httpx

MAX_BYTES = 2**20  # of one answer; a caption has some hundred


@dataclass(frozen=True)
class Reply:
    """What came back for one request, read whole, and why it cannot be read if so.

    Attributes:
        odd: "" of one that can be.
        wait_s: that a busy server asks for [seconds].
    """

    status: int
    text: str
    odd: str = ""
    wait_s: float = 0.0

    def json(self) -> Any:
        """Return its content.

        Raises:
            ValueError: it is no JSON, or one that is nested too deeply.
        """
        try:
            return json.loads(self.text)
        except RecursionError:
            raise ValueError("nested too deeply") from None


async def ask_once(
    client: httpx.AsyncClient,
    timeout_s: float,
    method: str,
    path: str,
    body: Mapping[str, Any] | None,
) -> Reply:
    """Send a request once, and read at most `MAX_BYTES` of its answer.

    A packed answer is not unpacked, since its size is then not what was read.

    Raises:
        TimeoutError: it is not answered whole in `timeout_s`, however it trickles.
        httpx.HTTPError: there is no answer.
    """
    data = bytearray()
    with anyio.fail_after(timeout_s):
        async with client.stream(method, path, json=body) as answer:
            async for part in answer.aiter_raw():
                data += part
                if len(data) > MAX_BYTES:
                    break
    packed = answer.headers.get("content-encoding", "").strip().lower()
    odd = f"longer than {MAX_BYTES:,} bytes" if len(data) > MAX_BYTES else ""
    if packed not in ("", "identity"):
        odd = "packed, though it was asked for as it is"
    try:
        text = "" if odd else data.decode()
    except UnicodeDecodeError:
        text, odd = data.decode(errors="replace"), "not in UTF-8"
    wait_s = _number(answer.headers.get("retry-after", ""))
    return Reply(answer.status_code, text, odd, wait_s)


def _number(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0  # a date, which servers of models do not send

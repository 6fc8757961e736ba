"""Captions from a server with OpenAI's chat interface: vLLM, SGLang, llama.cpp.

For models too large for the process that captions. The server has the model and the
GPUs; from here go pictures and a prompt, several at a time. Source: openai-chat.
"""

import base64
import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pyarrow as pa
from anyio.from_thread import start_blocking_portal

from commoncanvas.captions.answers import AnswerRules
from commoncanvas.captions.image_text import MAX_SIZE, options_of, shown_picture
from commoncanvas.captions.replies import Reply, ask_once
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.pictures import encode_png
from commoncanvas.core.proxies import Routes
from commoncanvas.core.text import printable

GENERATE = {"max_tokens": 128, "temperature": 0}
OWN = ("messages", "model", "n", "seed", "stream")  # fields that only this module sets
MIN_KEY = 8  # characters; a shorter key is no secret but a filler, such as EMPTY
BUSY = (408, 425, 429, 500, 502, 503, 504)  # answers after which a request comes again
OF_THE_PICTURE = (400, 413, 415, 422)  # answers that refuse one request
NO_ACCESS = (401, 403)
WAIT_S = 0.5  # before the second try, doubled before each further one
MAX_WAIT_S = 60.0
LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class _Answer:
    """What the server said of one picture."""

    text: str = ""
    is_cut: bool = False
    refused: str = ""  # why there is no text


Send = Callable[..., Reply]  # sends method, path and body, once


class EndpointCaptioner:
    """A captioner behind an OpenAI-compatible endpoint.

    A captioned file of pictures is kept before the next one is asked for, so a run that
    lost its server goes on there. What is served cannot be looked into from here: say
    its commit as `revision`, which is part of the captions' identity. The address and
    how often it is asked are not, so a server may move.

    Args:
        url: up to the version, e.g. http://localhost:8000/v1.
        model: as the server names it.
        revision: of the model, in words.
        prompt, system: what is asked of each picture.
        longest_edge, square: as of `ImageTextCaptioner`; it gets a PNG.
        generate: further fields of a request that differ from `GENERATE`.
        seed: each picture's own is made of this one and its key.
        parallel: requests at once.
        tries: of a request, where the server is busy or does not answer.
        timeout_s: of one try, from the connection to the answer's end [seconds].
        key_env: the environment variable that holds the server's key; "" sends none.
            The key is read when it is needed and written nowhere, not even where the
            server repeats it, if it has `MIN_KEY` characters.
        strip, reject, cut: see `AnswerRules`.

    Raises:
        ParameterError: a setting cannot be.
    """

    incidental = ("url", "parallel", "tries", "timeout_s", "key_env")

    def __init__(
        self,
        url: str,
        model: str,
        revision: str = "",
        prompt: str = "",
        system: str = "",
        longest_edge: int = MAX_SIZE,
        square: bool = False,
        generate: Mapping[str, Any] | None = None,
        seed: int = 0,
        parallel: int = 16,
        tries: int = 5,
        timeout_s: float = 120.0,
        key_env: str = "",
        strip: Sequence[str] = (),
        reject: Sequence[str] = (),
        cut: str = "reject",
    ) -> None:
        self.url = _address(url)
        if parallel < 1 or tries < 1 or not timeout_s > 0:
            raise ParameterError(
                f"the endpoint of {model!r} has parallel {parallel}, tries {tries} and "
                f"timeout_s {timeout_s}; expected 1, 1 and more than 0 at least; edit "
                "`captioners` in the profile."
            )
        self.rules = AnswerRules(prompt, strip, reject, cut)
        self.model, self.prompt, self.system = model, prompt, system
        self.longest_edge, self.square, self.seed = longest_edge, square, seed
        self.options = options_of(GENERATE, generate, OWN)
        self.parallel, self.tries = parallel, tries
        self.timeout_s, self.key_env = timeout_s, key_env
        self.identity = f"endpoint:{model}{f'@{revision}' if revision else ''}"
        self.decoding = {**self.options, "prompt": prompt, "seed": seed}
        self._is_known = False

    def table(self, rows: Sequence[tuple[str, bytes]]) -> pa.Table:
        """Caption rows of (key, picture bytes): key, caption_raw, caption and reason.

        A picture that the server refuses, or answers with what is no caption, has the
        reason.

        Raises:
            EngineError: no server answers, it fails at every try, or it refuses all of
                two or more pictures; or see `AnswerRules.table`.
            ParameterError: it does not serve the model, or refuses the key; or the
                environment's proxies or certificates cannot be used.
        """
        over = threading.Event()  # one failure ends the other requests, too
        with (
            start_blocking_portal() as portal,
            portal.wrap_async_context_manager(self._client()) as client,
            ThreadPoolExecutor(self.parallel) as pool,
        ):
            send = functools.partial(portal.call, ask_once, client, self.timeout_s)
            self._know(send)

            def ask(row: tuple[str, bytes]) -> _Answer:
                try:
                    return self._ask(send, *row, over)
                except BaseException:
                    over.set()
                    raise

            waiting = [pool.submit(ask, row) for row in rows]
            try:
                failed = [error for f in waiting if (error := f.exception())]
            except BaseException:  # Ctrl-C: what waits is not asked any more
                over.set()
                raise
        if failed:
            raise next((e for e in failed if not isinstance(e, _Over)), failed[0])
        answers = [future.result() for future in waiting]
        refused = [answer.refused for answer in answers]
        if len(rows) > 1 and all(refused):
            raise EngineError(
                f"the server at {self.url} gives no picture a caption: {refused[0]}; "
                "expected an OpenAI-compatible server of a model that reads pictures; "
                "correct `captioners` in the profile, or the server."
            )
        keys, texts = [key for key, _ in rows], [answer.text for answer in answers]
        is_cut = [answer.is_cut for answer in answers]
        return self.rules.table(keys, texts, is_cut, repr(self.model), refused)

    def _client(self) -> httpx.AsyncClient:
        key = self._key()
        if self.key_env and not (key and key.isascii() and key.isprintable()):
            found = "a value that no header can hold" if key else "nothing"
            raise ParameterError(
                f"the environment has {found} as {self.key_env}; expected the key of "
                f"{self.url}, as `key_env` says; export it, then run again."
            )
        is_local = httpx.URL(self.url).host in LOCAL  # no proxy leads back to here
        headers = {"Accept-Encoding": "identity"}  # so that its size is what is read
        return httpx.AsyncClient(
            base_url=self.url + "/",
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=None,  # httpx's are of single reads; see `ask_once`
            transport=httpx.AsyncHTTPTransport() if is_local else Routes(),
        )

    def _key(self) -> str:
        return os.environ.get(self.key_env, "").strip() if self.key_env else ""

    def _line(self, text: object, most: int = 120) -> str:
        """Return the start of what a server said as one line, without the key.

        All of it that is shown or written passes here, before it is cut.
        """
        line, key = printable(text), self._key()
        if len(key) >= MIN_KEY:
            for form in (key, repr(key)[1:-1]):  # errors quote what they met
                line = line.replace(form, "…")
        return line[:most].strip()

    def _know(self, send: Send) -> None:
        """Make sure that the server is there and has the model, once a process."""
        if self._is_known:
            return
        found = self._send(send, "GET", "models", None, threading.Event())
        try:
            served = [one["id"] for one in found.json()["data"]]
        except (ValueError, KeyError, TypeError):
            served = []  # it does not list its models; the first caption will tell
        if served and self.model not in served:
            names = ", ".join(self._line(name, 80) for name in served[:10])
            raise ParameterError(
                f"the server at {self.url} serves {names}; expected {self.model!r}; "
                "correct `model` in `captioners` of the profile, or the server."
            )
        self._is_known = True

    def _ask(self, send: Send, key: str, data: bytes, over: threading.Event) -> _Answer:
        """Return what the server says of one picture."""
        pixels = shown_picture(data, self.longest_edge, self.square)
        png = base64.b64encode(encode_png(pixels)).decode()
        shown = {"type": "image_url"}
        shown |= {"image_url": {"url": f"data:image/png;base64,{png}"}}  # type: ignore[dict-item]
        asked = [{"type": "text", "text": self.prompt}] if self.prompt else []
        turns: list[dict[str, Any]] = [{"role": "user", "content": [shown, *asked]}]
        if self.system:
            turns = [{"role": "system", "content": self.system}, *turns]
        draws = make_generator(self.seed, "captions", key).initial_seed() % 2**31
        body = {"model": self.model, "messages": turns, "seed": draws, **self.options}
        reply = self._send(send, "POST", "chat/completions", body, over)
        if reply.status != 200:
            return _Answer(refused=f"refused by the server ({self._said(reply)})")
        if reply.odd:
            return _Answer(refused=f"the server's answer is {reply.odd}")
        try:
            choice = reply.json()["choices"][0]
            message, why = choice["message"], choice.get("finish_reason")
            content, refusal = message.get("content"), message.get("refusal")
        except (ValueError, LookupError, TypeError, AttributeError):
            return _Answer(refused=f"no chat's `choices`, but {self._said(reply)}")
        text = _text_of(content)
        if text is None:
            return _Answer(refused=f"the content is no text, but {self._line(content)}")
        if self._line(text, len(text)) != printable(text):
            return _Answer(refused=f"the answer repeats the key of {self.key_env}")
        refused = f"declined: {self._line(refusal, 80)}" if refusal else ""
        return _Answer(text, why == "length", refused)

    def _send(
        self,
        send: Send,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        over: threading.Event,
    ) -> Reply:
        """Send a request, several times if need be, and return the answer.

        That is one of 200, of `OF_THE_PICTURE`, or of any other that says no list of
        models.
        """
        wait, why = WAIT_S, ""
        for left in reversed(range(self.tries)):
            if over.is_set():
                raise _Over
            asked = 0.0
            try:
                reply = send(method, path, body)
            except TimeoutError:
                why = f"none is whole after {self.timeout_s:g} s, which is `timeout_s`"
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {self._line(error)}"
            else:
                if reply.status not in BUSY:
                    self._check(reply, path)
                    return reply
                why, asked = self._said(reply), reply.wait_s
            if left:
                over.wait(min(MAX_WAIT_S, max(wait, asked)))
                wait *= 2
        raise EngineError(
            f"no answer from {self.url} after {self.tries} tries ({why}); expected an "
            f"OpenAI-compatible server, such as `vllm serve {self.model}`; start it, "
            "then run again: finished files are kept."
        )

    def _check(self, reply: Reply, path: str) -> None:
        status = reply.status
        if status in NO_ACCESS:
            named = f"that of {self.key_env}" if self.key_env else "none"
            raise ParameterError(
                f"the server at {self.url} refuses the key ({status}), which is "
                f"{named}; expected its own; set `key_env` to the variable with it."
            )
        is_expected = status == 200 or status in OF_THE_PICTURE or path == "models"
        if not is_expected:
            raise EngineError(
                f"the server at {self.url} answers {self._said(reply)}; expected "
                "captions; correct `url` and `model` in `captioners` of the profile."
            )

    def _said(self, reply: Reply) -> str:
        """Return an answer's status and the beginning of what it says, in one line."""
        try:
            found = reply.json()
            found = found.get("error", found)
            text = found.get("message", found) if isinstance(found, dict) else found
            line = self._line(text)
        except (ValueError, AttributeError, RecursionError):
            line = self._line(reply.text)
        return f"{reply.status} {line or reply.odd}".strip()


class _Over(Exception):
    """Another request failed; this one was not sent."""


def _text_of(content: Any) -> str | None:
    """Return the text of a message's content, or of its parts; None where it is none.

    Parts of other types, such as a model's thoughts, are no part of the answer.
    """
    if not isinstance(content, list):
        return "" if content is None else content if isinstance(content, str) else None
    parts = [part if isinstance(part, dict) else {"text": None} for part in content]
    texts: list[Any] = [
        part.get("text") for part in parts if part.get("type", "text") == "text"
    ]
    return "".join(texts) if all(isinstance(text, str) for text in texts) else None


def _address(url: str) -> str:
    """Return an endpoint's address without its last slash.

    Raises:
        ParameterError: it is none, or holds a password.
    """
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        found = httpx.URL("")
    is_port = found.port is None or 0 < found.port < 2**16
    if found.scheme not in ("http", "https") or not found.host or not is_port:
        raise ParameterError(
            f"`url` of a captioner is {printable(url)[:80]!r}; expected an address "
            "such as http://localhost:8000/v1; edit `captioners` in the profile."
        )
    if found.userinfo or found.query:
        raise ParameterError(
            "`url` of a captioner holds a user or a query, and would be written into "
            "manifests; expected an address alone; put the key into a variable and "
            "name that as `key_env`."
        )
    return str(found).rstrip("/")

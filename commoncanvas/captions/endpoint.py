"""Captions from a server with OpenAI's chat interface: vLLM, SGLang, llama.cpp.

For models too large for the process that captions. The server has the model and the
GPUs; from here go pictures and a prompt, several at a time. Source: openai-chat.
"""

import base64
import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
import pyarrow as pa

from commoncanvas.captions.answers import AnswerRules
from commoncanvas.captions.image_text import MAX_SIZE, options_of, shown_picture
from commoncanvas.core.determinism import make_generator
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.pictures import encode_png
from commoncanvas.core.text import printable

GENERATE = {"max_tokens": 128, "temperature": 0}
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
        timeout_s: of one try [seconds].
        key_env: the environment variable that holds the server's key; "" sends none.
            The key is read when it is needed and written nowhere.
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
        if parallel < 1 or tries < 1 or timeout_s <= 0:
            raise ParameterError(
                f"the endpoint of {model!r} has parallel {parallel}, tries {tries} and "
                f"timeout_s {timeout_s}; expected 1, 1 and more than 0 at least; edit "
                "`captioners` in the profile."
            )
        self.rules = AnswerRules(prompt, strip, reject, cut)
        self.model, self.prompt, self.system = model, prompt, system
        self.longest_edge, self.square, self.seed = longest_edge, square, seed
        self.options = options_of(GENERATE, generate)
        self.parallel, self.tries = parallel, tries
        self.timeout_s, self.key_env = timeout_s, key_env
        self.identity = f"endpoint:{model}{f'@{revision}' if revision else ''}"
        self.decoding = {**self.options, "prompt": prompt, "seed": seed}
        self._is_known = False

    def table(self, rows: Sequence[tuple[str, bytes]]) -> pa.Table:
        """Caption rows of (key, picture bytes): key, caption_raw, caption and reason.

        A picture that the server refuses has the reason.

        Raises:
            EngineError: no server answers, it fails at every try, or it refuses all of
                two or more pictures; or see `AnswerRules.table`.
            ParameterError: it does not serve the model, or refuses the key.
        """
        over = threading.Event()  # one failure ends the other requests, too
        with self._client() as client, ThreadPoolExecutor(self.parallel) as pool:
            self._know(client)

            def ask(row: tuple[str, bytes]) -> _Answer:
                try:
                    return self._ask(client, *row, over)
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
                f"the server at {self.url} refuses every picture: {refused[0]}; "
                "expected captions; correct `captioners` in the profile, or the server."
            )
        keys, texts = [key for key, _ in rows], [answer.text for answer in answers]
        is_cut = [answer.is_cut for answer in answers]
        return self.rules.table(keys, texts, is_cut, repr(self.model), refused)

    def _client(self) -> httpx.Client:
        key = self._key()
        if self.key_env and not (key and key.isascii() and key.isprintable()):
            found = "a value that no header can hold" if key else "nothing"
            raise ParameterError(
                f"the environment has {found} as {self.key_env}; expected the key of "
                f"{self.url}, as `key_env` says; export it, then run again."
            )
        is_local = httpx.URL(self.url).host in LOCAL
        return httpx.Client(
            base_url=self.url + "/",
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=self.timeout_s,
            limits=httpx.Limits(max_connections=self.parallel),
            trust_env=not is_local,  # no proxy leads back to this machine
        )

    def _key(self) -> str:
        return os.environ.get(self.key_env, "").strip() if self.key_env else ""

    def _know(self, client: httpx.Client) -> None:
        """Make sure that the server is there and has the model, once a process."""
        if self._is_known:
            return
        found = self._send(client, "GET", "models", None, threading.Event())
        try:
            served = [one["id"] for one in found.json()["data"]]
        except (ValueError, KeyError, TypeError):
            served = []  # it does not list its models; the first caption will tell
        if served and self.model not in served:
            names = ", ".join(printable(name)[:80] for name in served[:10])
            raise ParameterError(
                f"the server at {self.url} serves {names}; expected {self.model!r}; "
                "correct `model` in `captioners` of the profile, or the server."
            )
        self._is_known = True

    def _ask(
        self, client: httpx.Client, key: str, data: bytes, over: threading.Event
    ) -> _Answer:
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
        answer = self._send(client, "POST", "chat/completions", body, over)
        if answer.status_code != 200:
            return _Answer(refused=f"refused by the server ({self._said(answer)})")
        try:
            choice = answer.json()["choices"][0]
            message, why = choice["message"], choice.get("finish_reason")
            text = message.get("content") or ""
            if isinstance(text, list):
                text = "".join(part.get("text", "") for part in text)
            text = str(text)
        except (ValueError, LookupError, TypeError, AttributeError):
            raise EngineError(
                f"the server at {self.url} answers {self._said(answer)}; expected a "
                "chat's `choices`; name an OpenAI-compatible address as `url`."
            ) from None
        refusal = message.get("refusal")
        refused = f"declined: {printable(refusal)[:80]}" if refusal else ""
        return _Answer(text, why == "length", refused)

    def _send(
        self,
        client: httpx.Client,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
        over: threading.Event,
    ) -> httpx.Response:
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
                answer = client.request(method, path, json=body)
            except httpx.HTTPError as error:
                why = f"{type(error).__name__}: {printable(error)[:120]}"
            else:
                if answer.status_code not in BUSY:
                    self._check(answer, path)
                    return answer
                why = self._said(answer)
                asked = _number(answer.headers.get("retry-after", ""))
            if left:
                over.wait(min(MAX_WAIT_S, max(wait, asked)))
                wait *= 2
        raise EngineError(
            f"no answer from {self.url} after {self.tries} tries ({why}); expected an "
            f"OpenAI-compatible server, such as `vllm serve {self.model}`; start it, "
            "then run again: finished files are kept."
        )

    def _check(self, answer: httpx.Response, path: str) -> None:
        status = answer.status_code
        if status in NO_ACCESS:
            named = f"that of {self.key_env}" if self.key_env else "none"
            raise ParameterError(
                f"the server at {self.url} refuses the key ({status}), which is "
                f"{named}; expected its own; set `key_env` to the variable with it."
            )
        is_expected = status == 200 or status in OF_THE_PICTURE or path == "models"
        if not is_expected:
            raise EngineError(
                f"the server at {self.url} answers {self._said(answer)}; expected "
                "captions; correct `url` and `model` in `captioners` of the profile."
            )

    def _said(self, answer: httpx.Response) -> str:
        """Return an answer's status and the beginning of what it says, in one line."""
        try:
            found = answer.json()
            found = found.get("error", found)
            text = found.get("message", found) if isinstance(found, dict) else found
        except (ValueError, AttributeError):
            text = answer.text
        line = printable(text)
        if key := self._key():  # some repeat what they were sent
            line = line.replace(key, "…")
        return f"{answer.status_code} {line[:120]}".strip()


class _Over(Exception):
    """Another request failed; this one was not sent."""


def _address(url: str) -> str:
    """Return an endpoint's address without its last slash.

    Raises:
        ParameterError: it is none, or holds a password.
    """
    try:
        found = httpx.URL(url)
    except (httpx.InvalidURL, TypeError):
        found = httpx.URL("")
    if found.scheme not in ("http", "https") or not found.host:
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


def _number(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0  # a date, which servers of models do not send

"""The demo: a page on this machine on which anyone draws with a released model.

`commoncanvas demo` listens at 127.0.0.1 only, and answers no page but its own: a
request that names another host, as a stranger's page can make a browser send, is
refused. The model is loaded once, and draws one picture at a time.
"""

import base64
import contextlib
import errno
import gzip
import io
import json
import re
import threading
from collections.abc import Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup

from commoncanvas.core.determinism import settle
from commoncanvas.core.errors import CommonCanvasError, ParameterError, in_one_line
from commoncanvas.core.manifest import listed
from commoncanvas.core.templates import assets, page_template
from commoncanvas.core.text import is_whole
from commoncanvas.evaluate.origin import write_png
from commoncanvas.release import sample
from commoncanvas.release.drawing import decode, denoise
from commoncanvas.release.sample import demand

if TYPE_CHECKING:
    from commoncanvas.evaluate.nearest import TrainingWorks

ADDRESS = "127.0.0.1"
MOST_PICTURES = 8  # of a request
MOST_GUIDANCE = 30.0
MOST_CHARACTERS = 500  # of a prompt, before its tokens are counted
MOST_BYTES = 10_000  # of a request
NUM_NEAREST = 3
TILE_PX = 64
POLICY = "; connect-src 'self'"  # the page's own script asks for pictures


class Model:
    """A released model, loaded once, and its training works where they lie here."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.parts, self.manifest = sample.load(folder)
        self.facts = self.manifest["facts"]
        self.lock = threading.Lock()  # one picture at a time
        self.opened = self._open_works()

    def _open_works(self) -> "tuple[TrainingWorks, float] | None":
        """Return the works and copy threshold of its training; None where not here."""
        try:
            return sample.works_of_model(self.manifest["scale"], self.manifest)
        except CommonCanvasError:
            return None

    def attribution(self) -> str:
        """Return the text that credits all works that it was trained on."""
        file = listed(self.folder, self.facts["attribution"])
        data = file.read_bytes()
        return (gzip.decompress(data) if file.suffix == ".gz" else data).decode()

    def trained_on(self) -> str:
        """Say in words what it was trained on: how many works, sets and licences."""
        text = self.attribution()
        sets = sorted(set(re.findall(r"^## (.+)$", text, re.MULTILINE)))
        named = ", ".join(sets[:8]) + (" and others" if len(sets) > 8 else "")
        learnt = self.facts["note"].partition("; its attribution")[0]
        works = learnt.partition("learnt from ")[2] or f"{self.facts['works']:,} works"
        return f"{works}, of the set{'s' * (len(sets) > 1)} {named}"

    def draw(self, asked: dict[str, Any]) -> Generator[dict[str, Any], None, None]:
        """Draw what `checked` has let through; yield what a page shows of it.

        Yields:
            {"picture", "step", "steps"} as it goes; {"seed", "png", "near"} of each
            picture: its file in base64 and its closest works; {"done": True}.
        """
        steps, first = self.facts["num_inference_steps"], asked["seed"]
        guidance, prompt = asked["guidance_scale"], asked["prompt"]
        comment = f"guidance_scale {guidance:g}, {steps} DDIM steps"
        model = sample.model_of(self.manifest)
        yield {"waiting": True}
        with self.lock:
            for place in range(asked["num"]):
                told = self.parts, prompt, first + place, guidance, steps
                at = {"picture": place + 1, "of": asked["num"], "steps": steps}
                denoising = denoise(*told)
                for step in range(1, steps + 1):
                    latents = next(denoising)
                    yield {**at, "step": step}
                pixels = decode(self.parts.vae, latents)
                near, credited = self._near(pixels)
                thanks = self.facts["note"] + (f"\n\n{credited}" if credited else "")
                file, seed = io.BytesIO(), first + place
                write_png(file, pixels, prompt, thanks, model, seed, comment)
                yield {"seed": seed, "png": _base64(file.getvalue()), "near": near}
        yield {"done": True}

    def _near(self, pixels: np.ndarray) -> tuple[list[dict[str, Any]], str]:
        """Return (what the page says of the closest works, their attribution)."""
        if not self.opened:
            return [], ""
        from commoncanvas.core.picture_store import stored_bytes
        from commoncanvas.evaluate.credits import credits_of
        from commoncanvas.licenses.attribution import attribution_text

        works, threshold = self.opened
        found = credits_of(pixels, works, threshold, NUM_NEAREST)
        pictures = stored_bytes(works.folder, found["key"])
        near = [
            {
                "title": work.title or "untitled",
                "author": work.author or "an unnamed author",
                "license": work.license,
                "license_url": _page(work.license_url),
                "source_url": _page(work.source_url),
                "closeness": work.closeness,
                "picture": _tile(picture),
            }
            for work, picture in zip(found.itertuples(), pictures, strict=True)
        ]
        return near, attribution_text(found)


def checked(data: bytes, model: Model) -> dict[str, Any]:
    """Return the prompt, seed, guidance_scale and num that a request asks for.

    Raises:
        ParameterError: it is no JSON object, or a value is missing or out of range.
    """
    try:
        asked = json.loads(data)
    except (ValueError, RecursionError):
        raise ParameterError(
            "the request is no JSON; expected a JSON object; give another."
        ) from None
    demand(isinstance(asked, dict), "the request is no object", "a JSON object")
    prompt, num = asked.get("prompt"), asked.get("num")
    seed, guidance = asked.get("seed"), asked.get("guidance_scale")
    words = "words, e.g. 'red apple'"
    demand(isinstance(prompt, str), "the prompt is no text", words)
    demand(bool(prompt.strip()), "the prompt is empty", words)
    demand(is_whole(prompt), "the prompt is not UTF-8", words)
    long, most = len(prompt), f"{MOST_CHARACTERS} characters at most"
    demand(long <= MOST_CHARACTERS, f"the prompt has {long} characters", most)
    tokens, most = sample.count_tokens(model.parts, prompt), model.facts["max_tokens"]
    demand(tokens <= most, f"the prompt has {tokens} tokens", f"{most}, ends included")
    is_num = _is_whole(num) and 1 <= num <= MOST_PICTURES
    demand(is_num, f"the number of pictures is {_short(num)}", f"1 to {MOST_PICTURES}")
    is_seed = _is_whole(seed) and 0 <= seed <= 2**53 - num
    demand(is_seed, f"the seed is {_short(seed)}", "a whole number, 0 to 2^53 − 8")
    is_number = isinstance(guidance, int | float) and not isinstance(guidance, bool)
    is_guidance = is_number and 1 <= guidance <= MOST_GUIDANCE
    wanted = f"1 (no guidance) to {MOST_GUIDANCE:g}"
    demand(is_guidance, f"the guidance scale is {_short(guidance)}", wanted)
    told = {"prompt": prompt, "num": num, "seed": seed}
    return {**told, "guidance_scale": float(guidance)}


def page(model: Model) -> str:
    """Return the demo's page, which needs nothing but this server."""
    facts = model.facts
    strip = model.folder / "samples.json"
    prompts = json.loads(strip.read_text("utf-8"))["prompts"] if strip.exists() else []
    ours = {name: Markup(text) for name, text in assets("demo").items()}
    return page_template("demo.html.j2").render(
        assets={**ours, "policy": Markup(POLICY)},
        name=sample.model_of(model.manifest),
        trained_on=model.trained_on(),
        license=facts["license"],
        size=facts["size"],
        prompts=prompts,
        guidance=facts["guidance_scale"],
        most_guidance=MOST_GUIDANCE,
        most_pictures=MOST_PICTURES,
        most_characters=MOST_CHARACTERS,
        max_words=facts["max_tokens"] - 2,
        are_works_here=model.opened is not None,
    )


def open_server(model: Model, port: int) -> ThreadingHTTPServer:
    """Return a server of the demo that listens at 127.0.0.1; port 0 takes a free one.

    Raises:
        ParameterError: the port is taken or may not be used.
    """

    class Handler(DemoHandler):
        pass

    Handler.model, Handler.text = model, page(model)
    try:
        server = ThreadingHTTPServer((ADDRESS, port), Handler)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        why = "is taken" if taken else f"cannot be used ({error.strerror})"
        raise ParameterError(
            f"port {port} {why}; expected a free one; give another --port."
        ) from None
    server.daemon_threads = True
    return server


class DemoHandler(BaseHTTPRequestHandler):
    """Answers GET / and /attribution, and POST /draw with a JSON object a line."""

    model: Model
    text: str
    timeout = 60  # of a browser that sends nothing [s]
    server_version, sys_version = "demo", ""

    def do_GET(self) -> None:
        """Send the page, or the attribution of the model's works."""
        if not self._is_ours():
            return
        if self.path.partition("?")[0] == "/":
            self._send(200, self.text, "text/html")
        elif self.path == "/attribution":
            self._send(200, self.model.attribution(), "text/plain")
        else:
            self._send(404, "there is no such page; / is the demo.")

    def do_POST(self) -> None:
        """Draw, and send progress and pictures as they come."""
        if not self._is_ours():
            return
        kind = self.headers.get_content_type()
        length = self.headers.get("Content-Length", "")
        if self.path != "/draw" or kind != "application/json":
            self._send(404, "only JSON to /draw is answered.")
            return
        if not re.fullmatch(r"\d{1,9}", length) or int(length) > MOST_BYTES:
            self._send(400, f"a request has a length, at most {MOST_BYTES} bytes.")
            return
        try:
            asked = checked(self.rfile.read(int(length)), self.model)
        except ParameterError as error:
            self._send(400, in_one_line(error))
            return
        self._begin(200, "application/x-ndjson")
        with (
            contextlib.suppress(ConnectionError, TimeoutError),  # the reader has left
            contextlib.closing(self.model.draw(asked)) as drawn,
        ):
            for told in drawn:
                self.wfile.write(json.dumps(told).encode() + b"\n")

    def _is_ours(self) -> bool:
        """Tell whether a request names this server, and comes from its page or none."""
        port = self.connection.getsockname()[1]
        hosts = {f"{name}:{port}" for name in (ADDRESS, "localhost")}
        origin = self.headers.get("Origin")
        found = self.headers.get_all("Host", [])
        if len(found) != 1 or found[0] not in hosts:
            self._send(403, f"the demo is at http://{ADDRESS}:{port} and nowhere else.")
            return False
        if origin and origin.removeprefix("http://") not in hosts:
            self._send(403, "another site's page may not ask the demo.")
            return False
        return True

    def _send(self, status: int, text: str, kind: str = "text/plain") -> None:
        data = text.encode()
        self._begin(status, kind, len(data))
        self.wfile.write(data)

    def _begin(self, status: int, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        self.send_header("Content-Type", f"{kind}; charset=utf-8")
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.send_header("X-Frame-Options", "DENY")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing; what is drawn is the reader's own affair."""


def serve(port: int, folder: Path | None) -> None:
    """Load a released model and answer until Ctrl-C.

    Raises:
        CommonCanvasError: no whole model, or a port that is taken.
    """
    settle()
    with open_server(Model(folder or sample.MODEL), port) as server:
        address = f"http://{ADDRESS}:{server.server_address[1]}/"
        print(f"open {address} in a browser; Ctrl-C ends the demo", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()
        print("the demo has ended", flush=True)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _short(value: Any) -> str:
    return repr(value)[:40] if value is not None else "missing"


def _page(address: str) -> str:
    from commoncanvas.core.text import is_page

    return address if is_page(address or "") else ""


def _tile(data: bytes) -> str:
    from commoncanvas.core.images import encode_png, stored_pixels

    return _base64(encode_png(stored_pixels(data, TILE_PX)))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")

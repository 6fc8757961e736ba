"""The demo draws for this machine alone, what `sample` draws, and refuses in a line."""

import base64
import hashlib
import http.client
import io
import json
import queue
import re
import threading

import numpy as np
import pytest
import torch
from browser import needs_browser, staying
from doors import call
from PIL import Image
from worlds import write_trained_world

from commoncanvas.core import paths
from commoncanvas.core.errors import ParameterError
from commoncanvas.evaluate.prompts import gate_prompts
from commoncanvas.publish.fetches import fetches
from commoncanvas.release import demo, sample, strips
from commoncanvas.release import model as release

GATE = gate_prompts()
ASKED = {"prompt": "red apple", "seed": 3, "guidance_scale": 2.0, "num": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("root")
    write_trained_world(root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        patch.setattr(strips, "gate_prompts", lambda: GATE[:1])
        patch.setattr(strips, "NUM_STRIP", 1)
        patch.setattr(strips, "NUM_SEEDS", 1)
        torch.set_num_threads(1)
        release.release("toy", "cc_toy", root / "model")
    return root


@pytest.fixture(scope="module")
def server(root):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", root)
        model = demo.Model(root / "model")
        with demo.open_server(model, 0) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield server
            server.shutdown()


def ask(server, method="GET", path="/", body=None, **headers):
    """Return status, content type and text of an answer."""
    port = server.server_address[1]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    data = json.dumps(body).encode() if not isinstance(body, bytes | None) else body
    if data is not None:
        headers = {"Content-Type": "application/json"} | headers
    connection.request(method, path, data, headers)
    answer = connection.getresponse()
    told = answer.status, answer.headers.get_content_type(), answer.read().decode()
    connection.close()
    return told


def test_the_page_needs_nothing_but_its_server(server, root):
    status, kind, text = ask(server)
    assert (status, kind) == (200, "text/html") and fetches(text) == []
    policy = re.search('Content-Security-Policy" content="([^"]*)"', text)[1]
    assert "connect-src 'self'" in policy and "default-src 'none'" in policy
    assert "works under CC BY 4.0" in text and "openmoji" in text
    status, kind, text = ask(server, path="/attribution")
    assert (status, kind) == (200, "text/plain") and text.startswith("# Attribution")
    assert ask(server, path="/etc/passwd")[0] == 404


def test_pictures_are_those_of_the_command_with_progress_and_closest_works(
    server, root, tmp_path
):
    status, _, text = ask(server, "POST", "/draw", ASKED)
    lines = [json.loads(line) for line in text.splitlines()]
    assert (
        status == 200 and lines[0] == {"waiting": True} and lines[-1] == {"done": True}
    )
    steps = [(one["picture"], one["step"]) for one in lines if "step" in one]
    assert steps == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for drawn in (one for one in lines if "png" in one):
        png = base64.b64decode(drawn["png"])
        sample.sample(
            *("red apple", tmp_path / "a.png", drawn["seed"], 1, 2.0),
            folder=root / "model",
        )
        with Image.open(io.BytesIO(png)) as mine, Image.open(tmp_path / "a.png") as own:
            assert np.array_equal(np.asarray(mine), np.asarray(own))
            assert mine.text["Seed"] == str(drawn["seed"])
            assert "A generated picture resembles it." in mine.text["Copyright"]
        assert len(drawn["near"]) == demo.NUM_NEAREST
        assert all(
            work["closeness"].startswith("resembles; similarity")
            and work["source_url"].startswith("https://")
            for work in drawn["near"]
        )


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prompt": " "}, "the prompt is empty; expected words"),
        ({"prompt": None}, "the prompt is no text; expected words"),
        ({"prompt": "\ud800"}, "the prompt is not UTF-8; expected words"),
        ({"prompt": "a" * 501}, "the prompt has 501 characters; expected 500"),
        ({"prompt": "red apple " * 6}, "the prompt has 14 tokens; expected 12, ends"),
        ({"num": 0}, "the number of pictures is 0; expected 1 to 8"),
        ({"num": 9}, "the number of pictures is 9; expected 1 to 8"),
        ({"num": True}, "the number of pictures is True; expected"),
        ({"seed": -1}, "the seed is -1; expected a whole number"),
        ({"seed": 1.5}, "the seed is 1.5; expected a whole number"),
        ({"seed": 2**53}, "the seed is 9007199254740992; expected"),
        ({"guidance_scale": 0.5}, "the guidance scale is 0.5; expected 1 .* to 30"),
        ({"guidance_scale": 31}, "the guidance scale is 31; expected"),
        ({"guidance_scale": float("nan")}, "the guidance scale is nan; expected"),
        ({"guidance_scale": None}, "the guidance scale is missing; expected"),
    ],
)
def test_what_cannot_be_drawn_is_refused_in_one_line(server, change, words):
    status, kind, text = ask(server, "POST", "/draw", ASKED | change)
    assert (status, kind) == (400, "text/plain")
    assert re.match(words, text) and "\n" not in text


@pytest.mark.parametrize("body", [b"", b"red apple", b"[]", b'"a"', b"[" * 9_000])
def test_a_request_that_is_no_object_is_refused(server, body):
    status, _, text = ask(server, "POST", "/draw", body)
    assert status == 400 and re.match(r"the request is no \w+; expected a JSON", text)


def test_a_long_request_is_refused_unread(server):
    status, _, text = ask(server, "POST", "/draw", b" " * 10_001)
    assert status == 400 and text == "a request has a length, at most 10000 bytes."


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1"},
        {"Host": "127.0.0.1:1"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_site_s_page_is_not_answered(server, method, headers):
    body = ASKED if method == "POST" else None
    status, _, text = ask(server, method, "/draw" if body else "/", body, **headers)
    assert status == 403 and "\n" not in text


def test_a_form_of_another_site_cannot_ask(server):
    # A browser sends JSON to another site only after it has asked, as is refused here.
    kind = {"Content-Type": "text/plain"}
    assert ask(server, "POST", "/draw", ASKED, **kind)[0] == 404
    assert ask(server, "OPTIONS", "/draw")[0] == 501


def test_it_listens_on_this_machine_alone(server):
    assert server.server_address[0] == "127.0.0.1"


def test_a_taken_port_and_a_missing_model_are_named(server, root, tmp_path):
    port = server.server_address[1]
    told = call("demo", "--port", port, "--model", root / "model", fails=True)
    assert told == (f"port {port} is taken; expected a free one; give another --port.")
    told = call("demo", "--model", tmp_path, fails=True)
    assert "no whole released model" in told


def test_without_the_works_the_page_says_only_what_it_was_trained_on(root, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "ROOT", tmp_path)
        patch.setattr(paths, "TEMPLATE", paths.TEMPLATE)
        model = demo.Model(root / "model")
    assert model.opened is None and "not compared" in demo.page(model)
    told = list(model.draw({**ASKED, "num": 1}))
    assert [one["near"] for one in told if "near" in one] == [[]]


def test_a_reader_who_leaves_stops_the_drawing(server):
    drawn = server.RequestHandlerClass.model.draw({**ASKED, "num": 8})
    next(drawn), next(drawn)
    drawn.close()
    assert server.RequestHandlerClass.model.lock.acquire(timeout=1)
    server.RequestHandlerClass.model.lock.release()


# Presses the button, and tells the server what the page says in the end.
PRESS = """
addEventListener("load", () => {
  const told = document.getElementById("told");
  new MutationObserver(() => {
    if (told.textContent.startsWith("“") || told.className === "wrong")
      fetch("/told", { method: "POST", body: document.body.innerHTML });
  }).observe(told, { childList: true, attributes: true });
  document.getElementById("go").click();
});"""


@needs_browser
def test_a_browser_draws_with_it(server, monkeypatch, tmp_path):
    handler, found = server.RequestHandlerClass, queue.Queue()
    plain_assets, plain_post = demo.assets, handler.do_POST

    def pressing(more):
        ours = plain_assets(more)
        script = ours["script"] + PRESS
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        return {**ours, "script": script, "script_hash": digest}

    def post(self):
        if self.path != "/told":
            return plain_post(self)
        found.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        return self._send(200, "")

    monkeypatch.setattr(demo, "assets", pressing)
    monkeypatch.setattr(handler, "do_POST", post)
    monkeypatch.setattr(handler, "text", demo.page(handler.model))
    with staying(f"http://127.0.0.1:{server.server_address[1]}/", tmp_path):
        text = found.get(timeout=50)
    assert text.count('class="card"') == 1 and "drawn on this machine" in text
    assert "resembles; similarity" in text and 'class="wrong"' not in text


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="no whole released model"):
        demo.Model(tmp_path)

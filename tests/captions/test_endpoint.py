"""An endpoint is asked once a picture, again where it is busy, and never told on."""

import gzip
import logging
import time

import numpy as np
import pyarrow.parquet as pq
import pytest
from chat_server import ChatServer, caption_of

from commoncanvas.captions import endpoint, telephoning
from commoncanvas.captions.endpoint import EndpointCaptioner
from commoncanvas.core import paths
from commoncanvas.core.errors import EngineError, ParameterError
from commoncanvas.core.files import sha256_of
from commoncanvas.core.images import encode_png
from commoncanvas.core.picture_store import picture_files, write_pictures

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 20, 20, 3), np.uint8)
ROWS = [(f"k{i:02d}", encode_png(pixels)) for i, pixels in enumerate(PIXELS)]
RIGHT = [caption_of(png) for _, png in ROWS]
SECRET = "sk-very-secret-0123"


@pytest.fixture
def server():
    with ChatServer() as found:
        yield found


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    monkeypatch.setattr(endpoint, "WAIT_S", 0.01)


def captioner(server, **words):
    return EndpointCaptioner(server.url, "qwen-vl", prompt="What is it?", **words)


def failing(*answers):
    """Return what a server says: some answers first, then captions."""
    waiting = list(answers)

    def say(png, body):
        if waiting:
            return waiting.pop(0)
        return 200, {"content": caption_of(png)}, "stop", {}

    return say


def test_pictures_get_their_own_captions_in_order_whatever_the_number_at_once(server):
    say = server.say
    server.say = lambda png, body: time.sleep(0.1) or say(png, body)
    table = captioner(server, parallel=6).table(ROWS)
    assert table["key"].to_pylist() == [key for key, _ in ROWS]
    assert table["caption"].to_pylist() == table["caption_raw"].to_pylist() == RIGHT
    assert 1 < server.most_at_once <= 6
    assert captioner(server, parallel=1).table(ROWS[::-1]).to_pylist()[::-1] == (
        table.to_pylist()
    )


def test_a_request_holds_what_the_profile_says(server):
    words = {"system": "Be brief.", "generate": {"top_p": 0.9}, "seed": 3}
    captioner(server, **words).table(ROWS[:2])
    captioner(server, **words).table(ROWS[:1])
    first = server.bodies[-1]
    assert first in server.bodies[:2]
    assert first["model"] == "qwen-vl" and first["temperature"] == 0
    assert first["max_tokens"] == 128 and first["top_p"] == 0.9
    assert [turn["role"] for turn in first["messages"]] == ["system", "user"]
    assert first["messages"][1]["content"][1] == {"type": "text", "text": "What is it?"}
    seeds = {body["seed"] for body in server.bodies}
    assert len(seeds) == 2 and all(0 <= seed < 2**31 for seed in seeds)


def test_a_busy_server_is_asked_again(server):
    busy = [
        (503, {}, "", {}),
        (429, {}, "", {"retry-after": "0.02"}),
        (500, {}, "", {}),
    ]
    server.say = failing(*busy)
    assert (
        captioner(server, parallel=1).table(ROWS[:2])["caption"].to_pylist()
        == (RIGHT[:2])
    )
    assert len(server.bodies) == 5


def test_a_server_that_stays_busy_stops_with_one_line(server):
    server.say = lambda png, body: (503, {"message": "loading\nweights"}, "", {})
    with pytest.raises(EngineError, match="after 2 tries .503 loading weights") as stop:
        captioner(server, tries=2).table(ROWS)
    assert "\n" not in str(stop.value) and "kept" in str(stop.value)


def test_a_server_that_is_not_there_is_one_line():
    with ChatServer() as gone:
        pass
    start = time.monotonic()
    with pytest.raises(EngineError, match="no answer from http://127.0.0.1") as stop:
        captioner(gone, tries=2).table(ROWS)
    assert "vllm serve qwen-vl" in str(stop.value) and "\n" not in str(stop.value)
    assert time.monotonic() - start < 5


def test_a_refused_picture_is_a_row_with_its_reason(server):
    server.say = failing((400, {"message": "image too <large>"}, "", {}))
    table = captioner(server, parallel=1).table(ROWS)
    assert table["reason"].to_pylist() == (
        ["refused by the server (400 image too <large>)", *[""] * 11]
    )
    assert table["caption"].to_pylist() == ["", *RIGHT[1:]]


def test_a_server_that_refuses_all_stops(server):
    server.say = lambda png, body: (400, {"message": "no images"}, "", {})
    with pytest.raises(EngineError, match="gives no picture a caption.*no images"):
        captioner(server).table(ROWS)


@pytest.mark.parametrize(
    ("message", "why", "reason"),
    [
        ({"content": "a barn in the"}, "length", "cut off"),
        ({"content": None}, "stop", "empty caption"),
        ({"content": None, "refusal": "No."}, "stop", "declined: No."),
        ({"content": [{"type": "text", "text": "a barn"}]}, "stop", ""),
        ({"content": "a \ud800 cat"}, "stop", "holds half a character"),
        ({"content": {"a": 1}}, "stop", "the content is no text, but {'a': 1}"),
        ({"content": True}, "stop", "the content is no text, but True"),
        ({"content": 0}, "stop", "the content is no text, but 0"),
        ({"content": [5]}, "stop", "the content is no text, but [5]"),
        (
            *(
                "a barn",
                None,
                "no chat's `choices`, but 200 {'choices': [{'index': 0, "
                "'message': 'a barn', 'finish_reason': None}]}",
            ),
        ),
    ],
)
def test_an_answer_without_a_caption_has_a_reason(server, message, why, reason):
    server.say = failing((200, message, why, {}))
    table = captioner(server, parallel=1).table(ROWS[:2])
    assert table["reason"].to_pylist() == [reason, ""]


@pytest.mark.parametrize("answer", [{"hello": 1}, [], {"choices": []}, "x"])
def test_another_kind_of_server_is_refused_in_one_line(server, monkeypatch, answer):
    monkeypatch.setattr(server, "answer", lambda body: (200, answer, {}))
    with pytest.raises(EngineError, match="no chat's `choices`, but 200"):
        captioner(server).table(ROWS)


def test_a_page_that_is_not_there_stops(server):
    server.say = lambda png, body: (404, {"message": "no such model"}, "", {})
    with pytest.raises(EngineError, match="answers 404 no such model; expected capt"):
        captioner(server).table(ROWS)


def test_a_model_that_is_not_served_is_refused_before_a_picture_is_sent(server):
    server.served = ("llava",)
    with pytest.raises(ParameterError, match="serves llava; expected 'qwen-vl'"):
        captioner(server).table(ROWS)
    assert server.bodies == []
    server.served = None  # some list none
    assert captioner(server).table(ROWS)["caption"].to_pylist() == RIGHT


def test_the_key_is_sent_and_written_nowhere(server, monkeypatch, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.key = SECRET
    monkeypatch.setenv("OUR_KEY", SECRET + "\n")
    model = captioner(server, key_env="OUR_KEY")
    assert model.table(ROWS)["caption"].to_pylist() == RIGHT
    assert all(h["Authorization"] == f"Bearer {SECRET}" for h in server.headers)
    server.say = lambda png, body: (404, {"message": f"not with {SECRET}"}, "", {})
    with pytest.raises(EngineError) as stop:
        model.table(ROWS)
    monkeypatch.setenv("OUR_KEY", SECRET + "x")
    with pytest.raises(ParameterError, match="refuses the key .401., which is that of"):
        captioner(server, key_env="OUR_KEY").table(ROWS)
    told = [str(stop.value), caplog.text, *capfd.readouterr(), str(vars(model))]
    assert not any(SECRET in text for text in told)


HIDDEN = SECRET.replace("very", "ve\u200bry")


@pytest.mark.parametrize(
    ("status", "message", "told"),
    [
        (200, {"content": f"it is {SECRET}"}, "repeats the key of OUR_KEY"),
        (200, {"content": f"it is {HIDDEN}"}, "repeats the key of OUR_KEY"),
        (200, {"content": [{"text": SECRET[:9]}, {"text": SECRET[9:]}]}, "repeats the"),
        (200, {"content": {"a": SECRET}}, "the content is no text"),
        (200, {"content": "", "refusal": f"not for {SECRET}"}, "not for …"),
        (400, {"message": "x" * 110 + SECRET}, "x…"),
        (400, {"message": f"not {HIDDEN}"}, "not …"),
    ],
)
def test_a_key_that_the_server_repeats_is_not_written(
    server, monkeypatch, status, message, told
):
    monkeypatch.setenv("OUR_KEY", SECRET)
    server.say = failing((status, message, "stop", {}))
    table = captioner(server, key_env="OUR_KEY", parallel=1).table(ROWS[:2])
    assert told in table["reason"][0].as_py()
    assert SECRET[:6] not in str(table.to_pylist())
    assert table["caption"].to_pylist() == ["", RIGHT[1]]


@pytest.mark.parametrize("where", ["model", "status"])
def test_a_key_that_the_server_repeats_is_in_no_error(server, monkeypatch, where):
    monkeypatch.setenv("OUR_KEY", SECRET)
    server.served = (SECRET,)
    if where == "status":
        line = f"HTTP/1.1 {SECRET}\r\n\r\n".encode()
        monkeypatch.setattr(server, "raw", line, raising=False)
    with pytest.raises((ParameterError, EngineError)) as stop:
        captioner(server, key_env="OUR_KEY", tries=1).table(ROWS[:1])
    assert SECRET[:6] not in str(stop.value) and "…" in str(stop.value)


def raw(head, body):
    return f"HTTP/1.1 {head}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


PLAIN = "400 Bad\r\ncontent-type: text/plain; charset="
PACKED = gzip.compress(b'{"a": "' + b"x" * 10**7 + b'"}', mtime=0)
DEEP = b'{"choices":' + b"[" * 100_000


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (raw("200 OK", DEEP), "no chat's `choices`, but 200"),
        (raw("400 Bad", b'{"error":' * 50_000), "refused by the server (400"),
        *(
            (raw(PLAIN + c, b"\xff no"), "400 \ufffd no")
            for c in ("base64", "undefined")
        ),
        (raw("200 OK", b'{"a": "\xff"}'), "not in UTF-8"),
        (raw("200 OK\r\ncontent-encoding: gzip", PACKED), "packed"),
        (raw("200 OK", b"x" * 2_000_000), "longer than 1,048,576 bytes"),
    ],
    ids=range(7),
)
def test_an_odd_answer_is_a_row_with_its_reason(server, answer, told):
    server.raws = [answer]
    table = captioner(server, parallel=1).table(ROWS[:2])
    assert told in table["reason"][0].as_py()
    assert len(table["reason"][0].as_py()) < 200
    assert table["caption"].to_pylist() == ["", RIGHT[1]]


@pytest.mark.parametrize("head", ["x-a: b\r\n" * 4, "content-length: 99\r\n\r\n"])
def test_a_server_that_trickles_is_left_at_its_time(server, head):
    server.raws = [f"HTTP/1.1 200 OK\r\n{head}{' ' * 20}".encode()]
    server.pause_s = 0.05
    began = time.monotonic()
    with pytest.raises(EngineError, match="none is whole after 0.3 s"):
        captioner(server, tries=1, timeout_s=0.3).table(ROWS[:1])
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("name", ["messages", "model", "stream", "n", "seed"])
def test_what_the_class_itself_sends_is_not_replaced(name):
    with pytest.raises(ParameterError, match=f"has `{name}`, which it sets itself"):
        EndpointCaptioner("http://h/v1", "m", generate={name: []})


@pytest.mark.parametrize("value", [{1}, float("nan"), "\ud800"])
def test_a_value_that_no_request_holds_is_refused(value):
    with pytest.raises(ParameterError, match="a value that JSON cannot hold"):
        EndpointCaptioner("http://h/v1", "m", generate={"top_p": value})


def test_a_proxy_that_cannot_be_is_one_line(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "foo://x")
    with pytest.raises(ParameterError, match="HTTP_PROXY: found 'foo://x'"):
        EndpointCaptioner("http://example.invalid/v1", "m").table(ROWS[:1])


@pytest.mark.parametrize(
    ("value", "found"), [(None, "nothing"), ("a\u0301\x1b", "a value")]
)
def test_a_key_that_is_not_there_is_asked_for(server, monkeypatch, value, found):
    monkeypatch.delenv("OUR_KEY", raising=False)
    if value:
        monkeypatch.setenv("OUR_KEY", value)
    with pytest.raises(ParameterError, match=f"the environment has {found}") as refused:
        captioner(server, key_env="OUR_KEY").table(ROWS)
    assert "\u0301" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "localhost:8000",
        "",
        "http://h:99999/v1",
        "file:///v1",
        "http://me:pass@host/v1",
        "http://h/v1?key=x",
    ],
)
def test_an_address_that_cannot_be_is_refused_and_not_shown_with_its_password(url):
    with pytest.raises(ParameterError, match="`url` of a captioner") as refused:
        EndpointCaptioner(url, "m")
    assert "pass@" not in str(refused.value)


@pytest.mark.parametrize("words", [{"parallel": 0}, {"tries": 0}, {"timeout_s": 0}])
def test_numbers_that_cannot_be_are_refused(words):
    with pytest.raises(ParameterError, match="expected 1, 1 and more than 0 at least"):
        EndpointCaptioner("http://h/v1", "m", **words)


def test_a_run_that_lost_its_server_goes_on_at_another_address(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "CHECKPOINTS", tmp_path / "checkpoints")
    monkeypatch.setattr(paths, "FINISHED", tmp_path / "finished")
    for number in range(3):
        part = ROWS[4 * number : 4 * number + 4]
        told = [(key, "c", data) for key, data in part]
        write_pictures(tmp_path / "01", number, told)
    files = {sha256_of(file)[:32]: file for file in picture_files(tmp_path / "01")}

    def telephone(server):
        own = {"captioner": "endpoint", "url": server.url, "model": "qwen-vl"}
        own |= {"tries": 1, "parallel": 1}
        # Whatever the engine, no cluster is started.
        return telephoning.telephone("big", own, files, "toy", engine="ray")[1]

    with ChatServer() as first:
        first.say = lambda png, body: (
            (503, {}, "", {})
            if len(first.bodies) > 6
            else (200, {"content": caption_of(png)}, "stop", {})
        )
        with pytest.raises(EngineError, match="finished files are kept"):
            telephone(first)
    with ChatServer() as second:
        found = telephone(second)
    assert len(second.bodies) == 8  # of the two files that were not finished
    texts = [text for f in found for text in pq.read_table(f)["caption"].to_pylist()]
    assert texts == RIGHT

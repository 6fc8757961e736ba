"""A local server that answers like an OpenAI-compatible one, and may misbehave."""

import base64
import contextlib
import hashlib
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from commoncanvas.core.pictures import decode_picture


def caption_of(png):
    """Return the caption that a server gives a picture, by its content alone."""
    return f"a picture of {hashlib.sha256(png).hexdigest()[:6]}."


class ChatServer:
    """`with ChatServer() as server:` listens at `server.url` and keeps what it is sent.

    Attributes:
        served: names of models; None lists none.
        key: the bearer's key that it wants; "" wants none.
        raws: bytes that the next requests for captions get instead of an answer.
        raw: bytes that all requests get so; b"" answers.
        pause_s: between two bytes of those [seconds].
        say: maps (PNG bytes, body) to a status, a message, a finish_reason and headers.
    """

    def __init__(self, served=("qwen-vl",), key=""):
        self.served, self.key = served, key
        self.say = lambda png, body: (200, {"content": caption_of(png)}, "stop", {})
        self.bodies, self.headers, self.most_at_once = [], [], 0
        self.raws, self.raw, self.pause_s = [], b"", 0.0
        self._now, self._lock = 0, threading.Lock()

    def __enter__(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def trickle(self, data):
                step = 1 if server.pause_s else len(data)
                self.close_connection = True
                with contextlib.suppress(ConnectionError):
                    for start in range(0, len(data), step):
                        self.wfile.write(data[start : start + step])
                        time.sleep(server.pause_s)

            def do_GET(self):
                if server.raw:
                    return self.trickle(server.raw)
                if server.served is None:
                    return self.reply(404, {"error": "no such page"})
                data = [{"id": name} for name in server.served]
                return self.reply(200, {"data": data})

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                if server.raws:
                    return self.trickle(server.raws.pop(0))
                with server._lock:
                    server._now += 1
                    server.most_at_once = max(server._now, server.most_at_once)
                    server.bodies.append(body)
                    server.headers.append(dict(self.headers))
                asked = self.headers.get("authorization", "")
                if server.key and asked != f"Bearer {server.key}":
                    self.reply(401, {"error": {"message": f"bad key {asked}"}})
                else:
                    self.reply(*server.answer(body))
                with server._lock:
                    server._now -= 1

            def reply(self, status, answer, headers=()):
                data = json.dumps(answer).encode()
                self.send_response(status)
                for name, value in dict(headers).items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def answer(self, body):
        """Return status, JSON and headers for one request."""
        parts = body["messages"][-1]["content"]
        address = next(p["image_url"]["url"] for p in parts if p["type"] == "image_url")
        png = base64.b64decode(address.removeprefix("data:image/png;base64,"))
        decode_picture(png)
        status, message, why, headers = self.say(png, body)
        choice = {"index": 0, "message": message, "finish_reason": why}
        answer = {"choices": [choice]} if status == 200 else {"error": message}
        return status, answer, headers

"""A small stand-in for the Hub, which answers its client as far as uploads go."""

import base64
import hashlib
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class _Answers(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self._answer(self.server.hub.answer(self.path, body))

    def do_GET(self):
        self._answer({"id": "me/x", "sha": "0" * 40, "siblings": []})

    def _answer(self, found):
        data = json.dumps(found or {"error": "not allowed"}).encode()
        self.send_response(200 if found else 403)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Hub:
    """Keeps one repository's files in memory; refuses commits while it is `closed`."""

    def __init__(self):
        self.created, self.files, self.commits, self.closed = [], {}, [], False

    def answer(self, path, body):
        """Return what the Hub says to a request, None for no permission."""
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.address}/datasets/me/x"}
        if path.endswith("/preupload/main"):
            wanted = [one["path"] for one in json.loads(body)["files"]]
            return {"files": [self._mode(name) for name in wanted]}
        if path.endswith("/commit/main"):
            if self.closed:
                return None
            lines = [json.loads(line) for line in body.splitlines()]
            sent = [line["value"] for line in lines if line["key"] == "file"]
            self.commits.append([one["path"] for one in sent])
            self.files |= {o["path"]: base64.b64decode(o["content"]) for o in sent}
            page = f"{self.address}/datasets/me/x/commit/{'1' * 40}"
            return {"commitUrl": page, "commitOid": "1" * 40, "success": True}
        return {"warnings": [], "errors": []}

    def _mode(self, name):
        told = {"path": name, "uploadMode": "regular", "shouldIgnore": False}
        if name in self.files:
            data = self.files[name]
            blob = b"blob %d\0%s" % (len(data), data)
            told["oid"] = hashlib.sha1(blob).hexdigest()
        return told


@contextmanager
def serve():
    """Answer on this machine, until the end of the block."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    server.hub, hub.address = hub, f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()

"""Labeling in the browser: a page that only this machine can open, by an address that nobody can guess."""

import json
import secrets
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import Any

from sstext.data.label_file import LabelFile, MisspelledError
from sstext.errors import UserError

#: The loopback address: no other machine can connect to it.
HOST = "127.0.0.1"
#: Bytes of a request. A label is short.
LONGEST = 65_536


class LabelServer(ThreadingHTTPServer):
    """A server for one file. Its `address` has a random part, which requests must have.

    Args:
        file: the file that is labeled.
        port: 0: any that is free.

    Raises:
        UserError: the port cannot be used.
    """

    daemon_threads = True

    def __init__(self, file: LabelFile, port: int = 0) -> None:
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            raise UserError(f"port: {port} cannot be used ({error}); leave --port out for any that is free") from None
        self.file, self.token, self.lock = file, secrets.token_urlsafe(24), threading.Lock()
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def address(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"


class _Handler(BaseHTTPRequestHandler):
    """Answers with the page, with the current text, or to a label. Texts are JSON; the page shows them as plain text."""

    server: LabelServer

    def do_GET(self) -> None:
        """The page, or the current text."""
        name = self._asked()
        if name == "":
            nonce = secrets.token_urlsafe(16)
            page = files("sstext.cli").joinpath("label_page.html").read_text(encoding="utf-8").replace("$NONCE", nonce)
            inline = f"script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'"
            policy = f"default-src 'none'; {inline}; connect-src 'self'; form-action 'none'"
            self._answer(200, page.encode(), "text/html; charset=utf-8", policy)
        elif name == "state":
            with self.server.lock:
                self._json(200, _state(self.server.file))
        elif name is not None:
            self._json(404, {"error": "there is no such page"})

    def do_POST(self) -> None:
        """A label, a skipped text, or the last one taken back."""
        name = self._asked()
        if name is None:
            return
        # A page of another origin cannot send JSON without asking first, and is never allowed to.
        if self.headers.get_content_type() != "application/json":
            return self._json(415, {"error": "expected JSON"})
        try:
            size = int(self.headers.get("Content-Length", ""))
            body = json.loads(self.rfile.read(size)) if 0 <= size <= LONGEST else None
            with self.server.lock:
                self._act(name, body)
        except UserError as error:
            self._json(409, {"error": str(error), "misspelled": isinstance(error, MisspelledError)})
        except OSError as error:
            self._json(500, {"error": f"not saved: {error}"})
        except (ValueError, KeyError, TypeError):
            self._json(400, {"error": "expected a row and a label"})

    def _act(self, name: str, body: Any) -> None:
        file = self.server.file
        if name == "label":
            file.give(int(body["row"]), str(body["label"]), new=bool(body.get("new", False)))
        elif name == "skip":
            file.skip(int(body["row"]))
        elif name == "undo":
            file.undo()
        else:
            return self._json(404, {"error": "there is no such action"})
        self._json(200, _state(file))

    def _asked(self) -> str | None:
        """What is asked for, behind the random part. None if that is wrong, which has been answered then."""
        token, _, name = self.path.split("?")[0].removeprefix("/").partition("/")
        known = secrets.compare_digest(token.encode(), self.server.token.encode())
        if known and self.headers.get("Host") in self.server.hosts:  # no other name leads here, whatever a DNS says
            return name
        self._json(403, {"error": "use the address that `sstext label` printed"})
        return None

    def _json(self, status: int, content: Any) -> None:
        self._answer(status, json.dumps(content, ensure_ascii=False).encode("utf-8", "replace"), "application/json")

    def _answer(self, status: int, content: bytes, kind: str, policy: str = "default-src 'none'") -> None:
        self.send_response(status)
        headers = {
            "Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store",
            "Content-Security-Policy": policy, "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff",
            "X-Frame-Options": "DENY",
        }  # fmt: skip
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: addresses have the random part."""


def _state(file: LabelFile) -> dict[str, Any]:
    current = file.current()
    shown = {"row": None, "text": None, "guess": "", "reason": ""} if current is None else vars(current)
    return {**shown, "classes": file.classes, "done": file.done, "total": file.total}


def serve(file: LabelFile, port: int = 0) -> None:
    """Serve the page until Ctrl-C."""
    with LabelServer(file, port) as server:
        print(
            f"Open {server.address}\nOnly this machine can open it. Every label is saved at once; Ctrl-C ends.",
            flush=True,
        )
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()

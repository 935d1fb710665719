"""A Hub on loopback: as much of its protocol as `huggingface_hub` speaks when it pushes, branches, lists and pulls.

The real client runs against it, in processes of its own, since it reads HF_ENDPOINT when it is imported, or `here`.
Requests are recorded, and any of them can be made to break off half-way.
"""

import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest

USER, TOKEN = "ada", "hf_adas_token"
#: Bytes from which on a file is sent as a large one (Git LFS).
LARGE = 20_000
_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>models|datasets)/{_NAME}"


@dataclass
class Repository:
    """Branches and their commits; a commit is the files that there are after it."""

    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        """Put a commit on a branch; returns its id."""
        self.messages.append(message)
        oid = hashlib.sha1(f"{len(self.messages)} {message}".encode()).hexdigest()
        self.commits[oid] = dict(files)
        self.branches[branch] = oid
        return oid

    def files(self, revision: str = "main") -> dict[str, bytes] | None:
        """The files at a branch or commit; None where there is no such."""
        return self.commits.get(self.branches.get(revision, revision))


@dataclass
class FakeHub:
    """The state of the server: what it stores, what it was asked, what it is to break.

    Attributes:
        repositories: ("models" or "datasets", name) → repository.
        large: sha256 → content of files that came by LFS.
        requests: method and path of every request.
        broken: (method, pattern of a path, times): such requests break off half-way.
    """

    url: str = ""
    repositories: dict[tuple[str, str], Repository] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    broken: list[list[Any]] = field(default_factory=list)

    def environment(self, home: Path, token: str | None = TOKEN) -> dict[str, str]:
        """The environment of a process that takes this server for the Hub, with a cache and a login of its own."""
        inherited = {
            k: v for k, v in os.environ.items() if not re.search("proxy|^HF_|^HUGGING_?FACE", k, re.IGNORECASE)
        }
        own = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "*"}
        own["HF_HUB_DISABLE_XET"] = "1"  # its storage speaks a protocol of its own; plain LFS is what it falls back to
        return inherited | own | ({"HF_TOKEN": token} if token else {})

    @contextlib.contextmanager
    def here(self, home: Path, token: str | None = TOKEN) -> Iterator[None]:
        """This process takes the server for the Hub meanwhile, and does not wait before it tries again."""
        with pytest.MonkeyPatch.context() as patch:
            for name in os.environ.keys() - self.environment(home, token).keys():
                patch.delenv(name)
            for name, value in self.environment(home, token).items():
                patch.setenv(name, value)
            for name, value in {"ENDPOINT": self.url, "HF_TOKEN_PATH": str(home / "token"), "HF_HUB_OFFLINE": False,
                                "HF_HUB_DISABLE_XET": True}.items():  # fmt: skip
                patch.setattr(f"huggingface_hub.constants.{name}", value)
            patch.setattr("huggingface_hub.hf_api.api.endpoint", self.url)
            patch.setattr("huggingface_hub.utils._http.time", SimpleNamespace(sleep=lambda _: None))
            verbosity = huggingface_hub.utils.logging.get_verbosity()
            huggingface_hub.close_session()  # the one at hand knows of no network
            try:
                yield
            finally:
                huggingface_hub.close_session()
                huggingface_hub.utils.logging.set_verbosity(verbosity)
                huggingface_hub.utils.enable_progress_bars()

    def add(self, name: str, files: dict[str, bytes], *, kind: str = "models", private: bool = False) -> Repository:
        """A repository that somebody else has made."""
        made = self.repositories[(kind, name)] = Repository(private)
        made.commit("main", {".gitattributes": b""} | files, "initial commit")
        return made

    def break_off(self, method: str, path: str, times: int = 1) -> None:
        """Let the next requests to a path break off in the middle of what they send."""
        self.broken.append([method, path, times])

    def breaks(self, method: str, path: str) -> bool:
        """Whether this request is to break off."""
        for entry in self.broken:
            if entry[0] == method and entry[2] > 0 and re.search(entry[1], path):
                entry[2] -= 1
                return True
        return False


@contextlib.contextmanager
def fake_hub() -> Iterator[FakeHub]:
    """A server in a thread of this process."""
    hub = FakeHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...  # the output is that of the tests

    def _handle(self) -> None:
        address = urlsplit(self.path)
        self.hub.requests.append((self.command, address.path))
        if self.hub.breaks(self.command, address.path):
            self.rfile.read(int(self.headers.get("Content-Length") or 0) // 2)
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        self.body = self._read()
        for methods, pattern, route in ROUTES:
            found = re.fullmatch(pattern, address.path)
            if found and self.command in methods.split():
                if self._may(route):
                    route(self, **{k: unquote(v) for k, v in found.groupdict().items() if v is not None})
                return
        self._refuse(404, "", f"the fake Hub has no {self.command} {address.path}")

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    # Who asks

    @property
    def token(self) -> str | None:
        return (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None

    def _may(self, route: Callable[..., None]) -> bool:
        """Refuse wrong tokens everywhere, and strangers where something is written."""
        writes = route in (create, preupload, commit, branch, whoami, large_batch)
        if self.token not in (None, TOKEN) or (writes and self.token is None):
            self._refuse(401, "", "Invalid username or password.")
            return False
        return True

    def repository(self, kind: str, name: str) -> Repository | None:
        """A repository, or None after a refusal; strangers are not told whether a private one exists."""
        found = self.hub.repositories.get((kind, name))
        if found is not None and (self.token == TOKEN or not found.private):
            return found
        self._refuse(404 if self.token else 401, "RepoNotFound", "Repository not found")
        return None

    def files(self, repository: Repository, revision: str) -> dict[str, bytes] | None:
        """The files at a revision, or None after a refusal."""
        found = repository.files(revision)
        if found is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return found

    # How it is answered

    def answer(self, content: Any, status: int = 200, **headers: str) -> None:
        """Send JSON, or bytes as they are."""
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str, message: str) -> None:
        self.answer({"error": message}, status, X_Error_Code=code, X_Error_Message=message)

    def missing(self, what: str) -> None:
        """Say that a file is not there."""
        self._refuse(404, "EntryNotFound", f"{what} does not exist")


def whoami(request: _Handler) -> None:
    request.answer({"type": "user", "name": USER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})


def validate_card(request: _Handler) -> None:
    request.answer({"errors": [], "warnings": []})


def create(request: _Handler) -> None:
    asked = json.loads(request.body)
    owner, kind = asked.get("organization") or USER, f"{asked.get('type') or 'model'}s"
    name = f"{owner}/{asked['name']}"
    url = f"{request.hub.url}/{'datasets/' if kind == 'datasets' else ''}{name}"
    if owner != USER:
        request._refuse(403, "", "You don't have the rights to create this")
    elif (kind, name) in request.hub.repositories:
        request.answer({"error": "You already created this repository", "url": url}, 409)
    else:
        request.hub.add(name, {}, kind=kind, private=asked.get("visibility") == "private" or bool(asked.get("private")))
        request.answer({"url": url, "name": name, "id": name})


def info(request: _Handler, kind: str, name: str, revision: str = "main") -> None:
    repository = request.repository(kind, name)
    files = repository and request.files(repository, revision)
    if repository and files is not None:
        oid = repository.branches.get(revision, revision)
        siblings = [{"rfilename": path} for path in files]
        known = {"_id": "0", "id": name, "sha": oid, "private": repository.private, "tags": [], "siblings": siblings}
        request.answer(known | ({"modelId": name} if kind == "models" else {}))


def preupload(request: _Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name)
    there = repository and request.files(repository, revision)
    if there is None:
        return
    answers = []
    for file in json.loads(request.body)["files"]:
        path, large = file["path"], file["size"] >= LARGE
        listed = _entry(path, there[path]) if path in there else {}
        known = {"path": path, "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}
        answers.append(known | {"oid": listed.get("lfs", listed).get("oid")})
    request.answer({"files": answers})


def commit(request: _Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name)
    there = repository and request.files(repository, revision)
    if repository is None or there is None:
        return
    files, message = dict(there), ""
    for line in request.body.splitlines():
        step = json.loads(line)
        value = step["value"]
        if step["key"] == "header":
            message = value["summary"]
        elif step["key"] == "file":
            files[value["path"]] = base64.b64decode(value["content"])
        elif step["key"] == "lfsFile":
            files[value["path"]] = request.hub.large[value["oid"]]
        elif step["key"] == "deletedFile":
            del files[value["path"]]
    oid = repository.commit(revision, files, message)
    url = f"{request.hub.url}/{name}/commit/{oid}"
    request.answer({"success": True, "commitOid": oid, "commitUrl": url, "hookOutput": ""})


def branch(request: _Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name)
    if repository and revision in repository.branches:
        request.answer({"error": "Reference already exists"}, 409)
    elif repository:
        repository.branches[revision] = repository.branches["main"]
        request.answer({"ok": True})


def tree(request: _Handler, kind: str, name: str, revision: str, path: str = "") -> None:
    repository = request.repository(kind, name)
    files = repository and request.files(repository, revision)
    if files is None:
        return
    found = [_entry(file, content) for file, content in files.items() if not path or file.startswith(f"{path}/")]
    request.answer(found) if found or not path else request.missing(path)


def paths_info(request: _Handler, kind: str, name: str, revision: str) -> None:
    repository = request.repository(kind, name)
    files = repository and request.files(repository, revision)
    if files is None:
        return
    is_json = request.body[:1] == b"{"
    asked = json.loads(request.body)["paths"] if is_json else parse_qs(request.body.decode()).get("paths", [])
    request.answer([_entry(path, files[path]) for path in asked if path in files])


def large_batch(request: _Handler, name: str) -> None:
    answers: list[dict[str, Any]] = []
    for asked in json.loads(request.body)["objects"]:
        action = {"upload": {"href": f"{request.hub.url}/lfs/{asked['oid']}", "header": {}}}
        answers.append(asked | ({} if asked["oid"] in request.hub.large else {"actions": action}))
    request.answer({"transfer": "basic", "objects": answers})


def large_put(request: _Handler, oid: str) -> None:
    if hashlib.sha256(request.body).hexdigest() != oid:
        request._refuse(400, "", "content and id differ")
        return
    request.hub.large[oid] = request.body
    request.answer({})


def resolve(request: _Handler, name: str, revision: str, path: str, kind: str = "models") -> None:
    repository = request.repository(kind, name)
    files = repository and request.files(repository, revision)
    if repository is None or files is None:
        return
    if path not in files:
        request.missing(path)
        return
    content, status = files[path], 200
    headers = {"Content_Type": "application/octet-stream", "ETag": f'"{hashlib.sha256(content).hexdigest()}"'}
    headers["X_Repo_Commit"] = repository.branches.get(revision, revision)
    span = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers.get("Range") or "")
    if span and request.command == "GET":
        first, last = int(span[1]), int(span[2] or len(content) - 1)
        headers["Content_Range"] = f"bytes {first}-{min(last, len(content) - 1)}/{len(content)}"
        content, status = content[first : last + 1], 206
    request.answer(content, status, **headers)


def _entry(path: str, content: bytes) -> dict[str, Any]:
    """A file as listings have it: its id in git, and that of its content where it is a large one."""
    oid = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    large = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    entry = {"type": "file", "path": path, "size": len(content), "oid": oid}
    return entry | ({"lfs": large} if len(content) >= LARGE else {})


_REVISION = r"(?P<revision>[^/]+)"
ROUTES: list[tuple[str, str, Callable[..., None]]] = [
    ("GET", "/api/whoami-v2", whoami),
    ("POST", "/api/validate-yaml", validate_card),
    ("POST", "/api/repos/create", create),
    ("GET", rf"{_API}(/revision/{_REVISION})?", info),
    ("POST", rf"{_API}/preupload/{_REVISION}", preupload),
    ("POST", rf"{_API}/commit/{_REVISION}", commit),
    ("POST", rf"{_API}/branch/{_REVISION}", branch),
    ("GET", rf"{_API}/tree/{_REVISION}(/(?P<path>.+))?", tree),
    ("POST", rf"{_API}/paths-info/{_REVISION}", paths_info),
    ("POST", rf"/(datasets/)?{_NAME}\.git/info/lfs/objects/batch", large_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", large_put),
    ("GET HEAD", rf"/((?P<kind>datasets)/)?{_NAME}/resolve/{_REVISION}/(?P<path>.+)", resolve),
]

"""The manifest of a run: length and hash of every file that is read back.

It is a journal, `manifest.jsonl`, one JSON object per line. A line is added before a file appears and another one
afterwards, so that a kill at any moment leaves a folder that agrees with its manifest:

```
{"file": "rounds.jsonl", "bytes": 812, "xxh3_128": "…"}    the file may have this content from now on
{"done": ["rounds.jsonl"]}                                 and has no other
{"gone": ["chain_1/start/scores-000000000000.npy"]}        the file was removed on purpose
{"cut": true}                                              the line before was cut short, and records nothing
```

A line is cut short if the disk is full or the power fails. What it should have recorded has not happened: a file appears, or
is removed, only when its line is on disk. Without its second line, a file may have its old content or its new one.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import xxhash

from sstext.storage.disk import writing

MANIFEST = "manifest.jsonl"
#: Folders between the folder of a run and one of its files, at most.
DEPTH = 6


@dataclass(frozen=True)
class Digest:
    """Length of a file in bytes, and its hash (XXH3, 128 bits)."""

    bytes: int
    xxh3_128: str


@dataclass(frozen=True)
class Entry:
    """What a file may hold.

    Attributes:
        digests: the contents that are right. There are two while a new one may be on its way.
        optional: whether the file may be missing, because it may never have appeared.
    """

    digests: tuple[Digest, ...]
    optional: bool


class Manifest:
    """The manifest in the folder of a run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.path = root / MANIFEST

    @classmethod
    def around(cls, path: Path) -> "Manifest | None":
        """The manifest of the run that a file belongs to. None for other files, and for runs of earlier versions."""
        for folder in list(path.parents)[:DEPTH]:
            if (folder / MANIFEST).is_file():
                return cls(folder)
        return None

    def create(self) -> None:
        """Begin an empty manifest, unless there is one."""
        if not self.path.exists():
            self._append()

    def name(self, file: Path) -> str:
        """The name of a file in the manifest."""
        return file.relative_to(self.root).as_posix()

    def expect(self, found: Mapping[Path, Digest]) -> None:
        """Record contents before their files appear. These lines are on disk when this returns."""
        self._append(*({"file": self.name(file), **vars(digest)} for file, digest in found.items()))

    def done(self, files: Iterable[Path]) -> None:
        """Record that the files of `expect` have appeared."""
        self._append({"done": [self.name(file) for file in files]}, durable=False)

    def gone(self, files: Iterable[Path]) -> None:
        """Record that files are about to be removed on purpose."""
        if names := [self.name(file) for file in files]:
            self._append({"gone": names})

    def entries(self) -> dict[str, Entry]:
        """What every recorded file may hold, by name. Damaged lines are left out, see `damaged_lines`."""
        found: dict[str, Entry] = {}
        for _, line in self._lines():
            if line is None:
                continue
            if "file" in line:
                before = found.get(line["file"])
                digest = Digest(line["bytes"], line["xxh3_128"])
                earlier = before.digests[-1:] if before is not None else ()
                found[line["file"]] = Entry((*earlier, digest), before is None or before.optional)
            for name in line.get("done", ()):
                if name in found:
                    found[name] = Entry(found[name].digests[-1:], optional=False)
            for name in line.get("gone", ()):
                found.pop(name, None)
        return found

    def damaged_lines(self) -> list[int]:
        """Numbers of the lines, from 1, that cannot be read."""
        return [number for number, line in self._lines() if line is None]

    def _lines(self) -> list[tuple[int, dict[str, Any] | None]]:
        """Numbers and contents of the lines, None for a damaged one. Empty lines and those that were cut short are left out."""
        found: list[tuple[int, dict[str, Any] | None]] = []
        for number, line in enumerate(self.path.read_bytes().splitlines(), 1):
            parsed = _parsed(line) if line else {}
            if parsed and "cut" in parsed and found and found[-1][1] is None:
                found.pop()
            elif line:
                found.append((number, parsed))
        return found

    def _append(self, *lines: Mapping[str, Any], durable: bool = True) -> None:
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines).encode()
        with writing(self.path), self.path.open("ab") as file:
            if file.tell():
                with self.path.open("rb") as before:  # a line that was cut short must not swallow the next one
                    before.seek(-1, os.SEEK_END)
                    text = text if before.read() == b"\n" else b'\n{"cut": true}\n' + text
            file.write(text)
            file.flush()
            if durable:
                os.fsync(file.fileno())


def digest_of(file: Path) -> Digest:
    """Read a file, and return its length and hash."""
    state, size = xxhash.xxh3_128(), 0
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            state.update(block)
            size += len(block)
    return Digest(size, state.hexdigest())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line of the manifest, or None if it is damaged."""
    try:
        found = json.loads(line)
        if "file" in found:
            if not (isinstance(found["file"], str) and isinstance(found["bytes"], int)):
                return None
            found["xxh3_128"] + ""
        known = all(isinstance(name, str) for key in ("done", "gone") for name in found.get(key, ()))
        return found if known else None
    except (ValueError, KeyError, TypeError, AttributeError):
        return None

"""Bad input of every kind, made from a `Random`: recipes, flags, tables, labels, encodings and configurations of models.

Each input has the structure of a good one, with a few things wrong: that is what gets past the first check. `outcome_of` runs
the command in this process, and says what is wrong with how it ended.
"""

import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import shutil
import signal
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sstext.config.options import options
from sstext.config.run_config import RunConfig

#: Values that break careless readers of YAML, of numbers and of names.
VALUES = (
    "0b_", "0x_", "0o8", "2020-13-45", "2020-01-01", "!!timestamp z", "!!float", "!!int x", "!!binary =",
    "!!set {a, b}",
    "!!python/object/apply:os.getcwd []", "&a [*a]", "*x", "[" * 300, "{a: " * 120, "1e999", "-1e999", ".nan",
    ".inf", "nan",
    "inf", "null", "~", "''", '""', '"\\ud800"', "[]", "{}", "[1, 2]", "{a: 1}", "9" * 5000, "-1", "0", "1",
    "0.5", "3", "1e-3",
    "yes", "no", "1:60", "? x", "<<: 1", "- a", "a: b: c", "%", "@x", "`", "|", ">", "#", "\\",
    "a" * 5000, "x\x00y", "\x1b[31m",
    "\u202e", "é", "退款", "none", "auto", "all", "labels", "text", "a=b", "a=", "=b", "=", "a=b=c", "x=1 y=2",
    "demo", "demo@x",
    "user/name", "user/name@", "..", ".", "/", "/nowhere/x", "in.csv", "in.csv:train", "http://x", "12m", "1h",
    "5 s", "cuda:99",
    "cpu", "mps", "tpu", "bf16", "fp16", "utf-8", "balanced", "uniform", "fixmatch", "vat", "self-training",
    "supervised",
)  # fmt: skip
ENCODINGS = (
    "utf-8", "utf-16", "utf-32", "cp1252", "latin-1", "ascii", "utf-7", "undefined", "unicode_escape",
    "raw_unicode_escape",
    "idna", "punycode", "rot13", "hex", "base64", "mbcs", "cp037", "shift_jis", "gb18030", "iso2022_jp", "hz",
    "", "\x00", "é",
)  # fmt: skip
CELLS = (
    "late", "a b", "", " ", "=1+1", "007", "1.0", "-1", "nan", "NA", "None", "true", "[1, 2]",
    '["a", "b"]', '{"a": 1}', '"', '""',
    'a"b', "a,b", "a;b", "a\tb", "a\nb", "a\rb", "a\r\nb", "\x00", "\x1b[2J", "\ufeff", "\u202e", "\u2028", "\x85", "é", "退款",
    "👩‍👩‍👧",
    "\ud800", "\udcff", "a" * 3000, "x|y", "#", "a#b", "'", "\\", "\\ud800", "<b>", "a" * 70 + "ä",
)  # fmt: skip
COLUMNS = (
    "text", "label", "sentence", "id", "", " ", "Text", "text ", "predicted_label", "confidence", "=x", "\x1b", "é", "a" * 999,
)  # fmt: skip
FORMATS = (
    "csv", "tsv", "txt", "jsonl", "json", "parquet", "arrow", "feather", "xlsx", "csv.gz", "csv.zip", "jsonl.bz2", "csv.xz",
    "dat", "",
)  # fmt: skip

OUTPUTS = (
    "out.csv", "out.tsv", "out.jsonl", "out.parquet", "out.txt", "out.json", "out.x", "out", "no/out.csv", ".", "-", "in.csv",
)  # fmt: skip
#: Values of a configuration or an index that no one expects.
ODD = (None, [], {}, 3, -1, "x", [[1]], {"a": {"b": []}}, 1e400, True)
INDEXES = ("{}", "[]", '{"weight_map": {"a": "../x"}}', '{"weight_map": 3}', "", '{"weight_map": {"a": 3}}')
MODEL_FILES = ("config.json", "tokenizer_config.json", "tokenizer.json", "README.md")
BYTES = (0, 10, 13, 34, 39, 44, 58, 91, 92, 123, 128, 255)


class Hang(BaseException):
    """A command that took too long. No `except Exception` catches it."""


class Fuzz:
    """Makes inputs in a folder.

    Args:
        folder: the commands run in it.
        encoder: folder of an encoder.
        model: folder of a classifier.
        deep: share of the inputs that reach the encoder, which takes longest.
    """

    def __init__(self, folder: Path, encoder: Path, model: Path, deep: float = 0.05) -> None:
        self.folder, self.encoder, self.model, self.deep = folder, encoder, model, deep
        self.names = sorted(options(RunConfig))

    def arguments(self, random: Random) -> list[str]:
        """Write the files of one input, and return its command line."""
        for path in self.folder.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        kinds: tuple[Callable[[Random], list[str]], ...] = (
            self._recipe, self._recipe, self._recipe, self._flags, self._flags, self._check, self._check, self._check,
            self._predict, self._predict, self._evaluate, self._push, self._other,
        )  # fmt: skip
        made, clean = random.choice(kinds)(random), random.random() < 0.9
        return [argument.replace("\x00", "") if clean else argument for argument in made]

    # Kinds of input

    def _recipe(self, random: Random) -> list[str]:
        lines = [f"{self._name(random)}: {self._value(random)}" for _ in range(random.randint(0, 4))]
        text = random.choice(("\n", "\n", "\n", "\r\n", " ")).join(lines)
        content = text.encode("utf-8", "surrogatepass")
        (self.folder / "r.yaml").write_bytes(self._damaged(content, random))
        return ["train", "r.yaml", *self._most(random), "--dry-run"]

    def _flags(self, random: Random) -> list[str]:
        arguments = []
        for _ in range(random.randint(1, 3)):
            flag = f"--{'no-' if random.random() < 0.1 else ''}{self._name(random).replace('_', '-')}"
            values = [self._pair(random) for _ in range(random.choice((0, 1, 1, 1, 2)))]
            arguments += [f"{flag}={values[0]}"] if values and random.random() < 0.3 else [flag, *values]
        return ["train", *self._most(random), *arguments, "--dry-run"]

    def _check(self, random: Random) -> list[str]:
        arguments = [self._table(random, "in")]
        for flag in ("--unlabeled", "--dev", "--test"):
            if random.random() < 0.2:
                arguments += [flag, self._table(random, flag.removeprefix("--"))]
        for flag, file in (("--json", "found.json"), ("--html", "found.html"), ("--fix", "fixed")):
            if random.random() < 0.15:
                arguments += [flag, random.choice((file, file, "no/x", ".", "in.csv"))]
        return ["check", *arguments, *self._reading(random)]

    def _predict(self, random: Random) -> list[str]:
        arguments = [self._table(random, "in"), "-o", random.choice(OUTPUTS)]
        for flag, values in (
            ("--target-precision", VALUES), ("--digits", ("all", "0", "1", "99", "x")), ("--input-format", FORMATS),
            ("--output-format", FORMATS), ("--max-length", ("0", "-1", "1", "2", "8", "x")), ("--precision", ("fp32", "int8")),
        ):  # fmt: skip
            if random.random() < 0.1:
                arguments += [flag, random.choice(values)]
        arguments += [flag for flag in ("--probabilities", "--excel-safe") if random.random() < 0.2]
        return ["predict", str(self.model), *arguments, *self._reading(random)]

    def _evaluate(self, random: Random) -> list[str]:
        arguments = ["--json", random.choice(("out.json", "-", "no/x", "."))] if random.random() < 0.3 else []
        return ["evaluate", str(self.model), self._table(random, "in"), *arguments, *self._reading(random)]

    def _push(self, random: Random) -> list[str]:
        folder = self.folder / "model"
        shutil.copytree(self.model, folder)
        for name in random.sample(MODEL_FILES, random.randint(0, 2)):
            if (folder / name).is_file():
                content = (folder / name).read_bytes()
                if name.endswith(".json") and random.random() < 0.6:
                    settings = json.loads(content)
                    key = random.choice([*settings, "sstext", "auto_map"])
                    content = json.dumps({**settings, key: random.choice(ODD)}).encode()
                (folder / name).write_bytes(self._damaged(content, random))
        if random.random() < 0.2:
            (folder / "model.safetensors").unlink()
            (folder / "model.safetensors.index.json").write_text(random.choice(INDEXES))
        name = random.choice(
            ("user/name", "user/name", "user/name", "name", "a/b/c", "", "\x1b/x", "user/..", "a" * 200)
        )
        more = random.choice(([], ["--revision", "é"], ["--push-pseudo-labels", "user/p"]))
        return ["push", "model", name, "--dry-run", *more]

    def _other(self, random: Random) -> list[str]:
        table, value = self._table(random, "in"), random.choice(VALUES)
        return random.choice((
            ["methods", value], ["report", table], ["report", value], ["label", table, "--classes", value],
            ["push", table, "user/x", "--dry-run"],
            ["suggest", table, "-o", value, "-n", "3"], ["suggest", "--run", table],
            ["train", table, "--more", table, "--dry-run"],
            [value], ["train", value], ["predict", value, table], ["train", "--more"], [], ["check", value],
        ))  # fmt: skip

    # Their parts

    def _most(self, random: Random) -> list[str]:
        """What a run needs, usually."""
        if random.random() < 0.3:
            return []
        encoder = (
            str(self.encoder) if random.random() < self.deep else random.choice(("nowhere", "user/none", "in.csv"))
        )
        given = ["--labeled", self._table(random, "in"), "--encoder", encoder, "--output", "out", "--device", "cpu"]
        return given + (
            ["--unlabeled", self._table(random, "unlabeled")] if random.random() < 0.5 else ["--rounds", "0"]
        )

    def _reading(self, random: Random) -> list[str]:
        arguments = ["--device", "cpu"]
        if random.random() < 0.2:
            arguments += ["--encoding", random.choice(ENCODINGS)]
        if random.random() < 0.2:
            arguments += ["--text-column", random.choice(COLUMNS)]
        return arguments

    def _name(self, random: Random) -> str:
        return random.choice(
            self.names if random.random() < 0.95 else ("stepz", "x", "data.x", "é", "<<", "1", "keep ")
        )

    def _value(self, random: Random) -> str:
        return random.choice(VALUES) if random.random() < 0.9 else random.choice(CELLS)

    def _pair(self, random: Random) -> str:
        value = self._value(random)
        if random.random() < 0.5:
            return value
        return f"{random.choice(('threshold', 'optim', 'bf16', 'a', 'late', 'weight_decay', ''))}={value}"

    def _table(self, random: Random, name: str) -> str:
        """Write a table, and return its name."""
        ending = random.choice(FORMATS) if random.random() < 0.7 else "csv"
        file = f"{name}.{ending}" if ending else name
        if random.random() < 0.03:
            return random.choice(("no.csv", ".", "a" * 300 + ".csv", "x\x00.csv", "", "in.csv:x", "user/rows"))
        columns = random.sample(COLUMNS, random.randint(1, 3)) if random.random() < 0.5 else ["text", "label"]
        cells = CELLS if random.random() < 0.5 else ("late", "a b", "x", "y", "z", "1")
        rows = [[random.choice(cells) for _ in columns] for _ in range(random.randint(0, 6))]
        (self.folder / file).write_bytes(self._damaged(self._content(columns, rows, ending, random), random))
        return file

    def _content(self, columns: list[str], rows: list[list[str]], ending: str, random: Random) -> bytes:
        kind, _, packing = ending.partition(".")
        if kind in ("parquet", "arrow", "feather"):
            content = _arrow(columns, rows, kind, random)
        elif kind == "xlsx":
            content = b"PK\x03\x04" + bytes(random.randrange(256) for _ in range(40))
        elif kind in ("json", "jsonl"):
            odd: tuple[Any, ...] = (None, 1, 1.5, True, [], ["a"], {"a": 1}, [[1]], "late", 1e400, -(10**30))
            records: list[Any] = [
                {
                    key: random.choice(odd) if random.random() < 0.3 else value
                    for key, value in zip(columns, row, strict=True)
                }
                for row in rows
            ]
            records += [random.choice(odd)] if random.random() < 0.1 else []
            lines = [json.dumps(record, ensure_ascii=random.random() < 0.5) for record in records]
            text = "\n".join(lines) if kind == "jsonl" else f"[{', '.join(lines)}]"
            content = text.encode("utf-8", "surrogatepass")
        else:
            mark = random.choice((",", ",", ",", ";", "\t", "|")) if kind != "tsv" else "\t"
            quote = random.random() < 0.7
            lines = [mark.join(_cell(cell, quote) for cell in row) for row in [columns, *rows]]
            text = random.choice(("\n", "\n", "\r\n", "\r")).join(lines) + random.choice(("", "\n"))
            encoding = random.choice(
                ("utf-8", "utf-8", "utf-8", "utf-16", "utf-8-sig", "cp1252", "utf-32", "utf-16-le")
            )
            content = text.encode(encoding, "surrogatepass" if encoding.startswith("utf") else "replace")
        if packing == "zip":
            packed = io.BytesIO()
            with zipfile.ZipFile(packed, "w") as archive:
                for number in range(random.choice((1, 1, 1, 0, 2))):
                    archive.writestr(random.choice((f"a{number}.csv", f"../a{number}.csv", "a/", "x")), content)
            return packed.getvalue()
        packers: dict[str, Callable[[bytes], bytes]] = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress}
        return packers.get(packing, bytes)(content)

    def _damaged(self, content: bytes, random: Random) -> bytes:
        """Most contents as they are, others cut, with bytes changed, or with a part repeated."""
        kind = random.random()
        if kind < 0.65 or not content:
            return content
        at = random.randrange(len(content))
        if kind < 0.75:
            return content[:at]
        if kind < 0.9:
            changed = bytearray(content)
            for _ in range(random.randint(1, 4)):
                changed[random.randrange(len(changed))] = random.choice((*BYTES, random.randrange(256)))
            return bytes(changed)
        return content[:at] + content[at // 2 :] if kind < 0.97 else b""


def _cell(cell: str, quote: bool) -> str:
    return '"' + cell.replace('"', '""') + '"' if quote and set(cell) & set('",;\t|\n\r') else cell


def _arrow(columns: list[str], rows: list[list[str]], kind: str, random: Random) -> bytes:
    names = list(dict.fromkeys(columns))
    data: dict[str, Any] = {
        name: [row[place].encode("utf-8", "replace").decode() for row in rows] for place, name in enumerate(names)
    }
    if random.random() < 0.4 and rows:
        data[random.choice(names)] = [random.choice((1, 1.5, None, b"\xff", [1], {"a": 1}))] * len(rows)
    out, table = io.BytesIO(), pa.table(data)
    if kind == "parquet":
        pq.write_table(table, out)
    else:
        make = pa.ipc.new_file if random.random() < 0.5 else pa.ipc.new_stream
        with make(out, table.schema) as writer:
            writer.write_table(table)
    return out.getvalue()


@contextlib.contextmanager
def limit(seconds: int, patience: int = 1) -> Iterator[None]:
    """Raise `Hang` in a block that takes longer.

    Args:
        patience: the block has as many times these seconds if the machine has given it less than half of them to compute.
    """
    began, waited = time.process_time(), 0

    def stop(*_: object) -> None:
        nonlocal waited
        waited += 1
        if waited == patience or time.process_time() - began > seconds / 2:
            raise Hang
        signal.alarm(seconds)

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def outcome_of(arguments: list[str], folder: Path, seconds: int = 60) -> tuple[int | None, str]:
    """Run a command in a folder. Returns its exit code, and what is wrong with how it ended ("" if nothing is)."""
    from sstext.cli.main import main

    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    out, said = io.TextIOWrapper(io.BytesIO(), encoding="utf-8"), io.StringIO()
    here = os.getcwd()
    os.chdir(folder)
    try:
        with limit(seconds, patience=10), contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
            code = main(arguments)
    except SystemExit as exit:
        code = int(exit.code or 0)
    except Hang:
        return None, f"hang: more than {seconds} s"
    except BaseException as error:
        frames = [
            frame for frame in traceback.extract_tb(error.__traceback__) if f"{os.sep}sstext{os.sep}" in frame.filename
        ]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].name}" if frames else "?"
        return None, f"traceback: {type(error).__name__} in {place}: {' '.join(str(error).split())[:120]}"
    finally:
        os.chdir(here)
    if code not in (0, 2):
        return code, f"exit code {code}"
    if "Traceback (most recent" in said.getvalue():
        return code, "a traceback is printed"
    if code == 2:
        errors = said.getvalue().split("sstext: error: ")[1:]
        if len(errors) != 1:
            return code, f"{len(errors)} messages"
        lines = errors[0].rstrip("\n").split("\n")
        if len(lines) > 1 and "for example:" not in lines[0]:
            return code, f"a message of {len(lines)} lines: {lines[0][:80]}"
        if set(errors[0]) & set("\x1b\r\x00\u202e"):
            return code, f"a control character in a message: {lines[0][:80]!r}"
        left = [
            path.name for path in folder.rglob("*") if before.get(path) != path.stat().st_mtime_ns and path.is_file()
        ]
        if left:
            return code, f"a file is left or changed: {'*'.join(sorted({Path(name).suffix for name in left}))}"
    if stray := [path.name for path in folder.rglob("*") if path.name.endswith((".partial", ".tmp"))]:
        return code, f"a partial file: {stray[0]}"
    return code, ""

"""Names, texts and models of strangers: what they would do, and that they do not do it anywhere."""

import html
import io
import json
import re
import shutil
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from markdown_it import MarkdownIt
from transformers import AutoConfig, AutoTokenizer

from sstext.cli.console import new_console, new_table
from sstext.cli.evaluation_table import show_evaluation
from sstext.cli.main import main
from sstext.errors import UserError
from sstext.evaluation.bootstrap import evaluate_predictions
from sstext.hub.card import bare_card, model_card
from sstext.hub.foreign import check_shards
from sstext.hub.markdown import code, sentence, table
from sstext.hub.publishing import model_files
from sstext.inference.classifier import Classifier
from sstext.modeling.student import new_student
from sstext.plain import PlainBytes, plain
from sstext.progress import Reporter
from sstext.reporting.pages import render_page
from sstext.reporting.svg import drawn, figure_style
from sstext.reporting.words import short_name
from sstext.training.models import load_by_name

#: What a name can do: recolor, end a line, turn the direction, end a code span and be HTML, a link or a formula.
HOSTILE = (
    "=a\x1b[31m\r\nsstext: error: gotcha\x9b2J\u202e\u2066\x07\x00`<img src=x onerror=alert(1)>[x](javascript:1)\ud800"
)
#: None of them may be shown.
ACTIVE = ("\x1b", "\r", "\x9b", "\u202e", "\u2066", "\x07", "\x00", "\ud800")


def assert_harmless(shown: str) -> None:
    for character in ACTIVE:
        assert character not in shown, f"{character!r} in {shown!r}"
    assert not any(line.startswith("sstext: error: gotcha") for line in shown.splitlines())


def test_every_active_character_is_an_escape_and_every_script_stays() -> None:
    """Guards both sides: what would act is seen, and what people write in any language is left alone."""
    assert_harmless(plain(HOSTILE))
    for text in ("naïve Ünï", "退款", "שלום עולם", "👩‍👩‍👧", "a\u00a0b"):
        assert plain(text) == text
    every = {chr(point) for point in (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))}
    assert not every & set(plain("".join(sorted(every))))


def test_messages_notes_and_tables_cannot_be_forged(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the three ways to the terminal: errors, notes and tables."""
    assert main(["report", f"/nowhere/{HOSTILE.replace(chr(0), '')[:-1]}"]) == 2
    Reporter().note(f"column {HOSTILE}")
    table = new_table(HOSTILE)
    table.add_column(HOSTILE)
    table.add_row(HOSTILE)
    new_console().print(table)
    new_console().print(HOSTILE)
    shown = capsys.readouterr()
    assert_harmless(shown.out)
    assert_harmless(shown.err)
    assert shown.err.count("\n") == 2


def test_the_tables_of_an_evaluation_name_classes_harmlessly(capsys: pytest.CaptureFixture[str]) -> None:
    """Guards `evaluate` with a stranger's model, whose class names are shown."""
    probabilities = torch.eye(2).repeat(4, 1).numpy()
    results = evaluate_predictions(probabilities, probabilities.argmax(-1), [HOSTILE, "b"])
    show_evaluation(results)
    assert_harmless(capsys.readouterr().out)


def test_predictions_on_a_terminal_are_shown_and_in_a_pipe_unchanged(
    hostile_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guards `predict` without -o, which shows class names and texts; data in a pipe stay what they are."""
    (tmp_path / "in.csv").write_text('text\n"a\x1b[31m"\n')
    shown = {}
    for terminal in (True, False):
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        monkeypatch.setattr(out, "isatty", lambda is_one=terminal: is_one, raising=False)
        monkeypatch.setattr(sys, "stdout", out)
        assert main(["predict", str(hostile_model), str(tmp_path / "in.csv"), "--quiet", "--device", "cpu"]) == 0
        out.flush()
        shown[terminal] = out.buffer.getvalue().decode()  # type: ignore[attr-defined]
    assert "\x1b" in shown[False]
    assert_harmless(shown[True].replace("\n", ""))
    kept = io.BytesIO()
    PlainBytes(kept).write(b"\xff\xfe")
    assert kept.getvalue() == b"\xff\xfe"


def outside_code(card: str) -> str:
    """A card without its code spans, which CommonMark ends at as many backticks as began them."""
    import re

    return re.sub(r"(?<![`\\])(`+)(?!`).*?(?<!`)\1(?!`)", "", card, flags=re.S)


@pytest.mark.parametrize("make", ["whole", "bare"])
def test_names_in_a_card_are_code_and_never_markup(make: str) -> None:
    """Guards the page on the Hub: a backtick ended the code span, so that HTML stood raw."""
    name = HOSTILE.replace("\x00", "")
    if make == "bare":
        card = bare_card("model", [name, "b|c"], 64, prefix=name)
    else:
        measured: Any = {name: {"accuracy": {"score": 0.5, "confidence_interval": None}}}
        card = model_card(
            name="model", classes=[name, "``"], encoder="demo", max_length=64, rows={name: 3}, rounds=[], results=measured,
            chosen=f"round 1: {name}", method=name, citation=name, model_name=name, dataset=name, class_texts=name,
            encoders=name, prefix=name, tags=["a"],
        )  # fmt: skip
    assert_harmless(card)
    body = card.split("---\n", 2)[2]
    assert "onerror" in body
    assert "<img" not in outside_code(body)
    assert "[x](javascript" not in outside_code(body)


def test_pages_and_figures_show_no_control_characters() -> None:
    """Guards the report: ESC stayed in it, and two SVGs with control characters were no XML."""
    from matplotlib.figure import Figure

    page = render_page("checkup.html", read=[HOSTILE], findings=[], examples=1)
    assert not set(ACTIVE) & set(page)
    assert "<img" not in page
    with figure_style():
        figure = Figure()
        axes = figure.add_subplot()
        axes.set_xticks([0], [short_name("\x1b\x00\x08\ufffe" + HOSTILE, 40)])
        axes.plot([0], [0], label=HOSTILE)
        axes.legend()
        drawing = drawn(figure, "one", HOSTILE)
    for svg in (drawing.alone, drawing.inline):
        assert not set(ACTIVE) & set(svg)
    assert ElementTree.fromstring(drawing.alone).tag.endswith("svg")


@pytest.fixture(scope="module")
def hostile_model(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with hostile class names, and with configurations that ask for code."""
    folder = tmp_path_factory.mktemp("hostile")
    student = new_student(str(tiny_encoder), [HOSTILE[:-1], "late"], seed=0)
    student.save_pretrained(folder)
    AutoTokenizer.from_pretrained(tiny_encoder).save_pretrained(folder)
    ask_for_code(folder)
    return folder


def ask_for_code(folder: Path) -> None:
    for name, keys in (
        ("config.json", {"auto_map": {"AutoModel": "evil.Model"}, "custom_pipelines": {"a": {"impl": "evil.P"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Tokenizer", None]}}),
    ):  # fmt: skip
        settings = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(settings | keys))


def test_configurations_that_ask_for_code_are_neither_shipped_nor_pushed(hostile_model: Path, tmp_path: Path) -> None:
    """Guards whoever loads our model with `trust_remote_code=True`: `auto_map` of an encoder led to its author's code."""
    classifier = Classifier.from_pretrained(hostile_model, device="cpu")
    classifier.save_pretrained(tmp_path / "saved")
    for name in ("config.json", "tokenizer_config.json"):
        pushed = model_files(hostile_model)[name]
        assert isinstance(pushed, bytes)
        for content in (pushed.decode(), (tmp_path / "saved" / name).read_text()):
            assert "evil" not in content
            assert "auto_map" not in content
    assert classifier.classes == list(AutoConfig.from_pretrained(tmp_path / "saved").id2label.values())


def test_what_a_run_ships_asks_for_no_code(tiny_encoder: Path, tmp_path: Path) -> None:
    """Guards `model/` and what a `Trainer` saves of an encoder of transformers."""
    from sstext.selftraining.chain import Chain

    encoder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    ask_for_code(encoder)
    chain = SimpleNamespace(tokenizer=AutoTokenizer.from_pretrained(encoder))
    (tmp_path / "model").mkdir()
    Chain.save(cast(Any, chain), new_student(str(encoder), ["a", "b"], seed=0), tmp_path / "model")
    assert not [file for file in (tmp_path / "model").iterdir() if b"evil" in file.read_bytes()]


@pytest.mark.parametrize("shard", ["../outside.safetensors", "/etc/passwd", "..\\x", "C:\\x", "a/../../x", ""])
def test_an_index_of_weights_may_not_leave_its_folder(
    shard: str, hostile_model: Path, tiny_encoder: Path, tmp_path: Path
):
    """Guards files outside: `model.safetensors.index.json` named ../outside.safetensors, and it was read."""
    outside = tmp_path / "outside.safetensors"
    shutil.copy(hostile_model / "model.safetensors", outside)
    model = shutil.copytree(hostile_model, tmp_path / "model")
    encoder = shutil.copytree(tiny_encoder, tmp_path / "encoder")
    index = json.dumps({"metadata": {}, "weight_map": {"classifier.weight": shard}})
    for folder, name in ((model, "model.safetensors.index.json"), (encoder, "pytorch_model.bin.index.json")):
        (folder / "model.safetensors").unlink()
        (folder / name).write_text(index)
    loads = (
        lambda: Classifier.from_pretrained(model, device="cpu"),
        lambda: new_student(str(encoder), ["a", "b"], seed=0),
        lambda: load_by_name(str(encoder), {}, None, names=None, number=2, seed=0),
    )
    for load in loads:
        with pytest.raises(UserError, match="outside of the model's folder") as problem:
            load()
        assert repr(shard) in str(problem.value)


@pytest.mark.parametrize("content", ["", "[]", '{"weight_map": 3}', "{", "[" * 100_000])
def test_a_damaged_index_is_one_sentence(content: str, tmp_path: Path) -> None:
    """Guards against a traceback from a file that others wrote."""
    (tmp_path / "model.safetensors.index.json").write_text(content)
    with pytest.raises(UserError, match="is damaged"):
        check_shards(str(tmp_path))


def test_an_index_that_stays_in_its_folder_is_read(hostile_model: Path, tmp_path: Path) -> None:
    """Guards large models, whose weights are in several files."""
    sharded = shutil.copytree(hostile_model, tmp_path / "model")
    (sharded / "model.safetensors").unlink()
    classifier = Classifier.from_pretrained(hostile_model, device="cpu")
    classifier.model.save_pretrained(sharded, max_shard_size=15_000)
    assert len(list(sharded.glob("model-*.safetensors"))) > 1
    again = Classifier.from_pretrained(sharded, device="cpu")
    assert (again.logits(["late"]) == classifier.logits(["late"])).all()


@pytest.mark.parametrize(
    "name",
    [
        "https://evil.example/x", "HTTP://evil.example", "www.evil.example", "mailto:a@evil.example", "me@evil.example",
        "see (https://evil.example) now", r"\[x\](https://evil.example)", r"\https://evil.example", "ftp://evil.example|b",
    ],
)  # fmt: skip
def test_an_address_in_a_name_is_no_link_in_a_card(name: str) -> None:
    """Guards class names that lead people of the Hub elsewhere: Markdown makes links of bare addresses, too."""
    parser = MarkdownIt("gfm-like")
    for shown in (sentence(name), code(name), table(["class"], [[name]])):
        page = parser.render(shown)
        assert "<a " not in page, page
    assert "<code>" in parser.render(sentence(name)), "no kind of Markdown makes links there"
    read = re.sub(r"</?(code|p)>", "", parser.render(sentence(name))).strip()
    assert html.unescape(read) == name, "all of it is still read"

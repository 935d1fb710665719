"""Texts that people should label, as files of labeling tools. The model's guesses are pre-annotations where there are any.

| tool | file | what it reads |
|---|---|---|
| `csv` | csv | an empty column `label` to fill in, also for `sstext label` |
| `label-studio` | JSON | a list of tasks: `data`, and `predictions` with `result`, `score` and `model_version` |
| `argilla` | JSON, or JSON lines | records for `dataset.records.from_json`, or `rg.Record.from_dict` with a line: `fields`, \
`metadata`, `suggestions` by question |
| `doccano` | JSON lines | `text`, `label` (a list of classes, with the guess if there is one), and further keys as metadata |

Sources: the documentation of Label Studio ("Import pre-annotated data"), of Argilla 2 (`rg.Record`) and of doccano (import of
text classification as JSONL), and the sources of the last two (`argilla/records/_io/_json.py`, `backend/data_export`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sstext.data.columns import find_column
from sstext.data.exports.export import REASON
from sstext.data.formats import FORMATS
from sstext.data.formulas import Formulas
from sstext.data.sources import open_table
from sstext.data.writers import RowWriter
from sstext.errors import UserError, nearest

#: Name of the question in Label Studio and Argilla, and of the column in csv.
QUESTION = "label"
#: Columns of a csv with the guess of a model.
_OF_GUESS = ("predicted_label", "probability")
#: The reason that is none: such rows represent the corpus.
AT_RANDOM = "drawn at random"


@dataclass(frozen=True)
class LabelingTask:
    """A text that should be labeled.

    Attributes:
        text: the text.
        reason: why it was chosen.
        guess: the class that a model predicts, or None without a model.
        probability: of the guess.
    """

    text: str
    reason: str
    guess: str | None = None
    probability: float | None = None


def write_labeling_tasks(
    file: str | Path, tasks: Sequence[LabelingTask], to: str = "csv", model: str = "sstext", *,
    text_column: str | None = None, label_column: str | None = None, private: bool = False, formulas: Formulas | None = None,
) -> None:  # fmt: skip
    """Write the file of a tool, whole or not at all.

    Args:
        file: for csv, also a tsv, jsonl, json or parquet file, by its ending.
        tasks: the texts.
        to: one of `TOOLS`.
        model: name of the model that guesses.
        text_column, label_column: names in a csv, so that it can be read with these names as the corpus is. Default: text
            and label.
        private: whether only the owner may read the file.
        formulas: see `RowWriter`.

    Raises:
        UserError: no such tool, the name of the file has another ending than the tool reads, or a name is that of another
            column.
    """
    _, columns = tool(to)
    check_ending(file, to)
    check_columns(to, text_column, label_column)
    names = {"text": text_column or "text", QUESTION: label_column or QUESTION} if to == "csv" else {}
    with RowWriter(file, private=private, formulas=formulas) as writer:
        writer.write({names.get(name, name): values for name, values in columns(tasks, model).items()})


def reasons_in(source: Any, *, text_column: str | None = None, encoding: str | None = None, **_: Any) -> dict[str, str]:
    """Text → the reason for its choice, in a file that `write_labeling_tasks` wrote, or that a labeling tool made of it.

    Empty for other sources.
    """
    if not isinstance(source, str | Path) or Path(source).suffix.lower().removeprefix(".") not in FORMATS:
        return {}
    if not Path(source).is_file() or Path(source).suffix.lower() == ".txt":
        return {}
    found: dict[str, str] = {}
    table = open_table(source, encoding or "utf-8", "train")
    for rows in table.batches:
        if REASON not in rows.columns:
            return {}
        text = find_column(list(rows.columns), "text", text_column, str(source), table.text)
        pairs = zip(rows.columns[text], rows.columns[REASON], strict=True)
        found |= {str(one): str(reason) for one, reason in pairs if reason}
    return found


def tool(name: str) -> "tuple[tuple[str, ...], Callable[[Sequence[LabelingTask], str], dict[str, list]]]":
    """The endings of the files that a tool reads, and what makes their columns.

    Raises:
        UserError: no such tool.
    """
    if name not in TOOLS:
        raise UserError(f"to: no tool {name!r}; {nearest(name, TOOLS)}")
    return TOOLS[name]


def check_ending(file: str | Path, to: str) -> None:
    """Refuse a file that the tool would not read.

    Raises:
        UserError: see `write_labeling_tasks`.
    """
    endings, _ = tool(to)
    if Path(file).suffix.lower() not in endings:
        raise UserError(f"output: expected a file that ends in {' or '.join(endings)} for {to}, found {file}")


def check_columns(to: str, text_column: str | None = None, label_column: str | None = None) -> None:
    """Refuse names of columns that a csv has for something else.

    Raises:
        UserError: see `write_labeling_tasks`.
    """
    named = {"text_column": text_column or "text", "label_column": label_column or QUESTION}
    for option, name in named.items() if to == "csv" else ():
        if name in (REASON, *_OF_GUESS) or list(named.values()).count(name) > 1:
            raise UserError(
                f"{option}: the file to write has a column {name!r} of its own; rename that of your file, or write another "
                "format with --to"
            )


def _plain(tasks: Sequence[LabelingTask], _: str) -> dict[str, list]:
    columns: dict[str, list] = {
        "text": [task.text for task in tasks],
        QUESTION: [None] * len(tasks),
        REASON: [task.reason for task in tasks],
    }
    if any(task.guess is not None for task in tasks):
        columns |= zip(_OF_GUESS, ([task.guess for task in tasks], [_score(task) for task in tasks]), strict=True)
    return columns


def _label_studio(tasks: Sequence[LabelingTask], model: str) -> dict[str, list]:
    columns: dict[str, list] = {"data": [{"text": task.text, "reason": task.reason} for task in tasks]}
    columns["predictions"] = [
        []
        if task.guess is None
        else [
            {
                "model_version": model,
                "score": _score(task),
                "result": [
                    {
                        "id": f"guess-{number}",
                        "from_name": QUESTION,
                        "to_name": "text",
                        "type": "choices",
                        "value": {"choices": [task.guess]},
                    }
                ],
            }
        ]
        for number, task in enumerate(tasks, 1)
    ]
    return columns


def _argilla(tasks: Sequence[LabelingTask], model: str) -> dict[str, list]:
    return {
        "fields": [{"text": task.text} for task in tasks],
        "metadata": [{"reason": task.reason} for task in tasks],
        "suggestions": [
            {} if task.guess is None else {QUESTION: {"value": task.guess, "score": _score(task), "agent": model}}
            for task in tasks
        ],
    }


def _doccano(tasks: Sequence[LabelingTask], _: str) -> dict[str, list]:
    return {
        "text": [task.text for task in tasks],
        "label": [[] if task.guess is None else [task.guess] for task in tasks],
        "reason": [task.reason for task in tasks],
    }


def _score(task: LabelingTask) -> float | None:
    return None if task.probability is None else round(float(task.probability), 4)


#: Tool → the endings of its files, and what makes their columns.
TOOLS: dict[str, tuple[tuple[str, ...], Callable[[Sequence[LabelingTask], str], dict[str, list[Any]]]]] = {
    "csv": ((".csv", ".tsv", ".jsonl", ".json", ".parquet"), _plain),
    "label-studio": ((".json",), _label_studio),
    "argilla": ((".json", ".jsonl"), _argilla),
    "doccano": ((".jsonl",), _doccano),
}

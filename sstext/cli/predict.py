"""`sstext predict` and `sstext evaluate`."""

import argparse
import os
import sys
from pathlib import Path
from typing import IO, Any, cast

from sstext.cli.flags import add_excel_safe, add_profile, add_quiet, add_same_flags
from sstext.errors import UserError
from sstext.plain import PlainBytes, plain_json
from sstext.progress import Reporter


def _add_model_options(command: Any) -> None:
    add_same_flags(command, "text_column", "encoding", "device")
    add_quiet(command)
    command.add_argument(
        "--max-length", type=int, help="Maximum number of tokens per text. Default: the limit of the model."
    )
    command.add_argument(
        "--precision",
        default="fp32",
        choices=("auto", "fp32", "bf16", "fp16"),
        help="Numerical precision. Default: fp32.",
    )
    command.add_argument(
        "--compile",
        action="store_true",
        help="Compile the model with torch.compile. It takes a minute or more, so it pays only for very many texts.",
    )
    command.add_argument("--revision", help="Branch, tag or commit of a Hub model. Default: main.")


def add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="label texts from a file",
        description="Writes the rows of the input in their order, with the columns `predicted_label` and `confidence` added.",
    )
    predict.set_defaults(handler=run_predict)
    predict.add_argument("model", help="Folder of a run (out) or of its model (out/model), or a Hub name.")
    predict.add_argument(
        "input", nargs="+",
        help="File with texts: csv, tsv, Excel, jsonl, json, parquet, Arrow or txt, also packed; - for stdin. Several files, a "
        "folder of files or a pattern ('corpus/*.parquet') need a folder as --output.",
    )  # fmt: skip
    predict.add_argument(
        "-o", "--output", default="-",
        help="File to write; its extension sets the format; - for stdout. A folder (scored/) gets shards; the same command "
        "continues if it was stopped. Default: -.",
    )  # fmt: skip
    predict.add_argument(
        "--shard-rows", type=_rows, metavar="N",
        help="Rows of a shard, if --output is a folder. Default: 100,000.",
    )  # fmt: skip
    predict.add_argument(
        "--probabilities", action="store_true", help="Add a column probability/<class> for every class."
    )
    predict.add_argument(
        "--target-precision", type=float, metavar="SHARE",
        help="Precision to aim for among the rows that are kept, for example 0.95. A column `abstain` marks the others.",
    )  # fmt: skip
    predict.add_argument(
        "--digits", type=_digits, default=4, metavar="N",
        help="Digits after the decimal point of confidences in csv and tsv; `all` writes them in full, as other formats do. "
        "Default: 4.",
    )  # fmt: skip
    add_excel_safe(predict)
    add_profile(predict)
    predict.add_argument("--input-format", help="Format of stdin. Default: detected by its first line.")
    predict.add_argument("--output-format", help="Format of stdout (default: csv) or of shards (default: parquet).")
    predict.add_argument(
        "--engine", choices=("local", "ray"), default="local",
        help="ray: label on a Ray cluster, or on all cores of this machine, and write shards of parquet; the same command goes "
        "on after a kill. It needs pip install 'sstext[ray]'. Default: local.",
    )  # fmt: skip
    predict.add_argument(
        "--workers", type=int, metavar="N",
        help="With --engine ray: most processes that label at the same time, each with its own model. Default: one per GPU, or "
        "one per core, as far as the memory goes.",
    )  # fmt: skip
    _add_model_options(predict)


def add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on labeled rows",
        description="Shows accuracy, F1, calibration and more on labeled rows, with 95 % confidence intervals.",
    )
    evaluate.set_defaults(handler=run_evaluate)
    evaluate.add_argument("model", help="Folder of a run (out) or of its model (out/model), or a Hub name.")
    evaluate.add_argument("data", help="File or Hub name with labeled rows, in any format that `train` reads.")
    add_same_flags(evaluate, "label_column")
    evaluate.add_argument("--json", metavar="FILE", help="Write all figures to a file; - for stdout.")
    _add_model_options(evaluate)


def run_predict(parsed: argparse.Namespace) -> None:
    """`sstext predict`."""
    from sstext.cli.console import is_first_process

    if parsed.engine == "ray":
        return _predict_by_ray(parsed)
    if parsed.workers is not None:
        raise UserError("workers: one process labels a file; give --engine ray for several, or leave --workers out")
    if (files := _several(parsed)) is not None:
        return _predict_shards(parsed, files)
    if parsed.shard_rows is not None:
        raise UserError(
            "shard-rows: the output is one file; name a folder for shards (-o scored/), or leave --shard-rows out"
        )
    (parsed.input,) = parsed.input
    if parsed.input != "-" and not os.path.exists(parsed.input):  # reported before a model is loaded
        raise UserError(f"no such file: {parsed.input} (looked for {os.path.abspath(parsed.input)})")
    from sstext.cli.profile import shown
    from sstext.inference.files import predict_file
    from sstext.storage.whole import check_target

    if parsed.output != "-" and is_first_process():
        check_target("output", Path(parsed.output))
    reporter = Reporter(parsed.quiet or not is_first_process())
    source: str | IO[bytes] = sys.stdin.buffer if parsed.input == "-" else parsed.input
    target: str | IO[bytes] = parsed.output
    if parsed.output == "-":
        target = cast(IO[bytes], PlainBytes(sys.stdout.buffer)) if sys.stdout.isatty() else sys.stdout.buffer
    with shown(parsed.profile):
        classifier = _classifier(parsed, reporter)
        predict_file(
            classifier, source, target, text_column=parsed.text_column, encoding=parsed.encoding,
            probabilities=parsed.probabilities, target_precision=parsed.target_precision,
            input_format=parsed.input_format, output_format=parsed.output_format, digits=parsed.digits,
            excel_safe=parsed.excel_safe, reporter=reporter,
        )  # fmt: skip


def _predict_by_ray(parsed: argparse.Namespace) -> None:
    """`sstext predict --engine ray`."""
    for flag, given, remedy in (
        ("input", "-" in parsed.input, "name files or folders"),
        ("input-format", parsed.input_format is not None, "files tell their format; leave it out"),
        ("output-format", parsed.output_format not in (None, "parquet"), "shards are parquet files; leave it out"),
        ("profile", parsed.profile is not None, "other processes do the work; leave it out"),
        ("compile", parsed.compile, "leave it out"),
        ("excel-safe", parsed.excel_safe, "shards are parquet files, which no spreadsheet runs; leave it out"),
    ):
        if given:
            raise UserError(f"{flag}: not with --engine ray; {remedy}")
    _refuse_file(parsed.output)
    _check_folder(parsed)
    from sstext.inference.shard_folder import ROWS_PER_SHARD
    from sstext.ray.predicting import predict_shards

    predict_shards(
        parsed.model, parsed.input, parsed.output, text_column=parsed.text_column, encoding=parsed.encoding,
        probabilities=parsed.probabilities, target_precision=parsed.target_precision, device=parsed.device,
        precision=parsed.precision, max_length=parsed.max_length, revision=parsed.revision, actors=parsed.workers,
        rows_per_shard=parsed.shard_rows or ROWS_PER_SHARD, reporter=Reporter(parsed.quiet),
    )  # fmt: skip


def _several(parsed: argparse.Namespace) -> list[Path] | None:
    """The files whose rows are written to a folder of shards; none for standard input. None: the output is one file.

    Raises:
        UserError: there is no such file, or the output of several files is no folder.
    """
    from sstext.data.many_files import every_file, files_of

    folder = parsed.output.endswith(("/", os.sep)) or os.path.isdir(parsed.output)
    several = len(parsed.input) > 1 or files_of(parsed.input[0]) is not None
    if not several and not folder:
        return None
    if not folder:
        _refuse_file(parsed.output)
    if parsed.input == ["-"]:
        return []
    if "-" in parsed.input:
        raise UserError("input: expected files or - for stdin, found both; label them one after the other")
    return every_file(parsed.input)


def _refuse_file(output: str) -> None:
    """Refuse standard output and the name of a file where shards are written.

    Raises:
        UserError: it is one of them.
    """
    if output == "-" or (Path(output).suffix and not os.path.isdir(output) and not output.endswith(("/", os.sep))):
        raise UserError(f"output: expected a folder for the shards, found {output}; give, for example, -o scored/")


def _check_folder(parsed: argparse.Namespace) -> None:
    """Refuse a folder for shards where they would be read as texts, or outlive what `sstext forget` deletes.

    Raises:
        UserError: it is inside of an input, or in the folder of a run.
    """
    from sstext.storage.manifest import Manifest

    output = Path(parsed.output).absolute()
    for folder in (Path(one).absolute() for one in parsed.input if os.path.isdir(one)):
        if output.is_relative_to(folder):
            raise UserError(
                f"output: expected a folder outside of the input {folder}, found {output}; name another one"
            )
    if (run := Manifest.around(output)) is not None:
        raise UserError(
            f"output: expected a folder outside of a run, found {output} in the run {run.root}; name another one"
        )


def _predict_shards(parsed: argparse.Namespace, files: list[Path]) -> None:
    from sstext.cli.console import is_first_process
    from sstext.cli.profile import shown
    from sstext.data.standard_input import standard_input
    from sstext.inference.devices import resolve_device
    from sstext.inference.shard_folder import ROWS_PER_SHARD
    from sstext.inference.shards import predict_shards
    from sstext.processes import number_of_processes

    _check_folder(parsed)
    reporter = Reporter(parsed.quiet or not is_first_process())
    source: Any = files
    if not files:
        if number_of_processes(resolve_device(parsed.device)) > 1:
            raise UserError("standard input: several processes cannot read it; write the texts to a file first")
        with reporter.phase("reading standard input", None, "byte") as tick:
            source = standard_input(tick)
    with shown(parsed.profile):
        classifier = _classifier(parsed, reporter)
        predict_shards(
            classifier, source, Path(parsed.output),
            model=f"{parsed.model}{f'@{parsed.revision}' if parsed.revision else ''}", text_column=parsed.text_column,
            encoding=parsed.encoding, probabilities=parsed.probabilities, target_precision=parsed.target_precision,
            input_format=parsed.input_format, output_format=parsed.output_format, digits=parsed.digits,
            excel_safe=parsed.excel_safe, rows_per_shard=parsed.shard_rows or ROWS_PER_SHARD, reporter=reporter,
        )  # fmt: skip


def run_evaluate(parsed: argparse.Namespace) -> None:
    """`sstext evaluate`."""
    import json

    from sstext.cli.console import is_first_process
    from sstext.cli.evaluation_table import show_evaluation
    from sstext.inference.files import evaluate_file
    from sstext.storage.whole import check_target, write_whole

    reporter = Reporter(parsed.quiet or not is_first_process())
    if parsed.json not in (None, "-") and is_first_process():  # before anything is computed
        check_target("json", Path(parsed.json))
    columns = {"text_column": parsed.text_column, "label_column": parsed.label_column, "encoding": parsed.encoding}
    results = evaluate_file(_classifier(parsed, reporter), parsed.data, reporter=reporter, **columns)
    if not is_first_process():
        return
    if parsed.json == "-":
        print(plain_json(json.dumps(results, indent=2, ensure_ascii=False)))
        return
    if parsed.json:
        write_whole(Path(parsed.json), json.dumps(results, indent=2, ensure_ascii=False), recorded=False)
    show_evaluation(results)


def _digits(value: str) -> int | None:
    """A number of digits, or None for all of them."""
    if value == "all":
        return None
    if not value.isdecimal() or not 1 <= int(value) <= 17:
        raise argparse.ArgumentTypeError(f"expected a number from 1 to 17 or `all`, found {value!r}")
    return int(value)


def _rows(value: str) -> int:
    """A number of rows."""
    if not value.isdecimal() or int(value) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, found {value!r}")
    return int(value)


def _classifier(parsed: argparse.Namespace, reporter: Reporter) -> Any:
    """The model that a command names: the folder of a model, that of a run, which has one, or a Hub name."""
    from sstext.inference.classifier import Classifier
    from sstext.inference.devices import calm_libraries
    from sstext.storage.model_folder import find_model

    calm_libraries()
    found = find_model(parsed.model)
    if found != parsed.model:
        reporter.note(f"{parsed.model} is the folder of a run; its model {found} is used")
        parsed.model = found
    return Classifier.from_pretrained(
        parsed.model,
        revision=parsed.revision,
        device=parsed.device,
        precision=parsed.precision,
        max_length=parsed.max_length,
        compile=parsed.compile,
    )

"""`sstext predict` and `sstext evaluate`."""

import argparse
import os
import sys
from typing import IO, Any

from sstext.cli.flags import add_quiet, add_same_flags
from sstext.errors import UserError
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
    command.add_argument("--revision", help="Branch, tag or commit of a Hub model. Default: main.")


def add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="label texts from a file",
        description="Writes the rows of the input in their order, with the columns `predicted_label` and `confidence` added.",
    )
    predict.set_defaults(handler=run_predict)
    predict.add_argument("model", help="Folder of a trained model (out/model), or a Hub name.")
    predict.add_argument("input", help="File with texts: csv, tsv, jsonl, json, parquet or txt; - for stdin.")
    predict.add_argument(
        "-o", "--output", default="-", help="File to write; its extension sets the format; - for stdout. Default: -."
    )
    predict.add_argument(
        "--probabilities", action="store_true", help="Add a column probability/<class> for every class."
    )
    predict.add_argument(
        "--target-precision", type=float, metavar="SHARE",
        help="Precision to aim for among the rows that are kept, for example 0.95. A column `abstain` marks the others.",
    )  # fmt: skip
    predict.add_argument("--input-format", help="Format of stdin. Default: detected by its first line.")
    predict.add_argument("--output-format", help="Format of stdout. Default: csv.")
    _add_model_options(predict)


def add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on labeled rows",
        description="Shows accuracy, F1, calibration and more on labeled rows, with 95 % confidence intervals.",
    )
    evaluate.set_defaults(handler=run_evaluate)
    evaluate.add_argument("model", help="Folder of a trained model (out/model), or a Hub name.")
    evaluate.add_argument("data", help="File or Hub name with labeled rows, in any format that `train` reads.")
    add_same_flags(evaluate, "label_column")
    evaluate.add_argument("--json", metavar="FILE", help="Write all figures to a file; - for stdout.")
    _add_model_options(evaluate)


def run_predict(parsed: argparse.Namespace) -> None:
    """`sstext predict`."""
    from sstext.cli.console import is_first_process

    if parsed.input != "-" and not os.path.exists(parsed.input):  # reported before a model is loaded
        raise UserError(f"no such file: {parsed.input} (looked for {os.path.abspath(parsed.input)})")
    from sstext.inference.files import predict_file

    reporter = Reporter(parsed.quiet or not is_first_process())
    classifier = _classifier(parsed)
    source: str | IO[bytes] = sys.stdin.buffer if parsed.input == "-" else parsed.input
    target: str | IO[bytes] = sys.stdout.buffer if parsed.output == "-" else parsed.output
    predict_file(
        classifier, source, target, text_column=parsed.text_column, encoding=parsed.encoding,
        probabilities=parsed.probabilities, target_precision=parsed.target_precision,
        input_format=parsed.input_format, output_format=parsed.output_format,
        reporter=reporter,
    )  # fmt: skip


def run_evaluate(parsed: argparse.Namespace) -> None:
    """`sstext evaluate`."""
    import json

    from sstext.cli.console import is_first_process
    from sstext.cli.evaluation_table import show_evaluation
    from sstext.inference.files import evaluate_file
    from sstext.storage.whole import write_whole

    reporter = Reporter(parsed.quiet or not is_first_process())
    columns = {"text_column": parsed.text_column, "label_column": parsed.label_column, "encoding": parsed.encoding}
    results = evaluate_file(_classifier(parsed), parsed.data, reporter=reporter, **columns)
    if not is_first_process():
        return
    if parsed.json == "-":
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return
    if parsed.json:
        from pathlib import Path

        write_whole(Path(parsed.json), json.dumps(results, indent=2, ensure_ascii=False))
    show_evaluation(results)


def _classifier(parsed: argparse.Namespace) -> Any:
    from sstext.inference.classifier import Classifier
    from sstext.inference.devices import calm_libraries

    calm_libraries()

    return Classifier.from_pretrained(
        parsed.model,
        revision=parsed.revision,
        device=parsed.device,
        precision=parsed.precision,
        max_length=parsed.max_length,
    )

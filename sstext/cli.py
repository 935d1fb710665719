"""The command line: `sstext train | predict | evaluate | report | push | methods`.

Flags are made from the options of `sstext.config.run_config`; everything heavy is imported inside the handlers, so that `sstext --help`
answers at once.
"""

import argparse
import difflib
import os
import sys
from collections.abc import Sequence
from typing import IO, Any, NoReturn

from sstext.config.options import options
from sstext.config.recipe import read_config
from sstext.config.run_config import RunConfig
from sstext.errors import UserError
from sstext.flags import add_flag, add_same_flags
from sstext.progress import Reporter

GROUPS = (
    "DataOptions",
    "EncoderOptions",
    "TrainingOptions",
    "SemiSupervisedOptions",
    "SelfTrainingOptions",
    "RunOptions",
)
INTERRUPTED = 130  # the shell's code for a program that Ctrl-C has stopped


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for input that the user can mend, 130 after Ctrl-C."""
    parsed, unknown = parser().parse_known_args(arguments)
    if unknown:
        print(f"sstext: error: {_unrecognized(unknown[0], parsed.command)}", file=sys.stderr)
        raise SystemExit(2)  # as argparse itself does
    try:
        parsed.handler(parsed)
    except UserError as error:
        print(f"sstext: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        remedy = "; the same command continues the run" if parsed.command == "train" else ""
        print(f"\nsstext: interrupted{remedy}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of stdout, `head` for example, had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser (and the parsers of its commands) that says what is wrong in one line, without the usage."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"sstext: error: {message}; `{self.prog} --help` explains\n")


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = _Parser(
        prog="sstext",
        description="Trains a text classifier from a few labeled texts and a pile of unlabeled ones.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"sstext {_version()}")
    commands = top.add_subparsers(dest="command", required=True, metavar="command")
    _add_train(commands)
    _add_predict(commands)
    _add_evaluate(commands)
    _add_report(commands)
    _add_push(commands)
    _add_methods(commands)
    return top


def _unrecognized(argument: str, command: str) -> str:
    """What is wrong with an argument that a command does not have."""
    subparsers = next(action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    flags = [flag for action in subparsers.choices[command]._actions for flag in action.option_strings]
    nearest = difflib.get_close_matches(argument.split("=")[0], flags, n=2)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"`sstext {command} --help` lists what there is"
    return f"{command} has no argument {argument!r}; {hint}"


def _add_train(commands: Any) -> None:
    train = commands.add_parser(
        "train",
        help="self-train a classifier",
        description="Fine-tune an encoder on labeled texts and self-train it over unlabeled ones. Options come from the "
        "recipe, flags override it.",
    )
    train.set_defaults(handler=run_train)
    train.add_argument("recipe", nargs="?", help="YAML file with options (names as the flags, with _ for -)")
    known = options(RunConfig)
    by_name = {kind.__name__: kind for kind in RunConfig.__mro__}
    for group_name in GROUPS:
        kind = by_name[group_name]
        group = train.add_argument_group((kind.__doc__ or "").split("\n")[0].rstrip(".").lower())
        for name in options(kind):
            add_flag(group, name, known[name])


def _add_model_options(command: Any) -> None:
    add_same_flags(command, "text_column", "encoding", "device", "quiet")
    command.add_argument("--max-length", type=int, help="tokens of a text that are read (default: the model's limit)")
    command.add_argument("--precision", default="fp32", choices=("auto", "fp32", "bf16", "fp16"), help="[fp32]")
    command.add_argument("--revision", help="branch, tag or commit of a Hub model")


def _add_predict(commands: Any) -> None:
    predict = commands.add_parser(
        "predict",
        help="label texts from a file",
        description="Write the input's rows, columns and order, with `predicted_label` and `confidence` added.",
    )
    predict.set_defaults(handler=run_predict)
    predict.add_argument("model", help="folder of a trained model (out/model) or a Hub name")
    predict.add_argument("input", help="csv, tsv, jsonl, json, parquet or txt; - for stdin")
    predict.add_argument(
        "-o", "--output", default="-", help="file to write, in the format of its name; - for stdout [-]"
    )
    predict.add_argument("--probabilities", action="store_true", help="add probability/<class> for every class")
    predict.add_argument(
        "--target-precision", type=float, metavar="SHARE",
        help="mark rows in a column `abstain` that are too unsure for it, for example 0.95",
    )  # fmt: skip
    predict.add_argument("--input-format", help="format of stdin (guessed from its first line)")
    predict.add_argument("--output-format", help="format of stdout [csv]")
    _add_model_options(predict)


def _add_evaluate(commands: Any) -> None:
    evaluate = commands.add_parser(
        "evaluate",
        help="measure a model on labeled rows",
        description="Accuracy, F1, calibration and more on labeled rows, with 95 % bootstrap intervals.",
    )
    evaluate.set_defaults(handler=run_evaluate)
    evaluate.add_argument("model", help="folder of a trained model (out/model) or a Hub name")
    evaluate.add_argument("data", help="labeled rows, any format that `train` reads")
    add_same_flags(evaluate, "label_column")
    evaluate.add_argument("--json", metavar="FILE", help="write all figures to a file; - for stdout")
    _add_model_options(evaluate)


def _add_report(commands: Any) -> None:
    report = commands.add_parser(
        "report",
        help="make one page of a run: report.html",
        description="Write FOLDER/report.html and FOLDER/report_figures from what a run has left in its folder.",
    )
    report.set_defaults(handler=run_report)
    report.add_argument("folder", help="folder of a run (--output of train), finished or not")


def _add_push(commands: Any) -> None:
    push = commands.add_parser(
        "push",
        help="publish a model on the Hugging Face Hub",
        description="Upload weights, configuration, tokenizer, model card and results.json of a run, in one commit. No text, "
        "pseudo-label or state of the training goes with them.",
    )
    push.set_defaults(handler=run_push)
    push.add_argument("folder", help="folder of a finished run (out), or of a model")
    push.add_argument("name", metavar="user/name", help="where to; made if it is not there")
    push.add_argument("--private", action="store_true", help="make new repositories private")
    push.add_argument("--revision", help="branch to push to; made if it is not there [main]")
    push.add_argument("--message", help="of the commit")
    push.add_argument(
        "--push-pseudo-labels", metavar="user/name",
        help="also publish the texts that the model learned from with the labels it gave them, as a data set",
    )  # fmt: skip
    push.add_argument("--dry-run", action="store_true", help="list the files and their sizes, send nothing")
    add_same_flags(push, "quiet")


def _add_methods(commands: Any) -> None:
    methods = commands.add_parser("methods", help="list the methods, or explain one")
    methods.set_defaults(handler=run_methods)
    methods.add_argument("method", nargs="?", help="name of a method")


def run_train(parsed: argparse.Namespace) -> None:
    """`sstext train`."""
    given = {name: value for name, value in vars(parsed).items() if name in options(RunConfig)}
    config = read_config(parsed.recipe, given)
    if config.device.startswith("cuda:"):  # before torch looks: the run then sees this GPU alone
        os.environ["CUDA_VISIBLE_DEVICES"], config.device = config.device.removeprefix("cuda:"), "cuda"
    from sstext import tables
    from sstext.inference.devices import calm_libraries
    from sstext.run import train as run
    from sstext.selftraining import budget as planning

    reporter = Reporter(config.quiet or not _is_first_process())
    calm_libraries()
    if config.dry_run:
        tables.show_plan(planning.plan(config, reporter=reporter))
        return
    results = run.train(config, reporter=reporter)
    if _is_first_process():
        tables.show_results(results, str(config.output), config.budget)


def run_predict(parsed: argparse.Namespace) -> None:
    """`sstext predict`."""
    if parsed.input != "-" and not os.path.exists(parsed.input):  # said at once, before a model is loaded
        raise UserError(f"no such file: {parsed.input} (looked for {os.path.abspath(parsed.input)})")
    from sstext.inference.files import predict_file

    reporter = Reporter(parsed.quiet or not _is_first_process())
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

    from sstext import tables
    from sstext.inference.files import evaluate_file
    from sstext.storage.whole import write_whole

    reporter = Reporter(parsed.quiet or not _is_first_process())
    columns = {"text_column": parsed.text_column, "label_column": parsed.label_column, "encoding": parsed.encoding}
    results = evaluate_file(_classifier(parsed), parsed.data, reporter=reporter, **columns)
    if not _is_first_process():
        return
    if parsed.json == "-":
        print(json.dumps(results, indent=2, ensure_ascii=False))
        return
    if parsed.json:
        from pathlib import Path

        write_whole(Path(parsed.json), json.dumps(results, indent=2, ensure_ascii=False))
    tables.show_evaluation(results)


def run_report(parsed: argparse.Namespace) -> None:
    """`sstext report`."""
    from sstext.reporting import write_report

    print(write_report(parsed.folder))


def run_push(parsed: argparse.Namespace) -> None:
    """`sstext push`."""
    from pathlib import Path

    import huggingface_hub

    from sstext.run import sharing

    found = sharing.shares(
        Path(parsed.folder), parsed.name,
        revision=parsed.revision, message=parsed.message, pseudo_labels=parsed.push_pseudo_labels,
    )  # fmt: skip
    if parsed.dry_run:
        sharing.show_plan(found, parsed.private)
        return
    huggingface_hub.utils.logging.set_verbosity_error()
    if parsed.quiet or not sys.stderr.isatty():
        huggingface_hub.utils.disable_progress_bars()
    done = sharing.push(found, private=parsed.private, reporter=Reporter(parsed.quiet))
    sharing.show_published(found, done)


def run_methods(parsed: argparse.Namespace) -> None:
    """`sstext methods`."""
    from sstext import tables

    tables.show_methods(parsed.method)


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


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _version() -> str:
    from importlib.metadata import version

    return version("sstext")


if __name__ == "__main__":
    sys.exit(main())

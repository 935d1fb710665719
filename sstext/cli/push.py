"""`sstext push`."""

import argparse
import sys
from typing import Any

from sstext.cli.flags import add_quiet
from sstext.progress import Reporter


def add_push(commands: Any) -> None:
    push = commands.add_parser(
        "push",
        help="publish a model on the Hugging Face Hub",
        description="Uploads weights, configuration, tokenizer, model card and results.json of a run, in one commit. No text, "
        "no pseudo-label and no state of the training is uploaded.",
    )
    push.set_defaults(handler=run_push)
    push.add_argument("folder", help="Folder of a finished run (out), or of a model.")
    push.add_argument("name", metavar="user/name", help="Repository. It is created if it does not exist.")
    push.add_argument("--private", action="store_true", help="Make new repositories private.")
    push.add_argument("--revision", help="Branch to push to. It is created if it does not exist. Default: main.")
    push.add_argument("--message", help="Message of the commit.")
    push.add_argument(
        "--push-pseudo-labels", metavar="user/name",
        help="Also publish a data set: the texts that the model learned from, with their pseudo-labels.",
    )  # fmt: skip
    push.add_argument("--dry-run", action="store_true", help="List the files and their sizes, and send nothing.")
    add_quiet(push)


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

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

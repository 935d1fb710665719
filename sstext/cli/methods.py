"""`sstext methods`."""

import argparse
from typing import Any


def add_methods(commands: Any) -> None:
    methods = commands.add_parser("methods", help="list the methods, or explain one")
    methods.set_defaults(handler=run_methods)
    methods.add_argument("method", nargs="?", help="Name of a method or a regularizer.")


def run_methods(parsed: argparse.Namespace) -> None:
    """`sstext methods`."""
    from sstext.cli.methods_tables import show_methods

    show_methods(parsed.method)

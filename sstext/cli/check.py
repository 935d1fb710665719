"""`sstext check`."""

import argparse
from typing import Any

from sstext.cli.flags import add_excel_safe, add_quiet, add_same_flags, values_of_same_flags
from sstext.plain import plain
from sstext.progress import Reporter

EXAMPLE = """examples:
  sstext check tickets.csv
  sstext check labeled.csv --unlabeled corpus.jsonl --test test.csv --json findings.json
  sstext check labeled.csv --test test.csv --fix cleaned"""
#: Options that mean the same as in `train`.
SAME = ("text_column", "label_column", "unlabeled_value", "encoding")
OF_ENCODER = ("max_length", "prefix", "device", "seed")


def add_check(commands: Any) -> None:
    check = commands.add_parser(
        "check",
        help="find faults of texts and labels: leaks, duplicates, contradictions and others",
        description="Reads files with texts and prints one line for every fault that it finds, with an example and a remedy. "
        "Rows with a label are labeled, the others are the corpus. The exit code is 0, also if there are findings, and 2 if "
        "a file cannot be read.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    check.set_defaults(handler=run_check)
    check.add_argument("data", nargs="*", metavar="FILE", help="Files or Hub names with texts, as --data of `train`.")
    for name, text in (
        ("unlabeled", "Further files with unlabeled texts. Their labels are not read."),
        ("dev", "Files with development rows."),
        ("test", "Files with test rows."),
    ):
        check.add_argument(f"--{name}", nargs="+", default=[], metavar="FILE", help=f"{text} Default: none.")
    check.add_argument(
        "--json", metavar="FILE",
        help="Write all findings with up to 1,000 places each to this file. Default: they are not written.",
    )  # fmt: skip
    check.add_argument(
        "--html", metavar="FILE", help="Write a page with all findings and 20 examples each. Default: none is written."
    )
    check.add_argument(
        "--fix", metavar="FOLDER",
        help="Write cleaned copies of the files to this new folder, and a list of the changes with their reasons "
        "(changes.csv). The files themselves stay as they are. Default: nothing is changed.",
    )  # fmt: skip
    check.add_argument(
        "--encoder", metavar="NAME",
        help="Pretrained encoder, as for `train`, for further checks: its vocabulary and limit, labels that look wrong, and "
        "texts unlike any labeled one. They take a minute or two. Default: none, and these checks are left out.",
    )  # fmt: skip
    add_excel_safe(check)
    add_same_flags(check, *SAME, *OF_ENCODER)
    add_quiet(check)


def run_check(parsed: argparse.Namespace) -> None:
    """`sstext check`."""
    from sstext.run.checking import check

    columns, with_encoder = values_of_same_flags(parsed, *SAME), None
    if parsed.encoder is not None:
        from sstext.inference.devices import calm_libraries
        from sstext.run.checking_with_encoder import WithEncoder

        calm_libraries()
        with_encoder = WithEncoder(parsed.encoder, **values_of_same_flags(parsed, *OF_ENCODER))
    roles = {"data": parsed.data, "unlabeled": parsed.unlabeled, "dev": parsed.dev, "test": parsed.test}
    found = check(
        **roles, json_file=parsed.json, html_file=parsed.html, fix=parsed.fix, columns=columns, with_encoder=with_encoder,
        excel_safe=parsed.excel_safe, reporter=Reporter(parsed.quiet),
    )  # fmt: skip
    for line in found.read:
        print(plain(line))
    print()
    for finding in found.findings:
        print(plain(finding))
    print(f"{len(found.findings):,} findings" if len(found.findings) != 1 else "1 finding")
    if found.changes is not None:
        units = {"left out": "row", "label removed": "label", "repaired": "text"}
        counted = ", ".join(
            f"{count:,} {units[change]}{'s' if count != 1 else ''} {change.removeprefix('label ')}"
            for change, count in found.changes.items()
        )
        print(f"{parsed.fix}: cleaned copies ({counted or 'nothing to change'}); changes.csv says why")

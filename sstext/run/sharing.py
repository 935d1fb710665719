"""`sstext push`: upload a run or a model to the Hub, and optionally its pseudo-labels as a data set."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sstext.errors import UserError
from sstext.hub.card import bare_card
from sstext.hub.publishing import (
    CARD,
    CONFIGS,
    RESULTS,
    Content,
    Published,
    check_name,
    model_files,
    prepare_repository,
    public_results,
    push_files,
    size_of,
    with_names,
)
from sstext.progress import SILENT, Reporter
from sstext.run.pseudo_label_data import pseudo_label_files
from sstext.storage.damage import check
from sstext.storage.run_folder import RunDirectory


@dataclass(frozen=True)
class Share:
    """The files that are uploaded to one repository.

    Attributes:
        name: `user/name`.
        kind: `model` or `dataset`.
        files: name → content.
        message: message of the commit.
        revision: the branch. Default: main.
    """

    name: str
    kind: str
    files: Mapping[str, Content]
    message: str
    revision: str | None = None


def shares(
    folder: Path,
    name: str,
    *,
    revision: str | None = None,
    message: str | None = None,
    pseudo_labels: str | None = None,
) -> list[Share]:
    """Collect the files that a push uploads. Nothing is sent.

    Args:
        folder: folder of a finished run, of which only `model/` and `results.json` are used, or folder of a model.
        name: `user/name` of the model's repository.
        revision: a branch. Default: main.
        message: message of the commits. Default: a short standard message.
        pseudo_labels: `user/name` of a data set for the pseudo-labels. Default: they are not published.

    Raises:
        UserError: if the run is not finished, a file of the model is missing, or there are no pseudo-labels.
    """
    for given in (name, pseudo_labels):
        if given is not None:
            check_name(given)
    if name == pseudo_labels:
        raise UserError(f"push_pseudo_labels: expected a different name than the model's, found {name!r} again")
    files = with_names(run_files(folder), name, revision)
    found = [Share(name, "model", files, message or "A text classifier, made with sstext", revision)]
    if pseudo_labels is not None:
        data = pseudo_label_files(folder, model=name)
        found.append(Share(pseudo_labels, "dataset", data, message or "Pseudo-labels, made with sstext", revision))
    return found


def run_files(folder: Path) -> dict[str, Content]:
    """The files of a run, or of a model without a run, that may be published.

    A model without a card gets a short card. Its folder is not changed.
    """
    run = RunDirectory(folder)
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder} (looked for {folder.absolute()})")
    check(folder if (folder / CONFIGS[0]).is_file() else run.model, editable=True)
    if (folder / CONFIGS[0]).is_file():
        files = model_files(folder)
        if CARD not in files:
            files[CARD] = _short_card(folder).encode()
        return files
    if not run.results.is_file():
        raise UserError(
            f"{folder}: expected the folder of a finished run or of a model, found no {RESULTS} and no {CONFIGS[0]}; "
            "run `sstext train` again to finish an interrupted run"
        )
    results = json.dumps(public_results(run.read_results()), indent=2, ensure_ascii=False) + "\n"
    return {**model_files(run.model), RESULTS: results.encode()}


def _short_card(folder: Path) -> str:
    """A short card for a model without one, with its classes and maximum length as transformers reads them."""
    from transformers import AutoConfig  # the import takes seconds, and a folder with a card does not need it

    from sstext.modeling.pretrained import explained, length_limit, load_tokenizer, prefix_of

    with explained(str(folder)):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        names = [config.id2label[number] for number in range(config.num_labels)]
        limit = length_limit(load_tokenizer(str(folder)), config)
    return bare_card(folder.absolute().name, names, limit, prefix_of(config), config.problem_type or "")


def show_plan(found: list[Share], private: bool) -> None:
    """Print which files would be pushed, and who could see them."""
    for share in found:
        where = share.name + (f", branch {share.revision}" if share.revision else "")
        print(f"Would push to the {'data set' if share.kind == 'dataset' else 'model'} {where}:")
        print("\n".join(listing(share)))
    print("In an existing model repository, outdated weights, configurations and pickles would be deleted.")
    print(
        "New repositories would be private." if private
        else "New repositories would be public, unless your account makes them private; --private makes them private."
    )  # fmt: skip
    print("Nothing was sent (--dry-run).")


def show_published(found: list[Share], done: list[Published]) -> None:
    """Print the addresses of the pushed files, and how to use them."""
    for share, published in zip(found, done, strict=True):
        print("\n".join(listing(share)))
        print(
            f"Pushed: {published.url} (commit {published.commit[:8]})" if published.changed
            else f"Nothing changed: {published.url} already has these files (commit {published.commit[:8]})"
        )  # fmt: skip
        if published.deleted:
            print(f"Deleted there (files of an earlier push): {', '.join(published.deleted)}")
        print("Use it:")
        print("\n".join(f"  {line}" for line in how_to_use(share)))


def push(found: list[Share], *, private: bool = False, reporter: Reporter = SILENT) -> list[Published]:
    """Upload the result of `shares`, with one commit per repository.

    Raises:
        UserError: if the Hub refuses the request or the connection is lost. The folder is unchanged, and nothing of
            that commit is published.
    """
    for share in found:  # all repositories first, so that an error of the second appears before the first is published
        prepare_repository(share.name, kind=share.kind, private=private, revision=share.revision)
    done = []
    for share in found:
        size = in_units(sum(map(size_of, share.files.values())))
        reporter.note(f"pushing {len(share.files)} files ({size}) to {share.name}")
        done.append(
            push_files(share.files, share.name, kind=share.kind, revision=share.revision, message=share.message)
        )
    return done


def listing(share: Share) -> list[str]:
    """Names and sizes of the files of a share, one line each, and the total size."""
    sizes = {name: size_of(content) for name, content in sorted(share.files.items())}
    width = max(map(len, sizes))
    lines = [f"  {name:{width}}  {in_units(size):>9}" for name, size in sizes.items()]
    return [*lines, f"  {len(sizes)} files, {in_units(sum(sizes.values()))}"]


def in_units(size: int) -> str:
    """Format a number of bytes.

    >>> in_units(512), in_units(90_868_376)
    ('512 B', '90.9 MB')
    """
    if size < 1000:
        return f"{size} B"
    for unit in ("kB", "MB"):
        size /= 1000  # type: ignore[assignment]
        if size < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} GB"


def how_to_use(share: Share) -> list[str]:
    """Commands that use what was pushed."""
    if share.kind == "dataset":
        revision = f", revision='{share.revision}'" if share.revision else ""
        return [f"python -c \"from datasets import load_dataset; print(load_dataset('{share.name}'{revision}))\""]
    flag = f" --revision {share.revision}" if share.revision else ""
    example = f"{_prefix_of(share)}your text"
    revision = f", revision='{share.revision}'" if share.revision else ""
    return [
        f"sstext predict {share.name}{flag} new.csv -o predictions.csv",
        'python -c "from transformers import pipeline; '
        f"print(pipeline('text-classification', '{share.name}'{revision})({example!r}, truncation=True))\"",
    ]


def _prefix_of(share: Share) -> str:
    """What must be put before every text of a shared model."""
    config = share.files[CONFIGS[0]]
    content = json.loads(config if isinstance(config, bytes) else config.read_text(encoding="utf-8"))
    told = content.get("sstext")
    return str(told.get("prefix") or "") if isinstance(told, dict) else ""

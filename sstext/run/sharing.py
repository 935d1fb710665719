"""`sstext push`: the folder of a run, or of any model, to the Hub; and on request its pseudo-labels as a data set."""

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
from sstext.storage.run_folder import RunDirectory


@dataclass(frozen=True)
class Share:
    """Files that go to one repository.

    Attributes:
        name: `user/name`.
        kind: `model` or `dataset`.
        files: name → content.
        message: of the commit.
        revision: the branch; None: main.
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
    """What a push would upload; nothing is sent.

    Args:
        folder: of a finished run (its `model/` and `results.json` count, and nothing else), or of a model.
        name: `user/name` of the model's repository.
        revision: a branch.
        message: of the commit.
        pseudo_labels: `user/name` of a data set; None: they stay at home.

    Raises:
        UserError: an unfinished run, something that a model needs is missing, or there are no pseudo-labels.
    """
    for given in (name, pseudo_labels):
        if given is not None:
            check_name(given)
    if name == pseudo_labels:
        raise UserError(f"push_pseudo_labels: expected another name than the model's, found {name!r} again")
    files = with_names(run_files(folder), name, revision)
    found = [Share(name, "model", files, message or "A text classifier, made with sstext", revision)]
    if pseudo_labels is not None:
        data = pseudo_label_files(folder, model=name)
        found.append(Share(pseudo_labels, "dataset", data, message or "Pseudo-labels, made with sstext", revision))
    return found


def run_files(folder: Path) -> dict[str, Content]:
    """The files of a run, or of a model without one, that may be published.

    A model without a card gets a short one; its folder stays as it is.
    """
    run = RunDirectory(folder)
    if not folder.is_dir():
        raise UserError(f"no such folder: {folder} (looked for {folder.absolute()})")
    if (folder / CONFIGS[0]).is_file():
        files = model_files(folder)
        if CARD not in files:
            files[CARD] = _short_card(folder).encode()
        return files
    if not run.results.is_file():
        raise UserError(
            f"{folder}: expected the folder of a finished run, or of a model, found no {RESULTS} and no {CONFIGS[0]}; "
            "`sstext train` finishes a run that was interrupted"
        )
    results = json.dumps(public_results(run.read_results()), indent=2, ensure_ascii=False) + "\n"
    return {**model_files(run.model), RESULTS: results.encode()}


def _short_card(folder: Path) -> str:
    """The card of a model that has none: its classes and its length as transformers finds them, defaults included."""
    from transformers import AutoConfig  # takes seconds to import, and a folder with a card needs none of it

    from sstext.modeling.pretrained import explained, length_limit, load_tokenizer

    with explained(str(folder)):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    names = [config.id2label[number] for number in range(config.num_labels)]
    return bare_card(names, length_limit(load_tokenizer(str(folder)), config))


def show_plan(found: list[Share], private: bool) -> None:
    """Print what would be pushed, and who would see it."""
    for share in found:
        where = share.name + (f", branch {share.revision}" if share.revision else "")
        print(f"Would push to the {'data set' if share.kind == 'dataset' else 'model'} {where}:")
        print("\n".join(listing(share)))
    print("Of a model that is there already, weights, configurations and pickles of earlier pushes would be deleted.")
    print(
        "New repositories would be private." if private
        else "Everyone would see them, unless your account makes new repositories private (--private does)."
    )  # fmt: skip
    print("Nothing was sent (--dry-run).")


def show_published(found: list[Share], done: list[Published]) -> None:
    """Print where everything is, and how to use it."""
    for share, published in zip(found, done, strict=True):
        print("\n".join(listing(share)))
        print(
            f"Pushed: {published.url} (commit {published.commit[:8]})" if published.changed
            else f"Nothing changed: {published.url} has these files already (commit {published.commit[:8]})"
        )  # fmt: skip
        if published.deleted:
            print(f"Deleted there, left by an earlier push: {', '.join(published.deleted)}")
        print("Use it:")
        print("\n".join(f"  {line}" for line in how_to_use(share)))


def push(found: list[Share], *, private: bool = False, reporter: Reporter = SILENT) -> list[Published]:
    """Upload what `shares` found, a commit each.

    Raises:
        UserError: what the Hub or the network has against it; the folder is as it was, and of that commit nothing is there.
    """
    for share in found:  # what is wrong with the second one is said before the first one is out
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
    """Names and sizes of the files of a share, a line each, and their sum."""
    sizes = {name: size_of(content) for name, content in sorted(share.files.items())}
    width = max(map(len, sizes))
    lines = [f"  {name:{width}}  {in_units(size):>9}" for name, size in sizes.items()]
    return [*lines, f"  {len(sizes)} files, {in_units(sum(sizes.values()))}"]


def in_units(size: int) -> str:
    """Bytes for people.

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
    """What people type who want what was pushed."""
    if share.kind == "dataset":
        revision = f", revision='{share.revision}'" if share.revision else ""
        return [f"python -c \"from datasets import load_dataset; print(load_dataset('{share.name}'{revision}))\""]
    flag = f" --revision {share.revision}" if share.revision else ""
    revision = f", revision='{share.revision}'" if share.revision else ""
    return [
        f"sstext predict {share.name}{flag} new.csv -o predictions.csv",
        f"python -c \"from transformers import pipeline; print(pipeline('text-classification', '{share.name}'{revision})"
        "('your text', truncation=True))\"",
    ]

"""Publish a folder to the Hub: only the files of an allow-list, in one commit.

All other files stay local: training texts, pseudo-labels, scores, pickles, optimizer states, code.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, CommitOperationAdd, CommitOperationDelete, HfApi, get_token
from huggingface_hub.errors import RepositoryNotFoundError
from huggingface_hub.utils import validate_repo_id

from sstext.errors import UserError
from sstext.hub.access import LOG_IN, PATIENCE, hub_explained
from sstext.hub.card import named
from sstext.hub.foreign import read_settings, read_shards, without_code

#: What is uploaded under a name: a file, or bytes if the content differs from the file.
Content = Path | bytes


WEIGHTS, WEIGHTS_INDEX = "model.safetensors", "model.safetensors.index.json"


_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors", re.ASCII)


CONFIGS = ("config.json", "generation_config.json")


TOKENIZERS = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
    "vocab.txt", "vocab.json", "merges.txt", "tokenizer.model", "spiece.model", "spm.model", "sentencepiece.bpe.model",
)  # fmt: skip


CARD, RESULTS = "README.md", "results.json"


#: JSON files that may contain paths of the machine that wrote them.
_SETTINGS = (*CONFIGS, "tokenizer_config.json", WEIGHTS_INDEX)


#: Keys for where a tokenizer or a configuration was read from, which only holds on this machine.
_OF_THIS_MACHINE = frozenset(
    {"_name_or_path", "name_or_path", "is_local", "local_files_only", "cache_dir", "tokenizer_file", "vocab_file"}
)


_PLACES = ("_file", "_dir", "_path", "_name_or_path")


#: An absolute path of POSIX or Windows, a home folder, or a network share. A single slash is a token in many
#: vocabularies.
_ABSOLUTE = re.compile(r"(file:)?/+[^/\s]|~[\w.-]*[/\\]|[A-Za-z]:[/\\]|\\\\")


#: Keys whose values are class names, tokens or texts. They are kept unchanged, even if a class has a name such as "/r/news".
_WORDS = re.compile(r"id2label|label2id|chat_template|added_tokens_decoder|prefix|.*_tokens?")


#: Pickles of weights and states, which a plain `Trainer` pushes. They are outdated next to safetensors, and can run any
#: code.
_PICKLES = re.compile(
    r"pytorch_model(-\d{5}-of-\d{5})?\.bin|pytorch_model\.bin\.index\.json|training_args\.bin|optimizer\.(pt|bin)|"
    r"(scheduler|scaler)\.pt|rng_state(_\d+)?\.pth",
    re.ASCII,
)


#: Keys of `results.json` that may be published: numbers, names of classes and stages, and versions. `class_texts` has the
#: kind and the weight of the texts, but not the texts.
_PUBLIC_RESULTS = (
    "chosen", "baseline", "baseline_temperature", "method", "prefix", "pooling", "class_texts", "classes", "rows", "max_length",
    "left_out", "rounds", "test", "accuracy_estimate", "corpus_shares", "regression", "uncalibrated", "versions", "machine",
    "seed", "seconds", "phases", "peak_memory_mib", "skipped_steps",
)  # fmt: skip


_PUBLIC_ROUNDS = (
    "index", "admitted", "coverage", "per_class", "audit_precision", "temperature", "agreement", "metrics", "steps",
    "seconds", "stopped_because", "estimated_precision", "out_of_fold", "gain", "refused", "class_shares",
    "chain_agreement", "reads_corpus", "stage", "labeled_by", "skipped_steps",
)  # fmt: skip


@dataclass(frozen=True)
class Published:
    """The result of a push.

    Attributes:
        url: address of the repository.
        commit: id of the commit.
        info: the commit as the Hub describes it.
        changed: whether the commit is new. False if the repository already had all files.
        deleted: files of earlier pushes that the commit deleted.
    """

    url: str
    commit: str
    info: CommitInfo
    changed: bool
    deleted: tuple[str, ...] = ()


def model_files(folder: Path) -> dict[str, Content]:
    """The files of a model that may be published, by name.

    These are the weights, the configuration, the tokenizer, and the card if there is one. Paths of this machine are
    removed from the configurations.

    Raises:
        UserError: if a necessary file is missing, or the weights are a pickle.
    """
    names = [CONFIGS[0], *_weights(folder)]
    if not any((folder / name).is_file() for name in TOKENIZERS):
        raise UserError(f"{folder}: there is no tokenizer, but the model cannot be used without it; save it there, too")
    names += [name for name in (*CONFIGS[1:], *TOKENIZERS, CARD) if (folder / name).is_file()]
    return {name: _remove_local_paths(folder / name) for name in names}


def _weights(folder: Path) -> list[str]:
    """The file of the weights. If the weights are in several files, their index and all these files."""
    if not (folder / CONFIGS[0]).is_file():
        raise UserError(f"{folder}: expected the folder of a run or a model, found no {CONFIGS[0]}")
    if (folder / WEIGHTS).is_file():
        return [WEIGHTS]
    if (folder / WEIGHTS_INDEX).is_file():
        shards = read_shards(folder / WEIGHTS_INDEX, f"{folder}: {WEIGHTS_INDEX}")
        for shard in shards:
            if not _SHARD.fullmatch(shard) or not (folder / shard).is_file():
                raise UserError(f"{folder}: {WEIGHTS_INDEX} names {shard!r}, which is not there; save the model again")
        return [WEIGHTS_INDEX, *shards]
    pickles = sorted(path.name for path in folder.glob("*.bin"))
    if pickles:
        raise UserError(
            f"{folder}: {pickles[0]} is a pickle, which could run any code when it is loaded; only safetensors are "
            "published, so load the model and save it again with save_pretrained"
        )
    raise UserError(f"{folder}: found no weights ({WEIGHTS}); save the model there with save_pretrained")


def _remove_local_paths(path: Path) -> Content:
    """A file, or the cleaned content of a configuration that contains paths of this machine."""
    if path.name not in _SETTINGS:
        return path
    settings = read_settings(path)
    left = without_code(_without_places(settings))
    return path if left == settings else (json.dumps(left, indent=2, ensure_ascii=False) + "\n").encode()


def _without_places(value: Any) -> Any:
    """A JSON value without entries that are paths of this machine, at any depth.

    >>> _without_places({"sub": {"merges_file": "encoders/merges.txt", "layers": [1, "/home/ada"]}, "pad_token": "/s"})
    {'sub': {'layers': [1]}, 'pad_token': '/s'}
    >>> _without_places({"sstext": {"prefix": "/query: ", "file": "/home/ada"}})
    {'sstext': {'prefix': '/query: '}}
    """
    if isinstance(value, list):
        return [_without_places(item) for item in value if not _is_place("", item)]
    if not isinstance(value, dict):
        return value
    return {
        name: item if _WORDS.fullmatch(name) else _without_places(item)
        for name, item in value.items()
        if not _is_place(name, item)
    }


def _is_place(name: str, value: Any) -> bool:
    """Whether an entry is a path of this machine. A file name without a folder is not a path."""
    if name in _OF_THIS_MACHINE:
        return True
    if not isinstance(value, str) or _WORDS.fullmatch(name):
        return False
    leads_somewhere = name.endswith(_PLACES) and ("/" in value or "\\" in value)
    return leads_somewhere or _ABSOLUTE.match(value) is not None


def public_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a run's results that may be published. It contains only keys of an allow-list, no examples or paths.

    >>> public_results({"seed": 0, "examples": ["a text"], "rounds": [{"index": 0, "folder": "/home/ada"}]})
    {'rounds': [{'index': 0}], 'seed': 0}
    """
    public = {name: results[name] for name in _PUBLIC_RESULTS if name in results}
    rounds = [{name: record[name] for name in _PUBLIC_ROUNDS if name in record} for record in public.get("rounds", [])]
    return public | ({"rounds": rounds} if "rounds" in public else {})


def with_names(files: Mapping[str, Content], name: str, revision: str | None = None) -> dict[str, Content]:
    """The same files, but the card uses the model's name on the Hub."""
    card = files.get(CARD)
    if card is None:
        return dict(files)
    text = card.decode() if isinstance(card, bytes) else card.read_text(encoding="utf-8")
    return {**files, CARD: named(text, name, revision).encode()}


def size_of(content: Content) -> int:
    """Size of a content in bytes."""
    return len(content) if isinstance(content, bytes) else content.stat().st_size


def check_name(name: str) -> None:
    """Raise a `UserError` if a name is not a valid `user/name` on the Hub."""
    try:
        validate_repo_id(name)
    except ValueError:
        valid = False
    else:
        valid = name.count("/") == 1
    if not valid:
        raise UserError(f"expected a name on the Hub as user/name (letters, digits, - _ .), found {name!r}")


def refuse_whole_checkpoints(hub_strategy: str) -> None:
    """Raise a `UserError` if a `hub_strategy` of `TrainingArguments` would push the state of the optimizer."""
    if hub_strategy in ("checkpoint", "all_checkpoints"):
        raise UserError(
            f"hub_strategy: {str.__str__(hub_strategy)!r} would push whole checkpoints, including the state of the "
            "optimizer; choose 'end' or 'every_save', which push only the model"
        )


def prepare_repository(
    name: str,
    *,
    kind: str = "model",
    private: bool | None = None,
    revision: str | None = None,
    token: str | None = None,
) -> str:
    """Create the repository and its branch for a push if they do not exist. Returns the full name of the repository.

    Args:
        name: `user/name`, or only a name for a repository of the token's owner.
        kind: `model` or `dataset`.
        private: whether a new repository is private. Default: the setting of the owner's account.
        revision: a branch. Default: main.
        token: token of the Hub. Default: HF_TOKEN or the token of `hf auth login`.

    Raises:
        UserError: if there is no token or it is refused, the network fails, or `private` is set for a public
            repository.
    """
    if token is None and get_token() is None:
        raise UserError(f"cannot push to {name!r}: you are not logged in; {LOG_IN}")
    api = HfApi(token=token)
    with hub_explained("cannot push to", name, token):
        if "/" not in name:
            name = f"{api.whoami()['name']}/{name}"
        try:
            # The first request has a time limit. The later ones would wait minutes for an unreachable network.
            public = not api.repo_info(name, repo_type=kind, timeout=PATIENCE).private
        except RepositoryNotFoundError:
            api.create_repo(name, repo_type=kind, private=private or None, exist_ok=True)
        else:
            if private and public:
                raise UserError(
                    f"{name} is already public, and --private only applies to new repositories; change it in its "
                    "settings on the Hub, or push to another name"
                )
        if revision is not None:
            api.create_branch(name, repo_type=kind, branch=revision, exist_ok=True)
    return name


def push_files(
    files: Mapping[str, Content],
    name: str,
    *,
    kind: str = "model",
    revision: str | None = None,
    message: str,
    token: str | None = None,
) -> Published:
    """Upload files to a repository in one commit. If nothing has changed, no commit is made.

    In a model's repository, the same commit deletes files of earlier pushes that would be mistaken for parts of this
    model: weights, shards, configurations, tokenizer files and results that are not in `files`, and the pickles of a
    plain `Trainer` (`pytorch_model*.bin`, `training_args.bin`, the state of an optimizer). All other files stay. In a
    data set's repository, nothing is deleted.

    Args:
        files: name → content.
        name, kind, revision, token: see `prepare_repository`, which must be called first.
        message: message of the commit.

    Raises:
        UserError: if the Hub refuses the request or the connection is lost. Nothing is then committed.
    """
    api = HfApi(token=token)
    with hub_explained("cannot push to", name, token):
        before = api.repo_info(name, repo_type=kind, revision=revision)
        there = [file.rfilename for file in getattr(before, "siblings", None) or []]
        operations: list[Any] = [CommitOperationAdd(path, content) for path, content in files.items()]
        stale = tuple(path for path in there if kind == "model" and path not in files and _is_stale(path))
        operations += [CommitOperationDelete(path) for path in stale]
        commit = api.create_commit(name, operations, commit_message=message, repo_type=kind, revision=revision)
    where = f"{api.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
    url = where + (f"/tree/{revision}" if revision else "")
    return Published(url, commit.oid, commit, changed=commit.oid != before.sha, deleted=stale)


def _is_stale(path: str) -> bool:
    """Whether a push deletes this file from the repository if the model does not have it. A card is never deleted."""
    ours = path in (WEIGHTS, WEIGHTS_INDEX, RESULTS, *CONFIGS, *TOKENIZERS) or _SHARD.fullmatch(path)
    return bool(ours or _PICKLES.fullmatch(path))

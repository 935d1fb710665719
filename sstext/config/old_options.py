"""Options of version 0.1 that have moved, and where to."""

from collections.abc import Mapping
from typing import Any

#: Former option → the option that has replaced it, and the key in that option.
MOVED: dict[str, tuple[str, str]] = {
    **{name: ("training_args", name) for name in ("weight_decay", "eval_steps", "save_steps")},
    "warmup": ("training_args", "warmup_steps"),
    "patience": ("training_args", "early_stopping_patience"),
    **{f"token_{name}": ("edits", name) for name in ("mask", "drop", "swap", "cutoff")},
    "unsupervised_strength": ("method_args", "strength"),
    "pseudo_labels": ("method_args", "labels"),
    **{
        name: ("method_args", name)
        for name in ("min_confidence", "start", "stop_agreement", "round_batch_size", "round_learning_rate")
    },
}
#: Former option → its replacement in a recipe, and on the command line.
CHANGED: dict[str, tuple[str, str]] = {
    "freeze_embeddings": ("freeze: [embeddings]", "--freeze embeddings"),
    "freeze_layers": ("freeze: [K], the number of layers", "--freeze K, the number of layers"),
    "class_runs": ("nothing; supervised contrast sets it itself",) * 2,
    "alignment": ("prior: none", "--prior none"),
    "revision": ("encoder: name@revision", "--encoder name@revision"),
    "report": ("the flag --no-report of `sstext train`, or train(config, report=False)", "--no-report"),
    "dry_run": ("the flag --dry-run of `sstext train`", "--dry-run"),
    "quiet": ("the flag --quiet of `sstext train`", "--quiet"),
}
#: Defaults of former options. Version 0.1 wrote all of them into the folder of a run.
FORMER_DEFAULTS: dict[str, Any] = {
    "weight_decay": 0.01, "eval_steps": None, "save_steps": 50, "warmup": 0.1, "patience": 3,
    "token_mask": 0.15, "token_drop": 0.0, "token_swap": 0.0, "token_cutoff": 0.0,
    "unsupervised_strength": None, "min_confidence": 0.0, "start": "previous", "stop_agreement": 0.999,
    "round_batch_size": 32, "round_learning_rate": 1e-4,
    "freeze_embeddings": False, "freeze_layers": 0, "class_runs": None, "alignment": True, "revision": None,
}  # fmt: skip
#: Options whose default version 0.1 resolved by the method: that of `auto`, and that of all others.
RESOLVED_BY_METHOD: dict[str, tuple[Any, Any]] = {
    "rounds": (1, 3), "keep": ([1.0], [0.3, 0.5, 0.7]), "pseudo_labels": ("soft", "hard"),
}  # fmt: skip


def replacement(name: str, *, flag: bool = False) -> str | None:
    """The replacement of a former option, or None if there was no such option.

    Args:
        name: name of the former option.
        flag: whether to write it as on the command line, instead of as in a recipe.

    >>> replacement("token_mask"), replacement("token_mask", flag=True)
    ('edits: {mask: …}', '--edits mask=…')
    """
    if name in MOVED:
        option, key = MOVED[name]
        return f"--{option.replace('_', '-')} {key}=…" if flag else f"{option}: {{{key}: …}}"
    return CHANGED[name][flag] if name in CHANGED else None


def in_new_names(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a run of version 0.1 as they are called today. Options of a later run stay as they are.

    Former options with their default are left out, and so are defaults that version 0.1 resolved by the method.

    >>> old = FORMER_DEFAULTS | {"method": "ust", "rounds": 3, "token_mask": 0.3, "patience": 5, "freeze_layers": 2}
    >>> in_new_names(old)
    {'method': 'ust', 'training_args': {'early_stopping_patience': 5}, 'edits': {'mask': 0.3}, 'freeze': ['2']}
    """
    former = {**FORMER_DEFAULTS, "pseudo_labels": None}
    if not recorded.keys() & FORMER_DEFAULTS.keys():
        return dict(recorded)
    usual = former | {name: of[recorded.get("method") != "auto"] for name, of in RESOLVED_BY_METHOD.items()}
    given = {name: value for name, value in recorded.items() if name not in usual or value not in (usual[name], None)}
    now = {name: value for name, value in given.items() if name not in former}
    for name in given:
        if name in MOVED:
            option, key = MOVED[name]
            now[option] = {**(now.get(option) or {}), key: given[name]}
    frozen = ["embeddings"] if given.get("freeze_embeddings") else []
    frozen += [str(given["freeze_layers"])] if given.get("freeze_layers") else []
    if frozen:
        now["freeze"] = frozen
    if given.get("alignment") is False:
        now["prior"] = "none"
    if given.get("revision"):
        now["encoder"] = f"{given.get('encoder')}@{given['revision']}"
    return now

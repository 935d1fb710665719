"""Options of version 0.1 that have moved, and where to."""

#: Former option → the option, and the key of it, that has replaced it.
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
#: Former option → what to write in a recipe and on the command line instead.
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


def replacement(name: str, *, flag: bool = False) -> str | None:
    """What has replaced a former option; None: there was no such option.

    Args:
        name: of the former option.
        flag: whether to answer as the command line writes it, instead of a recipe.

    >>> replacement("token_mask"), replacement("token_mask", flag=True)
    ('edits: {mask: …}', '--edits mask=…')
    """
    if name in MOVED:
        option, key = MOVED[name]
        return f"--{option.replace('_', '-')} {key}=…" if flag else f"{option}: {{{key}: …}}"
    return CHANGED[name][flag] if name in CHANGED else None

"""Options of version 0.1 that have moved, and where to."""

#: Former option → what has replaced it.
MOVED: dict[str, str] = {
    **{name: f"training_args: {{{name}: …}}" for name in ("weight_decay", "eval_steps", "save_steps")},
    "warmup": "training_args: {warmup_steps: …} (a share below 1, or a number of steps)",
    "patience": "training_args: {early_stopping_patience: …}",
    **{f"token_{name}": f"edits: {{{name}: …}}" for name in ("mask", "drop", "swap", "cutoff")},
    "freeze_embeddings": "freeze: [embeddings]",
    "freeze_layers": "freeze: [K], the number of layers",
    "unsupervised_strength": "method_args: {strength: …}",
    "pseudo_labels": "method_args: {labels: hard or soft}",
    **{
        name: f"method_args: {{{name}: …}}"
        for name in ("min_confidence", "start", "stop_agreement", "round_batch_size", "round_learning_rate")
    },
    "class_runs": "nothing; supervised contrast sets it itself",
    "alignment": "prior: none switches the alignment off",
    "revision": "encoder: name@revision",
    "report": "the flag --no-report of `sstext train`, or train(config, report=False)",
    "dry_run": "the flag --dry-run of `sstext train`",
    "quiet": "the flag --quiet of `sstext train`",
}


def replacement(name: str) -> str | None:
    """What has replaced a former option; None: there was no such option.

    >>> replacement("token_mask")
    'edits: {mask: …}'
    """
    return MOVED.get(name)

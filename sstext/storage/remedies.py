"""What to delete if a file of a run is damaged, and which phase the same command then repeats."""

from pathlib import Path

from sstext.storage.manifest import MANIFEST
from sstext.storage.run_folder import (
    AVERAGED,
    CONFIG,
    DATA,
    DATA_FOLDER,
    DEV_SCORES,
    ENCODERS,
    FIGURES,
    FIT,
    HELD_OUT_SCORES,
    HELD_OUT_SCORES_WITH_PROBE,
    LOG,
    MODEL,
    PASSES,
    PLAN,
    POOLING,
    PREDICTIONS,
    PSEUDO_LABELS,
    REPORT,
    RESULTS,
    ROUNDS,
    SAMPLE_SCORES,
    SCORES,
    TIMES,
)

_SCORES = (SCORES, SAMPLE_SCORES, PASSES, HELD_OUT_SCORES, HELD_OUT_SCORES_WITH_PROBE, DEV_SCORES)


def run_around(path: Path) -> Path | None:
    """The folder of the run that a file belongs to, or None."""
    for folder in path.parents:
        if (folder / MANIFEST).is_file() or ((folder / CONFIG).is_file() and not (folder / "config.json").is_file()):
            return folder
    return None


def remedy_for(path: Path) -> str:
    """What to do about a damaged file of a run, in a sentence."""
    root = run_around(path)
    if root is None:
        return "delete it, and run the same command again"
    parts = path.relative_to(root).parts
    first, last, stage = parts[0], parts[-1], path.parent
    finished = f"{root / RESULTS} and " if (root / RESULTS).exists() else ""
    if first in (CONFIG, DATA):
        return f"delete the folder {root}, and train again"
    if first == PLAN:
        return (
            f"delete {path}, and the same command plans again; with a budget, delete the folder {root} and train again"
        )
    if first == ENCODERS:
        return f"delete {path}, and the same command compares the encoders again"
    if first == POOLING:
        return f"delete the folder {root}, and train again"
    if first == DATA_FOLDER:
        return f"delete {root / DATA_FOLDER}, and the same command reads the texts again"
    if first == ROUNDS or last == PSEUDO_LABELS:
        again = "the same command selects the pseudo-labels again; no training is repeated"
        return f"delete {finished}{root / ROUNDS}, and {again}"
    if first in (RESULTS, PREDICTIONS, MODEL):
        again = "the same command writes the model and its figures again; no training is repeated"
        return f"delete {root / RESULTS}, and {again}"
    if first == TIMES:
        return f"delete {path}; only the times are lost"
    if first in (REPORT, FIGURES):
        return f"`sstext report {root}` writes it again"
    if first == MANIFEST:
        return f"delete {path}; the other files are then no longer checked"
    if MODEL in parts:  # of a stage
        stage = root.joinpath(*parts[: parts.index(MODEL)])
    if MODEL in parts or last == FIT:
        records = f"{finished.replace(' and ', ', ')}{root / ROUNDS} and "
        return f"delete {records}{stage / FIT}, and the same command repeats the training of {stage.name}, and no other"
    if last == AVERAGED:
        return f"delete {finished}{root / ROUNDS} and {path}, and the same command averages the predictions again"
    if last in _SCORES or last.endswith(".npy"):
        return f"delete {finished}{path}, and the same command computes these predictions again if it needs them"
    if last == LOG:
        return f"delete {path}; only the losses in the report are lost"
    return f"delete the folder {root}, and train again"

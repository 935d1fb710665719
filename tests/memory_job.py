"""The peak memory of a run of two stages whose second one selects nearly all rows of a corpus of short texts, in MiB.

`python tests/memory_job.py ENCODER LABELED.csv TEXTS OUTPUT`. The scores of the corpus are random numbers: an encoder would
take most of the time, and its memory does not depend on the number of texts.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sstext.config.run_config import RunConfig
from sstext.run.measuring import peak_memory
from sstext.run.train import train
from sstext.selftraining import student_store
from sstext.storage.chunks import open_array_whole
from sstext.storage.damage import read_array
from sstext.storage.run_folder import SCORES


def random_scores(model: Any, rows: Any, tokenizer: Any, folder: Path, **_: Any) -> np.ndarray:
    """In place of `score_to_disk`: nearly all rows are predicted with a probability of more than .4."""
    file, rng = folder / SCORES, np.random.default_rng(0)
    if not file.exists():
        with open_array_whole(file, (len(rows), model.config.num_labels)) as scores:
            for start in range(0, len(rows), 10_000):
                part = scores[start : start + 10_000]
                part[:] = 2 * rng.normal(size=part.shape)
    return read_array(file, mapped=True)


def main(encoder: str, labeled: str, texts: int, output: Path) -> None:
    """Write the corpus, train on it, and print the memory."""
    corpus, draw = output.with_suffix(".txt"), np.random.default_rng(0)
    with corpus.open("w", encoding="utf-8") as file:
        for start in range(0, texts, 10_000):
            words = draw.choice(["money", "late", "parcel", "login", "card"], size=(min(10_000, texts - start), 3))
            file.writelines(" ".join(text) + "\n" for text in words)
    student_store.score_to_disk = random_scores
    config = RunConfig(
        labeled=labeled, unlabeled=str(corpus), encoder=encoder, output=str(output), method="self-training",
        method_args={"threshold": 0.4}, rounds=1, folds=0, steps=4, round_steps=4, max_length=8, device="cpu",
    )  # fmt: skip
    train(config)
    print(peak_memory()["process"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), Path(sys.argv[4]))

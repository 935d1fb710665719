"""A walk through the Python API, on the support tickets that ship: 64 labeled and 1,136 unlabeled.

python recipes/python_api.py [--steps 120] [--encoder demo] [--output out/python_api]

1. rounds one by one · 2. the whole run · 3. predictions · 4. metrics, offline · 5. methods as functions
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import evaluate
from datasets import load_dataset

from sstext import METHODS, Classifier, RunConfig, self_train, train
from sstext.evaluation.bootstrap import bootstrap
from sstext.evaluation.hf_metrics import F1, Accuracy
from sstext.methods import registry as methods

DATA = Path(__file__).parents[1] / "data" / "support_tickets"


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Walk through it and return the numbers of the run."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--encoder", default="demo")
    options.add_argument("--steps", type=int, default=60, help="optimizer steps of every round")
    options.add_argument("--output", default="out/python_api")
    asked = options.parse_args(arguments)
    config = RunConfig(
        labeled=str(DATA / "labeled.csv"), unlabeled=str(DATA / "unlabeled.jsonl"), test=str(DATA / "test.csv"),
        encoder=asked.encoder, output=asked.output, steps=asked.steps, round_steps=asked.steps, folds=0,
    )  # fmt: skip

    print("1. Rounds one by one: stop asking, and the run stops; every option of `sstext train` is a field.")
    for round in self_train(config):
        print(f"   round {round.index}: {round.admitted} pseudo-labels; {round.stopped_because or 'goes on'}")

    print(
        "2. The whole run: the same folder goes on, so nothing is trained again; now the model is chosen and measured."
    )
    results = train(config)
    print(f"   round {results['chosen']['round']}: {results['chosen']['why']}")

    print("3. Predictions: labels, or probabilities (N, C).")
    test = load_dataset("csv", data_files=str(DATA / "test.csv"), split="train")
    classifier = Classifier.from_pretrained(Path(asked.output) / "model")
    probabilities = classifier.predict_proba(test["text"][:])
    print(f"   {classifier.predict(['my parcel is late'])[0]!r}, {probabilities.shape}")

    print("4. Metrics: as `evaluate` has them, but with no network; and with intervals.")
    answers = [classifier.classes.index(name) for name in test["label"]]
    both = evaluate.combine([Accuracy(), F1()])
    print(f"   {both.compute(predictions=probabilities.argmax(-1), references=answers)}")
    print(f"   {bootstrap(['accuracy'], probabilities, answers)['accuracy']}")

    print("5. Methods are functions that return an objective, by name or from their module; `train` takes the name.")
    print(f"   {', '.join(METHODS)}")
    print(f"   {methods.softmatch(momentum=0.9, ramp=0.5)}")
    return results


if __name__ == "__main__":
    main()

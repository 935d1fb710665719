"""The parts of `results.json` and the model card of a run."""

import platform
from typing import Any

import torch

from sstext.config.run_config import RunConfig
from sstext.data.descriptions import CODES
from sstext.data.fingerprints import hub_split
from sstext.data.preparing import LEFT_OUT
from sstext.hub.card import model_card
from sstext.hub.sections import calibration_sentence, hub_name
from sstext.inference.devices import resolve_device, resolve_precision
from sstext.methods.catalog import described, entry
from sstext.modeling.pretrained import split_revision
from sstext.reporting.before_training import COMPARED_BY, class_texts_said, held_out_said, reading_said
from sstext.reporting.words import accuracy_said, said_first
from sstext.run.chosen_by_labels import names_are_codes
from sstext.selftraining.chain import Chain
from sstext.selftraining.cross_fitting import Run
from sstext.selftraining.student_store import Fit
from sstext.storage.run_folder import FINAL, MODEL, ZERO_SHOT, RunDirectory, stage_name

VERSIONS = ("sstext", "torch", "transformers", "datasets", "accelerate", "numpy")


#: The chosen model in the model card.
THIS_MODEL = "this model"


def card(config: RunConfig, directory: RunDirectory, results: dict[str, Any]) -> str:
    """The model card of a run."""
    # Rows of a sample are not the split. The name of the training data is left out: it may be private.
    in_card = {"supervised": results["baseline"], "self_trained": THIS_MODEL}
    measured_on = None if config.sample else hub_split(directory.read_data().get("fingerprints", {}).get("test"))
    return model_card(
        name=MODEL,
        classes=results["classes"],
        encoder=split_revision(str(config.encoder))[0],
        max_length=results["max_length"]["prediction"],
        rows=results["rows"],
        rounds=results["rounds"],
        plan=directory.read_plan(),
        part=LEFT_OUT in results["rows"],
        results={in_card.get(name, name): of["metrics"] for name, of in results["test"].items()} or None,
        estimate=accuracy_said(results) if results["accuracy_estimate"] is not None else "",
        chosen=f"{results['chosen']['stage']}: {results['chosen']['why']}",
        said_first=said_first(results),
        self_trained=_learned_from_corpus(results),
        method=described_method(config),
        citation=entry(config.method).source or None,
        class_texts=_class_texts_sentence(results),
        encoders=_encoders_sentence(results),
        pooling=_pooling_sentence(results),
        prefix=results.get("prefix"),
        zero_shot=stage_name(results["rounds"][0]) == ZERO_SHOT,
        of_this_model=THIS_MODEL,
        test_data=measured_on,
        calibration=calibration_sentence(
            results["chosen"]["temperature"],
            fitted_on=results["chosen"]["calibrated_on"],
            folded=results["chosen"]["folded"],
            unlabeled="labeled" not in results["rows"],
            before=results["uncalibrated"].get("expected_calibration_error"),
            after=(results["test"].get("self_trained") or {}).get("metrics", {}).get("expected_calibration_error"),
        ),
    )


def class_texts_record(chain: Chain) -> dict[str, Any] | None:
    """What `results.json` says about the class texts of a chain, or None if there are none.

    `{"kind": "names", "weight": 8.0, "log_loss": {"0": 1.25, "2": 1.21, …}}`: their kind (names or descriptions), their weight
    in labeled rows per class, and the mean log-loss of held-out labeled rows by weight, in nats. Names that are codes have no
    log-loss; then "why" says so.
    """
    if chain.class_texts is not None:
        return chain.class_texts.record()
    return {"kind": "names", "weight": 0.0, "log_loss": {}, "why": CODES} if names_are_codes(chain) else None


def _class_texts_sentence(results: dict[str, Any]) -> str | None:
    """How the class texts were used, for the card. None for a model without them."""
    record = results.get("class_texts")
    if record is None or results["chosen"]["stage"] == "baseline":
        return None
    return f"The class {record['kind']} were {class_texts_said(record)}."


def _pooling_sentence(results: dict[str, Any]) -> str | None:
    """What the head reads, for the card. None if nothing was compared, or the model does not follow the choice."""
    record = results.get("pooling")
    if record is None or record["model"] != record["reading"]:
        return None
    return f"Pooling: {reading_said(record)}."


def _encoders_sentence(results: dict[str, Any]) -> str | None:
    """How the encoder was chosen, for the card, which names no folder. None if there was only one."""
    record = results.get("encoders")
    if record is None:
        return None
    compared = []
    for one in record["compared"]:
        name = hub_name(split_revision(one["encoder"])[0]) or "a local encoder"
        compared.append(f"{name}{' (chosen)' if one['encoder'] == record['chosen'] else ''}: {held_out_said(one)}")
    return f"Encoders, compared by {COMPARED_BY}: {'; '.join(compared)}."


def _learned_from_corpus(results: dict[str, Any]) -> bool:
    """Whether the chosen model, or an earlier student that it started from, has learned from unlabeled texts."""
    names = [record["stage"] for record in results["rounds"]]
    model = results["chosen"]["model"]
    if model not in names:
        return True  # the final model, on the averaged pseudo-labels of the chains
    records = results["rounds"][: names.index(model) + 1]
    return any(record["admitted"] or record["reads_corpus"] for record in records)


def calibrated_on(record: dict[str, Any]) -> str | None:
    """What the temperature of a stage was fitted on. None if there was nothing to fit it on, so that it is 1."""
    if record["stage"] == FINAL:
        return (
            "pseudo-labels that were calibrated on held-out predictions of the labeled rows (the model's confidence is half "
            "way between that of its teachers and its own)"
        )
    if record["out_of_fold"]:
        labels = "held-out predictions of the labeled rows"
        return f"pseudo-labels that were calibrated on {labels}" if record["admitted"] else labels
    if record["metrics"]:
        return "the development rows"
    return (
        None
        if record["temperature"] == 1
        else "the predictions of a logistic regression for the corpus, because no labeled rows were held out"
    )


def described_method(config: RunConfig) -> str:
    """Describe the method of a run with its arguments."""
    return described(config.method, config.method_args, config.regularizers)


def skipped_steps(run: Run) -> dict[str, int]:
    """Number of optimizer "steps" of all trainings of a run, and how many of them were "skipped", as they were not finite."""
    plan, fits = run.plan, list[Fit]()
    stages = [stage for stage in (*plan.stages, plan.final, plan.plain) if stage is not None]
    for students in {str(chain.directory.path): chain.students for chain in (run.whole, *run.chains)}.values():
        names = {stage.name: stage for stage in stages if students.is_fitted(stage)}
        fits += [students.fitted(stage) for stage in names.values()]
    return {"steps": sum(fit.steps for fit in fits), "skipped": sum(fit.skipped_steps for fit in fits)}


def machine(config: RunConfig) -> dict[str, Any]:
    """The machine that the numbers were measured on."""
    device = resolve_device(config.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": device.type,
        "name": name,
        "threads": torch.get_num_threads(),
        "precision": resolve_precision(config.precision, device),
    }

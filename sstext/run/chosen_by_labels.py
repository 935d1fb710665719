"""What labels choose before anything is trained: what the heads read, and how much the texts of the classes count."""

import numpy as np

from sstext.config.spelling import spelled
from sstext.data.descriptions import CODES, kind_of
from sstext.inference.devices import resolve_device
from sstext.modeling.pretrained import split_revision, trained_reading
from sstext.modeling.reading import MEAN, READINGS, why_not
from sstext.processes import from_main_process, is_main_process, wait_for_everyone
from sstext.pseudolabels.class_texts import WeighedClassTexts, rows_of_choice
from sstext.pseudolabels.embeddings import NOT_KEPT
from sstext.pseudolabels.reading_choice import ReadingChoice, choose_reading
from sstext.reporting.before_training import class_texts_said, reading_said
from sstext.selftraining.chain import Chain
from sstext.storage.run_folder import FIT


def chosen_reading(chain: Chain) -> str | None:
    """What the heads of a run read, if they read what labels prefer. None if nothing is compared: it is the mean then.

    All chains read the same, because their regressions are applied to the same embeddings. The choice is kept in the folder of
    the run, and a continued run reads the same. Without labels, heads read what the encoder was trained for, as does a
    regression that is only shown beside the model.
    """
    plan, directory = chain.plan, chain.directory
    if chain.config.pooling != "auto":
        return None
    if chain.texts.zero_shot or not any(stage.chooses_reading for stage in plan.stages):
        regression = chain.texts.zero_shot or plan.regression is not None
        return _trained_reading(chain) if regression and chain.tokenizer.padding_side == "right" else None
    known = from_main_process(directory.read_pooling() if is_main_process() else None)
    if known is None:
        begun = is_main_process() and any(directory.path.rglob(FIT))  # by an earlier version, which read the mean
        if from_main_process(begun):
            return None
        choice = _compared_readings(chain)
        known = from_main_process(choice.record() if choice is not None else None)
        if known is None:
            return None
        if is_main_process():
            directory.write_pooling(known)
        wait_for_everyone()
    chain.reporter.note(f"pooling: {reading_said(known)}")
    return str(known["reading"])


def _compared_readings(chain: Chain) -> ReadingChoice | None:
    """The mean and the first token, compared by labels. None if the head of the encoder can only read one thing."""
    config, labeled, trained = chain.config, chain.tokens.labeled, _trained_reading(chain)
    encoder = chain.student(chain.plan.baseline).to(resolve_device(config.device))
    if why_not(encoder) or chain.tokenizer.padding_side == "left":  # the first token would be padding
        return None
    some = labeled.select(rows_of_choice(len(labeled), config.seed))
    embedded = {
        reading: (chain.embeddings if reading == (trained or MEAN) else NOT_KEPT).of(
            encoder, some, chain.tokenizer, reading=reading
        )
        for reading in READINGS
    }
    labels, classes = np.asarray(some["labels"][:]), len(chain.texts.classes)
    return choose_reading(embedded, labels, classes, config.seed, trained=trained)


def _trained_reading(chain: Chain) -> str | None:
    name, revision = split_revision(str(chain.config.encoder))
    return trained_reading(name, revision)


def weighed_class_texts(chain: Chain) -> WeighedClassTexts | None:
    """The names or descriptions of the classes with their weight, or None if there are none, or no stage reads them."""
    tokens, config, device = chain.tokens, chain.config, resolve_device(chain.config.device)
    if names_are_codes(chain):
        remedy = f"{spelled('descriptions')} can say what the classes mean"
        chain.reporter.note(f"class names: not used, because {CODES}; {remedy}")
    if tokens.class_texts is None or not any(stage.reads_class_texts for stage in chain.plan.stages):
        return None
    weighed = WeighedClassTexts.weigh(
        chain.student(chain.plan.baseline).to(device), tokens.class_texts, tokens.labeled, chain.tokenizer,
        kind=kind_of(config.descriptions), classes=len(chain.texts.classes), seed=config.seed, kept=chain.embeddings,
        reading=chain.reading,
    )  # fmt: skip
    chain.reporter.note(f"class {weighed.kind}: {class_texts_said(weighed.record())}")
    return weighed


def names_are_codes(chain: Chain) -> bool:
    """Whether a stage would read the names of the classes, but they say nothing (`sstext.data.descriptions`)."""
    reads = any(stage.reads_class_texts for stage in chain.plan.stages)
    return reads and chain.config.descriptions == "names" and chain.tokens.class_texts is None

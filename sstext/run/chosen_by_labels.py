"""What labels choose before anything is trained: what the heads read, and how much the texts of the classes count."""

import numpy as np

from sstext.config.spelling import spelled
from sstext.data.descriptions import CODES, kind_of
from sstext.inference.devices import resolve_device
from sstext.modeling.pretrained import encoder_path, split_revision, trained_reading
from sstext.modeling.reading import READINGS, why_not
from sstext.pseudolabels.class_texts import WeighedClassTexts, rows_of_choice
from sstext.pseudolabels.readings import ReadingChoice, choose_reading
from sstext.reporting.words import class_texts_said, reading_said
from sstext.selftraining.chain import Chain


def chosen_reading(chain: Chain) -> ReadingChoice | None:
    """What the heads of a run read that may choose, by its labels. None if nothing is compared.

    All chains read the same: they must be one model when their predictions are compared.
    """
    config, labeled, stages = chain.config, chain.tokens.labeled, chain.plan.stages
    if config.pooling != "auto" or chain.texts.zero_shot or not any(stage.chooses_reading for stage in stages):
        return None
    encoder = chain.student(chain.plan.baseline).to(resolve_device(config.device))
    if why_not(encoder):
        return None
    name, revision = split_revision(str(config.encoder))
    some = labeled.select(rows_of_choice(len(labeled), config.seed))
    embedded = {reading: chain.embeddings.of(encoder, some, chain.tokenizer, reading=reading) for reading in READINGS}
    found = choose_reading(
        embedded, np.asarray(some["labels"][:]), len(chain.texts.classes), config.seed,
        trained=trained_reading(encoder_path(name), revision),
    )  # fmt: skip
    chain.reporter.note(f"pooling: {reading_said(found.record())}")
    return found


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
    )  # fmt: skip
    chain.reporter.note(f"class {weighed.kind}: {class_texts_said(weighed.record())}")
    return weighed


def names_are_codes(chain: Chain) -> bool:
    """Whether a stage would read the names of the classes, but they say nothing (`sstext.data.descriptions`)."""
    reads = any(stage.reads_class_texts for stage in chain.plan.stages)
    return reads and chain.config.descriptions == "names" and chain.tokens.class_texts is None

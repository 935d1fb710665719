"""Options that do not fit a run, said before anything is trained."""

import torch

from sstext.data.edits import MaskedTokens, TokenEdits
from sstext.errors import UserError
from sstext.methods.registry import build
from sstext.modeling.pooling import last_hidden_states
from sstext.modeling.student import has_dropout
from sstext.objective.outputs import LABELED_STRONG, MASKED
from sstext.objective.regularizers import Regularizer
from sstext.selftraining.chain import Chain
from sstext.selftraining.plan import options_of_no_effect


def check(chain: Chain) -> None:
    """Say what is wrong with the options of the trainings before any of them begins.

    Raises:
        UserError: arguments that `TrainingArguments` refuses, an encoder that is no classifier's, more frozen layers than
            it has, token edits that its tokenizer cannot do, a method without texts or with arguments that do not fit.
    """
    config = chain.config
    chain.training_arguments(0, None, chain.directory.round(0) / "checkpoints")
    objective = build(config.method, config.method_args, config.regularizers).bind(len(chain.texts.classes), 0)
    if not objective.supervised and chain.tokens.corpus is None:
        name = " with ".join(
            [config.method, ", ".join(config.regularizers)] if config.regularizers else [config.method]
        )
        raise UserError(f"method: {name} learns from unlabeled texts; give --unlabeled corpus.jsonl")
    if config.training_args.get("label_smoothing_factor") and (config.rounds or not objective.plain):
        raise UserError(
            "training_args: label_smoothing_factor serves plain fine-tuning alone (--rounds 0); leave it out"
        )
    for name in options_of_no_effect(config):
        chain.reporter.note(f"{name}: plays no part, {config.method} decides in its own way")
    noisy = config.rounds and chain.admission.noise
    if noisy or objective.wants_strong or LABELED_STRONG in objective.blocks:
        TokenEdits.for_tokenizer(chain.tokenizer, mask=config.token_mask)
    elif config.views and chain.tokens.corpus is not None:
        chain.reporter.note(f"views: not read, {config.method} makes no changed copies of texts")
    if MASKED in objective.blocks:
        MaskedTokens.for_tokenizer(chain.tokenizer)
    if chain.directory.rounds():
        return
    student = chain.student(0)  # encoder, layers to freeze and dropout are tried
    if chain.admission.probe or any(part.pooled for part in objective.regularizers if isinstance(part, Regularizer)):
        with torch.no_grad():
            tried = chain.tokenizer(["probe"], return_tensors="pt")
            last_hidden_states(student(**tried, output_hidden_states=True), student)
    if chain.admission.passes and not has_dropout(student):
        said = "no dropout, so that all passes agree and every row weighs the same; give --dropout 0.1"
        chain.reporter.note(f"{config.method}: {said}")

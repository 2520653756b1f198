"""What a metric's name says about it: whether lower or higher is better, and whether it is a validation loss."""

from __future__ import annotations

import re
from typing import Literal

__all__ = ["direction_from_name", "is_of_validation", "is_validation_loss"]

_LOWER_IS_BETTER = frozenset({
    "loss", "losses", "error", "errors", "err", "mae", "mse", "rmse", "mape", "smape", "msle", "crps", "nll", "ppl",
    "perplexity", "bpb", "bpc", "bpd", "wer", "cer", "mer", "ter", "crossentropy", "ce", "bce", "xent", "kl",
    "divergence", "distance", "fid", "kid", "lpips", "niqe", "dists", "brier", "ece", "eer", "fpr", "fnr", "cost",
    "regret", "hausdorff", "chamfer", "epe",
})  # fmt: skip
_HIGHER_IS_BETTER = frozenset({
    "acc", "accuracy", "auc", "auroc", "auprc", "ap", "map", "precision", "recall", "f", "f1", "f2", "fbeta",
    "dice", "iou", "miou", "giou", "jaccard", "bleu", "sacrebleu", "rouge", "meteor", "cider", "chrf", "psnr",
    "ssim", "msssim", "vif", "ndcg", "mrr", "r2", "corr", "correlation", "pearson", "spearman", "kappa", "mcc",
    "specificity", "sensitivity", "tpr", "tnr", "snr", "sdr", "sisdr", "sisnr", "similarity", "likelihood", "elbo",
    "reward", "rewards", "return", "returns", "success", "hitrate",
})  # fmt: skip
# Says something only where nothing else does: a brier score is better when it is lower.
_HIGHER_IF_ALONE = frozenset({"score"})
# Turn the meaning of the rest around, or may do so.
_INVERTING = frozenset({"neg", "negative", "inverse", "inv", "minus"})
_VALIDATION = frozenset({"val", "valid", "validation", "eval", "dev"})

_WORD = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+\d*|[A-Z]+\d*|\d+")


def direction_from_name(name: str) -> Literal["min", "max"] | None:
    """Whether a metric of this name is better when it is lower or higher; None where the name does not say.

    The last word that is known decides, as it does in English: an accuracy loss is a loss. A loss that is only
    mentioned before (``loss/psnr``) may be either.

    >>> direction_from_name("val/psnr"), direction_from_name("valid_accuracy_loss"), direction_from_name("val/quality")
    ('max', 'min', None)
    """
    words = _words(name)
    if not _INVERTING.isdisjoint(words):
        return None
    directions = [direction for direction in map(_direction_of_word, words) if direction is not None]
    if not directions:
        return "max" if not _HIGHER_IF_ALONE.isdisjoint(words) else None
    if directions[-1] == "max" and "min" in directions:
        return None
    return directions[-1]


def is_validation_loss(name: str) -> bool:
    """Whether a name is that of a loss of the validation.

    >>> is_validation_loss("val_loss"), is_validation_loss("train/loss")
    (True, False)
    """
    return is_of_validation(name) and "loss" in _words(name)


def is_of_validation(name: str) -> bool:
    """Whether a name says that its metric is one of the validation.

    >>> is_of_validation("val/psnr"), is_of_validation("train/loss"), is_of_validation("psnr")
    (True, False, False)
    """
    return not _VALIDATION.isdisjoint(_words(name))


def _words(name: str) -> list[str]:
    """The words of a name in small letters; ``IoU`` and ``cross_entropy`` are one word each."""
    words: list[str] = []
    for part in re.findall(r"[A-Za-z0-9]+", name):
        whole = part.lower()
        words += [whole] if _direction_of_word(whole) else [word.lower() for word in _WORD.findall(part)]
    joined = " ".join(words).replace("cross entropy", "crossentropy").replace("hit rate", "hitrate")
    return joined.split()


def _direction_of_word(word: str) -> Literal["min", "max"] | None:
    # Counts and cut-offs are written behind a name: bleu4, map50.
    for form in (word, word.rstrip("0123456789")):
        if form in _LOWER_IS_BETTER:
            return "min"
        if form in _HIGHER_IS_BETTER:
            return "max"
    return None

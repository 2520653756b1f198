"""What a metric's name says about it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_automations.core.metric_names import direction_from_name, is_of_validation, is_validation_loss

LOWER = [
    "val_loss", "val/loss", "valLoss", "loss_epoch", "val/mse", "RMSE", "MeanAbsoluteError", "val/word_error_rate",
    "top1_error", "accuracy_loss", "dice_loss", "fid", "fid_score", "val/lpips/dataloader_idx_0", "perplexity",
    "val/cross_entropy", "CrossEntropyLoss", "nll", "brier_score", "edit_distance",
]  # fmt: skip
HIGHER = [
    "val/psnr", "PSNR_Y", "val_psnr_epoch", "val/ssim", "ms_ssim", "accuracy", "top5_acc", "valid/F1Score", "f1",
    "mIoU", "mAP50", "val/map_50", "bleu4", "AUROC", "R2", "score", "cosine_similarity", "mean_reward", "si_sdr",
]  # fmt: skip
UNKNOWN = ["val/quality", "entropy", "negative_mse", "neg_log_likelihood", "inverse_psnr", "loss/psnr", "lr", "", "1"]


@pytest.mark.parametrize(
    ("name", "direction"),
    [*[(name, "min") for name in LOWER], *[(name, "max") for name in HIGHER], *[(name, None) for name in UNKNOWN]],
)
def test_the_last_known_word_decides(name: str, direction: str | None) -> None:
    """A name says which is better by its last known word, and nothing where it is ambiguous."""
    assert direction_from_name(name) == direction


@given(st.text())
def test_any_text_is_a_name(name: str) -> None:
    """Every text gets an answer, whatever is in it."""
    assert direction_from_name(name) in ("min", "max", None)


@pytest.mark.parametrize(
    ("name", "answer"),
    [("val_loss", True), ("valid/l1/loss", True), ("valLoss", True), ("val/psnr", False), ("loss", False),
     ("train/loss", False), ("interval_loss", False)],
)  # fmt: skip
def test_a_validation_loss_is_known_by_both_words(name: str, answer: bool) -> None:
    """Only a name with a word for the validation and the word loss is a validation loss."""
    assert is_validation_loss(name) is answer


@pytest.mark.parametrize(
    ("name", "answer"),
    [("val/psnr", True), ("valid_acc", True), ("val/loss/dataloader_idx_1", True), ("train/loss", False),
     ("psnr", False), ("interval", False)],
)  # fmt: skip
def test_a_metric_of_the_validation_is_known_by_its_word(name: str, answer: bool) -> None:
    """A name without a word for the validation says nothing about where it is logged."""
    assert is_of_validation(name) is answer

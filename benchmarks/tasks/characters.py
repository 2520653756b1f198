"""Prose about Python, character by character, for a plain recurrent network whose gradients explode."""

from __future__ import annotations

import math
from functools import cache
from pydoc_data import topics

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import TensorDataset

from benchmarks.tasks.task import Splits, Task

__all__ = ["CHARACTERS"]

_CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
_LENGTH = 48
_WINDOWS_IN_A_ROW = 20
_ROWS = "rrrtrrtrvrrrtrrrtrtr"
"""Windows in a row, in turn: training, validation, test. Each set so has something of every topic."""
_EMBEDDING = 24
_HIDDEN = 96
_GAIN = 1.7
"""Of the recurrent matrix, orthogonal at the start. At 1.4 gradients hardly explode, from 2 on little is learnt."""


class _RecurrentNetwork(nn.Module):
    """Guesses each next character from those before it."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(_CHARACTERS), _EMBEDDING)
        self.recurrent = nn.RNN(_EMBEDDING, _HIDDEN, batch_first=True)
        self.head = nn.Linear(_HIDDEN, len(_CHARACTERS))
        nn.init.orthogonal_(self.recurrent.weight_hh_l0, gain=_GAIN)

    def forward(self, characters: Tensor) -> Tensor:
        states, _ = self.recurrent(self.embedding(characters))
        return self.head(states)


def _prose() -> str:
    """The manual behind Python's ``help``, without its repetitions and its layout.

    Other versions of Python have a manual that differs in a few places.
    """
    manual = "\n\n".join(topics.topics[name] for name in sorted(topics.topics))
    paragraphs = (" ".join(paragraph.split()) for paragraph in manual.split("\n\n"))
    return "".join(filter(_CHARACTERS.__contains__, "\n".join(dict.fromkeys(paragraphs))))


def _windows() -> list[str]:
    """Pieces of the prose, one after the other; one that comes again is left out."""
    text, length = _prose(), _LENGTH + 1
    starts = range(0, len(text) - length + 1, length)
    return list({text[start : start + _LENGTH]: text[start : start + length] for start in starts}.values())


@cache
def _splits() -> Splits:
    numbers = {character: number for number, character in enumerate(_CHARACTERS)}
    windows = torch.tensor([[numbers[character] for character in window] for window in _windows()])
    letters = [_ROWS[place // _WINDOWS_IN_A_ROW % len(_ROWS)] for place in range(len(windows))]
    return Splits(*(_set(windows[[letter == wanted for letter in letters]]) for wanted in "rvt"))


def _set(windows: Tensor) -> TensorDataset:
    """Each target is the character that follows the input's."""
    return TensorDataset(windows[:, :-1].contiguous(), windows[:, 1:].contiguous())


def _loss(outputs: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(outputs.flatten(end_dim=1), targets.flatten())


def _minus_bits(outputs: Tensor, targets: Tensor) -> Tensor:
    return -_loss(outputs, targets) / math.log(2)


CHARACTERS = Task(
    name="characters",
    summary="the manual behind Python's help, the next character; a plain recurrent network over 48 characters",
    splits=_splits,
    network=_RecurrentNetwork,
    loss=_loss,
    score=_minus_bits,
    score_name="minus bits per character",
    margin=0.1,
    steps=300,
    batch_size=16,
    optimizers=("adamw", "sgd"),
)

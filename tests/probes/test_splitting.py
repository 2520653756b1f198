"""Batches are cut into pieces, or not at all."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_automations.probes.splitting import BatchReader, Form

NUMBERS = torch.arange(8.0)


class Pair(NamedTuple):
    """A named tuple of fields."""

    image: Tensor
    label: Any


@dataclass(frozen=True)
class Item:
    """A frozen dataclass with a field that its constructor does not take."""

    image: Tensor
    scale: float
    derived: Tensor = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "derived", self.image * 2)


def cut(batch: Any, start: int = 2, stop: int = 5, *, expected: int | None = None) -> Any:
    """A piece of a batch of 8 samples."""
    layout = BatchReader(expected=expected).layout(batch)
    assert layout is not None
    assert layout.samples == 8
    return layout.piece(batch, start, stop)


def test_tensors_are_cut_as_views() -> None:
    """A piece takes no memory of its own."""
    piece = cut(NUMBERS)
    assert piece.tolist() == [2, 3, 4]
    assert piece.data_ptr() == NUMBERS[2:].data_ptr()


@pytest.mark.parametrize("kind", [tuple, list])
def test_sequences_of_fields_keep_their_kind(kind: Any) -> None:
    """What a loader makes of pairs."""
    piece = cut(kind([NUMBERS, NUMBERS * 2]))
    assert type(piece) is kind
    assert [part.tolist() for part in piece] == [[2, 3, 4], [4, 6, 8]]


def test_mappings_keep_their_kind_and_the_batch_its_values() -> None:
    """Also a mapping whose constructor asks for more, nested."""
    inner = defaultdict(list, {"x": NUMBERS})
    batch = OrderedDict(image=NUMBERS, inner=inner, names=list("abcdefgh"), scale=0.5, nothing=None)
    piece = cut(batch)
    assert type(piece) is OrderedDict
    assert type(piece["inner"]) is defaultdict
    assert piece["inner"]["x"].tolist() == [2, 3, 4]
    assert piece["names"] == ["c", "d", "e"]
    assert (piece["scale"], piece["nothing"]) == (0.5, None)
    assert batch["image"] is NUMBERS
    assert inner["x"] is NUMBERS


def test_named_tuples_and_dataclasses_are_cut() -> None:
    """Also frozen ones, and fields that no constructor takes."""
    pair = cut(Pair(NUMBERS, {"class": NUMBERS}))
    assert type(pair) is Pair
    assert pair.label["class"].tolist() == [2, 3, 4]
    item = cut(Item(NUMBERS, 2.0))
    assert type(item) is Item
    assert (item.image.tolist(), item.derived.tolist(), item.scale) == ([2, 3, 4], [4, 6, 8], 2.0)


def test_what_has_no_samples_belongs_to_every_piece() -> None:
    """Numbers, texts, sizes, and tensors without dimensions."""
    piece = cut([NUMBERS, torch.tensor(3.0), "text", 7, torch.Size([1, 2]), ["only", "two"]])
    assert piece[1:] == [torch.tensor(3.0), "text", 7, torch.Size([1, 2]), ["only", "two"]]


def test_one_scalar_tensor_per_sample_is_cut() -> None:
    """A list of eight labels is no list of eight common values."""
    piece = cut([NUMBERS, [torch.tensor(float(number)) for number in range(8)]])
    assert [int(label) for label in piece[1]] == [2, 3, 4]


def test_a_list_of_samples_is_cut_by_samples() -> None:
    """Images of different sizes, told from fields by the loader's batch size."""
    images = [torch.zeros(3, size + 1) for size in range(8)]
    assert [image.shape[1] for image in cut(images, expected=8)] == [3, 4, 5]


def test_fields_that_are_lists_of_samples_are_cut() -> None:
    """A detector's images and targets; the batch of two is the one that could be read both ways."""
    images = tuple(torch.zeros(3, size + 1) for size in range(8))
    targets = [{"boxes": torch.zeros(size, 4)} for size in range(8)]
    piece = cut((images, targets, torch.zeros(8), "name"), expected=8)
    assert [image.shape[1] for image in piece[0]] == [3, 4, 5]
    assert [len(target["boxes"]) for target in piece[1]] == [2, 3, 4]
    assert (len(piece[2]), piece[3]) == (3, "name")
    assert BatchReader(expected=2).layout((images[:2], targets[:2])) is None


def test_the_first_full_batch_decides_how_smaller_ones_are_read() -> None:
    """Two fields with one sample left are no list of two samples; five samples left are no fields."""
    fields = BatchReader(expected=2)
    assert fields.layout([torch.zeros(2, 3), torch.zeros(2)]) is not None
    last = fields.layout([torch.zeros(1, 3), torch.zeros(1)], last=True)
    assert last is not None
    assert (last.samples, last.form) == (1, Form.FIELDS)

    rows = BatchReader(expected=8)
    assert rows.layout([torch.zeros(3, 4)] * 8) is not None
    last = rows.layout([torch.zeros(3, 4)] * 5, last=True)
    assert last is not None
    assert (last.samples, last.form) == (5, Form.ROWS)


def test_a_grown_batch_is_expected() -> None:
    """The reader is told when the loader's batch has another size."""
    reader = BatchReader(expected=4)
    reader.expect(8)
    layout = reader.layout([torch.zeros(3, 4)] * 8)
    assert layout is not None
    assert layout.form is Form.ROWS


def steps_first(steps: int, samples: int) -> tuple[Tensor, Tensor]:
    """A batch of sequences as recurrent layers take them by default: time first."""
    return torch.zeros(steps, samples, 4), torch.zeros(steps, samples, 1)


@pytest.mark.parametrize(("steps", "last"), [(20, False), (20, True), (10, False)])
def test_a_batch_that_is_not_sample_first_is_not_cut(steps: int, last: bool) -> None:
    """More in the first dimension than the loader's batch, or fewer within an epoch: cut there, time would be cut."""
    assert BatchReader(expected=16).layout(steps_first(steps, 16), last=last) is None


def test_a_batch_larger_than_the_loaders_is_remembered() -> None:
    """A later sequence that happens to be as long as the batch, or shorter at an epoch's end, is not cut either."""
    reader = BatchReader(expected=16)
    assert reader.layout(steps_first(16, 16)) is not None
    assert reader.layout(steps_first(20, 16)) is None
    assert reader.layout(steps_first(16, 16)) is None
    assert reader.layout(steps_first(8, 16), last=True) is None


def test_fewer_samples_are_accepted_at_an_epochs_end_only() -> None:
    """The rest of a data set is a batch of its own; the next full one is cut again."""
    reader = BatchReader(expected=8)
    assert reader.layout(NUMBERS[:5], last=True) is not None
    assert reader.layout(NUMBERS[:5]) is None
    assert reader.layout(NUMBERS) is not None


def test_without_an_expected_size_tensors_of_one_length_are_samples() -> None:
    """Nothing speaks against it where the loader does not say its batch size."""
    layout = BatchReader().layout([NUMBERS, NUMBERS])
    assert layout is not None
    assert layout.samples == 8


PACKED = torch.nn.utils.rnn.pack_sequence([torch.zeros(3), torch.zeros(2)])


@pytest.mark.parametrize(
    "batch",
    [
        torch.tensor(1.0),
        5,
        "text",
        [],
        {},
        None,
        torch.zeros(0, 3),
        {"a": NUMBERS, "b": torch.zeros(3)},
        [NUMBERS, torch.zeros(13, 2)],
        {"a": NUMBERS, "graph": object()},
        [NUMBERS, {1, 2}],
        (NUMBERS, Item),
        PACKED,
        torch.eye(8).to_sparse(),
        ([torch.zeros(3)] * 2, object()),
        ([torch.zeros(3), torch.zeros(4)], {1, 2}),
    ],
)
def test_what_is_not_understood_is_not_cut(batch: Any) -> None:
    """No samples, several numbers of samples, foreign objects: no guess."""
    assert BatchReader(expected=8).layout(batch) is None


TREES = st.recursive(
    st.sampled_from(["tensor", "scalar", "text"]),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(tuple),
        st.dictionaries(st.sampled_from("abc"), inner, min_size=1, max_size=3),
    ),
    max_leaves=8,
)


def grown(tree: Any, samples: int) -> Any:
    """A batch of the shape of a tree."""
    if isinstance(tree, tuple):
        return tuple(grown(part, samples) for part in tree)
    if isinstance(tree, dict):
        return {key: grown(part, samples) for key, part in tree.items()}
    return {"tensor": torch.arange(samples), "scalar": 1.5, "text": "text"}[tree]


def joined(pieces: list[Any]) -> Any:
    """Pieces put together again."""
    first = pieces[0]
    if isinstance(first, tuple):
        return tuple(joined(list(parts)) for parts in zip(*pieces, strict=True))
    if isinstance(first, dict):
        return {key: joined([piece[key] for piece in pieces]) for key in first}
    return torch.cat(pieces).tolist() if isinstance(first, Tensor) else first


def plain(batch: Any) -> Any:
    """The same with lists for tensors."""
    return joined([batch])


@given(TREES, st.integers(5, 30), st.integers(1, 30))
def test_pieces_put_together_are_the_batch(tree: Any, samples: int, size: int) -> None:
    """Every sample is in one piece, in order, whatever the nesting."""
    batch = ("tensor", tree)
    made = grown(batch, samples)
    layout = BatchReader(expected=samples).layout(made)
    assert layout is not None
    pieces = [layout.piece(made, start, min(start + size, samples)) for start in range(0, samples, size)]
    assert joined(pieces) == plain(made)

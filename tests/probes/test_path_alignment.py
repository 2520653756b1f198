"""The cosine between the gradient and the way that the last step went."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch.nn import Parameter

from lightning_automations.probes import path_alignment
from lightning_automations.probes.path_alignment import PathAlignment, refusal

SHAPES = [(3, 4), (5,), (0,), (), (2, 3, 2)]


def model(dtypes: Sequence[torch.dtype] = (torch.float32,), *, seed: int = 0) -> list[Parameter]:
    """Parameters of many shapes with gradients, their types in turn."""
    torch.manual_seed(seed)
    made = [Parameter(torch.randn(shape, dtype=dtypes[index % len(dtypes)])) for index, shape in enumerate(SHAPES)]
    new_gradients(made)
    return made


def new_gradients(parameters: Sequence[Parameter], *, scale: float = 1.0) -> None:
    """Normal numbers for all."""
    for parameter in parameters:
        parameter.grad = torch.randn_like(parameter) * scale


def move(parameters: Sequence[Parameter], rate: float = 0.1) -> None:
    """One step of gradient descent."""
    with torch.no_grad():
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.sub_(rate * parameter.grad)


def copies(parameters: Sequence[Parameter]) -> list[Tensor]:
    """What they are now."""
    return [parameter.detach().clone() for parameter in parameters]


def twin(parameters: Sequence[Parameter], start: Sequence[Tensor]) -> float:
    """The same in the plainest way: two long vectors in double precision."""
    pairs = [(before, now) for before, now in zip(start, parameters, strict=True) if now.grad is not None]
    way = torch.cat([(before.double() - now.detach().double()).flatten() for before, now in pairs])
    gradient = torch.cat([now.grad.double().flatten() for _, now in pairs if now.grad is not None])
    return float(way @ gradient / way.norm() / gradient.norm())


def after_one_step(parameters: Sequence[Parameter]) -> PathAlignment:
    """The parameters have moved once since they were remembered; the gradients are new."""
    alignment = PathAlignment()
    alignment.begin(parameters)
    move(parameters)
    new_gradients(parameters)
    return alignment


@pytest.mark.parametrize("at_once", [1, 13, path_alignment.MOST_AT_ONCE])
@pytest.mark.parametrize("dtypes", [(torch.float32,), (torch.float64,), (torch.float32, torch.bfloat16, torch.float64)])
def test_the_slow_twin_says_the_same(
    dtypes: Sequence[torch.dtype], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over several steps, for mixed types, and in portions of any size."""
    monkeypatch.setattr(path_alignment, "MOST_AT_ONCE", at_once)
    parameters, alignment, expected = model(dtypes), PathAlignment(), []
    alignment.begin(parameters)
    for _ in range(3):
        before = copies(parameters)
        move(parameters)
        new_gradients(parameters)
        expected.append(twin(parameters, before))
        alignment.add()
    assert alignment.take() == pytest.approx(expected, abs=1e-6)
    assert len(alignment) == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_in_16_bits_products_are_made_in_32(dtype: torch.dtype) -> None:
    """In float16 a gradient of 1e-4 times a way of 1e-3 would be 1e-7, with one digit left."""
    parameters = model((dtype,))
    start = copies(parameters)
    alignment = PathAlignment()
    alignment.begin(parameters)
    move(parameters, 1e-2)
    new_gradients(parameters, scale=1e-4)
    expected = twin(parameters, start)
    alignment.add()
    assert alignment.fetch() == pytest.approx([expected], abs=1e-6)


@pytest.mark.parametrize("scale", [1e-12, 3.0, 65536.0, 1e15])
def test_the_scale_of_the_gradient_does_not_matter(scale: float) -> None:
    """Loss scaling and clipping by the global norm leave the cosine as it is."""
    parameters = model()
    alignment, other = after_one_step(parameters), PathAlignment()
    other.load_state_dict(alignment.state_dict(), parameters)
    alignment.add()
    for parameter in parameters:
        parameter.grad = parameter.grad * scale if parameter.grad is not None else None
    other.add()
    assert other.fetch() == pytest.approx(alignment.fetch(), abs=1e-6)


def test_parameters_without_gradient_are_left_out() -> None:
    """Of both vectors, although they have moved; frozen ones too, and a step without any gradient adds nothing."""
    parameters = model()
    start = copies(parameters)
    frozen = Parameter(torch.ones(2), requires_grad=False)
    alignment = PathAlignment()
    alignment.begin([frozen, *parameters])
    assert len(alignment.state_dict()["remembered"]) == len(parameters)
    move(parameters)
    new_gradients(parameters)
    parameters[0].grad = None
    alignment.add()
    assert alignment.fetch() == pytest.approx([twin(parameters, start)], abs=1e-6)
    for parameter in parameters:
        parameter.grad = None
    alignment.add()
    assert len(alignment) == 1


def test_without_remembered_parameters_nothing_is_added() -> None:
    """Before ``begin`` and after ``end``."""
    parameters, alignment = model(), PathAlignment()
    alignment.add()
    assert (len(alignment), alignment.active) == (0, False)
    alignment.begin(parameters)
    assert alignment.active
    alignment.end()
    alignment.add()
    assert (len(alignment), alignment.active) == (0, False)


def test_a_second_beginning_takes_no_memory() -> None:
    """Where the shapes are the same; other shapes get memory of their own."""
    parameters, alignment = model(), PathAlignment()
    alignment.begin(parameters)
    places = [tensor.data_ptr() for tensor in alignment.state_dict()["remembered"]]
    move(parameters)
    alignment.begin(parameters)
    remembered = alignment.state_dict()["remembered"]
    assert [tensor.data_ptr() for tensor in remembered] == places
    assert all(torch.equal(before, now) for before, now in zip(remembered, parameters, strict=True))
    alignment.begin(parameters[:2])
    assert [tensor.shape for tensor in alignment.state_dict()["remembered"]] == [(3, 4), (5,)]


def test_a_step_takes_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parameters are worked on in portions, none above the limit unless one parameter is."""
    taken: list[int] = []
    empty = torch.empty
    monkeypatch.setattr(path_alignment, "MOST_AT_ONCE", 10)
    monkeypatch.setattr(torch, "empty", lambda size, **kinds: taken.append(size) or empty(size, **kinds))
    after_one_step(model()).add()
    assert taken == [12, 6, 12]  # of 12, 5 + 0 + 1, and 12 elements


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 0.0])
def test_a_gradient_without_direction_reads_nan(value: float) -> None:
    """One that is not finite, and one of zeros; the readings beside it are kept."""
    parameters = model()
    alignment = after_one_step(parameters)
    alignment.add()
    move(parameters)
    for parameter in parameters if value == 0.0 else parameters[1:2]:
        parameter.grad = torch.full_like(parameter, value)
    alignment.add()
    first, second = alignment.take()
    assert math.isfinite(first)
    assert math.isnan(second)


def test_steps_that_were_skipped_read_nan() -> None:
    """Parameters that stand where they were have gone no way."""
    parameters, alignment = model(), PathAlignment()
    alignment.begin(parameters)
    alignment.add()
    assert [math.isnan(reading) for reading in alignment.fetch()] == [True]


@pytest.mark.parametrize(("rate", "signs"), [(0.01, [1, 1, 1, 1]), (1.9, [-1, -1, -1, -1]), (2.5, [-1, -1, -1, -1])])
def test_in_a_bowl_the_sign_tells_a_low_rate_from_one_that_is_beyond_the_edge(rate: float, signs: list[int]) -> None:
    """For the loss |x|² / 2 descent diverges above a rate of 2; between 1 and 2 it swings, and so does the sign."""
    weight = Parameter(torch.tensor([3.0, -2.0, 1.0]))
    optimizer, alignment = torch.optim.SGD([weight], lr=rate), PathAlignment()
    for step in range(5):
        optimizer.zero_grad()
        (weight.square().sum() / 2).backward()
        if step:
            alignment.add()
        else:
            alignment.begin([weight])
        optimizer.step()
    assert alignment.take() == pytest.approx(signs, abs=1e-5)


@pytest.mark.parametrize("read", ["item", "tolist", "cpu", "numpy", "__float__", "__bool__", "__int__"])
def test_nothing_is_read_while_readings_are_added(read: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read waits for the device."""
    parameters = model((torch.float32, torch.bfloat16))
    alignment = PathAlignment()

    def refuse(*_: object) -> None:
        raise AssertionError(f"{read} was called")

    with monkeypatch.context() as patch:
        patch.setattr(Tensor, read, refuse)
        alignment.begin(parameters)
        alignment.add()
        alignment.add()
    assert len(alignment) == 2


def test_results_of_several_devices_do_not_meet_on_the_cpu() -> None:
    """From the device "meta" nothing can be copied, so that a read from it would raise."""
    parameters = [Parameter(torch.ones(3)), Parameter(torch.ones(2, device="meta")), Parameter(torch.ones(1))]
    new_gradients(parameters)
    alignment = after_one_step(parameters)
    alignment.add()
    assert len(alignment) == 1


@pytest.mark.parametrize("cut", [0, 1, 2, 4])
def test_resumed_at_any_step_it_goes_on_as_before(cut: int) -> None:
    """What is remembered goes through a file that holds nothing but tensors and numbers."""
    parameters, whole, resumed = model(), PathAlignment(), PathAlignment()
    whole.begin(parameters)
    resumed.begin(parameters)
    for step in range(5):
        if step == cut:
            file = io.BytesIO()
            torch.save(resumed.state_dict(), file)
            file.seek(0)
            readings, resumed = resumed.fetch(), PathAlignment()
            resumed.load_state_dict(torch.load(file, weights_only=True), parameters)
            resumed.restore(readings)
        move(parameters)
        new_gradients(parameters)
        whole.add()
        resumed.add()
    assert resumed.fetch() == whole.fetch()
    assert len(resumed) == 5


def test_where_nothing_is_remembered_the_state_is_empty() -> None:
    """To load it forgets the parameters, and the readings stay."""
    parameters = model()
    alignment = after_one_step(parameters)
    alignment.add()
    assert PathAlignment().state_dict() == {}
    alignment.load_state_dict({}, parameters)
    assert (alignment.active, alignment.state_dict(), len(alignment)) == (False, {}, 1)
    alignment.clear()
    assert alignment.fetch() == []


def test_the_parameters_of_another_model_are_refused() -> None:
    """The message has the shapes that were expected and those that came; what was remembered stays."""
    ours, alignment, other = [Parameter(torch.ones(2))], PathAlignment(), PathAlignment()
    alignment.begin(ours)
    other.begin([Parameter(torch.ones(3))])
    with pytest.raises(ValueError) as caught:
        alignment.load_state_dict(other.state_dict(), ours)
    assert str(caught.value) == "Expected remembered parameters of the shapes [(2,)] but got [(3,)]"
    assert torch.equal(alignment.state_dict()["remembered"][0], torch.ones(2))


def test_what_cannot_be_measured_is_refused_in_a_sentence() -> None:
    """Sparse gradients, parts of parameters, and complex numbers."""
    embedding = torch.nn.Embedding(4, 2, sparse=True)
    assert refusal([*model(), embedding.weight]) is None
    embedding(torch.tensor([1])).sum().backward()
    assert refusal(embedding.parameters()) == "Some gradients are sparse."
    assert refusal([Parameter(torch.ones(1, dtype=torch.complex64))]) == "Some parameters are complex numbers."
    sharded = type("DTensor", (SimpleNamespace,), {})(data=torch.ones(1))
    assert refusal([sharded]) == "Each process holds a part of the parameters only (DTensor)."

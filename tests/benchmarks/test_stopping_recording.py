from collections.abc import Iterator, Mapping
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import MultiStepLR
from torch.utils.data import DataLoader, IterableDataset, TensorDataset

from benchmarks.stopping import study
from benchmarks.stopping.curve import Curve
from benchmarks.stopping.jobs import DROP_FACTOR, JOBS, VALIDATIONS, Regime, StoppingJob, job_named
from benchmarks.stopping.ours import our_rule
from benchmarks.stopping.recording import Batches, network_of, noisy, record
from benchmarks.tasks import TASKS
from benchmarks.tasks.task import Splits, Task
from lightning_automations import IntelligentEarlyStopping
from lightning_automations.core.settings import RunLength


def splits() -> Splits:
    """A line with noise: 24 training samples for a network that can learn the noise too."""
    source = torch.Generator().manual_seed(0)
    inputs = torch.randn(64, 4, generator=source)
    targets = inputs.sum(dim=1) + torch.randn(64, generator=source)
    parts = zip(inputs.split((24, 20, 20)), targets.split((24, 20, 20)), strict=True)
    return Splits(*(TensorDataset(*part) for part in parts))


SPLITS = splits()
TASK = Task(
    name="line",
    summary="",
    splits=lambda: SPLITS,
    network=lambda: nn.Sequential(nn.Linear(4, 32), nn.Tanh(), nn.Linear(32, 1), nn.Flatten(start_dim=0)),
    loss=functional.mse_loss,
    score=lambda outputs, targets: -functional.mse_loss(outputs, targets),
    score_name="minus squared error",
    margin=0.1,
    steps=100,
    batch_size=8,
    optimizers=("sgd",),
)
JOB = StoppingJob(regime=Regime.LATE, task="line", optimizer="sgd", rate=0.01, budget=400)
DROPPED = StoppingJob(regime=Regime.LATE, task="line", optimizer="sgd", rate=0.01, budget=400, drops=(120, 200))

# A real Lightning run -------------------------------------------------------------------------------------------------


class Stream(IterableDataset[tuple[Tensor, Tensor]]):
    """The recording's own batches for a data loader."""

    def __init__(self, batches: Batches) -> None:
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return iter(self.batches)


class LineModule(LightningModule):
    """The job as an ordinary Lightning module."""

    def __init__(self, job: StoppingJob) -> None:
        super().__init__()
        self.job = job
        self.network = TASK.network()
        self.validation_losses: list[float] = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        inputs, targets = batch
        return TASK.loss(self.network(inputs), targets)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        inputs, targets = batch
        loss = TASK.loss(self.network(inputs), targets)
        self.log("val/loss", loss)
        self.validation_losses.append(loss.item())

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.SGD(self.parameters(), lr=self.job.rate, momentum=0.9)
        schedule = MultiStepLR(optimizer, list(self.job.drops), gamma=DROP_FACTOR)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def lightning_run(job: StoppingJob, *, epochs: int, callback: IntelligentEarlyStopping) -> tuple[int, list[float]]:
    """Steps at the end, and the validation losses, of the job under a Trainer."""
    torch.manual_seed(0)
    module = LineModule(job)
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        max_steps=job.budget,
        val_check_interval=job.interval,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        callbacks=[callback],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    batches = Batches(SPLITS.training, size=TASK.batch_size, seed=0)
    trainer.fit(module, DataLoader(Stream(batches), batch_size=None), DataLoader(SPLITS.validation, batch_size=20))
    return trainer.global_step, module.validation_losses


@pytest.mark.filterwarnings("ignore:.*does not have many workers")
@pytest.mark.filterwarnings("ignore:.*`IterableDataset` has `__len__` defined")
@pytest.mark.parametrize(
    ("job", "written"),
    [
        (JOB, {}),
        (DROPPED, {"patience": 60, "max_no_improvement": 60, "min_iterations": 0, "warmup_iterations": 0}),
        (JOB, {"criteria": ["overfitting"], "min_iterations": 40}),
    ],
    ids=["defaults", "patience over planned drops", "overfitting alone"],
)
def test_ours_stops_a_lightning_run_where_the_replay_of_its_curve_stops(
    job: StoppingJob, written: Mapping[str, Any]
) -> None:
    """The replay feeds the brain as the callback does, and the recording trains as Lightning does."""
    curve = record(job, TASK, seed=0)
    stops = our_rule(dict(written), RunLength(steps=curve.budget, epochs=curve.epochs))
    replayed = next(now.step for now in curve.validations() if stops(now))
    callback = IntelligentEarlyStopping(monitor_metric="val/loss", **written)
    step, losses = lightning_run(job, epochs=curve.epochs, callback=callback)
    assert step == replayed < job.budget
    assert losses == pytest.approx(curve.validation_losses[: len(losses)], rel=1e-4)


# The recording --------------------------------------------------------------------------------------------------------


def test_a_recording_has_one_entry_for_each_validation() -> None:
    """At the same distance, the last at the end of the budget, and none is missing in the result file."""
    curve = record(DROPPED, TASK, seed=1)
    assert [now.step for now in curve.validations()] == list(range(8, 401, 8))
    assert curve.budget == 400
    assert curve.steps_per_epoch == 3
    assert Curve.from_json(curve.as_json()).key == curve.key
    assert len(curve.as_json()["test_scores"]) == VALIDATIONS


def test_the_rate_is_the_one_that_the_next_step_uses() -> None:
    """The drop after step 120 is seen at the validation there, as under Lightning."""
    rates = {now.step: now.rate for now in record(DROPPED, TASK, seed=1).validations()}
    assert rates[112] == pytest.approx(0.01)
    assert rates[120] == pytest.approx(0.001)
    assert rates[400] == pytest.approx(0.0001)


def test_a_seed_gives_the_same_curve_and_another_one_another() -> None:
    """Seeds are what a comparison is paired by."""
    assert record(JOB, TASK, seed=2) == record(JOB, TASK, seed=2)
    assert record(JOB, TASK, seed=2).validation_losses != record(JOB, TASK, seed=3).validation_losses


def test_a_curve_that_is_not_finite_survives_a_result_file() -> None:
    """NaN is written as null, which JSON knows."""
    diverged = StoppingJob(regime=Regime.LATE, task="line", optimizer="sgd", rate=1e4, budget=50)
    curve = record(diverged, TASK, seed=0)
    written = curve.as_json()
    assert written["test_losses"][-1] is None
    assert Curve.from_json(written).as_json() == written


def test_an_epoch_has_each_sample_at_most_once() -> None:
    """In an order that is new for each epoch, and full batches alone."""
    data = TensorDataset(torch.arange(10), torch.arange(10))
    batches = Batches(data, size=4, seed=0)
    epochs = [torch.cat([inputs for inputs, _ in batches]).tolist() for _ in range(2)]
    assert all(len(set(epoch)) == len(epoch) == 8 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_noise_replaces_classes_by_others() -> None:
    """About the share that is asked for, never by the same class; the same ones for a seed."""
    data = TensorDataset(torch.zeros(4000, 1), torch.arange(4000) % 3)
    first, second = (noisy(data, share=0.3, seed=0).tensors[1] for _ in range(2))
    changed = first != data.tensors[1]
    assert changed.float().mean().item() == pytest.approx(0.3, abs=0.03)
    assert set(first.tolist()) == {0, 1, 2}
    assert torch.equal(first, second)
    assert noisy(data, share=0.0, seed=0) is data


def test_noise_is_added_to_targets_that_are_no_classes() -> None:
    """With a standard deviation that is a multiple of theirs."""
    data = TensorDataset(torch.zeros(4000, 1), 5 * torch.randn(4000, generator=torch.Generator().manual_seed(0)))
    added = noisy(data, share=0.5, seed=0).tensors[1] - data.tensors[1]
    assert added.std().item() == pytest.approx(2.5, rel=0.1)


def test_noise_is_in_the_training_data_alone() -> None:
    """The first validation of a run that does not learn is the same with noise and without."""
    still = {"regime": Regime.EARLY, "task": "line", "optimizer": "sgd", "rate": 0.0, "budget": 50}
    clean, noised = (record(StoppingJob(**still, noise=share), TASK, seed=0) for share in (0.0, 2.0))
    assert clean.validation_losses == noised.validation_losses
    assert clean.test_losses == noised.test_losses
    assert clean.training_losses != noised.training_losses


def test_dropout_is_on_the_inputs_and_off_in_validations() -> None:
    """A run that does not learn validates the same with dropout, and trains on other inputs."""
    still = {"regime": Regime.LATE, "task": "line", "optimizer": "sgd", "rate": 0.0, "budget": 50}
    clean, dropped = (record(StoppingJob(**still, dropout=share), TASK, seed=0) for share in (0.0, 0.5))
    assert clean.validation_losses == dropped.validation_losses
    assert clean.training_losses != dropped.training_losses
    network = network_of(StoppingJob(**still, dropout=0.5), TASK)
    assert isinstance(network, nn.Sequential)
    assert isinstance(network[0], nn.Dropout)


# The table of jobs and the study --------------------------------------------------------------------------------------


def test_jobs_are_well_formed() -> None:
    """Unique names, whole intervals, drops within the budget, optimizers and tasks that exist."""
    names = {task.name for task in TASKS}
    assert len({job.name for job in JOBS}) == len(JOBS)
    for job in JOBS:
        assert job.task in names
        assert job.budget % VALIDATIONS == 0
        assert all(0 < drop < job.budget for drop in job.drops)
        assert job.optimizer in {"adamw", "sgd"}


@pytest.mark.parametrize("regime", list(Regime))
def test_every_regime_has_several_tasks_and_the_held_out_one(regime: Regime) -> None:
    """No regime rests on one data set."""
    held_out = {task.name for task in TASKS if task.held_out}
    tasks = {job.task for job in JOBS if job.regime is regime}
    assert held_out <= tasks
    assert len(tasks - held_out) >= 3


def test_slow_improvers_drop_their_rate_at_half_and_at_three_quarters() -> None:
    """Where they drop it at all."""
    slow = [job for job in JOBS if job.regime is Regime.SLOW and job.drops]
    assert slow
    assert all(job.drops == (job.budget // 2, job.budget * 3 // 4) for job in slow)


def test_a_job_that_does_not_exist_is_an_error() -> None:
    """With the names that do."""
    with pytest.raises(ValueError, match="expected one of"):
        job_named("nothing")


def test_a_measurement_goes_on_where_it_was_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done is not recorded again, and each new row is handed over as it comes in."""

    def each(function: Any, keys: Any, *, workers: int) -> Iterator[Mapping[str, Any]]:
        return iter([record(JOB, TASK, seed=seed).as_json() for _, seed in keys])

    monkeypatch.setattr(study, "JOBS", (JOB,))
    monkeypatch.setattr(study, "each", each)
    saved: list[Mapping[str, Any]] = []
    first = study.measure(seeds=[0], save=saved.append)
    both = study.measure(seeds=[0, 1], done=first["curves"], save=saved.append)
    assert [row["seed"] for row in saved] == [0, 1]
    assert [row["seed"] for row in both["curves"]] == [0, 1]
    assert study.measure(seeds=[0, 1], tasks=["wine"]) == {"curves": []}

"""Settings that are valid and yet wrong: each is found where it stands, and its mended twin is sound."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lightning_automations.config.diagnosis.finding import Change, Diagnosis, Status
from tests.config.diagnosis.test_diagnosing import diagnosed, findings, statuses

LR, BATCH = "IntelligentLearningRateScheduler", "DynamicBatchSizeOptimizer"
CLIP, STOP, LOSSES = "AdaptiveGradientClipping", "IntelligentEarlyStopping", "DynamicLossScheduling"

TRAIN = "train:\n  total_iter: 40000\n  optim_g: {type: AdamW, lr: 0.0002}\n"
VAL = "val:\n  val_freq: 500\n  metrics: {psnr: {type: p}, ssim: {type: s}}\n"


def _file(settings: str, *, train: str = TRAIN, rest: str = "") -> str:
    """A file with one automation that has these settings."""
    name, _, values = settings.partition(" ")
    return f"{train}  training_automations:\n    {name}: {values}\n{rest}"


COSINE = "{{fallback: {{scheduler_type: cosine, scheduler_params: {{{}}}}}}}"
MULTISTEP = "{{fallback: {{scheduler_type: multistep, scheduler_params: {{milestones: {}}}}}}}"


@pytest.mark.parametrize(
    ("wrong", "mended", "path", "words"),
    [
        # the learning rate
        ("{plateau_patience: 40000}", "{plateau_patience: 4000}", "plateau_patience", "the run has 40000 steps"),
        (
            "{plateau_patience: 10, max_adjustments: 5}",
            "{plateau_patience: 1000, max_adjustments: 5}",
            "max_adjustments",
            "by step 50 of 40000",
        ),
        (
            COSINE.format("T_max: 30000"),
            COSINE.format("T_max: 40000"),
            "fallback.scheduler_params.T_max",
            "over, or starts to rise again",
        ),
        (
            COSINE.format("T_max: 90000"),
            COSINE.format("T_max: 40000"),
            "fallback.scheduler_params.T_max",
            "made for a longer run",
        ),
        (
            MULTISTEP.format([40000, 50000]),
            MULTISTEP.format([30000, 50000]),
            "fallback.scheduler_params.milestones",
            "beyond the run's 40000 steps",
        ),
        (
            COSINE.format("eta_min: 0.001, T_max: 40000"),
            COSINE.format("eta_min: 0.0001, T_max: 40000"),
            "fallback.scheduler_params.eta_min",
            "train.optim_g.lr is 0.0002",
        ),
        ("{monitor_metric: val/loss}", "{monitor_metric: val/ssim}", "monitor_metric", "computes val/psnr, val/ssim"),
    ],
)
def test_traps_of_the_learning_rate(wrong: str, mended: str, path: str, words: str, tmp_path: Path) -> None:
    """Patience, budget, horizon, lowest rate and metric."""
    _is_trap(LR, wrong, mended, path, words, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "mended", "path", "words"),
    [
        (
            "{target_vram_usage: 0.97, safety_margin: 0.05}",
            "{target_vram_usage: 0.95, safety_margin: 0.05}",
            "target_vram_usage",
            "more than all memory",
        ),
        (
            "{safety_margin: 0.2}",
            "{safety_margin: 0.15}",
            "safety_margin",
            "Lower safety_margin to 0.15",
        ),
        ("{max_batch_size: 8}", "{max_batch_size: 16}", "max_batch_size", "batch_size_per_gpu is 16"),
        ("{min_batch_size: 32}", "{min_batch_size: 16}", "min_batch_size", "batch_size_per_gpu is 16"),
        (
            "{fallback: {batch_size: 64}}",
            "{fallback: {batch_size: 8}}",
            "fallback.batch_size",
            "the bounds are 1 and 32",
        ),
        (
            "{adjustment_frequency: 20, max_adjustments: 20}",
            "{adjustment_frequency: 20, max_adjustments: 50}",
            "max_adjustments",
            "by step 400 of 40000",
        ),
        (
            "{adjustment_frequency: 50000}",
            "{adjustment_frequency: 500}",
            "adjustment_frequency",
            "the run has 40000 steps",
        ),
    ],
)
def test_traps_of_the_batch(wrong: str, mended: str, path: str, words: str, tmp_path: Path) -> None:
    """Target and margin, bounds, fallback, budget and frequency."""
    _is_trap(BATCH, wrong, mended, path, words, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "mended", "path", "words"),
    [
        (
            "{monitoring_frequency: 5, max_adjustments: 10}",
            "{monitoring_frequency: 5, max_adjustments: 200}",
            "max_adjustments",
            "by step 50 of 40000",
        ),
        ("{monitoring_frequency: 40000}", "{monitoring_frequency: 10}", "monitoring_frequency", "has 40000 steps"),
    ],
)
def test_traps_of_clipping(wrong: str, mended: str, path: str, words: str, tmp_path: Path) -> None:
    """Budget and frequency."""
    _is_trap(CLIP, wrong, mended, path, words, tmp_path)


@pytest.mark.parametrize(
    ("wrong", "mended", "path", "words"),
    [
        ("{patience: 300}", "{patience: 2500}", "patience", "validation comes every 500 steps"),
        ("{max_no_improvement: 400}", "{max_no_improvement: 4000}", "max_no_improvement", "validation comes every 500"),
        (
            "{patience: 39500, max_no_improvement: 39600}",
            "{patience: 2000, max_no_improvement: 39600}",
            "patience",
            "a plateau takes 39500 steps",
        ),
        (
            "{patience: 39600, max_no_improvement: 39500}",
            "{patience: 39600, max_no_improvement: 3000}",
            "max_no_improvement",
            "a plateau takes 39500 steps",
        ),
        ("{min_iterations: 40000}", "{min_iterations: 5000}", "min_iterations", "the run has 40000 steps"),
        ("{monitor_metric: val/pnsr}", "{monitor_metric: val/psnr}", "monitor_metric", "computes val/psnr, val/ssim"),
        ("{min_epochs: 1000}", "{min_epochs: 0}", "min_epochs", "the run has 40000 steps"),
    ],
)
def test_traps_of_stopping(wrong: str, mended: str, path: str, words: str, tmp_path: Path) -> None:
    """Patience, gates and metric."""
    _is_trap(STOP, wrong, mended, path, words, tmp_path)


def _is_trap(name: str, wrong: str, mended: str, path: str, words: str, folder: Path) -> None:
    rest = f"datasets:\n  train: {{batch_size_per_gpu: 16}}\n{VAL}"
    (finding,) = findings(diagnosed(_file(f"{name} {wrong}", rest=rest), folder), name)
    assert finding.path == f"train.training_automations.{name}.{path}"
    assert finding.line == 5
    assert words in f"{finding.found}. {finding.why}. {finding.mend}"
    assert not finding.note
    assert findings(diagnosed(_file(f"{name} {mended}", rest=rest), folder), name) == []
    if finding.change is not None:
        assert findings(_changed(_file(f"{name} {wrong}", rest=rest), finding.change, folder), name) == []


def _changed(text: str, change: Change, folder: Path) -> Diagnosis:
    """The file with the value that is said to mend it."""
    data = yaml.safe_load(text)
    inner = data
    *way, last = change.path.split(".")
    for key in way:
        inner = inner[key]
    inner[last] = change.value
    return diagnosed(yaml.safe_dump(data), folder)


@pytest.mark.parametrize(
    ("name", "owner", "path"),
    [
        (CLIP, "  grad_clip: 0.5\n", "train.grad_clip"),
        (CLIP, "  grad_clip: true\n", "train.grad_clip"),
        (BATCH, "  auto_vram_management: true\n", "train.auto_vram_management"),
    ],
)
def test_two_owners_of_the_same_thing(name: str, owner: str, path: str, tmp_path: Path) -> None:
    """The file has another means beside the automation."""
    (finding,) = findings(diagnosed(_file(name, train=TRAIN + owner), tmp_path), name)
    assert (finding.path, finding.status, finding.line) == (path, Status.PARTLY, 4)


def test_another_scheduler_that_waits_for_plateaus_is_worth_a_note(tmp_path: Path) -> None:
    """Two of them lower the rate for the same plateau, and both may be meant."""
    text = _file(LR, train=f"{TRAIN}  scheduler: {{type: ReduceLROnPlateau}}\n")
    (finding,) = findings(diagnosed(text, tmp_path), LR)
    assert (finding.path, finding.note, finding.line) == ("train.scheduler", True, 4)


@pytest.mark.parametrize(
    ("total", "name", "values"),
    [
        (2000, BATCH, "{adjustment_frequency: 5000}"),
        (5000, CLIP, "{monitoring_frequency: 9000, max_adjustments: 50}"),
        (900, CLIP, "{monitoring_frequency: 9000, max_adjustments: 3}"),
        (1117, LR, "{plateau_patience: 9000, max_adjustments: 1}"),
        (5000, CLIP, "{monitoring_frequency: 9000, max_adjustments: null}"),
    ],
)
def test_a_frequency_that_mends_does_not_spend_the_budget_early(
    total: int, name: str, values: str, tmp_path: Path
) -> None:
    """One trap must not lead into the other."""
    text = _file(f"{name} {values}", train=f"train:\n  total_iter: {total}\n")
    (finding,) = findings(diagnosed(text, tmp_path), name)
    assert finding.change is not None
    assert findings(_changed(text, finding.change, tmp_path), name) == []


def test_a_budget_that_is_not_written_is_told_at_the_frequency_that_spends_it(tmp_path: Path) -> None:
    """What is not there cannot be mended."""
    (finding,) = findings(diagnosed(_file(f"{BATCH} {{adjustment_frequency: 20}}"), tmp_path), BATCH)
    assert finding.path.endswith(f"{BATCH}.adjustment_frequency")
    assert finding.change is not None
    assert finding.change.value == 50


def test_a_patience_for_which_the_run_has_no_room_is_left_to_the_user(tmp_path: Path) -> None:
    """Five validations are longer than the run."""
    rest = "val: {val_freq: 1500, metrics: {psnr: p}}\n"
    text = _file(f"{STOP} {{patience: 1000}}", train="train:\n  total_iter: 4000\n", rest=rest)
    (finding,) = findings(diagnosed(text, tmp_path), STOP)
    assert finding.change is None


@pytest.mark.parametrize("value", ["true", "x", ".nan"])
def test_a_horizon_that_is_no_number_is_no_trap(value: str, tmp_path: Path) -> None:
    """It is refused elsewhere."""
    text = _file(f"{LR} {COSINE.format(f'T_max: {value}, eta_min: {value}')}")
    found = findings(diagnosed(text, tmp_path), LR)
    assert [finding.found for finding in found if "is 1 " in finding.found or "eta_min" in finding.path] == []


def test_two_stoppers_and_two_of_the_same_automation(tmp_path: Path) -> None:
    """Lightning's beside ours, and ours in the section and in the list."""
    text = (
        "trainer:\n  callbacks:\n  - class_path: lightning.pytorch.callbacks.EarlyStopping\n"
        "  - class_path: lightning_automations.IntelligentEarlyStopping\n"
        "training_automations:\n  early_stopping:\n"
    )
    found = findings(diagnosed(text, tmp_path), STOP)
    assert [finding.line for finding in found] == [4, 3]
    assert "a second" in found[0].found
    assert "beside the automation" in found[1].found


@pytest.mark.parametrize(
    ("values", "bound"), [("{min_threshold: 0.1}", "min_threshold"), ("{max_threshold: 10}", "max_threshold")]
)
def test_bounds_that_exclude_the_value_that_holds_now(values: str, bound: str, tmp_path: Path) -> None:
    """Only bounds that are written are absolute: those that are not make room."""
    value = 0.01 if bound == "min_threshold" else 50
    train = f"{TRAIN}  grad_clip: {value}\n"
    found = findings(diagnosed(_file(f"{CLIP} {values}", train=train), tmp_path), CLIP)
    assert [finding.path.rpartition(".")[2] for finding in found] == ["grad_clip", bound]
    assert len(findings(diagnosed(_file(CLIP, train=train), tmp_path), CLIP)) == 1


@pytest.mark.parametrize(
    ("values", "status", "note"),
    [
        ("{max_adjustments: 0}", Status.WITHOUT_EFFECT, False),
        ("{dry_run: true}", Status.WITHOUT_EFFECT, True),
        ("{enabled: false}", Status.WITHOUT_EFFECT, True),
    ],
)
def test_what_does_nothing(values: str, status: Status, note: bool, tmp_path: Path) -> None:
    """A budget of none is a mistake; a dry run and what is turned off may be meant."""
    (finding,) = findings(diagnosed(_file(f"{CLIP} {values}"), tmp_path), CLIP)
    assert (finding.status, finding.note) == (status, note)


def test_what_others_have_in_place_of_an_automation(tmp_path: Path) -> None:
    """Old style, each with its line."""
    text = (
        "trainer:\n  gradient_clip_val: 0.5\n  callbacks:\n"
        "  - class_path: lightning.pytorch.callbacks.EarlyStopping\n"
        "lr_scheduler: {class_path: torch.optim.lr_scheduler.StepLR, init_args: {step_size: 9}}\n"
        "auto_vram_management: true\n"
    )
    diagnosis = diagnosed(text, tmp_path)
    assert [(subject.status.value, subject.findings[0].line) for subject in diagnosis.subjects[1:5]] == [
        ("old style", 5),
        ("old style", 6),
        ("partly", 2),
        ("old style", 4),
    ]


def test_an_automation_that_is_left_out_beside_others_is_worth_a_note(tmp_path: Path) -> None:
    """Whoever names two of four may mean it; --strict tells all the same."""
    diagnosis = diagnosed(_file(CLIP), tmp_path)
    assert statuses(diagnosis)[STOP] == "missing"
    assert diagnosis.is_sound()
    assert not diagnosis.is_sound(strict=True)


@pytest.mark.parametrize(
    ("text", "name", "line"),
    [
        ("train:\n  scheduler: {type: CosineAnnealingLR, T_max: 40000}\n", LR, 2),
        ("auto_vram_management: true\n", BATCH, 1),
        ("trainer: {callbacks: EarlyStopping}\n", STOP, 1),
    ],
)
def test_what_has_an_older_means_beside_a_short_section_is_a_choice(
    text: str, name: str, line: int, tmp_path: Path
) -> None:
    """It is told, and is nothing to mend: migrate has nothing to change either."""
    diagnosis = diagnosed(f"{text}training_automations: {{AdaptiveGradientClipping: }}\n", tmp_path)
    (finding,) = findings(diagnosis, name)
    assert (finding.status, finding.note, finding.line) == (Status.OLD_STYLE, True, line)
    assert "migrate" not in finding.mend
    assert diagnosis.is_sound()


@pytest.mark.parametrize(
    ("rest", "words"),
    [("val: {val_enabled: false}\n", "computes nothing (val.val_enabled)"), ("", None)],
)
def test_validation_that_is_turned_off_cannot_be_watched(rest: str, words: str | None, tmp_path: Path) -> None:
    """Where the file does not say what it computes, nothing is said."""
    found = findings(diagnosed(_file(STOP, rest=rest), tmp_path), STOP)
    assert [words in finding.found for finding in found if words] == [True] * (words is not None)
    assert bool(found) == (words is not None)


def test_a_default_metric_that_is_not_computed_is_no_mistake(tmp_path: Path) -> None:
    """The stopper looks for another one then; what validation computes is not asked."""
    rest = "val:\n  metrics: {loss: {type: l}}\n"
    assert findings(diagnosed(_file(STOP, rest=rest), tmp_path), STOP) == []


@pytest.mark.parametrize(
    ("metric", "mend", "note"),
    [
        ("val/lpips", "Name one", False),
        ("val/loss", "Name one", False),
        ("val/pnsr", "Did you mean 'val/psnr'?", False),
        ("val/PSNR", "Did you mean 'val/psnr'?", False),
        ("psnr", "Did you mean 'val/psnr'?", True),
        ("val_psnr", "Name one", True),
        ("valid/ssim", "Did you mean 'val/ssim'?", True),
    ],
)
def test_another_quantity_is_no_misspelt_metric(metric: str, mend: str, note: bool, tmp_path: Path) -> None:
    """What all names begin with makes them alike only to a machine; another prefix may be the program's."""
    text = _file(f"{STOP} {{monitor_metric: {metric}}}", rest=VAL)
    (finding,) = findings(diagnosed(text, tmp_path), STOP)
    assert finding.mend.startswith(mend)
    assert finding.note is note


@pytest.mark.parametrize(
    ("scheduler", "path"),
    [
        ("{type: CosineAnnealingLR, T_max: 400000}", "T_max"),
        ("{type: StepLR, step_size: 50000}", "step_size"),
        ("{type: MultiStepLR, milestones: [40000, 50000]}", "milestones"),
    ],
)
@pytest.mark.parametrize("section", ["", "  training_automations: {IntelligentLearningRateScheduler: }\n"])
def test_a_schedule_of_the_file_that_outlives_the_run_is_worth_a_note(
    scheduler: str, path: str, section: str, tmp_path: Path
) -> None:
    """Beside our section as well as without it."""
    text = f"{TRAIN}  scheduler: {scheduler}\n{section}"
    found = [finding for finding in findings(diagnosed(text, tmp_path), LR) if "the scheduler's" in finding.found]
    assert [finding.path for finding in found] == [f"train.scheduler.{path}"]
    assert found[0].note


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        (
            "{type: CosineAnnealingRestartLR, periods: [9, 9], eta_min: 1e-7}",
            "the restarts of CosineAnnealingRestartLR",
        ),
        ("{type: MultiStepLR, milestones: [40000]}", "all milestones of MultiStepLR lie beyond the 40000 steps"),
        ("{type: MultiStepLR, milestones: []}", "MultiStepLR has no milestones"),
        ("{type: StepLR, step_size: 40000}", "step_size of StepLR is 40000"),
        ("{type: CosineAnnealingLR, eta_min: 1.0}", "eta_min of CosineAnnealingLR is 1 and the rate is 0.0002"),
        ("{type: StepLR, step_size: 9, power: 3}", "power of StepLR are not arguments of a fallback"),
        ("{type: OneCycleLR, max_lr: 1}", "OneCycleLR with these arguments cannot be a fallback"),
        ("{type: StepLR, step_size: 9, last_epoch: -1}", "with the scheduler's numbers as the fallback"),
    ],
)
def test_what_a_fallback_loses_of_the_scheduler_is_said(scheduler: str, words: str, tmp_path: Path) -> None:
    """Before anything is written."""
    found = findings(diagnosed(f"{TRAIN}  scheduler: {scheduler}\n", tmp_path), LR)
    assert words in found[0].mend


@pytest.mark.parametrize(
    ("text", "path", "written"),
    [
        ("train: {total_iter: -5, optim_g: {lr: 0.1}}\n", "train.total_iter", "-5"),
        ("train: {total_epochs: many, optim_g: {lr: 0.1}}\n", "train.total_epochs", "many"),
        ("train: {total_iter: 9}\nval: {val_freq: 0}\n", "val.val_freq", "0"),
        ("train: {total_iter: 9, grad_clip: lots}\n", "train.grad_clip", "lots"),
    ],
)
def test_what_is_no_count_is_told(text: str, path: str, written: str, tmp_path: Path) -> None:
    """It was not taken into account, and nobody would know."""
    found = [one for one in findings(diagnosed(text, tmp_path), "training_automations") if one.path == path]
    assert [one.found for one in found] == [f"{path} is {written}"]
    assert found[0].note


@pytest.mark.parametrize("text", ["train:\n  total_iter: ${oc.env:N}\n", "train: {total_iter: 9, grad_clip: false}\n"])
def test_what_is_not_known_or_turned_off_is_no_fault(text: str, tmp_path: Path) -> None:
    """An interpolation is the program's, false is a way to say no."""
    assert all("was expected" not in one.why for one in findings(diagnosed(text, tmp_path), "training_automations"))


@pytest.mark.parametrize(
    "class_path", ["lightning_automations.AdaptiveGradientCliping", "lightning_automation.AdaptiveGradientClipping"]
)
def test_a_misspelt_callback_of_ours_is_found(class_path: str, tmp_path: Path) -> None:
    """LightningCLI would fail on it; here it is named before, with the nearest one."""
    text = f"trainer:\n  max_steps: 9\n  callbacks:\n  - class_path: {class_path}\n"
    (found,) = [one for one in findings(diagnosed(text, tmp_path), "training_automations") if class_path in one.found]
    assert "Did you mean 'lightning_automations.AdaptiveGradientClipping'?" in found.mend
    assert found.line == 4
    assert not found.note


def test_a_wait_longer_than_the_run_is_worth_a_note(tmp_path: Path) -> None:
    """The other one can end the run."""
    text = _file(f"{STOP} {{patience: 3000, max_no_improvement: 50000}}", rest=VAL)
    (found,) = findings(diagnosed(text, tmp_path), STOP)
    assert found.note
    assert found.path.endswith("max_no_improvement")


def test_min_epochs_that_a_run_may_well_reach_is_worth_a_note(tmp_path: Path) -> None:
    """40,000 steps are 10 epochs if one has fewer than 4,000; the file does not tell."""
    (finding,) = findings(diagnosed(_file(f"{STOP} {{min_epochs: 10}}"), tmp_path), STOP)
    assert finding.note
    assert "fewer than 4000 steps and" in finding.why


def test_criteria_that_leave_nothing_to_stop_by(tmp_path: Path) -> None:
    """The finding names the setting."""
    (finding,) = findings(diagnosed(_file(f"{STOP} {{criteria: []}}"), tmp_path), STOP)
    assert finding.path.endswith("IntelligentEarlyStopping.criteria")
    assert finding.status is Status.WITHOUT_EFFECT


@pytest.mark.parametrize(
    ("text", "status", "words"),
    [
        ("train:\n  losses: [{type: l1, loss_weight: 1.0}]\n", "right", "the loss has 1 term (l1 1)"),
        ("train:\n  losses: [{type: l1}, {type: ssim}]\n", "missing", "the loss has 2 terms (l1, ssim)"),
        (
            "train:\n  dynamic_loss_scheduling: true\n",
            "old style",
            "names no loss; train.dynamic_loss_scheduling is on",
        ),
        ("train:\n  dynamic_loss_scheduling: true\n  training_automations:\n", "partly", "is on"),
        ("a: 1\n", "right", "the file names no loss"),
        (
            "train:\n  losses: [{type: l1}, {type: ssim}]\n  training_automations: {DynamicLossScheduling: }\n",
            "right",
            "2 terms",
        ),
        (
            "train:\n  dynamic_loss_scheduling: true\n  training_automations: {DynamicLossScheduling: }\n",
            "partly",
            "is on",
        ),
    ],
)
def test_loss_scheduling(text: str, status: str, words: str, tmp_path: Path) -> None:
    """One term needs none; several have none, or the older one."""
    diagnosis = diagnosed(text, tmp_path)
    assert statuses(diagnosis)[LOSSES] == status
    assert words in diagnosis.subjects[-1].present


def test_a_problem_elsewhere_is_not_told_of_an_automation(tmp_path: Path) -> None:
    """Each problem stands once, under what it belongs to."""
    text = "training_automations:\n  journal: 3\n  AdaptiveGradientClipping: {min_threshold: -1}\n  EarlyStopping:\n"
    diagnosis = diagnosed(text, tmp_path)
    assert [finding.line for finding in findings(diagnosis, CLIP)] == [3]
    assert [finding.line for finding in findings(diagnosis, "training_automations")] == [2, 4]


def test_a_file_with_a_wrong_callback_and_no_section_has_the_problem_alone(tmp_path: Path) -> None:
    """That the section is missing is no news where the callbacks stand in the trainer's list."""
    text = (
        "trainer:\n  callbacks:\n  - class_path: lightning_automations.IntelligentEarlyStopping\n"
        "    init_args: {patience: 0}\n"
    )
    diagnosis = diagnosed(text, tmp_path)
    assert findings(diagnosis, "training_automations") == []
    assert [finding.status for finding in findings(diagnosis, STOP)] == [Status.INVALID]


def test_settings_that_are_not_valid_are_told_with_their_lines(tmp_path: Path) -> None:
    """As training would refuse them."""
    (finding,) = findings(diagnosed(_file(f"{CLIP} {{min_threshold: -1}}"), tmp_path), CLIP)
    assert (finding.status, finding.line) == (Status.INVALID, 5)
    assert finding.found.startswith("expected a number above 0")

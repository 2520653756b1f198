from benchmarks.methods import METHODS
from benchmarks.methods.method import Study
from benchmarks.plan import BENCH, FULL, QUICK, competes
from benchmarks.scenarios import SCENARIOS, Family
from benchmarks.tasks import TASKS


def test_a_plan_has_each_run_once_and_one_seed_after_the_other() -> None:
    """What is cut off half-way is a whole measurement of fewer seeds."""
    cells = FULL.cells()
    assert len(set(cells)) == len(cells)
    seeds = [cell.seed for cell in cells]
    assert seeds == sorted(seeds)
    assert cells[: len(BENCH.cells())] == BENCH.cells()


def test_every_run_of_a_method_has_a_plain_one_beside_it() -> None:
    """Rescue and harm are counted over pairs."""
    for plan in (QUICK, FULL):
        cells = plan.cells()
        plain = {(c.task, c.optimizer, c.scenario, c.seed) for c in cells if c.method == "plain"}
        assert {(c.task, c.optimizer, c.scenario, c.seed) for c in cells} == plain


def test_every_task_scenario_and_method_takes_part_in_the_full_plan() -> None:
    """A row that is added is measured."""
    cells = FULL.cells()
    assert {cell.task for cell in cells} == {task.name for task in TASKS}
    assert {cell.scenario for cell in cells} == {scenario.name for scenario in SCENARIOS}
    assert {cell.method for cell in cells} == {method.name for method in METHODS}


def test_more_seeds_are_of_methods_that_only_clip() -> None:
    """Beside plain Lightning and chance, without which their runs have no partner; rates are not among them."""
    more = [cell for cell in FULL.cells() if cell.seed in FULL.clipping_seeds]
    studies = {method.name: method.studies for method in METHODS}
    assert len({*FULL.seeds, *FULL.clipping_seeds}) >= 5
    assert {cell.method for cell in more if studies[cell.method] != {Study.CLIPPING}} == {"plain", "plain, rate +1 %"}
    assert not any(cell.scenario.startswith("rate") for cell in more)


def test_methods_meet_the_scenarios_of_their_studies_alone() -> None:
    """A clipper is not asked to mend a rate; all automations together meet everything."""
    for method in METHODS:
        families = {scenario.family for scenario in SCENARIOS if competes(method, scenario)}
        if Study.TOGETHER in method.studies:
            assert families == set(Family)
        elif method.studies == {Study.CLIPPING}:
            assert families == {Family.CLEAN, Family.FAULT}

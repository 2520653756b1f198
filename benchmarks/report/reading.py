"""Fixed text of RESULTS.md: how to read it, and what was changed about the scenarios."""

from __future__ import annotations

__all__ = ["HOW_TO_READ", "SCENARIO_CHANGES"]

SCENARIO_CHANGES: tuple[str, ...] = (
    "2026-11-22 and 23, tasks, before any method was run on them for the scoreboard: photographs 300 to 400 steps of 8 "
    "crops, the recurrent matrix of characters from gain 1.8 to 1.7, wine's margin from 0.02 to 0.035, snippets (held "
    "out) to overlapping training snippets and a margin of 0.03. Clean runs of plain torch with seeds 100 to 109 had "
    "been seen: too many of them ended below the margin by chance, or taught nothing.",
    "2026-11-22 and 23, batches that do not fit memory, after runs of our automations had been seen: the least room "
    "from 0.1 to 0.15, since 0.1 was an edge at which the outcome of a peer varied; the rate of the held-out job from "
    "0.003 to 0.01, by the rule that holds for all jobs; a run that a stopping rule ends before its last epoch may now "
    "count as trained, which favours ours.",
    "2026-11-23, runs, after those of one seed had been seen: the negative control meets five scenarios instead of all "
    "sixteen, and a run whose weights are lost is ended early. The scores of all other runs of that seed, made again, "
    "are the same to the last digit.",
    "2026-11-23, stopping, after seeds 0 to 4 had been seen: the share of what was gained below which a run counts as "
    "converged from 5 to 2 %, planned drops waited for, noise judged by more. All was chosen on seeds 100 to 111. The "
    "runs shown are of seeds 5 to 9, which were replayed for the first time after the last change.",
    "2026-11-23, loss weights, after the runs shown here had been seen once: `uncertainty` keeps the size of the loss, "
    "which rescues more. For it, the seeds shown are no longer unseen.",
    "2026-11-23 and 24, measured again after the last changes to the automations' decisions: the runs of ours, without "
    "those that only clip or do nothing on the second day, and on the first those that do not fit memory. The seconds "
    "of these runs are those of the measurement before, as the machine was busy with other work; no score depends on "
    "them.",
    "2026-11-24, learning rate, after seeds 0 to 2 had been seen: a metric that gets worse is overfitting only where "
    "the line through the validations rises. Chosen on simulated runs and on seeds 100 to 103, where 77 of the 87 runs "
    "that it touches succeed and 70 did before; on seeds 104 to 107, looked at afterwards, 79 of 92 and 81 before.",
)
"""What was changed about a scenario or a task after it was first committed: date, what, why, and what had been seen."""

HOW_TO_READ = """\
A run is one method on one task with one optimizer in one scenario with one seed. It **succeeds** when it ends without
an error and with finite results, its score on the test data is at most the task's margin below that of the best tuned
clean run, and it saw no more training samples than a plain run does: rollbacks and retries are paid from the same
budget. A run whose weights were not finite at five validations in a row, a quarter of the run, is ended there and has
failed. The margin is fixed per task and listed at the end. Automations and schedulers see training and validation data;
success is judged on a third set.

**Rescued** are runs that succeed where plain Lightning fails in the same task, optimizer, scenario and seed. **Harmed**
are runs that fail where plain Lightning succeeds. Both are shares of those pairs, as count/total, percent and Wilson's
interval of 95 %. They are told apart since a method that helps often and breaks a good run now and then is not the same
as one that does neither. A dash means that there was no such pair. Runs whose partner is missing count in neither and
are shown under "no partner".

**Chance** rescues and harms too: the order of the samples or a rounding decides a run near the margin. The row
"plain, rate +1 %" is plain Lightning once more, at a rate 1 % higher. What it rescues and harms is chance:
a figure of any other row means something only as far as it goes beyond it.

**Learning-rate sensitivity** is the mean, over the rates of the scenarios, of the test loss above the reference's; a
run cannot lose more than the loss before training, and a run that does not end well counts with that. 0 is as good as
tuned at every rate. The figure in brackets is the same as a share of what there was to win: 1 means that nothing was
learnt at any rate.

There is **no pooled mean**: finite faults, non-finite faults, wrong rates and clean runs are counted apart, optimizers
are counted apart, and the held-out task stands in a section of its own. A mean over all of them would depend on how
many scenarios of each kind somebody chose. The one exception is the headline, whose list of runs was fixed in advance.

Methods that only clip, and plain Lightning beside them, have five seeds; whatever does more has the first three, and so
fewer runs in the tables of clipping. A share is over a method's own pairs.

Peers run with their shipped or documented defaults, whether or not those suit runs of some hundred steps with 20
validations: ReduceLROnPlateau's patience of ten validations lets it act once or twice, and a tuned cosine ends a clean
run of photographs, or of characters with SGD, near or below the margin, for there a constant rate learns more in so
few steps. Where a name ends in "skip", the same peer was given a skip of non-finite steps, so that its rule is compared
and not the lack of that skip. We run with two configurations and no other: the defaults, and the block that the seed
recommends. The names of ours say which."""

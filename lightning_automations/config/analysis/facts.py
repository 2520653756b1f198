"""Everything that the doctor knows about a training configuration, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lightning_automations.config.analysis.automations import (
    BATCH_OWNERS,
    RATE_FINDERS,
    STOPPERS,
    automations_of_section,
    callbacks_by_class_path,
    callbacks_named,
)
from lightning_automations.config.analysis.fact import (
    Fact,
    FileKind,
    LossTerm,
    Optimizer,
    Scheduler,
    WrittenAutomation,
)
from lightning_automations.config.analysis.length import Length, read_length, read_no_lengths
from lightning_automations.config.analysis.recipe import (
    CLIP_KEYS,
    read_clip,
    read_loss_terms,
    read_mixed_precision,
    read_no_clip,
    read_optimizers,
    read_scheduler,
    read_switch,
)
from lightning_automations.config.analysis.validation import (
    read_metrics,
    read_no_validation,
    read_validation_frequency,
)
from lightning_automations.config.analysis.values import Values, whole
from lightning_automations.config.document import Document, read_document
from lightning_automations.config.loading import Check, settings_of
from lightning_automations.config.older_place import OLDER_PLACES, read_older_place
from lightning_automations.config.section import Section, read_sections
from lightning_automations.core.errors import ConfigError, Problem
from lightning_automations.core.settings import AutomationSettings

__all__ = ["Fact", "FileKind", "LossTerm", "Optimizer", "Scheduler", "TrainingFacts", "WrittenAutomation"]
__all__ += ["facts_of", "read_facts"]

_PROJECT_KEYS = ("total_iter", "losses", *CLIP_KEYS)
_PROJECT_PREFIXES = ("optim", "scheduler")


@dataclass(frozen=True, kw_only=True)
class TrainingFacts:
    """What a training configuration says. A fact is None where the file does not tell.

    Args:
        document: The file itself.
        kind: The family of programs that the file is written for.
        base: Where ``trainer`` of LightningCLI stands: empty for the root, ``("fit",)`` in a file with subcommands.
        section: Our section with what it holds; the first one where there are several.
        automations: What the section asks for and what stands in ``trainer.callbacks`` by class path.
        problems: All that is not valid in our section and in our callbacks, with file and line; that there is no
            section is no problem here.
        hint: The nearest name to our section's, as a question, where there is no section.
        length: Steps, epochs, batch size, accumulation and samples.
        optimizers: All of them, with their rates.
        scheduler: The learning-rate scheduler that is not ours.
        clip: The fixed clipping value; True where the program chooses it.
        metrics: What validation computes, as ``val/<name>``; empty where it is turned off.
        validation_steps: Optimizer steps between validations.
        no_validation: Why no validation falls into the run, as a sentence.
        stoppers: Class paths of the stoppers in ``trainer.callbacks`` that are not ours.
        batch_owners: The same of what chooses the batch or the accumulation.
        rate_finders: The same of what chooses the learning rate.
        loss_terms: The terms of the loss with their weights.
        dynamic_loss_scheduling: The older loss scheduling, where it is on.
        auto_vram_management: The older choice of a batch size, where it is on.
        warmup_steps: Steps in which the program raises its rate.
        mixed_precision: ``bf16``, ``fp16``, or what ``trainer.precision`` says.
        no_counts: What stands where a count of 1 or more, or a clip value, belongs and is none.
        quoted_numbers: Numbers in quotes, which the program takes for texts; they are not taken into account.
        unresolved: Keys of the program whose interpolations nothing here can fill in; not taken into account either.

    Example:
        >>> facts = facts_of(read_document({"train": {"total_iter": 4e4}}))
        >>> facts.kind, facts.length.steps
        (<FileKind.PROJECT: 'project'>, Fact(value=40000, path='train.total_iter', line=None))
    """

    document: Document
    kind: FileKind
    base: tuple[str, ...]
    section: Fact[Mapping[str, Any]] | None
    automations: tuple[WrittenAutomation, ...]
    problems: tuple[Problem, ...]
    hint: str | None
    length: Length
    optimizers: tuple[Optimizer, ...]
    scheduler: Scheduler | None
    clip: Fact[bool | float] | None
    metrics: Fact[tuple[str, ...]] | None
    validation_steps: Fact[int] | None
    no_validation: Fact[str] | None
    stoppers: tuple[Fact[str], ...]
    batch_owners: tuple[Fact[str], ...]
    rate_finders: tuple[Fact[str], ...]
    loss_terms: tuple[LossTerm, ...]
    dynamic_loss_scheduling: Fact[Mapping[str, Any]] | None
    auto_vram_management: Fact[Mapping[str, Any]] | None
    warmup_steps: Fact[int] | None
    mixed_precision: Fact[str] | None
    no_counts: tuple[Fact[str], ...]
    quoted_numbers: tuple[Fact[str], ...]
    unresolved: tuple[Fact[str], ...]

    @property
    def rate(self) -> float | None:
        """The first learning rate that is written."""
        return next((optimizer.rate.value for optimizer in self.optimizers if optimizer.rate is not None), None)

    @property
    def steps(self) -> int | None:
        """Optimizer steps of the run."""
        return None if self.length.steps is None else self.length.steps.value

    def line(self, path: str) -> int | None:
        """The line of the setting at a dotted path, or of the nearest one around it; 1 for the file as a whole."""
        line = self.document.line(path)
        return 1 if line is None and self.document.file is not None else line

    def automation(self, kind: type[AutomationSettings]) -> WrittenAutomation | None:
        """The automation with these settings that will be built, else one that is turned off, else None."""
        found = [automation for automation in self.automations if automation.kind is kind]
        return next((automation for automation in found if automation.enabled), found[0] if found else None)


def read_facts(
    source: object,
    *,
    samples: int | None = None,
    steps: int | None = None,
    checks: Mapping[type[AutomationSettings], Check] | None = None,
) -> TrainingFacts:
    """Read a configuration and collect what it says; the file is not changed.

    Args:
        source: The path of a YAML file, a mapping, or a ``DictConfig``.
        samples: Samples of an epoch, 1 or more, where the caller knows them.
        steps: Optimizer steps of the run, 1 or more, where the caller knows them; they win over the file's.
        checks: As for ``load_settings``: what else to ask about the settings of an automation.

    Raises:
        ConfigError: If the source cannot be read: no such file, no YAML, no mapping at its root.
    """
    return facts_of(read_document(source), samples=samples, steps=steps, checks=checks)


def facts_of(
    document: Document,
    *,
    samples: int | None = None,
    steps: int | None = None,
    checks: Mapping[type[AutomationSettings], Check] | None = None,
) -> TrainingFacts:
    """The facts about a document that has been read; see ``read_facts``."""
    values = Values(document)
    base: tuple[str, ...] = () if values.at("trainer") is not None or values.at("fit", "trainer") is None else ("fit",)
    section, problems, hint = _section(document, checks)
    trainer = (*base, "trainer")
    listed, wrong = callbacks_by_class_path(values, trainer)
    length = read_length(values, base, samples=samples, steps=steps)
    return TrainingFacts(
        document=document,
        kind=_kind(values, base),
        base=base,
        section=None if section is None else values.told(section.values, *section.path.split(".")),
        automations=(*(automations_of_section(section) if section else ()), *listed),
        problems=(*problems, *(document.located(problem) for problem in wrong)),
        hint=hint,
        length=length,
        optimizers=read_optimizers(values, base),
        scheduler=read_scheduler(values, base),
        clip=read_clip(values, base),
        metrics=read_metrics(values),
        validation_steps=read_validation_frequency(values, base),
        no_validation=read_no_validation(values, base, length),
        stoppers=callbacks_named(values, trainer, STOPPERS),
        batch_owners=callbacks_named(values, trainer, BATCH_OWNERS),
        rate_finders=callbacks_named(values, trainer, RATE_FINDERS),
        loss_terms=read_loss_terms(values),
        dynamic_loss_scheduling=read_switch(values, *OLDER_PLACES),
        auto_vram_management=read_switch(values, ("auto_vram_management",), ("train", "auto_vram_management")),
        warmup_steps=values.fact(whole, "train", "warmup_iter"),
        mixed_precision=read_mixed_precision(values, base),
        no_counts=(*read_no_lengths(values), *read_no_clip(values)),
        quoted_numbers=tuple(values.quoted_numbers.values()),  # the last two: they are met as the others are read
        unresolved=tuple(values.unresolved.values()),
    )


def _section(
    document: Document, checks: Mapping[type[AutomationSettings], Check] | None
) -> tuple[Section | None, tuple[Problem, ...], str | None]:
    """The section, what is not valid in it, and the nearest name where there is none."""
    try:
        section, *_ = read_sections(document)
    except ConfigError as error:
        older = read_older_place(document)
        found = (*document.problems, *(older.problems if older is not None else ()))
        return None, tuple(document.located(problem) for problem in found), error.problems[0].hint
    try:
        settings_of(document, checks=checks)
    except ConfigError as error:
        return section, error.problems, None
    return section, (), None


def _kind(values: Values, base: tuple[str, ...]) -> FileKind:
    keys = values.keys(*base)
    if "trainer" in keys or {"model", "data"} <= set(keys):
        return FileKind.LIGHTNING_CLI
    train = values.keys("train")
    if values.keys("datasets") or any(key in _PROJECT_KEYS or key.startswith(_PROJECT_PREFIXES) for key in train):
        return FileKind.PROJECT
    return FileKind.BARE

"""From a configuration without automations to the same one with them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightning_automations.config.analysis.fact import Fact
from lightning_automations.config.analysis.length import read_length
from lightning_automations.config.analysis.recipe import (
    read_clip,
    read_metrics,
    read_optimizers,
    read_scheduler,
)
from lightning_automations.config.analysis.values import Values
from lightning_automations.config.document import Document, read_document
from lightning_automations.config.loading import load_settings
from lightning_automations.config.migration.editing import Edit, added_member, applied, replaced
from lightning_automations.config.migration.layout import Span, read_layout
from lightning_automations.config.migration.recommendation import Numbers, recommended
from lightning_automations.config.migration.rendering import section_lines
from lightning_automations.config.names import SECTION
from lightning_automations.config.yaml_tree import YamlTree
from lightning_automations.core.errors import ConfigError, Problem

__all__ = ["migrated"]


def migrated(text: str, source: str) -> str:
    """The text of a configuration with the recommended section in it.

    The section goes to the end of ``train``, or to the end of the file where there is no ``train`` that lines can be
    added to. A section that is there stays as it is. ``grad_clip: true`` becomes ``false`` beside a new section,
    because the automation clips now; the key stays, as many a program clips where it is missing. The scheduler stays
    too: the automation's factor is on top of it, so that a run in which nothing happens is the run that it was. The
    fallback has the scheduler's own numbers.

    Args:
        text: The text of the file, without a byte order mark.
        source: The path of the file.

    Raises:
        ConfigError: If the file does not load, cannot be changed safely, or is one of LightningCLI, whose callbacks
            stand in a list.
    """
    document = read_document(source)
    if document.problems:
        raise ConfigError(document.located(problem) for problem in document.problems)
    if _has_section(document):
        load_settings(source)
        return text
    if "trainer" in document.data:
        raise ConfigError([_refused("a file whose automations stand in a section", "a file of LightningCLI", source)])
    return _with_section(text, document, source)


def _has_section(document: Document) -> bool:
    train = document.data.get("train")
    return SECTION in document.data or (isinstance(train, Mapping) and SECTION in train)


def _with_section(text: str, document: Document, source: str) -> str:
    values, root = Values(document), read_layout(text)
    clip = read_clip(values, ())
    block = recommended(_numbers(values, clip))
    train = root.at("train")
    place = train if train is not None and train.is_open_mapping else root
    if not place.is_open_mapping:
        raise ConfigError([_refused("keys on lines of their own", "a mapping in braces", source)])
    section = {"enabled": True, **block}
    edits = [added_member(text, place, section_lines(block), blank_line=True)]
    expected = dict(document.data)
    if clip is not None:
        edits.append(_clip_off(root, clip, source))
        expected["train"] = {**expected["train"], "grad_clip": _OFF[clip.value is True]}
    if place is root:
        expected[SECTION] = section
    else:
        expected["train"] = {**expected["train"], SECTION: section}
    return _checked(applied(text, edits), expected, source)


_OFF: Mapping[bool, Any] = {True: False, False: None}
"""What turns off a clip value of true, and one that is a number."""


def _clip_off(root: Span, clip: Fact[bool | float], source: str) -> Edit:
    span = root.at(*clip.path.split("."))
    if span is None:
        raise ConfigError([_refused("a value of its own", "one that stands elsewhere", source, clip.path, clip.line)])
    return replaced(span, "false" if clip.value is True else "null")


def _numbers(values: Values, clip: Fact[bool | float] | None) -> Numbers:
    length = read_length(values, (), samples=None, steps=None)
    scheduler, metrics = read_scheduler(values, ()), read_metrics(values)
    rates = [optimizer.rate.value for optimizer in read_optimizers(values, ()) if optimizer.rate is not None]
    names = () if metrics is None else metrics.value
    chosen = sorted(names, key=lambda name: name != "val/psnr")[:1]
    return Numbers(
        steps=None if length.steps is None else length.steps.value,
        batch_size=None if length.batch_size is None else length.batch_size.value,
        rate=rates[0] if rates else None,
        clip_norm=None if clip is None else float(clip.value),
        scheduler_type=None if scheduler is None else scheduler.type.value,
        scheduler_params={} if scheduler is None else scheduler.arguments,
        stopping={"monitor_metric": chosen[0]} if chosen else {},
    )


def _checked(text: str, expected: Mapping[str, Any], source: str) -> str:
    """The new text, once it is known to hold what it should and nothing else."""
    tree = YamlTree(text)
    # repr tells 1 from 1.0 and from true, and NaN equals itself
    if tree.problems or repr(tree.data) != repr(dict(expected)):
        raise ConfigError([_refused("a file to which keys can be added", "one where that changes others", source)])
    load_settings(tree.data)
    return text


def _refused(expected: str, got: str, source: str, path: str = "", line: int | None = None) -> Problem:
    hint = "Nothing was changed. Add the section by hand."
    return Problem(path=path, expected=expected, got=got, hint=hint, file=source, line=line)

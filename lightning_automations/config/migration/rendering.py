"""Settings as lines of YAML, in the form that the framework's analysis has them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from lightning_automations.config.names import SECTION

__all__ = ["scalar", "section_lines"]

_TITLES = {
    "IntelligentLearningRateScheduler": "Intelligent Learning Rate Scheduler",
    "DynamicBatchSizeOptimizer": "Dynamic Batch Size Optimizer",
    "AdaptiveGradientClipping": "Adaptive Gradient Clipping",
    "IntelligentEarlyStopping": "Intelligent Early Stopping",
}


def section_lines(automations: Mapping[str, Mapping[str, Any]], *, remarks: Mapping[str, str]) -> list[str]:
    """The whole section, with a heading over each automation.

    Args:
        automations: Settings of each automation, under its name.
        remarks: A sentence for the heading of an automation, under its name.
    """
    lines = ["# Training automations: what adapts the run while it trains", f"{SECTION}:"]
    lines.append("  enabled: true")
    for number, (name, settings) in enumerate(automations.items(), start=1):
        lines += ["", f"  # {number}. {_TITLES[name]}"]
        lines += [f"  # {remarks[name]}."] if name in remarks else []
        lines += _deeper(_member(name, settings))
    return lines


def scalar(value: object) -> str:
    """A single value, or a list of them, that YAML 1.1 and 1.2 read alike.

    Example:
        >>> scalar(1e-05), scalar("val/psnr"), scalar([1, 2]), scalar(True)
        ('0.00001', '"val/psnr"', '[1, 2]', 'true')
    """
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(scalar(item) for item in value)}]"
    if isinstance(value, float) and math.isfinite(value):
        # YAML 1.1 takes 1e-05 for a text, so the number is written out
        written = format(Decimal(repr(value)), "f")
        return written if "." in written else f"{written}.0"
    return json.dumps(value, ensure_ascii=False)


def _member(name: str, value: object) -> list[str]:
    if isinstance(value, Mapping) and value:
        return [f"{name}:", *(line for key in value for line in _deeper(_member(str(key), value[key])))]
    return [f"{name}: {'{}' if isinstance(value, Mapping) else scalar(value)}"]


def _deeper(lines: Sequence[str]) -> list[str]:
    return [f"  {line}" if line else line for line in lines]

"""Why there is no report."""

from __future__ import annotations

from importlib.util import find_spec

__all__ = ["ReportError", "missing_packages"]

_PACKAGES = ("jinja2", "plotly", "matplotlib")


class ReportError(Exception):
    """A report cannot be made: the message says what was looked for, where, and what to do."""


def missing_packages() -> list[str]:
    """What the extra ``report`` brings and is not installed."""
    return [name for name in _PACKAGES if find_spec(name) is None]


def require_packages() -> None:
    """Say which extra is to be installed.

    Raises:
        ReportError: If something of it is missing.
    """
    missing = missing_packages()
    if missing:
        raise ReportError(f'The report needs {", ".join(missing)}: pip install "lightning-automations[report]"')

"""Writes RESULTS.md from outcomes, and a table for the console."""

from benchmarks.report.console import quick_table
from benchmarks.report.results import render

__all__ = ["quick_table", "render"]

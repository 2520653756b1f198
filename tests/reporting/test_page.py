"""The page is sound HTML, escapes everything, and needs nothing from elsewhere."""

from __future__ import annotations

import base64
import gzip
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lightning_automations.reporting import page
from lightning_automations.reporting.reading import read_run
from tests.reporting.runs import CLIPPING, change, entry, start, write_journal, write_metrics

VOID = {"meta", "br", "link", "img"}
EVIL = "</script><script>alert(1)</script><b onclick='x'>&\"{{ 7 * 7 }}"


class Strict(HTMLParser):
    """Knows which elements are open, and collects what refers to elsewhere."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.seen: list[str] = []
        self.references: list[str] = []
        self.handlers: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.references += [str(value) for name, value in attrs if name in ("src", "href", "action")]
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def parsed(text: str) -> Strict:
    """The page read strictly: every element is closed by its own end."""
    parser = Strict()
    parser.feed(text)
    parser.close()
    assert parser.open == []
    return parser


@pytest.fixture
def code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A short stand-in for Plotly's code, whose embedding has a test of its own."""
    monkeypatch.setattr(page, "_plotly", lambda: "UExPVExZ")


@pytest.mark.usefixtures("code")
def test_the_page_is_sound_and_needs_no_network(tmp_path: Path) -> None:
    """All elements are closed, nothing is loaded, and the policy in its head forbids it."""
    write_journal(tmp_path, start(), change(step=10, reason="plateau"), change(step=20, reason="divergence"))
    write_metrics(tmp_path, train__loss=[2.0, 1.0])
    text = page.page_of(read_run(tmp_path))
    found = parsed(text)
    assert (found.references, found.handlers) == ([], [])
    assert "default-src 'none'" in text
    assert text.count("<tr>") == 3
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text


@pytest.mark.usefixtures("code")
def test_whatever_a_run_is_called_is_text(tmp_path: Path) -> None:
    """Names of metrics, parameters, notes and folders open no element, in HTML or in the data of a chart."""
    folder = tmp_path / "<i>run"
    plain = page.page_of(_evil(tmp_path / "plain", "harmless"))
    text = page.page_of(_evil(folder, EVIL))
    assert parsed(text).seen == parsed(plain).seen
    assert "&lt;i&gt;run" in text
    assert "{{ 7 * 7 }}" in text
    [figure] = [json.loads(data) for data in re.findall(r"data-chart=\"[^\"]*\">(.*?)</script>", text)]
    assert "<script" not in json.dumps(figure)


def _evil(folder: Path, name: str) -> page.RunRecord:
    write_journal(
        folder,
        start(secret=name),
        start(CLIPPING),
        change(step=10, reason=name, parameter=name, old=name, new=name, evidence={name: name}),
        entry("note", CLIPPING, message=name),
        entry("retired", CLIPPING, why=name, fallback={}),
        entry("end", CLIPPING, adjustments=0, retired=False, summary=name),
    )
    (folder / "metrics.csv").write_text(f'step,"loss {name.replace(chr(34), chr(34) * 2)}"\n9,1.0\n')
    return read_run(folder)


@pytest.mark.usefixtures("code")
def test_nan_is_no_obstacle(tmp_path: Path) -> None:
    """The data of charts is strict JSON."""
    write_journal(tmp_path, start(), change(step=10, reason="non_finite", evidence={"loss": math.nan}))
    write_metrics(tmp_path, train__loss=[1.0, "nan", "inf"])
    text = page.page_of(read_run(tmp_path))
    charts = re.findall(r"data-chart=\"[^\"]*\">(.*?)</script>", text, flags=re.DOTALL)
    assert charts
    for data in charts:
        json.loads(data, parse_constant=pytest.fail)


def test_a_run_without_numbers_has_a_page_without_code(tmp_path: Path) -> None:
    """What is missing is said, and Plotly is not there for nothing."""
    write_journal(tmp_path, start())
    text = page.page_of(read_run(tmp_path))
    parsed(text)
    assert "No logged numbers were found" in text
    assert "left out: loss, metrics besides the loss, learning rate" in text
    assert len(text) < 20_000


@pytest.mark.usefixtures("code")
def test_a_very_long_table_is_cut_and_says_so(tmp_path: Path) -> None:
    """The journal has the rest."""
    lines = [change(step=step, reason="plateau") for step in range(page.ROWS_SHOWN + 5)]
    write_journal(tmp_path, start(), *lines)
    text = page.page_of(read_run(tmp_path))
    assert text.count("<tr>") == page.ROWS_SHOWN + 1
    assert "5 more are in the journal" in text


def test_the_code_of_plotly_is_in_the_page() -> None:
    """Compressed, and whole when it is unpacked."""
    code = gzip.decompress(base64.b64decode(page._plotly())).decode()
    assert "plotly.js" in code[:300]
    assert len(page._plotly()) < 2_500_000

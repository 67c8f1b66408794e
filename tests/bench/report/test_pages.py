"""Pages: from the package as it is installed, everything escaped, nothing missing in silence."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from jinja2 import UndefinedError

import vidkit
from tests.data.builds import environment
from vidkit.bench.report import pages
from vidkit.bench.report.pages import Cell, Column, Figure, Section, Table, render

HOSTILE = "\"><script>alert(1)</script> & '{{ 7 * 7 }}'"


def table(text: str, name: str = "results") -> Table:
    return Table(
        name=name,
        caption=text,
        columns=(Column(name=text, heads=True), Column(name="figure", look="right")),
        rows=((Cell(text, more=text), Cell(text, bad=True)),),
    )


def page(text: str) -> str:
    section = Section(
        title=text,
        before=(text,),
        figures=(Figure(image="data:image/png;base64,iVBORw==", alt=text, caption=text),),
        after=(text,),
        summary=text,
        table=table(text, "more"),
    )
    return render(text, table(text), [text], [section])


def parsed(text: str) -> ET.Element:
    """Well-formed but for its script, which is compared with the file and taken out."""
    head, _, rest = text.partition("<script>")
    script, _, tail = rest.partition("</script>")
    assert script == Path(pages.__file__).with_name("templates").joinpath("page.js").read_text(encoding="utf-8")
    return ET.fromstring((head + tail).removeprefix("<!DOCTYPE html>"))


def test_everything_is_escaped() -> None:
    text = page(HOSTILE)
    assert text.count("<script") == 1, "ours"
    whole = parsed(text)
    said = "".join(whole.itertext())
    assert said.count(HOSTILE) == 16, "title twice; two tables with caption, column and two cells; the section"
    assert "49" not in said
    for part, name in ((".//img", "alt"), (".//div[@role='region']", "aria-label"), (".//tbody//th", "data-more")):
        found = whole.find(part)
        assert found is not None
        assert found.attrib[name] == HOSTILE


def test_only_our_script_may_run_and_nothing_is_fetched() -> None:
    whole = parsed(page("plain"))
    rule = next(meta.attrib["content"] for meta in whole.iter("meta") if meta.get("http-equiv"))
    script = re.search(r"<script>(.*)</script>", page("plain"), re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in rule
    assert "default-src 'none'" in rule


def test_what_a_template_lacks_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="unfolded"):
        pages._templates().get_template("page.html").render(
            title="t", table=table("x"), notes=[], style="", script="", allowed="",
            sections=[{"title": "s", "before": (), "figures": (), "after": (), "table": table("x")}],
        )  # fmt: skip


def test_from_where_it_is_installed(tmp_path: Path) -> None:
    """A copy of the package in another place, as a wheel unpacks it, finds its own templates."""
    package = Path(vidkit.__file__).parent
    files = shutil.ignore_patterns("__pycache__")
    shutil.copytree(package, tmp_path / "site/vidkit", ignore=files)
    style = tmp_path / "site/vidkit/bench/report/templates/page.css"
    style.write_text(style.read_text() + "/* of the copy */\n")
    code = (
        "from vidkit.bench.report.pages import Cell, Column, Table, render\n"
        "table = Table(name='results', caption='c', columns=(Column(name='n'),), rows=((Cell('v'),),))\n"
        "print(render('t', table, ['a note'], []))"
    )
    there = environment(PYTHONPATH=str(tmp_path / "site"))
    done = subprocess.run(
        [sys.executable, "-c", code], env=there, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "/* of the copy */" in done.stdout, done.stderr
    assert '<td class="">v</td>' in done.stdout


def test_the_same_page_again() -> None:
    assert page("plain") == page("plain")

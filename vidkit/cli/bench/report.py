"""`vidkit report`: tables from the rows of ablations and studies, and what changed from one to another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vidkit.cli.options import Json, as_place
from vidkit.cli.output import print_json
from vidkit.errors import ConfigError

if TYPE_CHECKING:
    from vidkit.bench.report.results import Results
    from vidkit.data.storage.places import Place

EXAMPLE = "vidkit report vidkit-ablation --html report.html --markdown report.md"


def run(
    folders: Annotated[
        list[Any],  # a Path each, or an address
        typer.Argument(metavar="DIR...", help="Results of `vidkit ablate`, or their addresses.", parser=as_place),
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Of two DIRs: what changed from the first to the second.")
    ] = False,
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="Write CSV.", show_default=False)] = None,
    markdown: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write Markdown.", show_default=False)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write one page with the table, plots, and pictures of masks.", show_default=False
        ),
    ] = None,
    data: Annotated[
        Any,
        typer.Option(
            "--data",
            metavar="DIR",
            parser=as_place,
            help="The dataset, for the pictures of --html; by default DIR/data, as without --data in `ablate`.",
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> int:
    """Print the table of an ablation or a study: mean and 95 % interval over seeds, contrasts with a verdict each
    or each arm against the study's reference, and the paper's figures beside.

    Two folders can be compared: what changed from the first to the second.
    """
    if compare:
        return _compare(folders, csv=csv, markdown=markdown, html=html, as_json=as_json)
    if data is not None and html is None:
        raise ConfigError("--data is for the pictures of a page", field="--data", hint="give --html as well")
    from vidkit.bench.report import table
    from vidkit.cli.bench.tables import show_results

    results = table.read_results(folders)
    for path, text in ((csv, table.csv_text), (markdown, table.markdown)):
        if path is not None:
            _write(path, text(results))
    if html is not None:
        write_page(html, results, data)
    if as_json:
        print_json(table.plain(results))
    else:
        show_results(results)
    return 0


def write_page(html: Path, results: Results, data: Place | None) -> None:
    """The page with table, plots and, of a grid, pictures; see `vidkit.bench.report.html.page`.

    Raises:
        ConfigError: `data` of a study, whose page has no pictures.
    """
    from vidkit.bench.report.html import page
    from vidkit.bench.report.mask_pictures import mask_pictures
    from vidkit.bench.report.table import lines

    if results.study is not None:
        if data is not None:
            raise ConfigError(
                f"--data is for pictures of masks, which the page of study {results.study!r} has none of",
                field="--data",
                hint="leave it out",
            )
        _write(html, page(results))
        return
    pictures = mask_pictures(results, lines(results), data=data, tell=lambda words: print(words, file=sys.stderr))
    _write(html, page(results, pictures))


def _write(path: Path, text: str) -> None:
    from vidkit.files import save_whole

    save_whole(path, text)
    print(f"wrote {path}", file=sys.stderr)


def _compare(
    folders: Sequence[Place], *, csv: Path | None, markdown: Path | None, html: Path | None, as_json: bool
) -> int:
    if len(folders) != 2:
        raise ConfigError(
            f"{len(folders)} folders are given; expected two",
            field="--compare",
            hint="vidkit report --compare BEFORE AFTER",
        )
    for name, path in (("--csv", csv), ("--html", html)):
        if path is not None:
            raise ConfigError(f"{name} has no form for a comparison", field=name, hint="use --markdown or --json")
    from vidkit.bench.report import compare_text
    from vidkit.bench.report.compare import compare
    from vidkit.cli.bench.tables import show_comparison

    found = compare(*folders)
    if markdown is not None:
        _write(markdown, compare_text.markdown(found))
    if as_json:
        print_json(compare_text.plain(found))
    else:
        show_comparison(found)
    return 0

"""Scores for people, the published ones beside the user's, and for programs."""

from collections.abc import Sequence

import msgspec
import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from .evaluate import Evaluation
from .published import published_for

MANY_TIES_PERCENT = 1.0  # the duplicates within CVUSA stay below


def report_scores(
    dataset: str, checkpoint: str, evaluations: Sequence[Evaluation], *, as_json: bool
) -> None:
    """Print a table a test, and what to know about it; or all as one JSON object."""
    if as_json:
        rows = [
            {**msgspec.to_builtins(one), "published": published_for(dataset, one.test)}
            for one in evaluations
        ]
        report = {"checkpoint": checkpoint, "dataset": dataset, "tests": rows}
        typer.echo(msgspec.json.encode(report).decode())
        return
    for one in evaluations:
        _print_table(dataset, checkpoint, one)
        for path in one.broken:
            typer.echo(f"could not be read and was left out: {path}", err=True)
        if one.tied_percent > MANY_TIES_PERCENT:
            typer.echo(
                f"warning: the right item of {one.tied_percent:.1f} % of the queries ties with "
                "others, which these ranks do not see. Has the network collapsed?",
                err=True,
            )


def _print_table(dataset: str, checkpoint: str, one: Evaluation) -> None:
    """The user's row, then the published ones."""
    table = Table(
        title=f"{dataset}, {one.test}: {one.queries} queries, {one.gallery} in the gallery",
        title_justify="left", box=SIMPLE,
    )  # fmt: skip
    table.add_column("percent")
    for name in one.scores:
        table.add_column(name, justify="right")
    table.add_column("trained on")
    table.add_column("source")
    if one.scores:
        table.add_row(checkpoint, *(f"{value:.2f}" for value in one.scores.values()), "", "here")
    for row in published_for(dataset, one.test):
        cells = (f"{row.scores[name]:.2f}" if name in row.scores else "-" for name in one.scores)
        table.add_row(row.system, *cells, row.trained_on or dataset, row.source)
    Console().print(table)

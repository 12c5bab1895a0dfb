"""What a calibration has found, in words and numbers."""

from pathlib import Path

import msgspec
from rich.console import Console
from rich.table import Table

from .calibrate import GraphReport, Report
from .pack import PackCost
from .picture import GATE
from .table import LayerCalibration, Similarity

WORST_SHOWN = 8


class GraphSummary(msgspec.Struct, frozen=True):
    """One graph, for programs."""

    layers: int
    kept: list[str]  # labels
    whole: Similarity | None
    methods: dict[str, Similarity]  # every layer in int8, by each method


class Summary(msgspec.Struct, frozen=True):
    """A calibration, for programs."""

    table: str
    method: str
    frames: int
    graphs: dict[str, GraphSummary]
    pack: PackCost | None


def summary_of(output: Path, report: Report, cost: PackCost | None) -> Summary:
    """The report for programs."""
    graphs = {
        graph.file: GraphSummary(
            len(graph.calibration.layers),
            [layer.label for layer in graph.calibration.layers if layer.kept],
            graph.calibration.whole,
            {str(name): found for name, found in graph.methods.items()},
        )
        for graph in report.graphs
    }
    table = report.table
    return Summary(str(output), table.method, table.frames.count, graphs, cost)


def print_report(console: Console, output: Path, report: Report, cost: PackCost | None) -> None:
    """The report for people."""
    frames = report.table.frames
    console.print(f"{output}: {frames.count} frames of {frames.candidates}, {report.table.method}")
    for graph in report.graphs:
        console.print(_similarities(graph, report.table.method))
        console.print(_worst(graph.calibration.layers))
        whole = graph.calibration.whole
        if whole is not None and whole.min_cosine < GATE:
            console.print(
                f"warning: the smallest cosine of {graph.file} is below the gate of {GATE:g}: try "
                "another --method, more frames, or --keep-worst"
            )
    if cost is not None:
        console.print(
            f"int8 of the pack itself: cosine {cost.mean_cosine:.5f} (smallest "
            f"{cost.min_cosine:.5f}), {cost.clipped:.2%} of the numbers clipped, "
            f"same best tile as an fp32 query {cost.same_best_tile:.1%}"
        )


def _similarities(graph: GraphReport, method: str) -> Table:
    """The whole graph as the table has it, and by each method without kept layers."""
    layers = graph.calibration.layers
    kept = sum(layer.kept for layer in layers)
    table = Table(
        title=f"{graph.file}: {len(layers) - kept} of {len(layers)} layers in int8, {method}",
        title_justify="left", box=None, pad_edge=False,
    )  # fmt: skip
    for name in ("", "mean cosine", "smallest", "same best tile", "R@1 int8", "R@1 fp32"):
        table.add_column(name, no_wrap=True, justify="right" if name else "left")
    rows = [("this table", graph.calibration.whole)]
    rows += [(f"all layers, {name}", found) for name, found in graph.methods.items()]
    for name, found in rows:
        if found is not None:
            table.add_row(
                name, f"{found.mean_cosine:.5f}", f"{found.min_cosine:.5f}",
                _share(found.same_best_tile), _share(found.recall), _share(found.recall_fp32),
            )  # fmt: skip
    return table


def _worst(layers: list[LayerCalibration]) -> Table:
    """The layers that lose most alone."""
    table = Table("the worst layers alone in int8", "1 - mean cosine", "1 - smallest", "R@1", "",
                  box=None, pad_edge=False)  # fmt: skip
    measured = [(layer, layer.alone) for layer in layers if layer.alone is not None]
    measured.sort(key=lambda pair: pair[1].mean_cosine)
    for layer, alone in measured[:WORST_SHOWN]:
        table.add_row(
            layer.label, f"{1 - alone.mean_cosine:.1e}", f"{1 - alone.min_cosine:.1e}",
            _share(alone.recall), "kept" if layer.kept else "",
        )  # fmt: skip
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"

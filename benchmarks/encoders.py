r"""The encoders on two cores: speed and accuracy of every precision, and graphs beside torch.

    python benchmarks/encoders.py [--flights A,B] [--checkpoint RUN] [--markdown]

1  nano by torch, onnxruntime and OpenVINO in fp32, bf16 and int8, in batches of 1, 8 and 18
2  GeoDTR+ drone on ConvNeXt-T at 256 px, one image, beside a plain ConvNeXt-T exported by torch's
   defaults; random weights, so its cosines say what rounding does, not what int8 costs a flight
3  every architecture and branch: graph against torch
4  nano in int8 on the frames of fengyuan: R@1 and cosines

`bf16` and `int8 + bf16` name what computes; where a processor has no bf16 their lines are missing.
"""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import msgspec
import numpy as np
import typer
from cores import keep_to_two_cores
from encoders_accuracy import WITHIN_M, Cost, costs
from encoders_models import (
    GEODTR_PLUS,
    PLAIN,
    SQUARES,
    Exported,
    drawn_frames,
    exported_from_network,
    int8_from_model,
    map_frames,
    random_network,
    saved,
    stock_export,
)
from encoders_parity import Row, all_rows
from encoders_race import (
    STOCK_ONNX,
    STOCK_OPENVINO,
    TORCH,
    Batch,
    Candidate,
    Finish,
    race,
)
from tables import ABSENT, TextTable, number, show, verdict

from skyfix.export.parity import MAX_DIFFERENCE
from skyfix.export.verify import GATES, cosine
from skyfix.runtime.encoder import load_model, model_folder
from skyfix.runtime.engines.base import ModelCard, load_card
from skyfix.runtime.engines.choose import ONNX, OPENVINO, OPENVINO_BF16
from skyfix.runtime.errors import InputError, SkyfixError
from skyfix.train.adapt_start import start_from

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
BATCHES = (1, 8, 18)  # between a heading within 20 degrees (4) and none (24)
ROUNDS = 7
TORCH_FP32, ONNX_FP32, ONNX_INT8 = "torch fp32, eager", "onnxruntime fp32", "onnxruntime int8"
OPENVINO_FP32, BF16 = "OpenVINO fp32", "OpenVINO bf16"
OPENVINO_INT8, INT8_BF16 = "OpenVINO int8, rest fp32", "OpenVINO int8, rest bf16"
IN_INT8 = (ONNX_INT8, OPENVINO_INT8, INT8_BF16)
PLAIN_NAME = "plain ConvNeXt-T"
OVER_TORCH, OVER_ONNX = 2.0, 1.3  # issue 4: int8 nano
LARGEST_MS = 20.0  # issue 4: GeoDTR+ drone on ConvNeXt-T
LARGEST_LOSS = 1.0  # issue 4: points of R@1

Finishes = Mapping[tuple[str, int], Finish]


@dataclass(frozen=True)
class Bar:
    """A number that issue 4 asks for."""

    what: str
    bound: str
    reached: str
    met: bool


def main(
    model: Annotated[str, typer.Option(help="Shipped model or model folder, fp32.")] = "nano",
    checkpoint: Annotated[
        Path | None, typer.Option(help="Its checkpoint; without, weights are read from the graph.")
    ] = None,
    data: Annotated[Path, typer.Option(help="The folder with fengyuan/.")] = DATA,
    flights: Annotated[str, typer.Option(help="Of fengyuan: A or A,B.")] = "A",
    markdown: Annotated[bool, typer.Option("--markdown", help="Tables for documents.")] = False,
) -> None:
    """Run all four parts and print their tables and bars."""
    keep_to_two_cores()
    names = flights.split(",")
    if set(names) - {"A", "B"}:
        raise InputError(f"--flights {flights}: give A or A,B")
    raster = data / "fengyuan" / "map.tif"
    with TemporaryDirectory() as name:
        folder = Path(name)
        full, int8 = model_folder(model), folder / "int8"
        card = load_card(full)
        has_map = raster.is_file()
        frames = map_frames(full, raster) if has_map else drawn_frames(card)
        int8_from_model(full, frames, int8)
        print_parts(nano_part(full, int8, torch_checkpoint(model, checkpoint, folder)), markdown)
        print_parts(convnext_part(folder), markdown)
        print_parts(parity_part(), markdown)
        if has_map:
            models = load_model(full), load_model(int8, engine=OPENVINO)
            print_parts(accuracy_part(costs(data, names, models, folder / "packs")), markdown)
        else:
            print(f"{raster} is not there: nothing is said of flights. Give --data.")


def print_parts(tables: Sequence[TextTable], markdown: bool) -> None:
    """Print tables as they come."""
    for table in tables:
        show(table, markdown=markdown)
    sys.stdout.flush()


def torch_checkpoint(model: str, checkpoint: Path | None, folder: Path) -> Path | None:
    """Where torch gets nano's weights; None, with a sentence, where the graph has them not."""
    if checkpoint is not None:
        return checkpoint
    try:
        start = start_from(model)
    except SkyfixError as error:
        print(f"no line for torch: {error}")
        return None
    return saved(start.network, start.run.model, folder / "torch")


def nano_part(full: Path, int8: Path, checkpoint: Path | None) -> list[TextTable]:
    """Table 1 and its bars."""
    card = load_card(full)
    torch = [] if checkpoint is None else [Candidate(TORCH_FP32, TORCH, checkpoint, view="camera")]
    graph = card.graphs["query"]
    candidates = [*torch, *own_candidates(full / graph, card, int8 / graph)]
    finishes = race(candidates, [inputs(card, size) for size in BATCHES], ROUNDS)
    title = f"{card.name}, {card.input_px} px"
    return [
        speed_table(title, finishes),
        bars_table(title, nano_bars(finishes)),
    ]


def convnext_part(folder: Path) -> list[TextTable]:
    """Table 2 and its bar."""
    network = random_network(GEODTR_PLUS, SQUARES)
    ours = exported_from_network(network, GEODTR_PLUS, folder / "geodtr")
    plain_network = random_network(PLAIN, SQUARES)
    plain = exported_from_network(plain_network, PLAIN, folder / "plain")
    stock = stock_export(plain_network, folder / "stock.onnx")
    card = load_card(ours.full)
    batch = inputs(card, 1)
    own = race(convnext_candidates(ours, ""), [batch], ROUNDS)
    peers = race(
        [
            *convnext_candidates(plain, f"{PLAIN_NAME}, "),
            Candidate(f"{PLAIN_NAME}, stock onnxruntime", STOCK_ONNX, stock),
            Candidate(f"{PLAIN_NAME}, stock OpenVINO f32", STOCK_OPENVINO, stock, precision="f32"),
            Candidate(f"{PLAIN_NAME}, stock OpenVINO bf16", STOCK_OPENVINO, stock,
                      precision="bf16"),
        ],
        [batch], ROUNDS,
    )  # fmt: skip
    title = "GeoDTR+ drone on ConvNeXt-T, 256 px"
    return [
        speed_table(title, own),
        speed_table(f"{PLAIN_NAME} (timm's layout), 256 px", peers, f"{PLAIN_NAME}, "),
        bars_table(title, [fastest_bar(own)]),
    ]


def convnext_candidates(exported: Exported, prefix: str) -> list[Candidate]:
    """Torch and the product's engines on one network."""
    torch = Candidate(TORCH_FP32, TORCH, exported.checkpoint, view=exported.view)
    card = load_card(exported.full)
    own = own_candidates(exported.graph(), card, exported.graph(int8=True))
    return [
        Candidate(prefix + one.name, one.how, one.path, one.card, view=one.view)
        for one in (torch, *own)
    ]


def own_candidates(full: Path, card: ModelCard, int8: Path) -> list[Candidate]:
    """The product's CPU engines on an fp32 graph and an int8 graph.

    OpenVINO takes bf16 for what an int8 card leaves in floating point; a card that says fp32 keeps
    it from that.
    """
    quantised = msgspec.structs.replace(card, precision="int8")
    bf16 = [
        Candidate(BF16, OPENVINO_BF16, full, card),
        Candidate(INT8_BF16, OPENVINO, int8, quantised),
    ]
    return [
        Candidate(ONNX_FP32, ONNX, full, card),
        Candidate(ONNX_INT8, ONNX, int8, quantised),
        Candidate(OPENVINO_FP32, OPENVINO, full, card),
        Candidate(OPENVINO_INT8, OPENVINO, int8, card),
        *(bf16 if has_bf16() else []),
    ]


def has_bf16() -> bool:
    """Whether this processor computes in bf16."""
    return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def inputs(card: ModelCard, size: int) -> Batch:
    """Network inputs (size, 3, P, P): land drawn for the purpose."""
    drawn = drawn_frames(card).batch
    return np.ascontiguousarray(drawn[:size])


def speed_table(title: str, finishes: Finishes, prefix: str = "") -> TextTable:
    """A line for each candidate and batch."""
    header = (
        "engine", "batch", "median ms", "best round", "worst round", "processor ms",
        "speed, torch = 1", "speed, onnxruntime fp32 = 1", "least cosine to fp32",
    )  # fmt: skip
    rows = []
    for (name, size), finish in finishes.items():
        torch = finishes.get((prefix + TORCH_FP32, size))
        onnx = finishes[prefix + ONNX_FP32, size]
        near = float(cosine((torch or onnx).descriptors, finish.descriptors).min())
        rows.append((
            name.removeprefix(prefix), str(size), number(finish.median_ms),
            number(finish.fastest_ms), number(finish.slowest_ms), number(finish.cpu_ms),
            number(finish.speed_over(torch), 2) if torch else ABSENT,
            number(finish.speed_over(onnx), 2), number(near, 5),
        ))  # fmt: skip
    load = os.getloadavg()[0]  # of the last minute; a race by itself makes up to two of it
    return TextTable(f"{title}; load average {load:.1f}", header, rows)


def nano_bars(finishes: Finishes) -> list[Bar]:
    """The best int8 engine beside torch and onnxruntime, a bar for each batch."""
    bars = []
    for peer, least in ((TORCH_FP32, OVER_TORCH), (ONNX_FP32, OVER_ONNX)):
        for size in sorted({size for _, size in finishes}):
            slow = finishes.get((peer, size))
            if slow is None:
                continue
            fast = {name: finishes[name, size].speed_over(slow)
                    for name in IN_INT8 if (name, size) in finishes}  # fmt: skip
            best = max(fast, key=fast.__getitem__)
            bars.append(Bar(
                f"int8, batch {size}, speed over {peer}", f">= {least:g}",
                f"{fast[best]:.2f} ({best})", fast[best] >= least,
            ))  # fmt: skip
    return bars


def fastest_bar(finishes: Finishes) -> Bar:
    """The best engine of all."""
    (name, _), best = min(finishes.items(), key=lambda item: item[1].median_ms)
    return Bar(
        "best CPU engine, one image, ms", f"<= {LARGEST_MS:g}",
        f"{best.median_ms:.1f} ({name})", best.median_ms <= LARGEST_MS,
    )  # fmt: skip


def parity_part() -> list[TextTable]:
    """Table 3 and its bars."""
    rows = all_rows()
    header = (
        "network", "branch", "fp32, largest difference", "fp16, 1 - least cosine",
        "LinearAttention nodes", "layers", "outside TensorRT 10.3",
    )  # fmt: skip
    cells = [
        (row.network, row.branch, f"{row.full.difference:.1e}", f"{1 - row.half.cosine:.1e}",
         str(row.attentions), str(row.layers), str(row.outside))
        for row in rows
    ]  # fmt: skip
    title = "graphs against torch"
    return [TextTable(title, header, cells), bars_table(title, parity_bars(rows))]


def parity_bars(rows: Sequence[Row]) -> list[Bar]:
    """The worst of all branches."""
    difference = float(np.max([row.full.difference for row in rows]))
    near = float(np.min([row.half.cosine for row in rows]))
    outside = sum(row.outside for row in rows)
    uneven = [row.network for row in rows if row.attentions != row.layers]
    return [
        Bar("fp32, largest difference", f"<= {MAX_DIFFERENCE:.0e}", f"{difference:.1e}",
            difference <= MAX_DIFFERENCE),
        Bar("fp16, least cosine", f">= {GATES['fp16']:g}", f"1 - {1 - near:.1e}",
            near >= GATES["fp16"]),
        Bar("one LinearAttention node a layer", "all", "all" if not uneven else uneven[0],
            not uneven),
        Bar("nodes outside TensorRT 10.3", "0", str(outside), outside == 0),
    ]  # fmt: skip


def accuracy_part(found: Sequence[Cost]) -> list[TextTable]:
    """Table 4 and its bars."""
    header = (
        "flights", "frames", f"R@1 in {WITHIN_M:g} m, fp32 %", "int8 %",
        "mean cosine", "least cosine",
    )  # fmt: skip
    rows = [
        (one.flights, str(one.frames), number(100 * one.recall_fp32), number(100 * one.recall_int8),
         number(one.mean_cosine, 5), number(one.min_cosine, 5))
        for one in found
    ]  # fmt: skip
    title = "nano in int8 on fengyuan"
    return [TextTable(title, header, rows), bars_table(title, accuracy_bars(found[-1]))]


def accuracy_bars(cost: Cost) -> list[Bar]:
    """What int8 may cost."""
    loss = 100 * (cost.recall_fp32 - cost.recall_int8)
    return [
        Bar(f"{cost.flights}: least cosine", f">= {GATES['int8']:g}", f"{cost.min_cosine:.4f}",
            cost.min_cosine >= GATES["int8"]),
        Bar(f"{cost.flights}: points of R@1 lost", f"<= {LARGEST_LOSS:g}", f"{loss:.1f}",
            loss <= LARGEST_LOSS),
    ]  # fmt: skip


def bars_table(title: str, bars: Sequence[Bar]) -> TextTable:
    """What is asked, and whether it is there."""
    return TextTable(
        f"{title}: what is asked", ("what", "bound", "reached", ""),
        [(bar.what, bar.bound, bar.reached, verdict(met=bar.met)) for bar in bars],
    )  # fmt: skip


if __name__ == "__main__":
    try:
        typer.run(main)
    except SkyfixError as error:
        sys.exit(f"error: {error}")

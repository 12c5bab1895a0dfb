"""What encoders.py measures with: its race, its tables and bars, its search for the right tile."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import numpy as np
import pytest
import torch

from skyfix.export.parity import Parity
from skyfix.runtime.engines.base import load_card
from skyfix.runtime.engines.choose import ONNX
from skyfix.train.models.config import MFRGNDroneConfig

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def bench() -> Iterator[dict[str, ModuleType]]:
    """The benchmark's modules, which import each other as scripts do."""
    sys.path.insert(0, str(BENCHMARKS))
    names = ("encoders", "encoders_race", "encoders_parity", "encoders_worker")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(BENCHMARKS))


def finish(bench: dict[str, ModuleType], *walls_ms: float, angle: float = 0.0) -> Any:
    """A candidate that took so long in each round, its descriptor turned by an angle."""
    turns = tuple(bench["encoders_race"].Turn(wall, 2 * wall) for wall in walls_ms)
    descriptor = np.array([[np.cos(angle), np.sin(angle)]], np.float32)
    return bench["encoders_race"].Finish(turns, descriptor)


def test_a_ratio_is_of_the_same_round_whatever_the_load_of_another(
    bench: dict[str, ModuleType],
) -> None:
    slow, fast = finish(bench, 10.0, 100.0, 12.0), finish(bench, 5.0, 50.0, 4.0)
    assert fast.speed_over(slow) == 2.0  # of medians it would be 12 / 5
    assert (slow.median_ms, slow.fastest_ms, slow.slowest_ms, slow.cpu_ms) == (12, 10, 100, 20)


def test_a_table_has_a_line_each_with_ratios_and_the_cosine_to_torch(
    bench: dict[str, ModuleType],
) -> None:
    encoders = bench["encoders"]
    finishes = {
        (encoders.TORCH_FP32, 1): finish(bench, 12.0),
        (encoders.ONNX_FP32, 1): finish(bench, 6.0),
        (encoders.ONNX_INT8, 1): finish(bench, 4.0, angle=np.pi / 3),
    }
    rows = encoders.speed_table("t", finishes).rows
    assert [row[0] for row in rows] == [name for name, _ in finishes]
    assert rows[2][1:] == ("1", "4.0", "4.0", "4.0", "8.0", "3.00", "1.50", "0.50000")


def test_without_torch_a_table_has_no_ratio_to_it_and_no_bar(bench: dict[str, ModuleType]) -> None:
    encoders = bench["encoders"]
    finishes = {
        (encoders.ONNX_FP32, 8): finish(bench, 6.0), (encoders.ONNX_INT8, 8): finish(bench, 5.0),
    }  # fmt: skip
    assert [row[6] for row in encoders.speed_table("t", finishes).rows] == ["-", "-"]
    (bar,) = encoders.nano_bars(finishes)
    assert (bar.reached, bar.met) == ("1.20 (onnxruntime int8)", False)


def test_bars_take_the_best_int8_engine_and_none_in_another_precision(
    bench: dict[str, ModuleType],
) -> None:
    encoders = bench["encoders"]
    finishes = {
        (encoders.TORCH_FP32, 1): finish(bench, 12.0),
        (encoders.ONNX_FP32, 1): finish(bench, 8.0),
        (encoders.ONNX_INT8, 1): finish(bench, 7.0),
        (encoders.INT8_BF16, 1): finish(bench, 6.0),
        (encoders.BF16, 1): finish(bench, 1.0),
    }
    over_torch, over_onnx = encoders.nano_bars(finishes)
    assert (over_torch.reached, over_torch.met) == ("2.00 (OpenVINO int8, rest bf16)", True)
    assert (over_onnx.reached[:4], over_onnx.met) == ("1.33", True)
    assert encoders.fastest_bar(finishes).reached == "1.0 (OpenVINO bf16)"


@pytest.mark.parametrize(
    ("fault", "missed"),
    [
        ({"full": Parity(2e-4, 1.0)}, "fp32, largest difference"),
        ({"full": Parity(float("nan"), 1.0)}, "fp32, largest difference"),
        ({"half": Parity(0.0, 0.999)}, "fp16, least cosine"),
        ({"attentions": 2}, "one LinearAttention node a layer"),
        ({"outside": 1}, "nodes outside TensorRT 10.3"),
    ],
)
def test_one_bad_branch_among_good_ones_misses_its_bar(
    fault: dict[str, object], missed: str, bench: dict[str, ModuleType]
) -> None:
    good = bench["encoders_parity"].Row("n", "query", Parity(1e-6, 1.0), Parity(0.0, 1.0), 3, 3, 0)
    rows = [good, replace(good, **fault), good]
    assert all(bar.met for bar in bench["encoders"].parity_bars([good]))
    bars = bench["encoders"].parity_bars(rows)
    assert [bar.what for bar in bars if not bar.met] == [missed]


def test_a_lost_frame_and_a_far_descriptor_each_miss_a_bar(bench: dict[str, ModuleType]) -> None:
    cost = sys.modules["encoders_accuracy"].Cost("A", 19, 1.0, 1.0, 0.999, 0.991)
    bars = bench["encoders"].accuracy_bars
    assert [bar.met for bar in bars(cost)] == [True, True]
    assert [bar.met for bar in bars(replace(cost, recall_int8=18 / 19))] == [True, False]
    assert [bar.met for bar in bars(replace(cost, min_cosine=0.98))] == [False, True]


def test_two_processes_take_turns_and_give_the_engines_own_descriptors(
    bench: dict[str, ModuleType], tiny_model_folder: Path
) -> None:
    """The tiny model's descriptor is the patch at 8 x 8 pixels, of unit length."""
    race = bench["encoders_race"]
    card, graph = load_card(tiny_model_folder), tiny_model_folder / "both.onnx"
    batch = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    candidates = [
        race.Candidate("own", ONNX, graph, card),
        race.Candidate("stock", race.STOCK_ONNX, graph),
    ]
    found = race.race(candidates, [batch[:1], batch], rounds=2)
    small = batch.reshape(2, 3, 8, 4, 8, 4).mean(axis=(3, 5)).reshape(2, -1)
    expected = small / np.linalg.norm(small, axis=1, keepdims=True)
    assert list(found) == [("own", 1), ("stock", 1), ("own", 2), ("stock", 2)]
    for (_, size), result in found.items():
        assert len(result.turns) == 2
        assert result.median_ms > 0
        assert result.descriptors == pytest.approx(expected[:size], abs=1e-6)


def test_an_engine_that_cannot_start_ends_the_race_with_its_name(
    bench: dict[str, ModuleType], tmp_path: Path
) -> None:
    race = bench["encoders_race"]
    with pytest.raises(RuntimeError, match=r"broken: .*absent\.onnx"):
        race.race([race.Candidate("broken", race.STOCK_ONNX, tmp_path / "absent.onnx")], [], 1)


def test_layers_of_linear_attention_are_counted_as_an_image_passes_them(
    bench: dict[str, ModuleType],
) -> None:
    """MFRGN's transformer looks three times; the softmax of its alternative is not counted."""
    parity = bench["encoders_parity"]
    sizes = {"drone": (128, 128), "satellite": (128, 128)}
    cells = {"pooled_cells": (1, 3, 6, 8), "global_rows": 6}
    linear = msgspec.structs.replace(MFRGNDroneConfig("convnext_atto"), **cells)
    softmax = msgspec.structs.replace(linear, attention="softmax")
    for config, layers in ((linear, 3), (softmax, 0)):
        network = parity.random_network(config, sizes)
        encoder = parity.DescriptorOnly(network, "drone").eval()
        assert parity.linear_layers(encoder, (128, 128)) == layers


def test_no_parameter_of_a_random_network_is_a_constant_that_an_exporter_folds_away(
    bench: dict[str, ModuleType],
) -> None:
    config = MFRGNDroneConfig("convnext_atto", pooled_cells=(1, 3, 6, 8), global_rows=6)
    sizes = {"drone": (128, 128), "satellite": (128, 128)}
    network = bench["encoders_parity"].random_network(config, sizes)
    again = bench["encoders_parity"].random_network(config, sizes)
    for name, parameter in network.named_parameters():
        assert parameter.numel() == 1 or float(parameter.detach().std()) > 0, name
        assert torch.equal(parameter, again.get_parameter(name))

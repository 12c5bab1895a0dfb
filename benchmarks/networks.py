"""GeoDTR+ and MFRGN at the size of nano: what a step costs, and what equal training time buys.

    python benchmarks/networks.py --data ../shared/data/train [--minutes 3]

The drone variants on ConvNeXt atto train from scratch for the same time on the same pairs, with
nano's configuration otherwise: GeoDTR+, MFRGN as published, and MFRGN trimmed as nano is. They are
compared by the share of camera views whose own map view is the most similar in batches of one
scene each, drawn from maps that none has seen, and by the time and size of the exported graph.
"""

import argparse
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import onnx
import torch

from skyfix.export.branches import DescriptorOnly
from skyfix.export.onnx import full_graph
from skyfix.runtime.engines.base import CARD_SCHEMA, ModelCard, TrainingRecord
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.train.config import ImageryRun, config_from_yaml
from skyfix.train.data.raster import PairSampler
from skyfix.train.data.sources import sampler_from_config
from skyfix.train.loop import Run
from skyfix.train.losses import recall_at_1, same_ground
from skyfix.train.models.config import GeoDTRPlusDroneConfig, MFRGNDroneConfig
from skyfix.train.self_supervised import ImageryLesson, PairStream

NANO = Path(__file__).resolve().parents[1] / "train" / "configs" / "nano.yaml"
LAYER_SCALE, DROPOUT = 0.1, 0.05  # nano's
GEODTR_PLUS = GeoDTRPlusDroneConfig(
    "convnext_atto", layouts=8, projection=256, layer_scale=LAYER_SCALE, dropout=DROPOUT
)
MFRGN = MFRGNDroneConfig("convnext_atto", layer_scale=LAYER_SCALE, dropout=DROPOUT)
UNSEEN_SEEDS = (600, 601, 602, 603)  # of drawn maps; training has 1000 and up
TIMED_STEPS = 4
TEST_BATCHES = 12
GRAPH_RUNS = 40


def main() -> None:
    """Train, test and time both, and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=3.0)
    arguments = parser.parse_args()
    nano = config_from_yaml(NANO)
    assert isinstance(nano, ImageryRun)
    sampler = sampler_from_config(nano.data, nano.view, arguments.data)
    unseen = unseen_sampler(nano)
    print("| network | parameters | s a step | steps | unseen R@1 | ms a patch | graph MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, model in {"GeoDTR+": GEODTR_PLUS, "MFRGN": MFRGN, "nano": nano.model}.items():
        config = msgspec.structs.replace(nano, model=model)
        run, step_s = trained(config, sampler, arguments.minutes * 60)
        latency_ms, megabytes = graph_figures(run)
        parameters = sum(p.numel() for p in run.network.parameters()) / 1e6
        print(
            f"| {name} | {parameters:.1f} M | {step_s:.2f} | {run.step} | "
            f"{unseen_recall(run, unseen):.1%} | {latency_ms:.1f} | {megabytes:.1f} |",
            flush=True,
        )


def unseen_sampler(config: ImageryRun) -> PairSampler:
    """Pairs over drawn maps that no training sees."""
    maps = [town_and_country(seed, 1400, 1400, 0.7, LocalFrame(0, 0)) for seed in UNSEEN_SEEDS]
    return PairSampler(maps, np.full(len(maps), 1 / len(maps)), config.view)


def trained(config: ImageryRun, sampler: PairSampler, seconds: float) -> tuple[Run, float]:
    """A run of about this long, its schedule fitted to the time; and the median of its steps."""
    probe, stream = fresh(config, sampler), iter(PairStream(sampler, config, 0))
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        probe.advance(next(stream))
    steps = round(seconds / ((time.perf_counter() - started) / TIMED_STEPS))
    config = msgspec.structs.replace(config, steps=steps)
    run = fresh(config, sampler)
    durations = []
    for batch in PairStream(sampler, config, 0):
        before = run.seconds
        run.advance(batch)
        durations.append(run.seconds - before)
        if run.step == steps:
            break
    return run, float(np.median(durations))


def fresh(config: ImageryRun, sampler: PairSampler) -> Run:
    """A run that has not begun, and writes nothing."""
    return Run(config, ImageryLesson(config, sampler), Path(), torch.device("cpu"))


def unseen_recall(run: Run, sampler: PairSampler) -> float:
    """R@1 of the averaged weights within batches of one scene."""
    run.network.load_state_dict(run.averaged)
    network = run.network.eval()
    assert isinstance(run.config, ImageryRun)
    recalls = []
    for seed in range(TEST_BATCHES):
        parts = next(sampler.batches(run.config.batch, 1, seed))
        camera, tile, place, scene = (torch.from_numpy(part) for part in parts)
        with torch.no_grad():
            query, reference = network.encode("camera", camera), network.encode("map", tile)
        similarity = query.descriptor @ reference.descriptor.T
        ignore = same_ground(place, scene, run.config.loss.ignore_within_m)
        recalls.append(recall_at_1(similarity, ignore))
    return float(np.mean(recalls))


def graph_figures(run: Run) -> tuple[float, float]:
    """Milliseconds for one patch in onnxruntime (median), and the graph's megabytes."""
    size_px = run.network.input_px["map"][0]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        encoder = DescriptorOnly(run.network.cpu(), "map").eval()
        onnx.save(full_graph(encoder, (size_px, size_px)), path)
        with torch.no_grad():
            dimension = encoder(torch.zeros(1, 3, size_px, size_px)).shape[1]
        engine = OnnxEngine(path, _card(size_px, dimension))
        patch = np.random.default_rng(0).standard_normal((1, 3, size_px, size_px), np.float32)
        durations = []
        for _ in range(GRAPH_RUNS):
            started = time.perf_counter()
            engine.infer(patch)
            durations.append(time.perf_counter() - started)
        return float(np.median(durations) * 1e3), path.stat().st_size / 1e6


def _card(size_px: int, dimension: int) -> ModelCard:
    """What the engine wants to know; nothing of it enters the figures."""
    return ModelCard(
        schema=CARD_SCHEMA, name="timed", model_id="", architecture="", graphs={},
        input_px=size_px, gsd_m=1.0, mean=None, std=None, dimension=dimension, precision="fp32",
        training=TrainingRecord("", 0, 0.0, "", {}), licence="",
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""GeoDTR+ and MFRGN at the size of nano: what a step costs, and what equal training time buys.

    python benchmarks/networks.py --data ../shared/data/train [--minutes 3]

Both drone variants on ConvNeXt atto train from scratch for the same time on the same pairs, with
nano's configuration otherwise. They are compared by the share of camera views whose own map view
is the most similar in batches of one scene each, drawn from maps that neither has seen, and by
the time and size of the exported graph.
"""

import argparse
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import torch

from skyfix.export.onnx import DescriptorOnly, write_graph
from skyfix.runtime.engines.base import CARD_SCHEMA, ModelCard, TrainingRecord
from skyfix.runtime.engines.onnx import OnnxEngine
from skyfix.runtime.geo import LocalFrame
from skyfix.runtime.sense.procedural import town_and_country
from skyfix.train.config import TrainConfig, config_from_yaml
from skyfix.train.data.raster import PairSampler
from skyfix.train.data.sources import sampler_from_config
from skyfix.train.loop import PairStream, Run
from skyfix.train.losses import recall_at_1, same_ground

NANO = Path(__file__).resolve().parents[1] / "train" / "configs" / "nano.yaml"
ARCHITECTURES = {"GeoDTR+": "geodtr_plus_drone", "MFRGN": "mfrgn_drone"}
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
    sampler = sampler_from_config(nano.data, nano.view, arguments.data)
    unseen = unseen_sampler(nano)
    print("| network | parameters | s a step | steps | unseen R@1 | ms a patch | graph MB |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, architecture in ARCHITECTURES.items():
        model = msgspec.structs.replace(nano.model, architecture=architecture)
        config = msgspec.structs.replace(nano, model=model)
        run, step_s = trained(config, sampler, arguments.minutes * 60)
        latency_ms, megabytes = graph_figures(run)
        parameters = sum(p.numel() for p in run.model.parameters()) / 1e6
        print(
            f"| {name} | {parameters:.1f} M | {step_s:.2f} | {run.step} | "
            f"{unseen_recall(run, unseen):.1%} | {latency_ms:.1f} | {megabytes:.1f} |",
            flush=True,
        )


def unseen_sampler(config: TrainConfig) -> PairSampler:
    """Pairs over drawn maps that no training sees."""
    maps = [town_and_country(seed, 1400, 1400, 0.7, LocalFrame(0, 0)) for seed in UNSEEN_SEEDS]
    return PairSampler(maps, np.full(len(maps), 1 / len(maps)), config.view)


def trained(config: TrainConfig, sampler: PairSampler, seconds: float) -> tuple[Run, float]:
    """A run of about this long, its schedule fitted to the time; and the median of its steps."""
    probe, stream = Run(config, Path(), torch.device("cpu")), iter(PairStream(sampler, config, 0))
    started = time.perf_counter()
    for _ in range(TIMED_STEPS):
        probe.advance(next(stream))
    steps = round(seconds / ((time.perf_counter() - started) / TIMED_STEPS))
    run = Run(msgspec.structs.replace(config, steps=steps), Path(), torch.device("cpu"))
    durations = []
    for batch in PairStream(sampler, run.config, 0):
        before = run.seconds
        run.advance(batch)
        durations.append(run.seconds - before)
        if run.step == steps:
            break
    return run, float(np.median(durations))


def unseen_recall(run: Run, sampler: PairSampler) -> float:
    """R@1 of the averaged weights within batches of one scene."""
    run.model.load_state_dict(run.averaged)
    run.model.eval()
    recalls = []
    for seed in range(TEST_BATCHES):
        parts = next(sampler.batches(run.config.batch, 1, seed))
        camera, tile, place, scene = (torch.from_numpy(part) for part in parts)
        with torch.no_grad():
            similarity = run.model(camera).descriptor @ run.model(tile).descriptor.T
        ignore = same_ground(place, scene, run.config.loss.ignore_within_m)
        recalls.append(recall_at_1(similarity, ignore))
    return float(np.mean(recalls))


def graph_figures(run: Run) -> tuple[float, float]:
    """Milliseconds for one patch in onnxruntime (median), and the graph's megabytes."""
    size_px = run.config.view.input_px
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "encoder.onnx"
        write_graph(DescriptorOnly(run.model.cpu()).eval(), size_px, path)
        engine = OnnxEngine(path, _card(size_px))
        patch = np.random.default_rng(0).standard_normal((1, 3, size_px, size_px), np.float32)
        durations = []
        for _ in range(GRAPH_RUNS):
            started = time.perf_counter()
            engine.infer(patch)
            durations.append(time.perf_counter() - started)
        return float(np.median(durations) * 1e3), path.stat().st_size / 1e6


def _card(size_px: int) -> ModelCard:
    """What the engine wants to know; nothing of it enters the figures."""
    return ModelCard(
        schema=CARD_SCHEMA, name="timed", model_id="", architecture="", graphs={},
        input_px=size_px, gsd_m=1.0, mean=None, std=None, dimension=1, precision="fp32",
        training=TrainingRecord("", 0, 0.0, "", {}), licence="",
    )  # fmt: skip


if __name__ == "__main__":
    main()

"""What it saves to normalise patches on the GPU: time on the CPU, and bytes that are copied.

    python benchmarks/preprocessing.py [--model nano] [--engine onnx] [--markdown]

Batches of 1, 4 (20 degrees and 20 % of doubt) and 24 patches (heading unknown). What the GPU takes
for it is measured on a device only: `skyfix bench` with an engine of either kind.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from skyfix.runtime.encoder import load_model, model_folder, normalised
from skyfix.runtime.engines.base import Engine, ModelCard, PictureEngine
from skyfix.runtime.types import Patch

BATCHES = (1, 4, 24)
VALID = 0.85  # share of a patch's pixels, as after a turn by 20 degrees
MEASURED_S = 2.0  # for each cell
FEWEST = 5
HEAD = ("patches", "normalise, ms", "gather bytes, ms", "encode, ms", "float32, kB", "bytes, kB")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="nano")
    parser.add_argument("--engine", default="onnx")
    parser.add_argument("--markdown", action="store_true")
    arguments = parser.parse_args()
    encoder = load_model(model_folder(arguments.model), engine=arguments.engine).query
    engine, card = encoder.engine, encoder.card
    if isinstance(engine, PictureEngine):
        raise SystemExit("this engine normalises by itself; compare two runs of `skyfix bench`")
    separator = " | " if arguments.markdown else "  "
    print(separator.join(HEAD))
    if arguments.markdown:
        print("|".join(["---:"] * len(HEAD)))
    for count in BATCHES:
        cells = cells_of(random_patches(card, count), card, engine)
        print(separator.join(cell.rjust(len(name)) for cell, name in zip(cells, HEAD, strict=True)))


def cells_of(patches: list[Patch], card: ModelCard, engine: Engine) -> tuple[str, ...]:
    """One line of the table."""

    def normalise() -> NDArray[np.float32]:
        return np.stack([normalised(one, card.mean, card.std) for one in patches])

    def gather() -> object:
        return np.stack([one.image for one in patches]), np.stack([one.valid for one in patches])

    batch, pixels = normalise(), len(patches) * card.input_px**2
    return (
        f"{len(patches)}",
        f"{median_ms(normalise):.2f}",
        f"{median_ms(gather):.3f}",
        f"{median_ms(lambda: engine.infer(batch)):.1f}",
        f"{12 * pixels / 1e3:.0f}",
        f"{4 * pixels / 1e3:.0f}",
    )


def random_patches(card: ModelCard, count: int) -> list[Patch]:
    """Noise with pixels that are not valid; the time does not depend on what is seen."""
    rng, side = np.random.default_rng(0), card.input_px
    patches = []
    for _ in range(count):
        image, valid = rng.integers(0, 256, (side, side, 3), np.uint8), np.ones((side, side), bool)
        valid[: round(side * (1 - VALID))] = False
        image[~valid] = 0
        patches.append(Patch(image, valid, card.gsd_m, (0.0, 0.0)))
    return patches


def median_ms(work: Callable[[], object]) -> float:
    """Median time of repeated work, after one run that does not count."""
    work()
    durations: list[float] = []
    while sum(durations) < MEASURED_S or len(durations) < FEWEST:
        started = time.perf_counter()
        work()
        durations.append(time.perf_counter() - started)
    return float(np.median(durations) * 1e3)


if __name__ == "__main__":
    main()

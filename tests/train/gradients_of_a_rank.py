"""The gradients of one optimiser step, as rank 0 has them; started alone or by torchrun.

python tests/train/gradients_of_a_rank.py CVUSA_ROOT OUT.safetensors
"""

import sys
from pathlib import Path

import torch
from safetensors.torch import save_file

from skyfix.train.config import DatasetConfig, DatasetRun, LossConfig
from skyfix.train.data.cvusa import load
from skyfix.train.distributed import joined, world
from skyfix.train.loop import Run
from skyfix.train.models.config import Sample4GeoConfig
from skyfix.train.supervised import DatasetLesson

CONFIG = DatasetRun(
    name="joint",
    licence="none",
    model=Sample4GeoConfig("convnext_atto", layer_scale=0.1),
    data=DatasetConfig("cvusa", {"ground": (32, 64), "aerial": (32, 32)}),
    loss=LossConfig(info_nce=1.0, triplet=1.0),
    precision="fp32",
    batch=8,
    epochs=1,
    workers=0,
)


def main(root: Path, out: Path) -> None:
    """Write every parameter's gradient after one backward pass."""
    device = torch.device("cpu")
    with joined(device):
        run = Run(CONFIG, DatasetLesson(CONFIG, load(root)), out.parent, device)
        batch = next(run.lesson.batches(0))
        run.advance(batch)
        if world()[0] == 0:
            gradients = {
                name: parameter.grad.contiguous()
                for name, parameter in run.learner.named_parameters()
                if parameter.grad is not None
            }
            save_file(gradients | {"rows": torch.tensor(len(batch["ground"]))}, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

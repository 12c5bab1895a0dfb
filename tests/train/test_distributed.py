import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from safetensors.torch import load_file

from skyfix.runtime.errors import InputError
from skyfix.train.distributed import gathered, local_device, world

SCRIPT = Path(__file__).with_name("gradients_of_a_rank.py")
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")


def test_two_processes_have_the_gradients_of_one_on_the_joint_batch(
    miniature: ModuleType, tmp_path: Path
) -> None:
    miniature.make_cvusa(tmp_path / "cvusa", train=8, test=2)
    gradients = []
    for launcher in ((), TORCHRUN):
        out = tmp_path / f"gradients_{len(launcher)}.safetensors"
        command = [sys.executable, *launcher, str(SCRIPT), str(tmp_path / "cvusa"), str(out)]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        gradients.append(load_file(out))
    alone, shared = gradients
    assert (int(alone.pop("rows")), int(shared.pop("rows"))) == (8, 4)
    assert alone.keys() == shared.keys()
    assert "lesson.loss.logit_scale" in alone
    for name, expected in alone.items():
        torch.testing.assert_close(shared[name], expected, atol=1e-5, rtol=1e-3, msg=name)


def test_one_process_is_the_whole_world() -> None:
    rows = torch.arange(6.0).reshape(3, 2)
    assert world() == (0, 1)
    assert gathered(rows) is rows


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_a_device_is_an_error() -> None:
    assert local_device("auto") == torch.device("cpu")
    with pytest.raises(InputError, match="no CUDA device"):
        local_device("cuda")

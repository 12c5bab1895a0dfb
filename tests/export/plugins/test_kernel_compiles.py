"""linear_attention.cu by NVRTC, without a GPU: every architecture, no spills."""

from itertools import product
from pathlib import Path

import pytest

from skyfix.export.plugins.linear_attention import nvrtc
from skyfix.export.plugins.linear_attention.kernels import SOURCE
from skyfix.export.plugins.linear_attention.tiling import Variant
from skyfix.runtime.errors import CudaError

ORIN, HOPPER, THOR = (8, 7), (9, 0), (11, 0)
CUDA_12, CUDA_13 = (12, 99), (13, 99)
BOARDS = {ORIN: CUDA_12, HOPPER: CUDA_12, THOR: CUDA_13}
EVERY_DIMENSION = (1, 16, 24, 32, 48, 64, 80, 96, 112, 128)
KERNELS = {f"linear_attention_{name}" for name in ("fused", "reduce", "combine", "apply")}
CUBIN = b"\x7fELF"
OSABI_OF_CUDA_12 = 0x33  # drivers of CUDA 12 load no other

TEXT = SOURCE.read_text(encoding="utf-8")
SMALL = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
SPILLING = """
extern "C" __global__ void __launch_bounds__(1024) spill(const float* x, float* y) {
    float v[200];
    #pragma unroll
    for (int i = 0; i < 200; ++i) v[i] = x[i * 1024 + threadIdx.x];
    __syncthreads();
    #pragma unroll
    for (int i = 0; i < 200; ++i) y[(199 - i) * 1024 + threadIdx.x] = v[i] * v[(i * 7) % 200];
}
"""


@pytest.fixture(autouse=True)
def a_compiler_is_here() -> None:
    try:
        nvrtc.find_nvrtc(ORIN, CUDA_12)
        nvrtc.find_nvrtc(THOR, CUDA_13)
    except CudaError as error:
        pytest.skip(str(error))


def compiled(variant: Variant, board: tuple[int, int], newest: tuple[int, int]) -> nvrtc.Compiled:
    return nvrtc.compiled_cubin(TEXT, SOURCE.name, board, variant.options(), newest)


@pytest.mark.parametrize("board", BOARDS, ids=["sm_87", "sm_90", "sm_110"])
@pytest.mark.parametrize("half", [True, False], ids=["fp16", "fp32"])
def test_mfrgn_s_heads_compile_without_spills(board: tuple[int, int], half: bool) -> None:
    found = compiled(Variant(32, half, 1e-6), board, BOARDS[board])
    assert found.image.startswith(CUBIN)
    assert {kernel.name for kernel in found.kernels} == KERNELS
    assert all(kernel.spilled_bytes == 0 for kernel in found.kernels)
    if half:  # two blocks of 256 threads on a multiprocessor
        assert max(kernel.registers for kernel in found.kernels) <= 128


@pytest.mark.slow
@pytest.mark.parametrize("board", BOARDS, ids=["sm_87", "sm_90", "sm_110"])
def test_every_head_dimension_compiles_without_spills(board: tuple[int, int]) -> None:
    for dimension, half in product(EVERY_DIMENSION, (True, False)):
        found = compiled(Variant(dimension, half, 1e-6), board, BOARDS[board])
        assert len(found.kernels) == len(KERNELS)
        assert all(kernel.shared_bytes <= 48 * 1024 for kernel in found.kernels)


def test_a_cubin_for_jetpack_6_is_in_the_format_of_cuda_12() -> None:
    image = nvrtc.compiled_cubin(SMALL, "twice.cu", ORIN, newest=CUDA_12).image
    assert image[7] == OSABI_OF_CUDA_12


@pytest.mark.parametrize("board", BOARDS, ids=["sm_87", "sm_90", "sm_110"])
def test_ptx_has_the_signature_that_tensorrt_calls(board: tuple[int, int]) -> None:
    options = Variant(32, True, 1e-6).options()
    ptx = nvrtc.compiled_ptx(TEXT, SOURCE.name, board, options, BOARDS[board]).decode()
    entry = ptx.split(".entry linear_attention_fused(")[1].split(")")[0]
    assert entry.count(".param .u64") == 4  # query, key, value; out
    assert entry.count(".param .u32") == 2  # T, S


def test_another_tiling_than_the_host_s_does_not_compile() -> None:
    options = [
        option.replace("THREADS=256", "THREADS=128") for option in Variant(32, True, 1e-6).options()
    ]
    with pytest.raises(CudaError, match="the host computed another tiling"):
        nvrtc.compiled_cubin(TEXT, SOURCE.name, ORIN, options, CUDA_12)


def test_a_head_dimension_above_128_does_not_compile() -> None:
    with pytest.raises(CudaError, match=r"head dimension 1\.\.128"):
        compiled(Variant(136, True, 1e-6), ORIN, CUDA_12)


def test_a_kernel_that_spills_is_refused_by_its_name() -> None:
    with pytest.raises(CudaError, match="spill spills registers"):
        nvrtc.compiled_cubin(SPILLING, "spilling.cu", ORIN, newest=CUDA_12)


def test_a_gpu_that_no_compiler_knows_is_told_with_what_was_found() -> None:
    with pytest.raises(CudaError, match=r"for sm_110; found: NVRTC 12\.\d+\. On a Jetson"):
        nvrtc.find_nvrtc(THOR, CUDA_12)


def test_ptx_is_not_made_by_a_compiler_newer_than_the_driver() -> None:
    with pytest.raises(CudaError, match="no NVRTC"):
        nvrtc.compiled_ptx(SMALL, "twice.cu", THOR, newest=(12, 0))


def test_a_cubin_comes_from_the_cache_until_the_file_is_altered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first = nvrtc.cached_cubin(SMALL, "twice.cu", ORIN, newest=CUDA_12)
    (file,) = nvrtc.cache_folder().iterdir()
    written = file.stat().st_mtime_ns
    assert nvrtc.cached_cubin(SMALL, "twice.cu", ORIN, newest=CUDA_12) == first
    assert file.stat().st_mtime_ns == written
    file.write_bytes(file.read_bytes()[:-100])
    assert nvrtc.cached_cubin(SMALL, "twice.cu", ORIN, newest=CUDA_12) == first
    nvrtc.cached_cubin(SMALL, "twice.cu", ORIN, ["-DOTHER"], CUDA_12)
    assert len(list(nvrtc.cache_folder().iterdir())) == 2


def test_a_cache_that_cannot_be_written_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert nvrtc.cached_cubin(SMALL, "twice.cu", ORIN, newest=CUDA_12).startswith(CUBIN)

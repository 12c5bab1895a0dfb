"""The C++ plugin, as far as it can be checked without TensorRT's library and headers.

It compiles, without a warning, against declarations that hold the signatures of TensorRT 10.3, and
against NVIDIA's own cuda.h and nvrtc.h; its launches are those of the Python plugin. That it loads
into trtexec is for the device to show.
"""

import ctypes
import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skyfix.export.plugins.linear_attention import node
from skyfix.export.plugins.linear_attention.kernels import SOURCE
from skyfix.export.plugins.linear_attention.tiling import (
    Problem,
    Schedule,
    schedule_of,
    tiling_of,
    workspace_bound,
)

CPP = SOURCE.parent / "cpp"
PROBE = """
#include "tiling.h"
extern "C" void probe(int dim, int heads, int queries, int sources, int sms, long* to) {
    skyfix::Tiling const t = skyfix::tilingOf(dim);
    skyfix::Schedule const s = skyfix::scheduleOf(heads, queries, sources, t, sms);
    long const found[] = {t.padded, t.slabs, t.threads, t.rows, s.parts, s.partRows, s.blocks,
                          long(skyfix::workspaceBound(heads, t, sms)),
                          long(s.workspaceBytes(heads, t))};
    for (int i = 0; i < 9; ++i) to[i] = found[i];
}
"""


def cuda_headers() -> list[Path]:
    spec = importlib.util.find_spec("nvidia")
    roots = [Path(root) for root in (spec.submodule_search_locations or [])] if spec else []
    wheels = [root / part / "include" for root in roots for part in ("cuda_runtime", "cuda_nvrtc")]
    for folders in ([Path("/usr/local/cuda/include")], wheels):
        if all(any((f / name).is_file() for f in folders) for name in ("cuda.h", "nvrtc.h")):
            return folders
    pytest.skip("cuda.h and nvrtc.h are not here")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("g++") is None:
        pytest.skip("g++ is not installed")
    return tmp_path_factory.mktemp("cpp")


def test_the_plugin_overrides_tensorrt_s_calls_and_compiles_without_a_warning(
    folder: Path,
) -> None:
    template = (CPP / "kernel_text.h.in").read_text()
    text = template.replace("@KERNEL_TEXT@", SOURCE.read_text())
    (folder / "kernel_text.h").write_text(text)
    declarations = Path(__file__).with_name("declarations")
    systems = [f"-isystem{path}" for path in (declarations, *cuda_headers())]
    object_file = folder / "plugin.o"
    subprocess.run(
        ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-c", "-fPIC", f"-I{folder}",
         *systems, str(CPP / "plugin.cpp"), "-o", str(object_file)],
        check=True,
    )  # fmt: skip
    names = subprocess.run(
        ["nm", "--defined-only", str(object_file)], capture_output=True, text=True, check=True
    ).stdout
    assert " T getCreators" in names
    assert " T setLoggerFinder" in names


def test_the_c_plugin_answers_to_the_node_of_the_python_plugin() -> None:
    text = (CPP / "plugin.cpp").read_text()
    for name in (node.OPERATOR, node.NAMESPACE, node.VERSION, node.EPSILON_ATTRIBUTE):
        assert f'[] = "{name}";' in text


@pytest.fixture(scope="module")
def probe(folder: Path) -> ctypes.CDLL:
    source, library = folder / "probe.cpp", folder / "probe.so"
    source.write_text(PROBE)
    command = ["g++", "-std=c++17", "-shared", "-fPIC", f"-I{CPP}", str(source)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@given(
    dimension=st.integers(1, 128),
    problem=st.builds(
        Problem,
        heads=st.integers(1, 600),
        queries=st.integers(1, 70000),
        sources=st.integers(1, 70000),
    ),
    multiprocessors=st.integers(1, 200),
)
def test_both_plugins_launch_alike(
    probe: ctypes.CDLL, dimension: int, problem: Problem, multiprocessors: int
) -> None:
    found = (ctypes.c_long * 9)()
    sizes = (problem.heads, problem.queries, problem.sources)
    probe.probe(dimension, *sizes, multiprocessors, found)
    tiling = tiling_of(dimension)
    schedule: Schedule = schedule_of(problem, tiling, multiprocessors)
    assert list(found) == [
        tiling.padded, tiling.slabs, tiling.threads, tiling.rows,
        schedule.parts, schedule.part_rows, schedule.blocks,
        workspace_bound(problem.heads, tiling, multiprocessors),
        schedule.workspace_bytes(problem.heads, tiling),
    ]  # fmt: skip

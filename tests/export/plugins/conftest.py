"""Stubs that let NVIDIA's own TensorRT bindings load without a GPU and without TensorRT."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[3]

FACTORIES = """
void* createInferBuilder_INTERNAL(void* a, int b) { return 0; }
void* getBuilderPluginRegistry(int a) { return 0; }
"""
PARSER = """
void* createNvOnnxParser_INTERNAL(void* a, void* b, int c) { return 0; }
void* createNvOnnxParserRefitter_INTERNAL(void* a, void* b, int c) { return 0; }
int getNvOnnxParserVersion(void) { return 0; }
"""
PLUGINS = "_Bool initLibNvInferPlugins(void* a, const char* b) { return 1; }\n"


def package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        pytest.skip(f"{name} is not installed")
    return Path(spec.origin).parent


@pytest.fixture(scope="session")
def stub_libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """libnvinfer.so.11: no builder, and the real registry of the lean library behind it."""
    lean = package_folder("tensorrt_lean_libs")
    folder = tmp_path_factory.mktemp("tensorrt")
    behind = ["-Wl,--no-as-needed", f"-L{lean}", "-l:libnvinfer_lean.so.11", f"-Wl,-rpath,{lean}"]
    for name, text, more in (
        ("nvinfer", FACTORIES, behind),
        ("nvonnxparser", PARSER, []),
        ("nvinfer_plugin", PLUGINS, []),
    ):
        source = folder / f"{name}.c"
        source.write_text(text)
        library = folder / f"lib{name}.so.11"
        name_option = f"-Wl,-soname,{library.name}"
        command = ["gcc", "-shared", "-fPIC", name_option, str(source), "-o", str(library), *more]
        subprocess.run(command, check=True)
    return folder


@pytest.fixture
def with_tensorrt(stub_libraries: Path) -> Callable[[str], str]:
    """Run a program in which `tensorrt` is NVIDIA's 11.4; a crash of the library fails the test."""
    package_folder("tensorrt_bindings")
    before = "import sys, tensorrt_bindings\nsys.modules['tensorrt'] = tensorrt_bindings\n"

    def run(program: str) -> str:
        environment = {**os.environ, "LD_LIBRARY_PATH": str(stub_libraries)}
        done = subprocess.run(
            [sys.executable, "-c", before + program],
            capture_output=True, text=True, check=False, env=environment, cwd=REPOSITORY,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run

import ast
import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
STAGES = ("runtime", "train", "export", "calibration")
HEAVY = ("torch", "onnx", "rasterio", "pyproj", "safetensors", "onnxscript")
MAX_LINES = 400
IMPORT_BUDGET_S = 0.3

IMPORT_ALL = f"""
import importlib, pathlib, sys
for name in {HEAVY!r}:
    sys.modules[name] = None
root = pathlib.Path(sys.argv[1])
for path in sorted(root.rglob("*.py")):
    parts = path.relative_to(root.parent).with_suffix("").parts
    module = ".".join(("skyfix", *parts)).removesuffix(".__init__")
    importlib.import_module(module)
    print(module)
"""


def sources() -> list[Path]:
    """Python files of the four stages and of what stands beside them."""
    folders = (*STAGES, "tests", "benchmarks")
    return [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]


def declared_packages() -> set[str]:
    """The explicit list in pyproject.toml (read by hand: Python 3.10 has no tomllib)."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^packages = \[(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block is not None
    return set(re.findall(r'"([\w.]+)"', block[1]))


def test_pyproject_lists_exactly_the_packages_on_disk() -> None:
    found = {
        ".".join(("skyfix", *path.parent.relative_to(ROOT).parts))
        for stage in STAGES
        for path in (ROOT / stage).rglob("__init__.py")
    }
    assert declared_packages() == found


def test_every_folder_with_code_is_a_package() -> None:
    folders = {path.parent for stage in STAGES for path in (ROOT / stage).rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("stage", STAGES)
def test_the_checkers_find_each_stage_through_its_link(stage: str) -> None:
    link = ROOT / ".typing" / "skyfix" / stage
    assert link.is_symlink()
    assert link.readlink() == Path(f"../../{stage}")
    assert (ROOT / stage / "py.typed").is_file()


def test_the_namespace_has_no_init_of_its_own() -> None:
    assert not (ROOT / ".typing" / "skyfix" / "__init__.py").exists()
    assert not (ROOT / "__init__.py").exists()


def test_every_module_of_the_runtime_imports_without_the_heavy_packages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, str(ROOT / "runtime")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    modules = done.stdout.split()
    assert len(modules) == len(list((ROOT / "runtime").rglob("*.py")))
    assert "skyfix.runtime.localizer" in modules


@pytest.fixture
def lint_copy(tmp_path: Path) -> Path:
    """A copy of the four stages that lint-imports takes for skyfix."""
    for stage in STAGES:
        shutil.copytree(
            ROOT / stage, tmp_path / "skyfix" / stage,
            ignore=shutil.ignore_patterns("__pycache__", "*.onnx"),
        )  # fmt: skip
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = Path(sysconfig.get_path("scripts")) / "lint-imports"
    if not command.is_file():
        pytest.skip("import-linter is not installed: pip install 'skyfix[dev]'")
    return subprocess.run(
        [str(command), "--no-cache"], cwd=folder, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )  # fmt: skip


def test_the_import_contracts_hold(lint_copy: Path) -> None:
    done = lint_imports(lint_copy)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("runtime/geo.py", "import torch", "runtime is light"),
        ("runtime/sense/camera.py", "import rasterio", "runtime is light"),
        ("runtime/types.py", "from skyfix.train import models", "folders are layers"),
        ("calibration/__init__.py", "import skyfix.export", "folders are layers"),
    ],
)
def test_a_planted_import_breaks_its_contract(
    lint_copy: Path, file: str, line: str, contract: str
) -> None:
    path = lint_copy / "skyfix" / file
    path.write_text(f"{path.read_text(encoding='utf-8')}\n{line}\n", encoding="utf-8")
    done = lint_imports(lint_copy)
    assert done.returncode == 1, done.stdout
    assert f"{contract} BROKEN" in done.stdout


def median_start_s(code: str) -> float:
    """Median time of seven interpreters that run `code` and end."""
    times = []
    for _ in range(7):
        begin = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True)
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def test_the_runtime_imports_within_its_budget() -> None:
    bare_s = median_start_s("pass")
    assert median_start_s("import skyfix.runtime") - bare_s < IMPORT_BUDGET_S


def test_importing_the_runtime_starts_no_engine() -> None:
    code = (
        "import sys, skyfix.runtime; print([m for m in ('onnxruntime', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_is_short_named_for_what_it_holds_and_in_the_grammar_of_3_10(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 10))
    assert path.name != "utils.py"
    if path.parent != ROOT / "train" / "models":
        assert len(text.splitlines()) <= MAX_LINES


def test_the_verbs_of_every_stage_lead_to_a_module_that_exists() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split('[project.entry-points."skyfix.verbs"]')[1].split("\n[")[0]
    targets = re.findall(r'= "([\w.]+):VERBS"', block)
    assert targets
    assert [name for name in targets if importlib.util.find_spec(name) is None] == []

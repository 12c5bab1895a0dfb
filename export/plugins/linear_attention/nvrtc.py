"""NVRTC, CUDA's run-time compiler: CUDA C++ text to a cubin or PTX, without a GPU or a toolkit.

The newest NVRTC is taken that the driver's CUDA can run and that knows the GPU: 12.x on JetPack 6,
13.x for Thor (sm_110). Cubins are kept under the hash of text, options and compiler. A kernel that
spills registers into memory is refused: it would run, and be slow for a reason nobody sees.
"""

import ctypes
import hashlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import NamedTemporaryFile

from skyfix.runtime.errors import CudaError

OLDEST_MAJOR, NEWEST_MAJOR = 12, 13
ANY_MINOR = 99  # a driver runs the cubins of every minor version of its CUDA, but not their PTX
ANY_VERSION = (NEWEST_MAJOR, ANY_MINOR)
WHEEL_FOLDERS = {12: "nvidia/cuda_nvrtc/lib", 13: "nvidia/cu13/lib"}  # of the PyPI packages
TOOLKIT_FOLDERS = ("/usr/local/cuda/lib64", "/usr/local/cuda-{major}/lib64")
COMMON_OPTIONS = ("--std=c++17",)

KERNEL_LINE = re.compile(r"Compiling entry function '(\w+)'")
SPILL_LINE = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
REGISTER_LINE = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


@dataclass(frozen=True)
class KernelUse:
    """What one kernel takes, from the compiler's log."""

    name: str
    registers: int  # a thread
    spilled_bytes: int  # a thread, stores and loads
    shared_bytes: int  # a block


@dataclass(frozen=True)
class Compiled:
    """An image for cuModuleLoadData and, for a cubin, what its kernels take."""

    image: bytes
    kernels: tuple[KernelUse, ...]


def compiled_cubin(
    text: str,
    name: str,
    compute_capability: tuple[int, int],
    options: Sequence[str] = (),
    newest: tuple[int, int] = ANY_VERSION,
) -> Compiled:
    """A cubin for one GPU; raises CudaError with the compiler's words, and for spills."""
    library = find_nvrtc(compute_capability, (newest[0], ANY_MINOR))
    architecture = f"--gpu-architecture=sm_{_digits(compute_capability)}"
    every = (architecture, "--ptxas-options=-v", *COMMON_OPTIONS, *options)
    image, log = library.compiled(text, name, every, "CUBIN")
    kernels = kernel_uses(log)
    spilling = [kernel.name for kernel in kernels if kernel.spilled_bytes]
    if spilling:
        raise CudaError(
            f"{name}: {', '.join(spilling)} spills registers with {library.version_text} for "
            f"sm_{_digits(compute_capability)}. Export the model without the plugin (--no-plugin)."
        )
    return Compiled(image, kernels)


def compiled_ptx(
    text: str,
    name: str,
    compute_capability: tuple[int, int],
    options: Sequence[str] = (),
    newest: tuple[int, int] = ANY_VERSION,
) -> bytes:
    """PTX, which a driver as new compiles; raises CudaError with the compiler's words."""
    library = find_nvrtc(compute_capability, newest)
    architecture = f"--gpu-architecture=compute_{_digits(compute_capability)}"
    return library.compiled(text, name, (architecture, *COMMON_OPTIONS, *options), "PTX")[0]


def cached_cubin(
    text: str,
    name: str,
    compute_capability: tuple[int, int],
    options: Sequence[str] = (),
    newest: tuple[int, int] = ANY_VERSION,
) -> bytes:
    """As compiled_cubin, kept in the user's cache folder."""
    library = find_nvrtc(compute_capability, (newest[0], ANY_MINOR))
    key = hashlib.sha256(
        repr((text, name, compute_capability, tuple(options), library.version)).encode()
    ).hexdigest()
    path = cache_folder() / f"{key}.cubin"
    image = _read_checked(path)
    if image is None:
        image = compiled_cubin(text, name, compute_capability, options, newest).image
        _write_checked(path, image)
    return image


def cache_folder() -> Path:
    """Where cubins are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "skyfix" / "kernels"


def kernel_uses(log: str) -> tuple[KernelUse, ...]:
    """Registers and spills of each kernel, from what ptxas says with -v."""
    uses, name, spilled = [], "", 0
    for line in log.splitlines():
        if entry := KERNEL_LINE.search(line):
            name, spilled = entry[1], 0
        elif spill := SPILL_LINE.search(line):
            spilled = int(spill[1]) + int(spill[2])
        elif used := REGISTER_LINE.search(line):
            uses.append(KernelUse(name, int(used[1]), spilled, int(used[2] or 0)))
    return tuple(uses)


class Nvrtc:
    """One NVRTC library."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library
        self._library.nvrtcGetErrorString.restype = ctypes.c_char_p
        major, minor = ctypes.c_int(), ctypes.c_int()
        self._call("nvrtcVersion", ctypes.byref(major), ctypes.byref(minor))
        self.version = (major.value, minor.value)
        self.version_text = f"NVRTC {major.value}.{minor.value}"

    def architectures(self) -> tuple[int, ...]:
        """GPUs that it compiles for, such as 87 for sm_87."""
        count = ctypes.c_int()
        self._call("nvrtcGetNumSupportedArchs", ctypes.byref(count))
        values = (ctypes.c_int * count.value)()
        self._call("nvrtcGetSupportedArchs", values)
        return tuple(values)

    def compiled(
        self, text: str, name: str, options: Sequence[str], kind: str
    ) -> tuple[bytes, str]:
        """Image ("CUBIN" or "PTX") and log; raises CudaError with the log."""
        program = ctypes.c_void_p()
        handle = ctypes.byref(program)
        self._call("nvrtcCreateProgram", handle, text.encode(), name.encode(), 0, None, None)
        try:
            array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
            code = self._library.nvrtcCompileProgram(program, len(options), array)
            log = self._bytes("ProgramLog", program).decode(errors="replace").rstrip("\0")
            if code != 0:
                raise CudaError(f"{name} does not compile with {self.version_text}: {log.strip()}")
            return self._bytes(kind, program), log
        finally:
            self._library.nvrtcDestroyProgram(handle)

    def _bytes(self, what: str, program: ctypes.c_void_p) -> bytes:
        size = ctypes.c_size_t()
        self._call(f"nvrtcGet{what}Size", program, ctypes.byref(size))
        buffer = ctypes.create_string_buffer(size.value)
        self._call(f"nvrtcGet{what}", program, buffer)
        return buffer.raw

    def _call(self, function: str, *arguments: object) -> None:
        code = getattr(self._library, function)(*arguments)
        if code != 0:
            reason = self._library.nvrtcGetErrorString(code).decode()
            raise CudaError(f"{function}: {reason}. Install NVRTC again.")


def find_nvrtc(compute_capability: tuple[int, int], newest: tuple[int, int] = ANY_VERSION) -> Nvrtc:
    """The newest NVRTC here, up to a version of CUDA, that knows a GPU; raises CudaError."""
    found = []
    for major in range(min(newest[0], NEWEST_MAJOR), OLDEST_MAJOR - 1, -1):
        library = _loaded(major)
        if library is not None:
            known = int(_digits(compute_capability)) in library.architectures()
            if known and library.version <= newest:
                return library
            found.append(library.version_text)
    raise CudaError(
        f"no NVRTC (CUDA's run-time compiler) that the driver can follow, for "
        f"sm_{_digits(compute_capability)}; found: {', '.join(found) or 'none'}. On a Jetson: "
        "sudo apt install cuda-nvrtc-12-6 (13-0 on JetPack 7); elsewhere: pip install "
        "nvidia-cuda-nvrtc-cu12, or nvidia-cuda-nvrtc for CUDA 13."
    )


@cache
def _loaded(major: int) -> Nvrtc | None:
    return next(filter(None, map(_opened, _candidates(major))), None)


def _opened(path: Path) -> Nvrtc | None:
    try:
        for part in sorted(path.parent.glob("libnvrtc-builtins.so.*")):
            ctypes.CDLL(str(part))  # 13's wheel does not find its own second library
        return Nvrtc(ctypes.CDLL(str(path)))
    except OSError:
        return None


def _candidates(major: int) -> Iterator[Path]:
    name = f"libnvrtc.so.{major}"
    for entry in sys.path:
        path = Path(entry) / WHEEL_FOLDERS[major] / name
        if path.is_file():
            yield path
    for folder in TOOLKIT_FOLDERS:
        path = Path(folder.format(major=major)) / name
        if path.is_file():
            yield path
    yield Path(name)  # where the loader looks


def _read_checked(path: Path) -> bytes | None:
    """The image, or nothing where the file is missing, cut off or altered."""
    try:
        digest, image = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return image if digest == hashlib.sha256(image).hexdigest().encode() else None


def _write_checked(path: Path, image: bytes) -> None:
    """Write beside and rename; a cache that cannot be written only costs time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(hashlib.sha256(image).hexdigest().encode() + b"\n" + image)
        Path(file.name).replace(path)
    except OSError:
        return


def _digits(compute_capability: tuple[int, int]) -> str:
    return f"{compute_capability[0]}{compute_capability[1]}"

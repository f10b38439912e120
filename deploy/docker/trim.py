"""Removes from the images' environment the files that neither program ever loads.

Headers, compilers and libraries for programs that are compiled or profiled: torch's wheels bring
them, for everybody. What torch's own libraries are linked against stays, used or not: without it
`import torch` ends. `tests/deploy/test_trim.py` compares with what they are linked against.

    python trim.py              the environment of this Python
"""

import shutil
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

NEVER_LOADED = (
    # To compile against; nothing is compiled in an image.
    "torch/include",
    "torch/share",
    "torch/bin/protoc*",
    "nvidia/*/include",
    "nvidia/cu*/cccl",
    "nvidia/*/lib/*.a",
    # Code for kernels that Triton compiles; Triton is not installed.
    "nvidia/nvshmem/lib/*.bc",
    # CUPTI's profiler, beside the part of it that torch is linked against.
    "nvidia/cu*/lib/libcheckpoint.so*",
    "nvidia/cu*/lib/libnvperf_*",
    "nvidia/cu*/lib/libpcsamplingutil.so*",
    # Other interfaces to cuSOLVER, cuBLAS and cuFFT: for several GPUs, for BLAS, for FFTW.
    "nvidia/cu*/lib/libcusolverMg.so*",
    "nvidia/cu*/lib/libnvblas.so*",
    "nvidia/cu*/lib/libcufftw.so*",
)
"""Patterns below site-packages. A wheel without such a file, as the CPU build's, is as welcome."""


def never_loaded(packages: Path) -> Iterator[Path]:
    """Files and folders of a site-packages folder."""
    for pattern in NEVER_LOADED:
        yield from sorted(packages.glob(pattern))


def main() -> None:
    packages = Path(sysconfig.get_path("purelib"))
    freed = 0
    for path in never_loaded(packages):
        freed += sum(each.lstat().st_size for each in (path, *path.rglob("*")) if each.is_file())
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    sys.stdout.write(f"removed {freed / 1e6:.0f} MB that are never loaded\n")


if __name__ == "__main__":
    main()

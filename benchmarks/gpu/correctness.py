"""The parts of `benchmarks/gpu.sh correctness`: the tests of CUDA, those first that would find the most.

Without a GPU they run on the pretended device of the tests, without the slow ones.
"""

from __future__ import annotations

from parts import Part

EVERY_PACKAGE = ""
N_PROCESSES = 6
RESUME = ("-m", "gptzoo", "verify-resume", "configs/runs/quickstart.json")


def cuda_part(name: str, seconds: float, *paths: str, plugins: str = "none", parallel: bool = False) -> Part:
    """Return a part that runs the tests marked `cuda` in some files."""
    options = ("-q", "-p", "no:cacheprovider", "-m")
    processes = ("-n", str(N_PROCESSES)) if parallel else ()
    return Part(
        name,
        ("-m", "pytest", *options, "cuda", *processes, *paths),
        seconds,
        ("tests/pretended_cuda", *options, "cuda and not slow", *paths),
        {"GPTZOO_PLUGINS": plugins},
    )


PARTS = [
    Part("environment", ("benchmarks/gpu/environment.py", "cuda"), 60, ("benchmarks/gpu/environment.py", "cpu")),
    cuda_part("training", 60, "tests/cuda/test_training.py"),
    cuda_part("decoding", 70, "tests/cuda/test_decoding.py"),
    cuda_part("kernels", 60, "tests/cuda/test_attention_kernels.py", plugins=EVERY_PACKAGE),
    cuda_part("components", 60, "tests/cuda/test_components.py", plugins=EVERY_PACKAGE),
    cuda_part("graphs", 60, "tests/sampling/compile"),
    cuda_part("flex", 100, "plugins/gptzoo-attention", plugins="gptzoo-attention", parallel=True),
    Part(
        "resume",
        (*RESUME, "--set", "device=cuda"),
        60,
        (*RESUME, "--set", "device=cpu", "--steps", "4", "--set", "model.n_layers=1", "--set", "batch_size=2"),
    ),
    cuda_part("models", 120, "tests/model", "tests/components", parallel=True),
    cuda_part("pairs", 120, "tests/cuda/test_pairs.py", plugins=EVERY_PACKAGE, parallel=True),
]

"""A CUDA device for tests on a machine without a GPU: `python tests/pretended_cuda [PYTEST OPTIONS]`.

Tensors on it are in host memory, and the CPU computes with them. So values, devices and the host's waits are tested,
but not the numerics of CUDA kernels, races between streams, memory or speed.
"""

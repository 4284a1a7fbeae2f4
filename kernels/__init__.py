"""Triton kernels of AFA for NVIDIA GPUs; one file an op."""

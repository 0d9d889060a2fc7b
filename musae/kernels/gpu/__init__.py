"""Triton kernels, and the path of the ops over them. Imports triton: nothing above imports this before a tensor needs it."""

"""Kernels compiled for this CPU: the C++ sources, how they are built and loaded, and the path that calls them."""

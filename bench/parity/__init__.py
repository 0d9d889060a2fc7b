"""Parity certificates: codes and reconstructions of a checkpoint equal those of the library that it belongs to.

`worker` runs in an environment of its own, without musae; `*_models` make small random models of one library, save them as the
library does, and load what musae wrote; `certificate` compares in both directions and makes rows.
"""

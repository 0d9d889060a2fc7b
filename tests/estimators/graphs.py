"""TensorFlow graphs of a few nodes, written byte by byte (GraphDef, protocol buffers), in place of Essentia's models."""

import struct
from pathlib import Path

import numpy as np

from musae.estimators.essentia_instruments import GRAPHS, TAGS

FLOAT, INT32 = 1, 3
PATCH = (64, 128, 96)
"""Batch, frames and mel bands that the embedding reads."""


def _varint(number: int) -> bytes:
    out = b""
    while number > 127:
        out, number = out + bytes([number & 127 | 128]), number >> 7
    return out + bytes([number])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _shape(sizes) -> bytes:
    return b"".join(_bytes(2, _number(1, size)) for size in sizes)


def _node(name: str, op: str, *inputs: str, **attributes: bytes) -> bytes:
    body = _bytes(1, name.encode()) + _bytes(2, op.encode()) + b"".join(_bytes(3, i.encode()) for i in inputs)
    body += b"".join(_bytes(5, _bytes(1, key.encode()) + _bytes(2, value)) for key, value in attributes.items())
    return _bytes(1, body)


def _type(kind: int) -> bytes:
    return _number(6, kind)


def _constant(name: str, values: np.ndarray) -> bytes:
    """A constant node; an array of one value throughout is written as that value."""
    kind = FLOAT if values.dtype == np.float32 else INT32
    content = values.ravel()[:1] if (values == values.flat[0]).all() else values.ravel()
    if kind == FLOAT:
        numbers = _bytes(5, struct.pack(f"<{len(content)}f", *content))
    else:
        numbers = _bytes(7, b"".join(_varint(int(v)) for v in content))
    tensor = _number(1, kind) + _bytes(2, _shape(values.shape)) + numbers
    return _node(name, "Const", dtype=_type(kind), value=_bytes(8, tensor))


def write(folder: Path, sounding: tuple[str, ...]) -> Path:
    """Both of Essentia's models, such that just the tags `sounding` are heard, at .9, in any audio, and the others at .1."""
    width = PATCH[1] * PATCH[2] // 2
    embedding = (
        _node("serving_default_melspectrogram", "Placeholder", dtype=_type(FLOAT), shape=_bytes(7, _shape(PATCH)))
        + _constant("flat", np.array([PATCH[0], 2 * width], np.int32))
        + _node("rows", "Reshape", "serving_default_melspectrogram", "flat", T=_type(FLOAT), Tshape=_type(INT32))
        + _constant("axis", np.array(1, np.int32))
        + _node("PartitionedCall", "Split", "axis", "rows", T=_type(FLOAT), num_split=_number(3, 2))
    )
    logits = np.array([np.log(9) if tag in sounding else -np.log(9) for tag in TAGS], np.float32)
    classifier = (
        _node("model/Placeholder", "Placeholder", dtype=_type(FLOAT))
        + _constant("weights", np.zeros((width, len(TAGS)), np.float32))
        + _node("product", "MatMul", "model/Placeholder", "weights", T=_type(FLOAT))
        + _constant("bias", logits)
        + _node("logits", "BiasAdd", "product", "bias", T=_type(FLOAT))
        + _node("model/Sigmoid", "Sigmoid", "logits", T=_type(FLOAT))
    )
    for name, graph in zip(GRAPHS, (embedding, classifier), strict=True):
        (folder / name).write_bytes(graph)
    return folder

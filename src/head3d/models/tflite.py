"""Small convolutional networks out of TensorFlow Lite files, run by torch: no other runtime, no code from the file.

A ``.tflite`` file is a FlatBuffer: tables whose fields are found by number (https://flatbuffers.dev/internals), here
those of TensorFlow Lite's public schema, version 3. Only float32 weights and the few operators of ``OPERATORS`` are
known; anything else is refused.
"""

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from head3d.errors import UserError

ADD, CONV, DEPTHWISE, MUL, RELU, RESHAPE, SUB, ABS = 0, 3, 4, 18, 19, 22, 41, 101  # numbers of the schema
OPERATORS = {ADD, CONV, DEPTHWISE, MUL, RELU, RESHAPE, SUB, ABS}
PRELU = 54  # files spell it RELU(x) + k (x - |x|); one operator is several times faster
SPELLED = (RELU, ABS, SUB, MUL, ADD)
SAME, VALID = 0, 1
FLOAT32, INT32 = 0, 2


@dataclass(frozen=True)
class Table:
    """A table of a FlatBuffer: the place where it begins in the bytes of the file."""

    data: bytes
    start: int

    def _at(self, field: int) -> int | None:
        layout = self.start - _int(self.data, self.start)
        if 4 + 2 * field >= _short(self.data, layout):
            return None
        offset = _short(self.data, layout + 4 + 2 * field)
        return self.start + offset if offset else None

    def byte(self, field: int) -> int:
        at = self._at(field)
        return 0 if at is None else struct.unpack_from("<b", self.data, at)[0]

    def number(self, field: int) -> int:
        at = self._at(field)
        return 0 if at is None else _int(self.data, at)

    def table(self, field: int) -> "Table":
        at = self._at(field)
        if at is None:
            raise ValueError(f"field {field} is missing")
        return Table(self.data, at + _int(self.data, at))

    def _vector(self, field: int) -> tuple[int, int]:
        """(place of the first entry, number of entries)."""
        at = self._at(field)
        if at is None:
            return 0, 0
        start = at + _int(self.data, at)
        return start + 4, _int(self.data, start)

    def tables(self, field: int) -> list["Table"]:
        start, count = self._vector(field)
        places = [start + 4 * index for index in range(count)]
        return [Table(self.data, place + _int(self.data, place)) for place in places]

    def array(self, field: int, dtype: str) -> np.ndarray:
        start, count = self._vector(field)
        return np.frombuffer(self.data, dtype, count, start).copy()


def _int(data: bytes, at: int) -> int:
    return struct.unpack_from("<i", data, at)[0]


def _short(data: bytes, at: int) -> int:
    return struct.unpack_from("<H", data, at)[0]


@dataclass(frozen=True)
class Step:
    """One operator: numbers of its tensors, and of convolutions the padding, the stride and whether a ReLU follows."""

    kind: int
    inputs: tuple[int, ...]
    output: int
    padding: int = VALID
    stride: tuple[int, int] = (1, 1)
    relu: bool = False


class TfliteNet(nn.Module):
    """A network of a ``.tflite`` file: images (B, C, H, W) in, (B, D) out, whatever batch the file was written for.

    Args:
        path: the file.

    Raises:
        UserError: it is no such file, or asks for an operator or a type that is not known here.
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        data = Path(path).read_bytes()
        if data[4:8] != b"TFL3":
            raise UserError(f"{path}: not a TensorFlow Lite file")
        try:
            self._read(Table(data, _int(data, 0)))
        except (ValueError, IndexError, struct.error) as error:
            raise UserError(f"{path}: a TensorFlow Lite file that cannot be run here ({error})") from None

    def _read(self, model: Table) -> None:
        kinds = [max(code.byte(0), code.number(3)) for code in model.tables(1)]
        graph, buffers = model.tables(2)[0], model.tables(4)
        for number, tensor in enumerate(graph.tables(0)):
            raw = buffers[tensor.number(2)].array(0, "u1")
            if len(raw) and tensor.byte(1) == FLOAT32:
                shape = tensor.array(0, "<i4").tolist()
                self.register_buffer(f"t{number}", _channels_first(torch.from_numpy(raw.view("<f4")).reshape(shape)))
            elif len(raw) and tensor.byte(1) != INT32:
                raise ValueError(f"weights of type {tensor.byte(1)}")
        self.first, self.last = (int(graph.array(field, "<i4")[0]) for field in (1, 2))
        self.steps = joined([self._step(operator, kinds) for operator in graph.tables(3)])

    def _step(self, operator: Table, kinds: list[int]) -> Step:
        kind = kinds[operator.number(0)]
        if kind not in OPERATORS:
            raise ValueError(f"operator {kind}")
        inputs, output = tuple(operator.array(1, "<i4").tolist()), int(operator.array(2, "<i4")[0])
        if kind not in (CONV, DEPTHWISE):
            return Step(kind, inputs, output)
        options = operator.table(4)
        follows = options.byte(3 if kind == CONV else 4)
        if follows not in (0, 1):
            raise ValueError(f"activation {follows}")
        return Step(kind, inputs, output, options.byte(0), (options.number(2), options.number(1)), follows == 1)

    def forward(self, images: Tensor) -> Tensor:
        known: dict[int, Tensor] = {self.first: images}

        def value(number: int) -> Tensor:
            return known[number] if number in known else self.get_buffer(f"t{number}")

        for step in self.steps:
            a = value(step.inputs[0])
            if step.kind in (CONV, DEPTHWISE):
                made = self._convolution(step, a)
            elif step.kind == PRELU:
                made = F.prelu(a, 2 * value(step.inputs[1]).flatten())
            elif step.kind == RELU:
                made = a.relu()
            elif step.kind == ABS:
                made = a.abs()
            elif step.kind == RESHAPE:
                made = a.flatten(1)
            else:
                b = value(step.inputs[1])
                made = a + b if step.kind == ADD else a - b if step.kind == SUB else a * b
            known[step.output] = made
        return known[self.last]

    def _convolution(self, step: Step, images: Tensor) -> Tensor:
        weight, bias = (self.get_buffer(f"t{number}") for number in step.inputs[1:])
        groups = 1
        if step.kind == DEPTHWISE:
            weight, groups = weight.transpose(0, 1), images.shape[1]
        if step.padding == SAME:  # TensorFlow's: what is odd goes below and to the right
            (top, bottom), (left, right) = (
                _same(size, kernel, stride)
                for size, kernel, stride in zip(images.shape[-2:], weight.shape[-2:], step.stride, strict=True)
            )
            images = F.pad(images, (left, right, top, bottom))
        made = F.conv2d(images, weight, bias.flatten(), step.stride, groups=groups)
        return made.relu() if step.relu else made


def joined(steps: list[Step]) -> list[Step]:
    """The same steps with every spelled-out PReLU as one."""
    found, at = [], 0
    while at < len(steps):
        part = steps[at : at + len(SPELLED)]
        if tuple(step.kind for step in part) == SPELLED:
            relu, absolute, difference, product, total = part
            x = relu.inputs[0]
            slopes = [number for number in product.inputs if number != difference.output]
            if (
                absolute.inputs == (x,)
                and difference.inputs == (x, absolute.output)
                and len(slopes) == 1
                and set(total.inputs) == {relu.output, product.output}
            ):
                found.append(Step(PRELU, (x, slopes[0]), total.output))
                at += len(SPELLED)
                continue
        found.append(steps[at])
        at += 1
    return found


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding (before, after) with which ceil(size / stride) places are left."""
    total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return total // 2, total - total // 2


def _channels_first(weight: Tensor) -> Tensor:
    """A constant in torch's order: kernels (O, H, W, I) to (O, I, H, W), a number a channel to (C, 1, 1)."""
    if weight.ndim == 4:
        return weight.permute(0, 3, 1, 2).contiguous()
    return weight[:, None, None] if weight.ndim == 1 else weight

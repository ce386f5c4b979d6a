"""A TFLite graph on the schema's own objects, with the look-ups that rewrites need."""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

Op = schema.BuiltinOperator
OP_NAMES = {value: name for name, value in vars(Op).items() if isinstance(value, int)}
CONVOLUTIONS = (Op.CONV_2D, Op.DEPTHWISE_CONV_2D)


class Graph:
    """One subgraph with the look-ups that rewrites need."""

    def __init__(self, model: Any) -> None:
        self.model, self.sub = model, model.subgraphs[0]

    def kind(self, op: Any) -> int:
        """Builtin code of an operator."""
        return int(self.model.operatorCodes[op.opcodeIndex].builtinCode)

    def maker(self, tensor: int) -> Any:
        """The operator that writes a tensor; None for inputs and constants."""
        return next((op for op in self.sub.operators if tensor in op.outputs), None)

    def readers(self, tensor: int) -> list[Any]:
        """The operators that read a tensor."""
        return [op for op in self.sub.operators if tensor in op.inputs]

    def only_reader(self, op: Any) -> Any:
        """The one operator that reads the output of `op`, if that is its only use; else None."""
        readers = self.readers(op.outputs[0])
        return readers[0] if len(readers) == 1 and op.outputs[0] not in self.sub.outputs else None

    def shape(self, tensor: int) -> list[int]:
        """Static shape of a tensor."""
        return [int(size) for size in self.sub.tensors[tensor].shape]

    def data(self, tensor: int, dtype: type[np.generic]) -> Any | None:
        """Constant content of a tensor, or None."""
        content = self.model.buffers[self.sub.tensors[tensor].buffer].data
        if content is None or len(content) == 0:
            return None
        return np.frombuffer(bytes(content), dtype).reshape(self.shape(tensor))

    def set_data(self, tensor: int, array: Any) -> None:
        """Give a tensor constant content of its own."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self.model.buffers.append(buffer)
        self.sub.tensors[tensor].buffer = len(self.model.buffers) - 1
        self.sub.tensors[tensor].shape = np.array(array.shape, np.int32)

    def add_tensor(self, like: int, name: bytes, array: Any | None = None, shape: list[int] | None = None) -> int:
        """A new tensor of the type and quantisation of another."""
        source = self.sub.tensors[like]
        tensor = schema.TensorT()
        tensor.type, tensor.quantization, tensor.name = source.type, source.quantization, name
        tensor.buffer = 0
        tensor.hasRank = source.hasRank
        self.sub.tensors.append(tensor)
        index = len(self.sub.tensors) - 1
        if array is not None:
            self.set_data(index, array)
        else:
            tensor.shape = np.array(shape, np.int32)
        return index

    def opcode(self, kind: int, version: int) -> int:
        """Index of an operator code, added if absent."""
        for index, code in enumerate(self.model.operatorCodes):
            if code.builtinCode == kind:
                code.version = max(code.version, version)
                return index
        code = schema.OperatorCodeT()
        code.builtinCode, code.deprecatedBuiltinCode, code.version = kind, min(kind, 127), version
        self.model.operatorCodes.append(code)
        return len(self.model.operatorCodes) - 1

"""A policy as an ONNX graph, for whoever wants its scores without glasspool: the scaling of the features is inside.

Input `observation` (n, n_obs) float64, output `scores` (n, 1 + R) float64, pace first. The additive graph rounds every
term to a whole number of 1e-9 as the integer runtime does, so the two agree to the last bit. The graph of an MLP
computes in float64, with the weights that float32 training left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..envs.features import FEATURES, N_GLOBAL, N_ROUTE
from ..envs.vector_env import ACTION_BOUND
from .runtime import E9, AdditiveRuntime

if TYPE_CHECKING:
    from onnx import ModelProto

INPUT, OUTPUT = "observation", "scores"
OPSET, IR_VERSION = 17, 8  # old enough for every runtime since 2022
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class MlpWeights:
    """Scores of an MLP: ACTION_BOUND tanh(net(2 (x - low) / span - 1) / ACTION_BOUND), with tanh between the layers."""

    low: Floats  # (n_obs,) of the features' ranges
    span: Floats
    layers: tuple[tuple[Floats, Floats], ...]  # ((out, in), (out,)), input side first


class _Graph:
    """Nodes and constants in the order they are named."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, name: str, value: Floats | NDArray[np.int64] | float) -> str:
        from onnx import numpy_helper

        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        from onnx import helper

        self.nodes.append(helper.make_node(op, list(inputs), [output], **attributes))
        return output

    def model(self, n_obs: int, n_scores: int, said: str) -> ModelProto:
        from onnx import TensorProto, checker, helper

        graph = helper.make_graph(
            self.nodes, "glasspool_policy",
            [helper.make_tensor_value_info(INPUT, TensorProto.DOUBLE, ["n", n_obs])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.DOUBLE, ["n", n_scores])],
            self.constants, doc_string=said,
        )  # fmt: skip
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="glasspool")
        checker.check_model(model, full_check=True)
        return model


def additive_model(runtime: AdditiveRuntime) -> ModelProto:
    """The integer runtime's arithmetic, operation for operation, in doubles that hold whole numbers (below 2^53)."""
    n_routes, knots = runtime.n_routes, runtime.knots
    feature = np.concatenate([np.arange(N_GLOBAL), np.tile(N_GLOBAL + np.arange(N_ROUTE), n_routes)])
    low = np.array([f.low for f in FEATURES])[feature]
    span = np.array([f.high - f.low for f in FEATURES])[feature]
    table = runtime.table_e9.astype(np.float64)
    # row i of a flat table is (column, knot); a global column has a value a kind, a route's column that of its kind
    shared = table[:, :N_GLOBAL].transpose(1, 2, 0).reshape(N_GLOBAL * knots, -1)
    own = table[runtime.kind, N_GLOBAL:].reshape(-1)
    g = _Graph()
    zero, one, half = g.constant("zero", 0.0), g.constant("one", 1.0), g.constant("half", 0.5)
    above = g.add("Sub", [INPUT, g.constant("low", low)], "above_low")
    share = g.add("Div", [above, g.constant("span", span)], "share_of_span")
    position = g.add("Mul", [share, g.constant("last_knot", float(knots - 1))], "position")
    whole = g.add("Floor", [position], "whole_position")
    left = g.add("Clip", [whole, zero, g.constant("last_left", float(knots - 2))], "left")
    beyond = g.add("Sub", [position, left], "beyond_left")
    w = g.add("Clip", [beyond, zero, one], "right_weight")
    v = g.add("Sub", [one, w], "left_weight")
    first = knots * np.concatenate([np.arange(N_GLOBAL), np.arange(n_routes * N_ROUTE)])
    at = g.add("Add", [g.add("Cast", [left], "left_index", to=7), g.constant("first_knot", first)], "left_knot")
    after = g.add("Add", [at, g.constant("next", np.array(1))], "right_knot")
    start, middle, end, axis = (
        g.constant(name, np.array([i])) for name, i in (("start", 0), ("globals", N_GLOBAL), ("end", len(low)),
                                                        ("columns", 1))
    )  # fmt: skip

    def terms(part: str, begin: str, stop: str, values: str, weigh: Sequence[str]) -> str:
        """Rounded terms of the columns begin..stop; `weigh` turns a weight into the shape of the values."""

        def cut(name: str) -> str:
            return g.add("Slice", [name, begin, stop, axis], f"{part}_{name}")

        sides = []
        for knot, weight in ((at, v), (after, w)):
            found = g.add("Gather", [values, cut(knot)], f"{part}_value_{knot}", axis=0)
            shaped = g.add("Unsqueeze", [cut(weight), *weigh], f"{part}_shaped_{weight}") if weigh else cut(weight)
            sides.append(g.add("Mul", [found, shaped], f"{part}_times_{weight}"))
        mixed = g.add("Add", [g.add("Add", sides, f"{part}_mixed"), half], f"{part}_plus_half")
        return g.add("Floor", [mixed], f"{part}_terms")

    last = g.constant("by_kind", np.array([2]))
    common = terms("global", start, middle, g.constant("global_table", shared), [last])
    by_kind = g.add("ReduceSum", [common, axis], "global_by_kind", keepdims=0)
    by_kind = g.add("Add", [by_kind, g.constant("bias", runtime.bias_e9.astype(np.float64))], "kind_score")
    rows = g.constant("row_kind", np.array([0, *runtime.kind]))
    shared_rows = g.add("Gather", [by_kind, rows], "shared_score", axis=1)
    each = terms("route", middle, end, g.constant("route_table", own), [])
    shaped = g.add("Reshape", [each, g.constant("by_route", np.array([-1, n_routes, N_ROUTE]))], "route_by_route")
    routes = g.add("ReduceSum", [shaped, last], "route_score", keepdims=0)
    padded = g.add("Pad", [routes, g.constant("before_routes", np.array([0, 1, 0, 0])), zero], "own_score")
    total = g.add("Add", [shared_rows, padded], "score_e9")
    g.add("Div", [total, g.constant("e9", float(E9))], OUTPUT)
    return g.model(len(low), 1 + n_routes, "Additive glasspool policy: whole numbers of 1e-9, over 1e9.")


def mlp_model(weights: MlpWeights) -> ModelProto:
    """The network with its scaling and its bound."""
    g = _Graph()
    above = g.add("Sub", [INPUT, g.constant("low", weights.low)], "above_low")
    twice = g.add("Mul", [above, g.constant("two", 2.0)], "twice_above")
    share = g.add("Div", [twice, g.constant("span", weights.span)], "twice_share")
    x = g.add("Sub", [share, g.constant("one", 1.0)], "scaled")
    for i, (weight, bias) in enumerate(weights.layers):
        names = [g.constant(f"weight_{i}", weight), g.constant(f"bias_{i}", bias)]
        x = g.add("Gemm", [x, *names], f"layer_{i}", transB=1)
        if i + 1 < len(weights.layers):
            x = g.add("Tanh", [x], f"hidden_{i}")
    bound = g.constant("action_bound", float(ACTION_BOUND))
    bent = g.add("Tanh", [g.add("Div", [x, bound], "unbounded_share")], "bounded_share")
    g.add("Mul", [bent, bound], OUTPUT)
    return g.model(len(weights.low), len(weights.layers[-1][1]), "MLP glasspool policy.")


__all__ = ["INPUT", "OUTPUT", "MlpWeights", "additive_model", "mlp_model"]

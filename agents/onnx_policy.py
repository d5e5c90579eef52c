"""An MLP of a bundle: ONNX Runtime scores, and the weights in the file give the gradients that explanations need.

Read without pickle. The graph must be the one that glasspool builds from the weights it holds, so nothing else can run
and the network whose gradients are told is the network that decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch as th
from numpy.typing import NDArray

from ..envs.vector_env import ACTION_BOUND
from .onnx_graph import INPUT, OUTPUT, MlpWeights, mlp_model

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

Floats = NDArray[np.float64]


class MlpNetwork:
    """The same function in torch, float64: for gradients."""

    dtype = np.float64

    def __init__(self, weights: MlpWeights, name: str) -> None:
        self.name, self.n_routes = name, len(weights.layers[-1][1]) - 1
        self._low, self._span = th.tensor(weights.low), th.tensor(weights.span)
        self._layers = [(th.tensor(w), th.tensor(b)) for w, b in weights.layers]

    def forward(self, obs: th.Tensor) -> th.Tensor:
        """(E, n_obs) float64 -> (E, 1 + R), differentiable."""
        x = 2 * (obs - self._low) / self._span - 1
        for i, (weight, bias) in enumerate(self._layers):
            x = th.nn.functional.linear(th.tanh(x) if i else x, weight, bias)
        return ACTION_BOUND * th.tanh(x / ACTION_BOUND)

    def scores(self, obs: Floats) -> Floats:
        with th.no_grad():
            return cast(Floats, self.forward(th.from_numpy(obs)).numpy())

    def parameters(self) -> list[th.Tensor]:
        return [value for layer in self._layers for value in layer]


class OnnxMlp:
    """Decides by ONNX Runtime."""

    def __init__(self, content: bytes, name: str = "learned") -> None:
        """Read a `policy.onnx`.

        Raises:
            ValueError: not the graph of an MLP as `mlp_model` builds it.
        """
        self.network = MlpNetwork(_weights(content), name)
        self.name, self.n_routes, self.n_obs = name, self.network.n_routes, len(self.network._low)
        self._session = session(content)

    def scores(self, obs: Floats) -> Floats:
        """(E, n_obs) -> (E, 1 + R)."""
        return run_scores(self._session, obs)

    @property
    def hidden(self) -> list[int]:
        """Units of the hidden layers."""
        return [len(value) for value in self.network.parameters()[1:-1:2]]


def session(content: bytes) -> InferenceSession:
    """An ONNX Runtime session on one thread: rows of a decision are few."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run_scores(session: InferenceSession, obs: Floats) -> Floats:
    """(E, n_obs) -> (E, 1 + R) of a `policy.onnx` of either kind."""
    (found,) = session.run([OUTPUT], {INPUT: np.ascontiguousarray(obs, np.float64)})
    return cast(Floats, found)


def _weights(content: bytes) -> MlpWeights:
    import onnx
    from google.protobuf.message import DecodeError
    from onnx import numpy_helper

    try:
        model = onnx.load_model_from_string(content)
    except DecodeError as error:
        raise ValueError(f"not an ONNX file ({error})") from None
    if any(c.data_location or c.external_data for c in model.graph.initializer):
        raise ValueError("its weights lie in another file")
    found: dict[str, NDArray[Any]] = {c.name: numpy_helper.to_array(c) for c in model.graph.initializer}
    n_layers = sum(name.startswith("weight_") for name in found)
    names = ["low", "span", *(f"{part}_{i}" for i in range(n_layers) for part in ("weight", "bias"))]
    if not n_layers or (missing := [name for name in names if name not in found]):
        raise ValueError(f"no {missing[0] if n_layers else 'weights'} in it")
    layers = tuple((found[f"weight_{i}"], found[f"bias_{i}"]) for i in range(n_layers))
    weights = MlpWeights(found["low"], found["span"], layers)
    if any(value.dtype != np.float64 or not np.isfinite(value).all() for value in (found[name] for name in names)):
        raise ValueError("a weight is not a finite float64")
    inputs = [weights.low.shape, *(w.shape[:1] for w, _ in layers[:-1])]
    fit = all(
        w.ndim == 2 and w.shape[1:] == n and b.shape == w.shape[:1] for (w, b), n in zip(layers, inputs, strict=True)
    )
    if not fit or weights.low.ndim != 1 or weights.span.shape != weights.low.shape or (weights.span <= 0).any():
        raise ValueError("the shapes of its weights do not fit")
    own = mlp_model(weights)
    if model.graph != own.graph or list(model.opset_import) != list(own.opset_import) or model.functions:
        raise ValueError("its graph is not that of a glasspool MLP")
    return weights


__all__ = ["MlpNetwork", "OnnxMlp", "run_scores", "session"]

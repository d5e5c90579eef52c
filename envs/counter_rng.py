"""Counter-based random numbers: value = f(key, stream, venue, slot, index), never a shared sequence.

A draw does not depend on what was drawn before it, so two routers meet the same market, and neither batch size nor
process count nor the other venues of the market change a number (common random numbers).

Mixing: the SplitMix64 finaliser (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014).
Normals: the ziggurat (Marsaglia, Tsang, J. Statistical Software 5(8), 2000), exact in law.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np

from .compiled import leaf

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_STEP = np.uint64(0xD1342543DE82EF95)
_S11, _S27, _S30, _S31 = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31)
_LOW_8 = np.uint64(255)
_UNIT = 1.0 / 9007199254740992.0  # 2^-53


def key_of(text: str) -> np.uint64:
    """A 64-bit key for a name, the same on every platform."""
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


@leaf
def mix(x: np.uint64) -> np.uint64:
    x = (x ^ (x >> _S30)) * _MIX_1
    x = (x ^ (x >> _S27)) * _MIX_2
    return x ^ (x >> _S31)


@leaf
def derive(key: np.uint64, number: int) -> np.uint64:
    """A new key from a key and a number (stream, venue or episode)."""
    return mix(key + _GOLDEN * (np.uint64(number) + np.uint64(1)))


@leaf
def _bits(key: np.uint64, slot: int, index: int) -> np.uint64:
    """64 random bits for a slot and an index below 2^20 within it (SplitMix64 on its own odd increment)."""
    counter = (np.uint64(slot) << np.uint64(20)) + np.uint64(index) + np.uint64(1)
    return mix(key ^ (counter * _STEP))


@leaf
def uniform(key: np.uint64, slot: int, index: int) -> float:
    """Uniform in (0, 1), for a slot and an index below 2^20 within it."""
    return (float(_bits(key, slot, index) >> _S11) + 0.5) * _UNIT


def _ziggurat() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges x, ratios x_{i+1}/x_i and densities of 256 layers of equal area (Marsaglia and Tsang, 2000)."""
    density = np.vectorize(lambda x: math.exp(-0.5 * x * x))
    edges = np.zeros(_LAYERS + 1)
    edges[0], edges[1] = _AREA / math.exp(-0.5 * _TAIL * _TAIL), _TAIL
    for i in range(2, _LAYERS):
        edges[i] = math.sqrt(-2.0 * math.log(_AREA / edges[i - 1] + math.exp(-0.5 * edges[i - 1] ** 2)))
    return edges, edges[1:] / edges[:-1], density(edges)


_LAYERS = 256
_TAIL = 3.6541528853610088  # where the tail begins, and the area of a layer: their table for 256 layers
_AREA = 0.00492867323399
_EDGE, _RATIO, _DENSITY = _ziggurat()
_RETRY = 1 << 19  # draws of the slow path are far from those of other indices


@leaf
def normal(key: np.uint64, slot: int, index: int) -> float:
    """Standard normal by the ziggurat; index below 2^19."""
    bits = _bits(key, slot, index)
    layer = int(bits & _LOW_8)
    u = 2.0 * (float(bits >> _S11) + 0.5) * _UNIT - 1.0
    if abs(u) < _RATIO[layer]:
        return u * _EDGE[layer]
    return _normal_outside(key, slot, index, layer, u)


@leaf
def _normal_outside(key: np.uint64, slot: int, index: int, layer: int, u: float) -> float:
    """The 1 % of draws that fall outside their layer's rectangle: the tail, the wedge, or another try."""
    own = derive(key, (slot << 20) + _RETRY + index)
    attempt = 0
    while True:
        if layer == 0:
            x, y = 0.0, 0.0
            while 2.0 * y < x * x or attempt == 0:
                x = -math.log(uniform(own, attempt, 0)) / _TAIL
                y = -math.log(uniform(own, attempt, 1))
                attempt += 1
            return math.copysign(_TAIL + x, u)
        x = u * _EDGE[layer]
        low, high = _DENSITY[layer], _DENSITY[layer + 1]
        if low + uniform(own, attempt, 0) * (high - low) < math.exp(-0.5 * x * x):
            return x
        attempt += 1
        bits = _bits(own, attempt, 2)
        layer = int(bits & _LOW_8)
        u = 2.0 * (float(bits >> _S11) + 0.5) * _UNIT - 1.0
        if abs(u) < _RATIO[layer]:
            return u * _EDGE[layer]


@leaf
def exponential(key: np.uint64, slot: int, index: int) -> float:
    """Unit-mean exponential gap."""
    return -math.log(uniform(key, slot, index))


@leaf
def first_gap(key: np.uint64, slot: int, index: int, mean: float) -> float:
    """`exponential`, or infinity where it is sure to pass `mean`: -log u >= 1 - u saves most logarithms."""
    u = uniform(key, slot, index)
    return math.inf if 1.0 - u >= mean else -math.log(u)


@leaf
def log_uniform(u: float, lo: float, hi: float) -> float:
    return lo * math.exp(u * math.log(hi / lo))


@leaf
def gamma(key: np.uint64, slot: int, shape: float) -> float:
    """Gamma(shape, 1) by Marsaglia and Tsang (ACM TOMS 26(3), 2000); shape below 1 by the boost of its section 6."""
    boost = 1.0
    index = 0
    if shape < 1.0:
        boost = uniform(key, slot, index) ** (1.0 / shape)
        index += 1
        shape += 1.0
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    while True:
        z = normal(key, slot, index)
        u = uniform(key, slot, index + 1)
        index += 2
        v = (1.0 + c * z) ** 3
        if v > 0.0 and math.log(u) < 0.5 * z * z + d - d * v + d * math.log(v):
            return boost * d * v


@leaf
def binomial(key: np.uint64, slot: int, n: int, p: float) -> int:
    """Binomial(n, p), exact: geometric skips while n p < 10, else transformed rejection.

    Hörmann, "The generation of binomial random variates", J. Statistical Computation and Simulation 46 (1993), BTRS.
    """
    if n <= 0 or p <= 0.0:
        return 0
    if p >= 1.0:
        return n
    if p > 0.5:
        return n - _binomial_below_half(key, slot, n, 1.0 - p)
    return _binomial_below_half(key, slot, n, p)


@leaf
def _binomial_below_half(key: np.uint64, slot: int, n: int, p: float) -> int:
    index = 0
    if n * p < 10.0:
        log_q = math.log1p(-p)
        count, position = 0, 0
        while True:
            position += 1 + int(math.log(uniform(key, slot, index)) / log_q)
            index += 1
            if position > n:
                return count
            count += 1
    spread = math.sqrt(n * p * (1.0 - p))
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    c = n * p + 0.5
    v_r = 0.92 - 4.2 / b
    alpha = (2.83 + 5.1 / b) * spread
    log_odds = math.log(p / (1.0 - p))
    mode = math.floor((n + 1) * p)
    h = math.lgamma(mode + 1.0) + math.lgamma(n - mode + 1.0)
    while True:
        u = uniform(key, slot, index) - 0.5
        v = uniform(key, slot, index + 1)
        index += 2
        us = 0.5 - abs(u)
        k = math.floor((2.0 * a / us + b) * u + c)
        if k < 0 or k > n:
            continue
        if us >= 0.07 and v <= v_r:
            return int(k)
        v = math.log(v * alpha / (a / (us * us) + b))
        if v <= h - math.lgamma(k + 1.0) - math.lgamma(n - k + 1.0) + (k - mode) * log_odds:
            return int(k)

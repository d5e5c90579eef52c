"""Every kind of problem file: its parameters and the exact value of its optimum."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .almgren_2005 import Almgren2005Params, solve_almgren_2005
from .almgren_chriss import AlmgrenChrissParams, solve_almgren_chriss
from .dark_adverse import DarkFillAdverseParams, solve_dark_fill_adverse
from .dark_continuous import DarkFillContinuousParams, solve_dark_fill_continuous
from .dark_fill import DarkFillQuadraticParams, solve_dark_fill_quadratic
from .llp_exponential import LlpExponentialParams, solve_llp
from .lot_problem import LotRoutingParams
from .lot_regimes import solve_lot_regimes
from .lot_routing import solve_lot_routing
from .markout_law import MarkoutLawParams, solve_markout_law
from .meq_mix import MeqMixParams, solve_meq_mix
from .parameters import Params
from .participation_schedule import ParticipationScheduleParams, solve_participation_schedule
from .pool_split import KaplanMeierParams, PoolSplitParams, solve_kaplan_meier, solve_pool_split
from .probit_fill import ProbitFillParams, solve_probit_fill
from .take_or_post import TakeOrPostParams, solve_take_or_post
from .transient_schedule import TransientScheduleParams, solve_transient_schedule
from .vwap_tracking import VwapTrackingParams, solve_vwap_tracking


def _lot_value(params: LotRoutingParams) -> float:
    return (solve_lot_routing(params) if params.regimes is None else solve_lot_regimes(params)).value


_SOLVERS: tuple[tuple[type[Params], Callable[[Any], float]], ...] = (
    (DarkFillQuadraticParams, lambda p: solve_dark_fill_quadratic(p).value),
    (DarkFillContinuousParams, solve_dark_fill_continuous),
    (DarkFillAdverseParams, lambda p: solve_dark_fill_adverse(p).value),
    (VwapTrackingParams, lambda p: solve_vwap_tracking(p).value),
    (AlmgrenChrissParams, solve_almgren_chriss),
    (Almgren2005Params, solve_almgren_2005),
    (PoolSplitParams, solve_pool_split),
    (KaplanMeierParams, solve_kaplan_meier),
    (LlpExponentialParams, solve_llp),
    (TakeOrPostParams, solve_take_or_post),
    (LotRoutingParams, _lot_value),
    (TransientScheduleParams, solve_transient_schedule),
    (ParticipationScheduleParams, solve_participation_schedule),
    (MarkoutLawParams, solve_markout_law),
    (ProbitFillParams, solve_probit_fill),
    (MeqMixParams, solve_meq_mix),
)
KINDS: dict[str, type[Params]] = {str(params.model_fields["kind"].default): params for params, _ in _SOLVERS}


def optimum_of(params: Params) -> float:
    """The value of a problem, in its unit.

    Raises:
        KeyError: parameters of no known kind.
    """
    return dict(_SOLVERS)[type(params)](params)

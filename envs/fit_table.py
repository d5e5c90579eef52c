"""A calibration's statistics as a table, with what a market or a publication has in the place of each."""

from __future__ import annotations

from collections.abc import Mapping

from .calibration import PASSIVE_HORIZON_S, CalibratedClass
from .trade_sizes import PERCENTILES


def fit_rows(
    calibrated: CalibratedClass, reference: Mapping[str, float] | None = None
) -> list[dict[str, str | float | int]]:
    """The fit as a table, one statistic a row: statistic, value, unit, n (days, trades, seconds or executions).

    With `reference` (statistic -> value, such as published numbers or the fitted model's), rows that it names gain
    "reference" and "difference" (value minus reference).
    """
    c, n_days = calibrated, len(calibrated.dates)
    rows: list[tuple[str, float, str, int]] = [
        ("price_usd", c.price_usd, "USD", n_days),
        ("adv_shares", c.adv_shares, "shares", n_days),
        ("half_spread_bps", c.half_spread_bps, "bps", n_days),
        ("daily_vol_bps", c.daily_vol_bps, "bps", n_days),
        ("touch_depth_shares", c.touch_depth_shares, "shares", n_days),
        ("touch_depth_mean_shares", c.touch_depth_mean_shares, "shares", n_days),
        ("nbbo_moves_per_10s", c.nbbo_moves_per_10s, "1/10 s", n_days),
        ("mean_trade_shares", c.mean_trade_shares, "shares", c.n_trades),
        ("off_exchange_share", c.off_exchange_share, "frac", c.n_trades),
    ]
    for curve in ("volume_curve", "spread_curve", "vol_curve"):
        rows += [(f"{curve}[{k}]", float(x), "relative", n_days) for k, x in enumerate(getattr(c, curve))]
    rows += _new_rows(c, n_days)
    for fit in c.imbalance:
        rows.append((f"imbalance_slope_bps@{fit.horizon_s}s", fit.slope_bps, "bps", fit.n))
        rows.append((f"imbalance_r2@{fit.horizon_s}s", fit.r2, "frac", fit.n))
    for m in c.markouts:
        at = f"{m.group}@{m.horizon_s}s"
        rows.append((f"impact_bps:{at}", m.impact_bps, "bps", m.n))
        rows.append((f"impact_se_bps:{at}", m.impact_se_bps, "bps", m.n))
        rows.append((f"passive_pnl_bps:{at}", m.passive_pnl_bps, "bps", m.n))
        rows.append((f"passive_pnl_se_bps:{at}", m.passive_pnl_se_bps, "bps", m.n))
        if m.horizon_s == PASSIVE_HORIZON_S:
            rows.append((f"passive_pnl_hs:{at}", m.passive_pnl_hs, "half spreads", m.n))
    table: list[dict[str, str | float | int]] = []
    for statistic, value, unit, n in rows:
        table.append({"statistic": statistic, "value": value, "unit": unit, "n": n})
        if reference is not None and statistic in reference:
            table[-1] |= {"reference": reference[statistic], "difference": value - reference[statistic]}
    return table


def _new_rows(c: CalibratedClass, n_days: int) -> list[tuple[str, float, str, int]]:
    """Noise, sizes, impact and shares, as far as the days tell them."""
    rows: list[tuple[str, float | None, str, int]] = [
        ("late_vol_bps", c.late_vol_bps, "bps", n_days),
        ("volume_concentration", c.volume_noise.concentration, "1", n_days),
        ("step_concentration", c.volume_noise.step_concentration, "1", n_days),
        ("slot_volume_log_sd", c.volume_noise.slot_log_sd, "1", n_days),
        ("day_volume_log_sd", c.volume_noise.day_log_sd, "1", n_days),
        ("minute_volume_log_sd", c.volume_noise.minute_log_sd, "1", n_days),
        ("minute_volume_log_acf1", c.volume_noise.minute_log_acf1, "1", n_days),
        ("midpoint_seen_share", c.midpoint.seen_frac, "frac", n_days),
        ("midpoint_even_spread_share", c.midpoint.even_spread_frac, "frac", n_days),
        ("even_spread_volume_share", c.midpoint.even_volume_frac, "frac", n_days),
        ("flow_mean_shares", c.sizes.mean_shares, "shares", c.sizes.n),
    ]
    rows += [
        (f"flow_shares_p{p}", x, "shares", c.sizes.n)
        for p, x in zip(PERCENTILES, c.sizes.percentiles_shares, strict=True)
    ]
    for name, noise in (("spread", c.spread_noise), ("vol", c.vol_noise)):
        if noise is not None:
            rows.append((f"{name}_log_sd", noise.log_sd, "1", n_days))
            rows.append((f"{name}_persistence_300s", noise.persistence_300s, "1", n_days))
    if c.net_flow is not None:
        rows.append(("net_flow_slope_bps", c.net_flow.slope_bps, "bps", n_days))
        rows.append(("net_flow_r2", c.net_flow.r2, "frac", n_days))
    rows += [(f"volume_share:{group}", frac, "frac", c.n_trades) for group, frac in c.group_volume_frac.items()]
    return [(statistic, value, unit, n) for statistic, value, unit, n in rows if value is not None]

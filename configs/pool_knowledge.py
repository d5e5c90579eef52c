def resolved_kappas(pool, stock):
    return pool.kappa_fast, pool.kappa_slow

"""How well songs are separated: oracles and baselines, runs over data sets, results, reports."""

"""Who decides: baselines, policies, training, evaluation, export and the live router."""

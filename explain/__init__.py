"""Why: attributions, reason codes, decision log and its verification."""

"""The market: everything up to a fill."""

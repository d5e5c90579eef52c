"""Shipped trained bundles, each with its model card and the command that made it."""

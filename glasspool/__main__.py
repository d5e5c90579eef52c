"""`python -m glasspool` is the `glasspool` command."""

from .cli import main

main()

"""Routing problems whose optimum is known exactly: one problem a module, its parameters and its solver side by side.

Costs are positive when they hurt. Nothing here samples: a value is a recursion, a closed form or a finite sum.
"""

"""Settings of the published allocators (agents/allocators): their constants, and the patience that they share with the
rule-based SOR."""

from __future__ import annotations

from .model import Frac, Model, NonNegative, Positive


class AllocatorConfig(Model):
    """What all of them have: how late shares may be, and how much is offered to the pools."""

    behind_s: NonNegative = 120.0  # what is later is taken
    max_slices: NonNegative = 6.0  # of the schedule, offered to the pools in a slot at most


class ThompsonConfig(AllocatorConfig):
    """Thompson sampling per hazard."""

    history_attempts: NonNegative = 500.0  # of a scorecard, at most: more would drown what the order sees itself


class GanchevConfig(ThompsonConfig):
    """Optimistic Kaplan-Meier."""

    least_tries: NonNegative = 20.0  # behind a level before it is believed; the constant of the theory is far larger


class AgarwalConfig(AllocatorConfig):
    """Exponentiated gradient per lot."""

    rate_ratio: Positive = 1.0  # of the step, to the theory's sqrt(ln K / T)


class LlpConfig(AllocatorConfig):
    """The Lagrangian rule of Laruelle, Lehalle and Pages."""

    explore_frac: Frac = 0.1  # of the volume, spread evenly: in whole lots a pool of weight 0 is else never asked


ALLOCATOR_CONFIGS: dict[str, type[AllocatorConfig]] = {
    "ganchev": GanchevConfig, "agarwal": AgarwalConfig, "llp": LlpConfig, "thompson": ThompsonConfig,
}  # fmt: skip

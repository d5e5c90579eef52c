"""Training stage by stage: what is kept, and that a run stopped in its search ends as one that was not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from glasspool.agents.policies import load_policy
from glasspool.agents.policy_search import PairedSearch
from glasspool.agents.runtime import AdditiveRuntime
from glasspool.agents.training import Progress, train
from glasspool.configs.experiment import ExperimentConfig
from glasspool.configs.loading import load_experiment

TINY = """
name: tiny
market:
  base: ibm_2013
  orders: {horizon_minutes: {15: 1.0}}
agent: {critic_privileged: all}
training: {steps: 2048, n_envs: 64, batch_size: 1024, validations: 1, validation_orders: 20, teacher_orders: 16,
           search: {rounds: 20, pairs: 8}}
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> ExperimentConfig:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(TINY)
    return load_experiment(path)


@pytest.fixture(scope="module")
def whole(tiny: ExperimentConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    train(tiny, 1, folder)
    return folder


def curve(folder: Path) -> list[tuple[int, float]]:
    points = json.loads((folder / "training.json").read_text())["curve"]
    return [(point["step"], point["validation_slippage_hs"]) for point in points]


def test_the_search_is_validated_at_each_tenth_of_its_rounds(whole: Path) -> None:
    steps = [step for step, _ in curve(whole)]
    assert steps[:2] == [0, 2048]
    assert len(steps) == 2 + 10 + 1 and steps[-1] == steps[-2]  # the averaged parameters last
    assert (np.diff(steps[1:-1]) > 0).all()


def test_a_run_stopped_in_its_search_ends_as_one_that_was_not(
    tiny: ExperimentConfig, whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after = Progress.after_search_round

    def stopping(progress: Progress, search: PairedSearch) -> bool:
        if search.round == 7:  # between two saves
            raise KeyboardInterrupt
        return after(progress, search)

    monkeypatch.setattr(Progress, "after_search_round", stopping)
    with pytest.raises(KeyboardInterrupt):
        train(tiny, 1, tmp_path)
    monkeypatch.setattr(Progress, "after_search_round", after)
    train(tiny, 1, tmp_path, resume=True)
    assert curve(tmp_path) == curve(whole)
    mine, theirs = (load_policy(folder / "policy.zip") for folder in (tmp_path, whole))
    assert isinstance(mine, AdditiveRuntime) and isinstance(theirs, AdditiveRuntime)
    assert (mine.table_e9 == theirs.table_e9).all() and (mine.bias_e9 == theirs.bias_e9).all()

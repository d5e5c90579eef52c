"""Training stage by stage: what is kept, and that a run stopped in its search ends as one that was not."""

from __future__ import annotations

import hashlib
import json
import platform
import tempfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch as th
from pydantic import ValidationError

from glasspool.agents.jobs.evaluation import evaluate_job
from glasspool.agents.policies import load_policy
from glasspool.agents.policy_search import PairedSearch
from glasspool.agents.runs import write_config
from glasspool.agents.runtime import AdditiveRuntime
from glasspool.agents.training import Progress, taught_market, train, training_market
from glasspool.configs.errors import UserError
from glasspool.configs.experiment import ExperimentConfig
from glasspool.configs.loading import load_experiment
from glasspool.configs.market import MarketConfig
from glasspool.envs.market import Market
from glasspool.envs.vector_env import EpisodeBatch

COMMITTED = Path(__file__).parent / "tiny_run.json"
PINNED = {
    "name": "pinned", "price_usd": 22, "adv_shares": 120_000_000, "spread_bps": 4.55, "daily_vol_bps": 130,
    "depth_shares": 20_000,
}  # fmt: skip
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


def result(folder: Path) -> dict[str, object]:
    """What a run came to, and the machine whose arithmetic it was."""
    policy = load_policy(folder / "policy.zip")
    assert isinstance(policy, AdditiveRuntime)
    digest = hashlib.sha256(policy.table_e9.tobytes() + policy.bias_e9.tobytes()).hexdigest()
    cpu = Path("/proc/cpuinfo")
    names = [line.split(":")[1].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")]
    where = [platform.machine(), *names[:1], th.backends.cpu.get_cpu_capability(), th.__version__, np.__version__]
    return {"machine": where, "curve_hs": [hs for _, hs in curve(folder)], "policy_sha256": digest}


def test_a_tiny_policy_trains_to_its_committed_result(whole: Path) -> None:
    """Exactly on the machine of the file (`python tests/agents/test_training.py` writes it anew); elsewhere, where the
    last digits of torch differ and training carries them on, to three digits of the cost."""
    committed, mine = json.loads(COMMITTED.read_text()), result(whole)
    if committed["machine"] == mine["machine"]:
        assert mine == committed
    assert mine["curve_hs"] == pytest.approx(committed["curve_hs"], rel=5e-3)


def test_further_classes_of_stocks_are_met_in_training_alone(tiny: ExperimentConfig) -> None:
    training = tiny.training.model_dump() | {"extra_stocks": [{**PINNED, "probability": 0.2}]}
    config = ExperimentConfig.model_validate(tiny.model_dump() | {"training": training})
    market = training_market(config)
    assert [(s.name, s.probability) for s in market.stocks] == [
        *((s.name, pytest.approx(0.8 * s.probability)) for s in tiny.market.stocks), ("pinned", 0.2),
    ]  # fmt: skip
    assert config.market == tiny.market
    assert taught_market(tiny) is tiny.market


def test_other_ranges_of_venues_are_met_in_training_alone(tiny: ExperimentConfig) -> None:
    training = tiny.training.model_dump() | {"randomisation": {"supply_factor": [0.4, 10.0]}}
    config = ExperimentConfig.model_validate(tiny.model_dump() | {"training": training})
    for market in (training_market(config), taught_market(config)):
        assert market.randomisation is not None and market.randomisation.supply_factor == (0.4, 10.0)
        assert market.dark_pools == tiny.market.dark_pools
    assert config.market == tiny.market

    def supplies(of: MarketConfig) -> npt.NDArray[np.float64]:
        rows = EpisodeBatch(Market(of), 200, 1)
        rows.reset()
        return np.asarray(rows.batch.venue["supply_frac"][:, -4:], float)

    richest = max(pool.supply_frac for pool in tiny.market.dark_pools)
    assert supplies(config.market).max() <= 2.5 * richest < supplies(training_market(config)).max()


def test_further_classes_must_leave_room_for_the_market(tiny: ExperimentConfig) -> None:
    training = tiny.training.model_dump() | {"extra_stocks": [{**PINNED, "probability": 1.0}]}
    with pytest.raises(ValidationError, match="extra_stocks sum to 1; leave some"):
        ExperimentConfig.model_validate(tiny.model_dump() | {"training": training})


def test_a_bound_is_evaluated_and_never_logged(tiny: ExperimentConfig, tmp_path: Path) -> None:
    agent = tiny.agent.model_dump() | {"privileged": "venue"}
    config = ExperimentConfig.model_validate(tiny.model_dump() | {"agent": agent})
    config = config.model_copy(update={"training": config.training.model_copy(update={"search": None})})
    run = tmp_path / "bound"
    write_config(run, config, 1)
    train(config, 1, run)

    def evaluated(decisions: int) -> Path:
        folder, _ = evaluate_job(
            [str(run)], against=["rule_sor"], episodes=20, market=None, seed=5, decisions=decisions,
            out=tmp_path / "evaluation", command="",
        )  # fmt: skip
        return folder

    assert (evaluated(0) / "evaluation.json").is_file()
    with pytest.raises(UserError, match="not a bound"):
        evaluated(1)


if __name__ == "__main__":  # the committed result, made anew
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "tiny.yaml").write_text(TINY)
        train(load_experiment(folder / "tiny.yaml"), 1, folder)
        COMMITTED.write_text(json.dumps(result(folder), indent=1) + "\n")

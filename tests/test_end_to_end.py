"""The three jobs, through the command line, on a market small enough to train in seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from glasspool.agents.bundle import load_bundle

TINY = """
name: tiny
market:
  base: ibm_2013
  orders:
    horizon_minutes: {15: 1.0}
agent: {policy: POLICY}
training: {steps: 8192, n_envs: 64, steps_per_rollout: 32, batch_size: 1024, validations: 2, validation_orders: 20,
           teacher_orders: 16, search: {rounds: 4, pairs: 16}}
evaluation: {orders: 60, against: [random, vwap_lit, rule_sor, tuned_sor, post_XQLA], fills_orders: 10}
"""


def glasspool(*args: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command; the exit code is part of every expectation."""
    done = subprocess.run([sys.executable, "-m", "glasspool", *args], capture_output=True, text=True, check=False)
    assert done.returncode == code, f"exit {done.returncode}, expected {code}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One trained run with its evaluation, report and bundle."""
    folder = tmp_path_factory.mktemp("jobs")
    (folder / "tiny.yaml").write_text(TINY.replace("POLICY", "additive"))
    glasspool("train", str(folder / "tiny.yaml"), "--out", str(folder / "run"))
    glasspool("evaluate", str(folder / "run"), "--decisions", "1", "--out", str(folder / "evaluation"),
              "--json", str(folder / "table.json"))  # fmt: skip
    glasspool("export", str(folder / "run"), "--orders", "1", "--out", str(folder / "bundle"))
    glasspool("report", str(folder / "evaluation"))
    return folder


def test_training_leaves_what_the_contract_names(home: Path) -> None:
    run = home / "run"
    for name in ("config.yaml", "policy.zip", "training.json", "checkpoint.zip"):
        assert (run / name).is_file()
    training = json.loads((run / "training.json").read_text())
    assert training["done"] and training["steps"] >= 8192
    first = training["curve"][0]
    assert first["step"] == 0 and first["seconds"] == 0  # before any reinforcement learning, and on nobody's clock
    assert list((run / "tensorboard").rglob("events.out.tfevents*"))


def test_tensorboard_curves_mean_something(home: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    wanted = {"validation/validation_vs_sor_bps", "validation/dark_frac", "validation/fill_rate_ping",
              "validation/dark_markout_10s_bps"}  # fmt: skip
    for stage, more in (("ppo_*", {"train/vwap_slippage_bps", "train/dark_frac"}), ("search", set())):
        (folder,) = (home / "run" / "tensorboard").glob(stage)
        events = EventAccumulator(str(folder))
        events.Reload()
        assert wanted | more <= set(events.Tags()["scalars"])


def test_evaluation_is_paired_and_its_parts_add_up(home: Path) -> None:
    payload = json.loads((home / "evaluation" / "evaluation.json").read_text())
    episodes = pd.read_parquet(home / "evaluation" / "episodes.parquet")
    assert set(payload["routers"]) == {"learned", "random", "vwap_lit", "rule_sor", "tuned_sor", "post_XQLA"}
    by_router = {name: g.set_index("episode") for name, g in episodes.groupby("router")}
    sizes = {name: g["ordered_shares"].tolist() for name, g in by_router.items()}
    assert all(s == sizes["learned"] for s in sizes.values())  # the same parents for everybody
    for c in payload["comparisons"]:
        difference = by_router["learned"]["vwap_slippage_bps"] - by_router[c["baseline"]]["vwap_slippage_bps"]
        assert c["mean_difference_bps"] == pytest.approx(difference.mean(), abs=1e-9)
        assert sum(c["components_bps"].values()) == pytest.approx(c["mean_difference_bps"], abs=1e-9)
        assert c["ci95_bps"][0] < c["mean_difference_bps"] < c["ci95_bps"][1]
    assert json.loads((home / "table.json").read_text()) == payload


def test_an_evaluation_leaves_nothing_of_the_one_before(home: Path, tmp_path: Path) -> None:
    """A report would tell the decisions and curves of the other policy as this one's."""
    import shutil

    folder = tmp_path / "evaluation"
    shutil.copytree(home / "evaluation", folder)
    assert {"decisions.jsonl", "policy.json", "training-s1.json", "report.html"} <= {p.name for p in folder.iterdir()}
    glasspool(
        "evaluate",
        "rule_sor",
        "--against",
        "rule_sor",
        "--market",
        "ibm_2013",
        "--episodes",
        "20",
        "--out",
        str(folder),
    )
    assert {p.name for p in folder.iterdir()} == {"evaluation.json", "episodes.parquet", "fills.parquet"}
    payload = json.loads((folder / "evaluation.json").read_text())
    assert payload["comparisons"] == [] and "bootstrap" in payload["interval_method"]  # of the router alone


def test_options_that_would_do_nothing_are_refused(home: Path, tmp_path: Path) -> None:
    done = glasspool(
        "explain", str(home / "bundle"), "--json", str(tmp_path / "x.json"), "--out", str(tmp_path), code=2
    )
    assert "--beside and --json belong to --validate" in done.stderr
    fills = tmp_path / "fills.csv"
    fills.write_text("child_id\n")
    done = glasspool("calibrate", "--fills", str(fills), "--no-check", "--out", str(tmp_path / "m.yaml"), code=2)
    assert "--no-check is about generated days" in done.stderr


def test_fills_stay_inside_their_orders(home: Path) -> None:
    fills = pd.read_parquet(home / "evaluation" / "fills.parquet")
    episodes = pd.read_parquet(home / "evaluation" / "episodes.parquet")
    filled = fills.groupby(["router", "episode"])["shares"].sum()
    ordered = episodes.set_index(["router", "episode"])["ordered_shares"]
    assert (filled == ordered.loc[filled.index]).all()  # every order completes, share by share
    assert (fills["shares"] <= fills["child_shares"]).all()


def test_the_exported_log_verifies_and_redecides(home: Path) -> None:
    log = home / "bundle" / "explanations" / "decisions.jsonl"
    glasspool("audit", "verify", str(log), "--bundle", str(home / "bundle"))
    glasspool("audit", "verify", str(home / "evaluation" / "decisions.jsonl"), "--bundle", str(home / "bundle"))


def test_one_flipped_byte_of_a_log_is_found_and_its_record_named(home: Path, tmp_path: Path) -> None:
    raw = bytearray((home / "bundle" / "explanations" / "decisions.jsonl").read_bytes())
    lines = bytes(raw).split(b"\n")
    rng = np.random.default_rng(5)
    for at in rng.integers(0, len(raw), 3):
        copy = bytearray(raw)
        copy[at] ^= 1
        path = tmp_path / "log.jsonl"
        path.write_bytes(copy)
        record, seen = 0, 0
        while seen + len(lines[record]) < at:
            seen += len(lines[record]) + 1
            record += 1
        out = tmp_path / "verdict.json"
        glasspool("audit", "verify", str(path), "--json", str(out), code=1)
        assert json.loads(out.read_text())["first_bad_record"] == record


def test_a_flipped_byte_of_the_log_inside_its_bundle_is_named_too(home: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(home / "bundle", copy)
    log = copy / "explanations" / "decisions.jsonl"
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 1
    log.write_bytes(raw)
    done = glasspool("audit", "verify", str(log), "--bundle", str(copy), code=1)
    assert f"record {raw[: len(raw) // 2].count(10)}" in done.stdout


def test_a_bundle_with_a_changed_byte_is_refused(home: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "bundle"
    shutil.copytree(home / "bundle", copy)
    raw = bytearray((copy / "policy.json").read_bytes())
    raw[len(raw) // 2] ^= 1
    (copy / "policy.json").write_bytes(raw)
    done = glasspool("explain", str(copy), "--out", str(tmp_path / "log"), code=2)
    assert "policy.json" in done.stderr
    assert not (tmp_path / "log").exists()


def test_the_report_is_one_page(home: Path) -> None:
    page = (home / "evaluation" / "report.html").read_text()
    assert "SIMULATED" in page and "rule_sor" in page


def test_interrupted_training_goes_on_to_its_end(home: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    config = str(home / "tiny.yaml")
    glasspool("train", config, "--out", str(run), "--set", "training.max_seconds=0.001")
    stopped = json.loads((run / "training.json").read_text())["steps"]
    text = (run / "config.yaml").read_text().replace("max_seconds: 0.001", "max_seconds: null")
    (run / "config.yaml").write_text(text)
    for other in (["--set", "agent.knots=5"], ["--seed", "7"]):
        assert (
            "--resume goes on with" in glasspool("train", config, "--out", str(run), "--resume", *other, code=2).stderr
        )
    assert (run / "config.yaml").read_text() == text
    glasspool("train", config, "--out", str(run), "--resume")
    training = json.loads((run / "training.json").read_text())
    assert stopped < 8192 <= training["steps"]
    assert training["curve"][0]["step"] == 0


def test_resuming_a_finished_run_keeps_its_best_policy(home: Path, tmp_path: Path) -> None:
    """Best and last are told apart by planting a best that the last checkpoint is not."""
    import shutil

    run = tmp_path / "run"
    shutil.copytree(home / "run", run)
    other = tmp_path / "other"
    glasspool("train", str(home / "tiny.yaml"), "--seed", "9", "--out", str(other))
    shutil.copyfile(other / "policy.zip", run / "best.zip")
    planted = (run / "best.zip").read_bytes()
    glasspool("train", str(home / "tiny.yaml"), "--out", str(run), "--resume")
    assert (run / "policy.zip").read_bytes() == planted


def test_a_typo_leaves_a_finished_run_alone(home: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(home / "run", run)
    before = {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()}
    glasspool("train", str(home / "tiny.yaml"), "--set", "training.teacher=nosuch", "--out", str(run), code=2)
    assert {p.name: p.read_bytes() for p in run.iterdir() if p.is_file()} == before


def test_runs_of_different_configs_are_not_pooled(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    glasspool("train", str(home / "tiny.yaml"), "--seed", "2", "--set", "agent.knots=5", "--out", str(other))
    done = glasspool("evaluate", str(home / "run"), str(other), "--out", str(tmp_path / "e"), code=2)
    assert "different configs" in " ".join(done.stderr.split())
    assert not (tmp_path / "e").exists()


def test_damaged_training_files_are_named(home: Path, tmp_path: Path) -> None:
    import shutil

    run = tmp_path / "run"
    shutil.copytree(home / "run", run)
    (run / "training.json").write_text("{")
    assert "training.json" in glasspool("train", "default", "--out", str(run), "--resume", code=2).stderr
    shutil.copyfile(home / "run" / "training.json", run / "training.json")
    (run / "checkpoint.zip").write_bytes((run / "checkpoint.zip").read_bytes()[:1000])
    assert "checkpoint.zip" in glasspool("train", "default", "--out", str(run), "--resume", code=2).stderr


def test_an_mlp_trains_exports_and_is_evaluated_like_its_bundle(tmp_path: Path) -> None:
    (tmp_path / "mlp.yaml").write_text(TINY.replace("POLICY", "mlp"))
    glasspool("train", str(tmp_path / "mlp.yaml"), "--out", str(tmp_path / "run"))
    logged = ("--episodes", "20", "--decisions", "1", "--out")
    glasspool("evaluate", str(tmp_path / "run"), *logged, str(tmp_path / "evaluation"))
    glasspool("export", str(tmp_path / "run"), "--orders", "1", "--out", str(tmp_path / "bundle"))
    glasspool("evaluate", str(tmp_path / "bundle"), *logged, str(tmp_path / "again"))
    costs = [json.loads((tmp_path / f / "evaluation.json").read_text())["routers"] for f in ("evaluation", "again")]
    means = [c["learned"]["vwap_slippage_bps"]["mean"] for c in costs]
    assert means[1] == pytest.approx(means[0], abs=0.05)  # float32 in the run: a rare lot may go elsewhere
    log = str(tmp_path / "bundle" / "explanations" / "decisions.jsonl")
    done = glasspool("audit", "verify", log, "--bundle", str(tmp_path / "bundle"))
    assert "every decision made again by tiny-s" in done.stdout
    of_bundle, of_run = (str(tmp_path / f / "decisions.jsonl") for f in ("again", "evaluation"))
    done = glasspool("audit", "verify", of_bundle, "--bundle", str(tmp_path / "bundle"))
    assert "every decision made again by tiny-s" in done.stdout
    glasspool("audit", "verify", of_run)
    done = glasspool("audit", "verify", of_run, "--bundle", str(tmp_path / "bundle"), code=1)
    assert "a log of an MLP's run folder, whose float32 network" in done.stdout
    glasspool("report", str(tmp_path / "again"))
    records = [json.loads(line) for line in Path(of_bundle).read_text().splitlines()]
    scored = [c for r in records if r["type"] == "decision" for c in r["body"]["candidates"] if c["score_e9"]]
    assert len(scored) > 100 and any(c["residual_e9"] for c in scored)
    for c in scored:
        assert c["bias_e9"] + sum(c["feature_attr_e9"].values()) + c["residual_e9"] == c["score_e9"]


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["train", "nosuch"], "Packaged: default"),
        (["train", "default", "--set", "training.stepz=5"], "Did you mean 'steps'"),
        (["train", "default", "--set", "agent.policy=additiv"], "additive"),
        (["train", "default", "--set", "market.orders.shares=90000000"], "more than the market can bear"),
        (["evaluate", "runs/nosuch"], "no such run folder"),
        (["evaluate", "rule_soar"], "is not known"),
        (["evaluate", "rule_sor", "--market", "nosuch"], "no such file"),
        (["audit", "verify", "nosuch.jsonl"], "nosuch.jsonl"),
        (["report", "nosuch"], "no such folder"),
        (["train", "default", "--seed", "-1"], "--seed"),
        (["train", "default", "--set", "training.orders.shares=90000000"], "more than the market can bear"),
        (["train", "default", "--set", "training.batch_size=1"], "batch_size"),
        (["evaluate", "rule_sor", "--json", "nosuch/x.json"], "nosuch"),
        (["tune", "--out", "nosuch/x.yaml"], "nosuch"),
        (["export", "nosuch", "--out", "somewhere"], "nosuch"),
        (["calibrate", "nosuch.csv.gz", "--out", "x.yaml"], "nosuch"),
    ],
)
def test_wrong_input_is_one_message_and_exit_2(
    args: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = glasspool(*args, code=2)
    assert says in " ".join(done.stderr.split())
    assert not list(tmp_path.iterdir())  # nothing half-written


def test_a_truncated_data_file_is_refused(tmp_path: Path) -> None:
    import gzip

    day = tmp_path / "20131007_xyz_Trade_Tick.csv.gz"
    day.write_bytes(gzip.compress(b"34200000,1000000,100,Q,00000001,0\n" * 2000)[:-20])
    (tmp_path / "20131007_xyz_Quote_Tick.csv.gz").write_bytes(gzip.compress(b"34200000,999900,100,0,0,Q,0,0\n"))
    done = glasspool("calibrate", str(day), "--out", str(tmp_path / "m.yaml"), code=2)
    assert "20131007_xyz_Trade_Tick.csv.gz" in done.stderr
    assert not (tmp_path / "m.yaml").exists()


def test_every_shipped_policy_is_small_and_says_what_it_is() -> None:
    shipped = Path(__file__).resolve().parent.parent / "checkpoints"
    found = {folder.name: folder for folder in shipped.iterdir() if (folder / "manifest.json").is_file()}
    assert {"default", "one_tick", "wide_spread"} <= set(found)
    for name, folder in found.items():
        assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 1_000_000
        card = (folder / "model_card.md").read_text()
        assert "glasspool export" in card and "held-out parents" in card and "sor_strong" in card
        run = load_bundle(folder)
        assert run.config.name == name and (folder / "config.yaml").is_file()


def test_the_shipped_policy_evaluates_and_decides(tmp_path: Path) -> None:
    """Under 1 MB with its card, config and command; on other orders than its page has, it leads each SOR."""
    folder = Path(__file__).resolve().parent.parent / "checkpoints" / "default"
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 1_000_000
    assert "glasspool export" in (folder / "model_card.md").read_text()
    sors = ("rule_sor", "tuned_sor", "sor_strong")
    glasspool("evaluate", str(folder), *(f"--against={name}" for name in sors), "--episodes", "1000", "--seed", "77",
              "--out", str(tmp_path / "evaluation"))  # fmt: skip
    payload = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())
    leads = {c["baseline"]: c for c in payload["comparisons"] if c["metric"] == "vwap_slippage_bps"}
    assert set(leads) == set(sors) and all(c["ci95_bps"][1] < 0 and c["ci95_hs"][1] < 0 for c in leads.values())
    glasspool("explain", str(folder), "--orders", "1", "--out", str(tmp_path / "log"))
    glasspool("audit", "verify", str(tmp_path / "log" / "decisions.jsonl"), "--bundle", str(folder))


def test_an_evaluation_says_what_was_read_into_its_market(tmp_path: Path) -> None:
    (tmp_path / "desk.yaml").write_text(
        "base: base\nname: desk\ndark_slots: []\nrandomisation: null\ndark_pools:\n"
        "  - {name: DESK, fill_rate: {60: 0.2}, reversion_bps: {10: -0.2}}\n"
    )
    done = glasspool("evaluate", "rule_sor", "--against", "tuned_sor", "--market", str(tmp_path / "desk.yaml"),
                     "--episodes", "20", "--out", str(tmp_path / "evaluation"))  # fmt: skip
    told = json.loads((tmp_path / "evaluation" / "evaluation.json").read_text())["market_notes"]
    assert len(told) == 6 and all(note in done.stderr for note in told)  # two of a pool in each of three classes
    glasspool("report", str(tmp_path / "evaluation"))
    assert "fill_rate means supply_frac" in (tmp_path / "evaluation" / "report.html").read_text()


def test_a_run_is_replaced_only_when_told(home: Path, tmp_path: Path) -> None:
    import shutil

    run, config = tmp_path / "run", str(home / "tiny.yaml")
    shutil.copytree(home / "run", run)
    before = (run / "policy.zip").read_bytes()
    done = glasspool("train", config, "--out", str(run), code=2)
    assert "finished run" in done.stderr and "--overwrite" in done.stderr and "--resume" in done.stderr
    assert (run / "policy.zip").read_bytes() == before
    (run / "policy.zip").unlink()
    assert "a begun run" in glasspool("train", config, "--out", str(run), code=2).stderr
    done = glasspool("train", config, "--out", str(run), "--overwrite", "--set", "training.max_seconds=0.001")
    assert (run / "policy.zip").is_file() and "nan" not in done.stderr
    assert "warning: training found nothing better than the imitation of sor_strong" in done.stdout


def test_the_hashes_of_an_evaluation_are_those_of_the_bundle(home: Path) -> None:
    """What decided is told in the log and on the page, and no row says None."""
    manifest = json.loads((home / "bundle" / "manifest.json").read_text())
    with (home / "evaluation" / "decisions.jsonl").open() as lines:
        told = json.loads(next(lines))["body"]
    assert told["policy_sha256"] == manifest["files"]["policy.json"]
    assert told["config_sha256"] == manifest["config_sha256"]
    page = (home / "evaluation" / "report.html").read_text()
    assert told["policy_sha256"] in page and "<code>None</code>" not in page


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["export", "{home}/bundle", "--out", "{tmp}/b"], "It is a bundle"),
        (["report", "{home}/bundle"], "It is a bundle"),
        (["evaluate", "{home}"], "It holds bundle, run"),
        (["evaluate", "{home}/bundel"], "Did you mean 'bundle'"),
        (["explain", "{home}/evaluation"], "It is an evaluation"),
        (["audit", "verify", "{home}/tiny.yaml"], "not a decision log"),
        (["oracle"], "no problem named"),
        (["oracle", "O1", "--solve", "{home}/tiny.yaml"], "Leave out the names"),
        (["oracle", "O7"], "O2, O3, O9 or O10"),
        (["oracle", "--solve", "O1"], "give its name without an option"),
    ],
)  # fmt: skip
def test_a_path_of_another_kind_is_told_what_it_is(home: Path, tmp_path: Path, args: list[str], says: str) -> None:
    done = glasspool(*(a.format(home=home, tmp=tmp_path) for a in args), code=2)
    assert says in " ".join(done.stderr.split()) and not list(tmp_path.iterdir())

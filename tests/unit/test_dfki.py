"""Reading the DFKI's CSVs, on small files whose content is known."""

from __future__ import annotations

import numpy as np
import pytest

from robostack.data import dfki
from robostack.data.episode import End, check
from robostack.data.formats import FormatError
from robostack.data.resample import parabola, period_mean
from robostack.sim import double_pendulum, pendulum, so101_table

COLUMNS = (
    "time,pos_meas1,pos_meas2,vel_meas1,vel_meas2,tau_con1,tau_con2,tau_meas1,tau_meas2"
)
PENDULUM = pendulum.spec()
ACROBOT = double_pendulum.spec()


def arm_log(path, *, stamps=None, shoulder=0.0):
    """Write a run with q1 = t^2, q2 = -t^2, elbow torque t; velocities nonsense."""
    stamps = np.arange(0, 0.5, 0.004) if stamps is None else stamps
    rows = [f"{t},{t * t},{-t * t},99,99,{shoulder},{t},{shoulder},{t}" for t in stamps]
    path.write_text("\n".join([COLUMNS, *rows]) + "\n")
    return path


def pendulum_log(path, lines):
    path.write_text("\n".join(["time,position,velocity,torque", *lines]) + "\n")
    return path


GOOD = [f"{t:.3f},{t * t:.9f},0,{t:.3f}" for t in np.arange(0, 0.5, 0.005)]


def test_angles_are_kept_and_velocities_come_from_them(tmp_path):
    (episode,) = dfki.read(arm_log(tmp_path / "run.csv"), ACROBOT)
    check(episode, ACROBOT)
    t = episode.time_s
    position, velocity = episode.observation.values()
    assert position == pytest.approx(np.stack([t**2, -(t**2)], axis=1), abs=1e-6)
    assert velocity == pytest.approx(np.stack([2 * t, -2 * t], axis=1), abs=1e-4)


def test_the_action_is_the_mean_torque_of_its_period(tmp_path):
    (episode,) = dfki.read(arm_log(tmp_path / "run.csv"), ACROBOT)
    middle = episode.time_s[:-1] + ACROBOT.control_period_s / 2
    assert episode.action[:, 0] == pytest.approx(middle, abs=1e-6)
    assert (episode.requested == episode.action).all()


def test_uneven_stamps_change_nothing(tmp_path):
    random = np.random.default_rng(0)
    stamps = np.cumsum(random.uniform(0.002, 0.007, 120))
    (episode,) = dfki.read(arm_log(tmp_path / "run.csv", stamps=stamps), ACROBOT)
    t = episode.time_s + stamps[0]
    position, velocity = episode.observation.values()
    assert position[:, 0] == pytest.approx(t**2, abs=1e-6)
    assert velocity[:, 0] == pytest.approx(2 * t, abs=1e-4)
    middle = t[:-1] + ACROBOT.control_period_s / 2
    assert episode.action[:, 0] == pytest.approx(middle, abs=1e-5)


def test_a_log_has_no_reward_and_was_cut_not_terminated(tmp_path):
    (episode,) = dfki.read(arm_log(tmp_path / "run.csv"), ACROBOT)
    assert episode.reward is None
    assert episode.end is End.TRUNCATED
    assert episode.labels["source"] == f"{tmp_path.name}/run.csv"
    assert "measured" in episode.labels["torque"]
    assert "hanging down" in episode.labels["angles"]


def test_both_torques_are_read_in_the_order_of_the_spec(tmp_path):
    log = arm_log(tmp_path / "run.csv", shoulder=0.25)
    (episode,) = dfki.read(log, double_pendulum.spec("full"))
    assert episode.action[:, 0] == pytest.approx(0.25)
    assert episode.action[0, 1] == pytest.approx(0.01)
    (episode,) = dfki.read(log, double_pendulum.spec("pendubot"))
    assert episode.action == pytest.approx(0.25)


def test_a_run_of_another_robot_is_left_out_and_said_so(tmp_path):
    arm_log(tmp_path / "a.csv")
    arm_log(tmp_path / "b.csv", shoulder=0.8)
    notes = []
    assert len(dfki.read(tmp_path, ACROBOT, note=notes.append)) == 1
    assert notes == [
        "b.csv is left out: 0.80 N m were asked of a motor that "
        "double_pendulum/acrobot does not drive (passive_torque=0.5)"
    ]
    assert len(dfki.read(tmp_path, ACROBOT, passive_torque=1.0)) == 2


def test_a_gap_makes_two_episodes(tmp_path):
    stamps = np.concatenate([np.arange(0, 0.2, 0.004), np.arange(0.4, 0.7, 0.004)])
    notes = []
    log = arm_log(tmp_path / "run.csv", stamps=stamps)
    first, second = dfki.read(log, ACROBOT, note=notes.append)
    assert (first.length, second.length) == (9, 14)
    assert second.observation["joint_position"][0, 0] == pytest.approx(0.16)
    assert second.labels["stretch"] == "from 0.400 to 0.696 s"
    assert notes == ["run.csv has 1 gaps and became 2 episodes"]


def test_desired_trajectories_are_no_measurements(tmp_path):
    pendulum_log(tmp_path / "control_method_pd__x__data_desired.csv", GOOD)
    pendulum_log(tmp_path / "control_method_pd__x__data_measured.csv", GOOD)
    notes = []
    (episode,) = dfki.read(tmp_path, PENDULUM, note=notes.append)
    assert episode.labels["policy"] == "pd"
    assert notes == ["1 files of desired trajectories are left out"]


def test_torque_beyond_the_spec_is_kept_and_said(tmp_path):
    lines = [f"{t:.3f},0,0,9" for t in np.arange(0, 0.1, 0.005)]
    notes = []
    log = pendulum_log(tmp_path / "a.csv", lines)
    (episode,) = dfki.read(log, PENDULUM, note=notes.append)
    assert (episode.action == 9).all()
    assert "outside the bounds of pendulum/rig in 4 of 4 rows" in notes[0]


def test_a_last_line_cut_short_costs_only_itself(tmp_path):
    notes = []
    log = pendulum_log(tmp_path / "a.csv", [*GOOD, "0.500,0.2"])
    (episode,) = dfki.read(log, PENDULUM, note=notes.append)
    assert episode.length == 24
    assert notes == ["a.csv: the last line is cut short and left out"]


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ([*GOOD[:9], "0.045,nan,0,0", *GOOD[10:]], "nan as position in line 11"),
        ([*GOOD[:9], "0.045,0.1,0,inf", *GOOD[10:]], "inf as torque in line 11"),
        ([*GOOD[:9], "0.030,0,0,0", *GOOD[10:]], "0.04 to 0.03 s in line 11"),
        ([*GOOD[:9], "0.040,0,0,0", *GOOD[10:]], "expected time to grow"),
        ([*GOOD[:9], "0.045,0", *GOOD[10:]], "4 numbers in line 11, got 2"),
        ([*GOOD[:9], "0.045,x,0,0", *GOOD[10:]], "line 11: could not convert"),
        (GOOD[:2], "at least 3 samples, got 2"),
        ([], "at least 3 samples, got 0"),
    ],
)
def test_bad_rows_are_refused_with_their_place(tmp_path, bad, sentence):
    with pytest.raises(FormatError, match=sentence):
        dfki.read(pendulum_log(tmp_path / "a.csv", bad), PENDULUM)


def test_a_missing_column_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,pos_meas1,pos_meas2,tau_meas1\n0,0,0,0\n")
    with pytest.raises(FormatError, match=r"missing \[.tau_meas2"):
        dfki.read(path, ACROBOT)


def test_the_log_of_another_rig_is_refused(tmp_path):
    with pytest.raises(FormatError, match="2 joints, as double_pendulum/acrobot is"):
        dfki.read(pendulum_log(tmp_path / "a.csv", GOOD), ACROBOT)


def test_a_robot_that_is_not_driven_by_torque_is_refused(tmp_path):
    log = pendulum_log(tmp_path / "a.csv", GOOD)
    with pytest.raises(FormatError, match="driven by torque, for these logs"):
        dfki.read(log, so101_table.spec())


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(FormatError, match="found none"):
        dfki.read(tmp_path, ACROBOT)


def test_sniffing_knows_our_csvs_from_others(tmp_path):
    assert dfki.sniff(pendulum_log(tmp_path / "a.csv", GOOD))
    assert dfki.sniff(tmp_path)
    other = tmp_path / "other.csv"
    other.write_text("step,reward\n0,0\n")
    assert not dfki.sniff(other)
    assert not dfki.sniff(tmp_path / "missing.csv")
    binary = tmp_path / "noise.csv"
    binary.write_bytes(bytes(range(256)) * 40)
    assert not dfki.sniff(binary)


def test_a_parabola_is_found_exactly_where_samples_are_few():
    t = np.array([0.0, 0.03, 0.061, 0.09])
    value, slope = parabola(t, (3 * t**2 - t)[:, None], np.array([0.02, 0.05, 0.09]))
    assert value[:, 0] == pytest.approx(
        [3 * 0.0004 - 0.02, 0.0075 - 0.05, 0.0243 - 0.09]
    )
    assert slope[:, 0] == pytest.approx([6 * 0.02 - 1, 6 * 0.05 - 1, 6 * 0.09 - 1])


def test_period_means_keep_the_impulse():
    t, value = np.array([0.0, 0.3, 1.0]), np.array([[0.0], [2.0], [2.0]])
    means = period_mean(t, value, np.array([0.0, 0.5, 1.0]))
    assert means[:, 0] == pytest.approx([(0.3 + 0.4) / 0.5, 2.0])

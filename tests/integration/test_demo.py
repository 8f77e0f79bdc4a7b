"""The demo, at its full size: its policy beats the logs it learned from."""

from __future__ import annotations

import json
import re

import pytest

from robostack import bundle, cli
from robostack.data.dataset import open_dataset

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "demo"
    assert cli.main(["demo", "--directory", str(folder)]) == 0
    return folder


def test_the_policy_beats_its_logs_by_a_clear_margin(folder):
    page = (folder / "report.html").read_text()
    lead = re.search(r"succeeds in (\d+)% of .* learned from in (\d+)% of", page)
    policy, logs = map(int, lead.groups())
    assert policy >= logs + 15


def test_every_artefact_is_there_and_whole(folder):
    assert len(open_dataset(folder / "logs")) == 400
    assert not open_dataset(folder / "logs").verify()
    assert bundle.read(folder / "policy.onnx").manifest.provenance.steps == 8000
    assert len(list((folder / "recordings").glob("*.mcap"))) >= 3
    recorded = open_dataset(folder / "recorded")
    assert len(recorded) >= 3
    assert set(recorded.episode(0).frames) == {"overhead", "front"}


def test_the_report_stands_alone_and_has_its_pictures(folder):
    page = (folder / "report.html").read_text()
    assert "://" not in page.replace("tcp://127.0.0.1", "")
    assert page.count("data:image/png") == 3
    assert page.count("data:image/jpeg") >= 8
    for words in ("Loop timing", "Learning curves", "robostack data import"):
        assert words in page


def test_a_folder_that_is_in_use_is_left_alone(folder, capsys):
    assert cli.main(["demo", "--directory", str(folder)]) == 1
    assert "expected a new or empty folder" in " ".join(capsys.readouterr().err.split())


def test_the_curves_are_in_the_metrics(folder):
    lines = (folder / "run" / "metrics.jsonl").read_text().splitlines()
    assert any("evaluation/success" in json.loads(line) for line in lines)

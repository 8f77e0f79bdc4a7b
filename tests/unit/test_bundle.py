"""A bundle is refused unless it is, to the bit, what its exporter wrote."""

from __future__ import annotations

import hashlib

import msgspec
import onnx
import pytest
from conftest import linear_graph, linear_manifest

from robostack import bundle, protobuf
from robostack.bundle import BundleError


def rewritten(policy, edit):
    """Return the file with an edited manifest and hashes that are right again."""
    body = policy.model[: -len(protobuf.metadata_entry("robostack.sha256", "0" * 64))]
    offset, content = protobuf.metadata(memoryview(body))["robostack"]
    changed = body[:offset] + protobuf.metadata_entry("robostack", edit(content))
    digest = hashlib.sha256(changed).hexdigest()
    return changed + protobuf.metadata_entry("robostack.sha256", digest)


def test_a_bundle_reads_back_as_it_was_written(policy, robot):
    assert policy.manifest.robot == robot
    assert bundle.read(policy.path) == policy


def test_a_bundle_is_still_a_plain_onnx_model(policy):
    model = onnx.load(policy.path)
    onnx.checker.check_model(model)
    assert {p.key for p in model.metadata_props} == {"robostack", "robostack.sha256"}


@pytest.mark.parametrize("part", range(40))
def test_one_flipped_byte_anywhere_is_refused(policy, part):
    model = bytearray(policy.model)
    at = part * (len(model) - 1) // 39
    model[at] ^= 0x10
    policy.path.write_bytes(model)
    with pytest.raises(BundleError):
        bundle.read(policy.path)


def test_a_file_cut_short_is_refused(policy):
    for size in (0, 50, len(policy.model) // 2, len(policy.model) - 1):
        policy.path.write_bytes(policy.model[:size])
        with pytest.raises(BundleError, match="not a robostack bundle"):
            bundle.read(policy.path)


def test_a_renamed_joint_is_refused_even_with_its_hashes_made_right(policy):
    model = rewritten(policy, lambda text: text.replace('"knee"', '"elbow"'))
    with pytest.raises(BundleError, match="a name, unit, bound or limit was edited"):
        bundle.parse(model, policy.path)


def test_another_schema_is_refused_by_its_number(policy):
    model = rewritten(policy, lambda text: text.replace('"schema":2', '"schema":1', 1))
    with pytest.raises(BundleError, match="schema 1, expected 2"):
        bundle.parse(model, policy.path)


def test_an_unknown_field_in_the_manifest_is_refused(policy):
    def edit(text):
        return text.replace('"schema":2', '"schema":2,"extra":2', 1)

    with pytest.raises(BundleError, match="extra"):
        bundle.parse(rewritten(policy, edit), policy.path)


def test_another_graph_under_the_same_manifest_is_refused(policy, robot):
    other = linear_graph(robot).replace(b"linear", b"Linear")
    text = msgspec.json.encode(policy.manifest).decode()
    body = other + protobuf.metadata_entry("robostack", text)
    digest = hashlib.sha256(body).hexdigest()
    with pytest.raises(BundleError, match="not the one its manifest was made for"):
        bundle.parse(
            body + protobuf.metadata_entry("robostack.sha256", digest), policy.path
        )


def test_a_graph_without_the_robots_arrays_is_refused_by_name(robot, tmp_path):
    imu = {"imu": robot.observation["joint_position"]}
    other = msgspec.structs.replace(robot, observation=robot.observation | imu)
    manifest = linear_manifest(other)
    with pytest.raises(BundleError, match=r"expected the graph inputs.*'imu'"):
        bundle.write(tmp_path / "p.onnx", linear_graph(robot), manifest)
    assert not list(tmp_path.iterdir())


def test_an_observation_that_would_pass_for_noise_is_refused(robot, tmp_path):
    arrays = {"noise": robot.observation["joint_position"]}
    other = msgspec.structs.replace(robot, observation=arrays, tracks="noise")
    with pytest.raises(BundleError, match="name that array otherwise"):
        bundle.write(tmp_path / "p.onnx", linear_graph(robot), linear_manifest(other))


def test_a_stochastic_policy_without_noise_is_refused(robot, tmp_path):
    graph = linear_graph(robot).replace(b"noise", b"n0ise")
    with pytest.raises(BundleError, match=r"expected the graph inputs.*'noise'"):
        bundle.write(tmp_path / "p.onnx", graph, linear_manifest(robot))


def test_a_plain_onnx_file_says_how_to_make_a_bundle(robot, tmp_path):
    path = tmp_path / "plain.onnx"
    path.write_bytes(linear_graph(robot))
    with pytest.raises(BundleError, match="robostack bundle attach"):
        bundle.read(path)


def test_a_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(
        BundleError, match=r"could not read .*nowhere\.onnx: No such file"
    ):
        bundle.read(tmp_path / "nowhere.onnx")

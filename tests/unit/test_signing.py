"""A signature says who released a bundle; a node with --trust runs no other."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from node_bench import Bench

from robostack import bundle, signing
from robostack.bundle import BundleError
from robostack.cli import main
from robostack.link.client import Client
from robostack.link.errors import RefusedError
from robostack.messages import PROTOCOL, Hello, Refusal, Welcome
from robostack.node.embedded import embedded
from robostack.node.serve import Options
from robostack.node.service import Face, Service
from robostack.signing import SigningError, load_trust

pytest.importorskip("cryptography")


@pytest.fixture
def folder(tmp_path):
    """Return a folder of keys to sign with."""
    signing.make(tmp_path / "keys")
    return tmp_path / "keys"


@pytest.fixture
def trust(folder):
    return load_trust(folder / "release.public")


@pytest.fixture
def signed(policy, folder):
    signature = signing.sign(policy.sha256, folder / "release.secret")
    return bundle.sign(policy, signature)


def accept(model, trust):
    """Read a bundle, as somebody who trusts few does."""
    found = bundle.parse(model, Path("policy.onnx"))
    return trust.check(found.sha256, found.signature)


def trusting(trust):
    """Return a node on the bench that runs only what `trust` accepts."""
    bench = Bench()
    face = Face("test:fake", bench.robot.spec, bench.limits, True, 10.0, trust)
    bench.service = Service(
        face, bench.wire, bench.pilot, bench.supervisor, bench.journal, bench.clock
    )
    return bench


def test_a_signature_changes_neither_hash_nor_manifest(policy, signed):
    assert signed.sha256 == policy.sha256
    assert signed.manifest == policy.manifest
    assert signed.artefact == f"{policy.sha256}:{signed.signature}"
    assert policy.artefact == policy.sha256


def test_a_signed_bundle_is_still_a_plain_onnx_model(signed):
    onnx = pytest.importorskip("onnx")
    model = onnx.load(signed.path)
    onnx.checker.check_model(model)
    assert "robostack.signature" in {p.key for p in model.metadata_props}


def test_signing_again_replaces_the_signature(signed, tmp_path):
    signing.make(tmp_path / "others")
    theirs = signing.sign(signed.sha256, tmp_path / "others" / "release.secret")
    again = bundle.sign(signed, theirs)
    assert again.signature == theirs
    assert len(again.model) == len(signed.model)


def test_a_trusted_signature_is_told_by_the_name_of_its_key(signed, trust):
    assert trust.check(signed.sha256, signed.signature) == "release"


def test_a_renamed_file_keeps_its_signature(signed, trust):
    path = shutil.move(signed.path, signed.path.with_name("other.onnx"))
    moved = bundle.read(path)
    assert trust.check(moved.sha256, moved.signature) == "release"


@pytest.mark.parametrize("part", range(40))
def test_one_flipped_byte_anywhere_in_a_signed_bundle_is_refused(signed, trust, part):
    model = bytearray(signed.model)
    at = part * (len(model) - 1) // 39
    model[at] ^= 0x10
    with pytest.raises((BundleError, SigningError)):
        accept(bytes(model), trust)


@pytest.mark.parametrize("at", range(-signing.SIZE - 26, 0))
def test_one_flipped_byte_in_the_signature_is_refused(signed, trust, at):
    model = bytearray(signed.model)
    model[at] ^= 0x20  # the case of a letter
    with pytest.raises((BundleError, SigningError)):
        accept(bytes(model), trust)


@pytest.mark.parametrize(
    ("sha256", "signature", "why"),
    [
        ("", "", "expected a signed bundle, got none"),
        ("a" * 64, "", "got the unsigned aaaa"),
        ("a" * 64, "00" * 64 + ":" + "f" * 16, "got key 'ffffffffffffffff'"),
        ("a" * 64, "é" * 128 + ":é", "got key 'é'"),
        ("a" * 64, ":" * 200, "got key"),
    ],
)
def test_a_bundle_without_a_trusted_signature_is_refused(trust, sha256, signature, why):
    with pytest.raises(SigningError, match=why):
        trust.check(sha256, signature)


def test_a_signature_of_another_bundle_is_refused(signed, trust):
    with pytest.raises(SigningError, match="belongs to another bundle"):
        trust.check("a" * 64, signed.signature)


def test_another_key_under_a_trusted_keys_name_is_refused(signed, trust, tmp_path):
    signing.make(tmp_path / "others")
    forged = signing.sign(signed.sha256, tmp_path / "others" / "release.secret")
    trusted_id = signed.signature.partition(":")[2]
    with pytest.raises(SigningError, match="is not by release"):
        trust.check(signed.sha256, f"{forged.partition(':')[0]}:{trusted_id}")


def test_a_signature_for_another_purpose_is_none(signed, folder, trust):
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    secret = load_pem_private_key((folder / "release.secret").read_bytes(), None)
    bare = secret.sign(signed.sha256.encode()).hex()
    key_id = signed.signature.partition(":")[2]
    with pytest.raises(SigningError):
        trust.check(signed.sha256, f"{bare}:{key_id}")


def test_a_node_runs_only_what_a_trusted_key_signed(signed, policy, trust):
    bench = trusting(trust)
    for artefact in ("", policy.artefact, "a" * 64 + ":" + signed.signature):
        answer = bench.say(Hello(PROTOCOL, "me", None, artefact, 1, 1))
        assert isinstance(answer, Refusal)
        assert answer.code == "signature"
    assert bench.journal.total["signature"] == 3
    assert isinstance(
        bench.say(Hello(PROTOCOL, "me", None, signed.artefact, 1, 1)), Welcome
    )


def test_a_recording_names_the_bundle_by_its_hash_alone(signed, trust):
    from robostack.messages import Begin, Opened

    bench = trusting(trust)
    welcome = bench.say(Hello(PROTOCOL, "me", None, signed.artefact, 1, 1))
    bench.say(Begin(welcome.session, 0, {}))
    assert bench.watcher.of(Opened)[-1].artefact == signed.sha256


def test_a_client_is_told_over_the_wire_why_its_bundle_is_refused(trust, signed):
    from robot_examples import LockstepFake

    options = Options(lockstep=True, trust=trust)
    with (
        embedded(LockstepFake(), options=options) as node,
        Client(node.endpoint) as client,
    ):
        with pytest.raises(RefusedError, match="expected a signed bundle"):
            client.hello(artefact=signed.sha256)
        client.hello(artefact=signed.artefact)
        client.begin()


def test_secret_keys_are_their_owners_alone_and_never_overwritten(folder):
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "release.secret").stat().st_mode & 0o777 == 0o600
    with pytest.raises(SigningError, match=r"found release.secret"):
        signing.make(folder)
    (folder / "release.secret").chmod(0o640)
    with pytest.raises(SigningError, match="found mode 640"):
        signing.sign("a" * 64, folder / "release.secret")


def test_what_is_no_key_is_named(tmp_path, folder):
    (tmp_path / "bad.public").write_text("garbage")
    with pytest.raises(SigningError, match=r"Ed25519 key .*bad\.public"):
        load_trust(tmp_path)
    with pytest.raises(SigningError, match="could not read"):
        load_trust(tmp_path / "nowhere.public")
    with pytest.raises(SigningError):
        signing.sign("a" * 64, folder / "release.public")


def test_an_empty_folder_trusts_nobody_and_says_so(tmp_path):
    with pytest.raises(SigningError, match="found none"):
        load_trust(tmp_path)


def test_the_command_line_signs_and_verifies(policy, folder, capsys, tmp_path):
    path, public = str(policy.path), str(folder / "release.public")
    assert main(["bundle", "verify", path, "--trust", public]) == 1
    assert "got the unsigned" in " ".join(capsys.readouterr().err.split())
    secret = str(folder / "release.secret")
    assert main(["bundle", "sign", path, "--key", secret]) == 0
    assert main(["bundle", "verify", path, "--trust", str(folder)]) == 0
    signing.make(tmp_path / "others")
    assert main(["bundle", "verify", path, "--trust", str(tmp_path / "others")]) == 1
    assert main(["bundle", "show", path]) == 0


def test_without_the_package_a_node_with_trust_says_what_to_install(tmp_path):
    code = (
        "import sys; sys.modules['cryptography'] = None\n"
        "from robostack.cli import main\n"
        "sys.exit(main(['serve', 'hardware:fake', '--trust', sys.argv[1], '--bind',"
        " 'ipc://' + sys.argv[1] + '/node']))"
    )
    (tmp_path / "release.public").write_text("any")
    command = [sys.executable, "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "pip install 'robostack[sign]'" in " ".join(run.stderr.split())

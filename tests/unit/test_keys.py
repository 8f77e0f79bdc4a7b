"""`robostack keys`: two computers introduced, clients let in and refused again."""

from __future__ import annotations

import logging
import os
import re
import stat

import pytest
from robot_examples import LockstepFake

from robostack.cli import main
from robostack.link import keys
from robostack.link.client import Client
from robostack.link.errors import LinkError
from robostack.node.embedded import embedded
from robostack.node.serve import Options


@pytest.fixture
def folders(tmp_path, capsys):
    """Return the folders of a node and of a client, introduced as the help says."""
    node, client = tmp_path / "node", tmp_path / "me"
    assert main(["keys", "make", str(node)]) == 0
    join = _told(capsys, "robostack keys join mykeys (.*)")
    assert main(["keys", "join", str(client), join]) == 0
    allow = _told(capsys, "robostack keys allow NODE_FOLDER ([0-9a-f]{64}) --name")
    assert main(["keys", "allow", str(node), allow, "--name", "me"]) == 0
    return node, client


def _told(capsys, pattern):
    return re.search(pattern, capsys.readouterr().out).group(1)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def hello(endpoint, folder):
    with Client(endpoint, timeout_s=1.0, keys=keys.load_client(folder)) as client:
        client.hello()


@pytest.fixture
def served(folders, tmp_path):
    """Return the endpoint of a running node with the keys of `folders`."""
    options = Options(lockstep=True, keys=keys.load_node(folders[0]))
    with embedded(
        LockstepFake(), bind=f"ipc://{tmp_path}/socket", options=options
    ) as node:
        yield node.endpoint


def test_what_the_commands_tell_to_type_introduces_two_computers(folders, served):
    hello(served, folders[1])


def test_a_revoked_client_is_refused_at_its_next_connect(folders, served, capsys):
    node, client = folders
    hello(served, client)
    assert main(["keys", "revoke", str(node), "me"]) == 0
    assert "restart the node" in " ".join(capsys.readouterr().out.split())
    with pytest.raises(LinkError, match="does not know this client's keys"):
        hello(served, client)


def test_a_revoked_client_that_is_connected_stays_connected(folders, served):
    node, folder = folders
    with Client(served, keys=keys.load_client(folder)) as client:
        client.hello()
        keys.revoke(node, "me")
        client.begin()  # as SECURITY.md says


def test_a_client_is_let_in_while_the_node_runs(folders, served, tmp_path):
    node, _ = folders
    own = keys.load_node(node).pair.public
    other = keys.make_client(tmp_path / "other", own)
    with pytest.raises(LinkError, match="robostack keys allow"):
        hello(served, tmp_path / "other")
    keys.allow(node, "other", other.public)
    hello(served, tmp_path / "other")


def test_a_list_that_cannot_be_read_lets_nobody_in(folders, served, caplog):
    node, client = folders
    (node / "clients" / "other.public").write_text("garbage")
    with (
        caplog.at_level(logging.WARNING),
        pytest.raises(LinkError, match="keys"),
    ):
        hello(served, client)
    assert "nobody is let in" in caplog.text
    (node / "clients" / "other.public").unlink()
    hello(served, client)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_folders_and_secrets_are_their_owners_alone_whatever_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        pair = keys.make_node(tmp_path / "node")
        keys.make_client(tmp_path / "client", pair.public)
        keys.allow(tmp_path / "node", "me", keys.make(tmp_path / "me").public)
    finally:
        os.umask(before)
    for folder in ("node", "node/clients", "client", "me"):
        assert mode(tmp_path / folder) == 0o700
    for folder in ("node", "client", "me"):
        assert mode(tmp_path / folder / "self.secret") == 0o600
        assert mode(tmp_path / folder / "self.public") == 0o644
    assert mode(tmp_path / "node/clients/me.public") == 0o644
    assert mode(tmp_path / "client/node.public") == 0o644


@pytest.mark.parametrize("part", [".", "clients", "clients/me.public"])
@pytest.mark.parametrize("writable", [0o020, 0o002])
def test_a_list_that_others_can_change_is_refused(folders, part, writable):
    node, _ = folders
    (node / part).chmod(mode(node / part) | writable)
    with pytest.raises(LinkError, match="writable by its owner only"):
        keys.load_node(node)


def test_a_node_that_others_could_replace_is_refused(folders):
    _, client = folders
    (client / "node.public").chmod(0o666)
    with pytest.raises(LinkError, match="writable by its owner only"):
        keys.load_client(client)


def test_nothing_is_overwritten(folders, capsys):
    node, client = folders
    before = {p: p.read_bytes() for p in node.rglob("*") if p.is_file()}
    assert main(["keys", "make", str(node)]) == 1
    own = str(node / "self.public")
    assert main(["keys", "join", str(client), own]) == 1
    assert main(["keys", "allow", str(node), own, "--name", "me"]) == 1
    assert capsys.readouterr().err.count("delete it by hand") == 3
    mine = str(client / "self.public")
    assert main(["keys", "allow", str(node), mine, "--name", "again"]) == 1
    assert before == {p: p.read_bytes() for p in node.rglob("*") if p.is_file()}


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "a b"])
def test_a_name_stays_within_the_folder(folders, name):
    with pytest.raises(LinkError, match="expected a name"):
        keys.allow(folders[0], name, keys.public_key("0" * 64))


@pytest.mark.parametrize("text", ["", "0" * 63, "x" * 64, "/nowhere/self.public"])
def test_what_is_no_public_key_is_said(text):
    with pytest.raises(LinkError, match="expected a public key"):
        keys.public_key(text)


def test_whom_nobody_let_in_cannot_be_revoked(folders, capsys):
    assert main(["keys", "revoke", str(folders[0]), "you"]) == 1
    assert "let in (me), got 'you'" in " ".join(capsys.readouterr().err.split())


def test_the_list_names_clients_and_keys(folders, capsys):
    node, client = folders
    assert main(["keys", "list", str(node)]) == 0
    told = capsys.readouterr().out
    assert keys.line(keys.load_client(client).pair.public)[:40] in told
    assert keys.line(keys.load_node(node).pair.public) in told


def test_the_secret_is_never_printed(tmp_path, capsys):
    main(["keys", "make", str(tmp_path / "node")])
    pair = keys.load_node(tmp_path / "node").pair
    told = "".join(capsys.readouterr())
    assert pair.secret.decode() not in told
    assert keys.line(pair.secret) not in told


@pytest.mark.parametrize("verb", ["make", "join", "allow", "list", "revoke"])
def test_every_command_explains_its_flags(verb, capsys):
    with pytest.raises(SystemExit):
        main(["keys", verb, "--help"])
    told = capsys.readouterr().out
    assert verb in told
    assert "None" not in told
    assert "node" in told

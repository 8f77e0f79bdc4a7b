"""`robostack bundle`: show and verify bundles, or make one of a foreign policy."""

from __future__ import annotations

from pathlib import Path

import msgspec
from rich.table import Table
from tyro.conf import Positional

from robostack import bundle, plugins, signing
from robostack.signing import load_trust
from robostack.spec import ArraySpec, RobotSpec, difference

from .verb import Verb, VerbError, console, print_json


class Show(msgspec.Struct, frozen=True):
    """Print the contract inside a bundle."""

    bundle: Positional[Path]  # .onnx file
    json: bool = False  # the whole manifest as JSON


class Verify(msgspec.Struct, frozen=True):
    """Check hash, schema, graph, golden vectors, and optionally that it fits a robot.

    Exit code 0 only if the file is what its exporter wrote and acts as it did then.
    """

    bundle: Positional[Path]  # .onnx file
    robot: str = ""  # also compare with sim:WORLD, hardware:ROBOT or a node's endpoint
    trust: Path | None = None  # also require a signature by this public key, or folder
    provider: str = "auto"  # auto, cpu or cuda


class Sign(msgspec.Struct, frozen=True):
    """Sign a bundle, so that nodes with --trust accept it; its hash stays the same."""

    bundle: Positional[Path]  # .onnx file, rewritten
    key: Path  # release.secret, as robostack keys make --signing writes it


class Attach(msgspec.Struct, frozen=True):
    """Make a bundle of a foreign ONNX policy and a contract file."""

    policy: Positional[Path]  # .onnx file of any exporter, one flat input
    contract: Positional[Path]  # .toml file; robostack/attach.py tells its keys
    bundle: Positional[Path]  # .onnx file to write


def show(flags: Show) -> int:
    """Print a manifest."""
    policy = bundle.read(flags.bundle)
    manifest = policy.manifest
    if flags.json:
        print_json(manifest)
        return 0
    robot, made = manifest.robot, manifest.provenance
    console.print(f"[bold]{flags.bundle}[/bold]  sha256 {policy.sha256[:16]}")
    if policy.signature:
        key_id = policy.signature.partition(":")[2]
        console.print(f"signed, it says, by key {key_id}; verify --trust checks that")
    console.print(
        f"robot {robot.name} ({robot.digest}), every {robot.control_period_s:g} s, "
        f"action: {manifest.semantics}, history {manifest.history}, "
        f"chunk {manifest.chunk}, "
        f"{'stochastic' if manifest.stochastic else 'deterministic'}"
    )
    console.print(
        f"made by {made.algorithm}, seed {made.seed}, {made.steps} updates, dataset "
        f"{made.dataset_digest or 'unknown'}, robostack {made.code_version}, "
        f"{made.created}"
    )
    for name, score in made.scores.items():
        console.print(f"  {name}: {score:.4g}")
    for name, array in robot.observation.items():
        console.print(_table(f"observation {name}", array))
    console.print(_table("action", robot.action))
    console.print(f"{len(manifest.golden.action)} golden vectors")
    return 0


def verify(flags: Verify) -> int:
    """Check a bundle, running it."""
    from robostack.runtime.session import Session

    if flags.provider not in ("auto", "cpu", "cuda"):
        raise VerbError(f"expected --provider auto|cpu|cuda, got {flags.provider!r}")
    policy = bundle.read(flags.bundle)
    if flags.trust is not None:  # before a line of it is run
        signer = load_trust(flags.trust).check(policy.sha256, policy.signature)
        console.print(f"[green]ok[/green] {flags.bundle}: signed by {signer}")
    session = Session(policy, flags.provider)  # type: ignore[arg-type]
    test = session.self_test
    console.print(
        f"[green]ok[/green] {flags.bundle}: {test.golden} golden vectors within "
        f"{test.error:.2g} on {test.provider}, {test.seconds * 1e3:.0f} ms; one "
        f"inference takes {test.inference_s * 1e6:.1f} µs"
    )
    if not flags.robot:
        return 0
    found = difference(policy.manifest.robot, _spec_of(flags.robot, policy.artefact))
    for line in found:
        console.print(f"  [red]differs[/red] {line}  (here: bundle, there: robot)")
    if not found:
        console.print(f"[green]ok[/green] made for the robot at {flags.robot}")
    return 1 if found else 0


def sign(flags: Sign) -> int:
    """Sign a bundle."""
    policy = bundle.read(flags.bundle)
    signed = bundle.sign(policy, signing.sign(policy.sha256, flags.key))
    key_id = signed.signature.partition(":")[2]
    console.print(
        f"signed {flags.bundle}, sha256 {signed.sha256[:16]}, with key {key_id}"
    )
    return 0


def attach(flags: Attach) -> int:
    """Wrap a foreign policy."""
    from robostack import attach as foreign

    result = foreign.attach(flags.policy, flags.contract, flags.bundle)
    console.print(
        f"wrote {flags.bundle}, within {result.error:.2g} of {flags.policy.name}"
    )
    return 0


def _spec_of(robot: str, artefact: str) -> RobotSpec:
    if plugins.is_address(robot):
        return plugins.spec(robot)
    from robostack.link.client import Client

    with Client(robot, name="bundle verify") as client:
        return client.hello(artefact=artefact).robot


def _table(title: str, array: ArraySpec) -> Table:
    table = Table("name", "unit", "low", "high", title=title, title_justify="left")
    for row in zip(array.names, array.units, array.low, array.high, strict=True):
        table.add_row(row[0], row[1], f"{row[2]:.5g}", f"{row[3]:.5g}")
    return table


VERBS = {
    "show": Verb(Show, show),
    "verify": Verb(Verify, verify),
    "sign": Verb(Sign, sign),
    "attach": Verb(Attach, attach),
}

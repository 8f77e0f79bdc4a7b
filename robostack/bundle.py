"""The bundle: one .onnx file that is a policy and the whole contract around it.

    offset 0   ONNX model, as the exporter wrote it                      the graph
               metadata_props "robostack"        -> manifest, JSON       appended
    -86 bytes  metadata_props "robostack.sha256" -> of every byte before appended
               metadata_props "robostack.signature", where somebody signed that hash

Protobuf fields may come in any order, so the file stays a plain ONNX model that any
reader opens, while reading and checking it here needs neither onnx nor ONNX Runtime.

Graph inputs, float32: one per observation array, by its own name, (batch, n), or
(batch, history, n) where the manifest declares history; `state.<name>`, (batch, n),
where it declares recurrent state; `noise`, shaped as the action, where the policy is
stochastic: 0 gives the deterministic action, standard normal numbers a sample, whatever
the distribution. Outputs: `action`, (batch, A) or (batch, chunk, A), in the robot's
units and within its bounds; and `next_state.<name>`. Scaling, concatenation, sampling
and limits are inside the graph. Row i of a chunk is the action for the i-th control
period from the reading on; recurrent state advances once an inference.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec
import numpy as np

from robostack import protobuf, signing
from robostack.protobuf import Port, ProtobufError
from robostack.spec import Array, RobotSpec, SpecError, float32

SCHEMA = 2  # raise on any change of the manifest or of the layout
NOISE = "noise"  # the input that a stochastic policy draws with
_MANIFEST_KEY, _HASH_KEY = "robostack", "robostack.sha256"
_SIGNATURE_KEY = "robostack.signature"
_TRAILER_SIZE = len(protobuf.metadata_entry(_HASH_KEY, "0" * 64))
_SIGNED = protobuf.metadata_entry(_SIGNATURE_KEY, "0" * signing.SIZE)

Semantics = Literal["absolute", "delta", "torque", "normalized"]


class BundleError(ValueError):
    """A file that is not a bundle, contradicts itself, or does not fit a robot."""


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where a policy comes from."""

    algorithm: str
    config: dict[str, object]
    seed: int
    steps: int  # updates taken
    dataset_digest: str
    code_version: str
    created: str  # UTC, ISO 8601
    scores: dict[str, float]


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Inputs with the trainer's own outputs: the robot tests itself with them."""

    inputs: dict[str, list[list[float]]]  # by graph input, noise included, (N, n)
    action: list[list[float]]  # (N, A), or (N, chunk * A)
    tolerance: float  # largest difference allowed [action units]


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contract inside the file."""

    schema: int
    robot: RobotSpec
    robot_digest: str
    semantics: Semantics  # of the action
    history: int  # readings the policy sees; 1 is the newest only
    chunk: int  # actions per inference
    stochastic: bool  # has the input noise
    state: dict[str, int]  # recurrent state: name -> size
    provenance: Provenance
    golden: Golden
    graph_sha256: str


class Bundle(NamedTuple):
    """A bundle that was read and checked."""

    path: Path
    manifest: Manifest
    model: bytes  # the whole file, for a runtime
    sha256: str  # content hash: the identity of this artefact
    signature: str = ""  # of that hash, as robostack.signing writes it; unchecked

    @property
    def artefact(self) -> str:
        """What a client tells a node that it runs: the hash, and who vouches for it."""
        return f"{self.sha256}:{self.signature}" if self.signature else self.sha256


class _Version(msgspec.Struct, frozen=True):
    schema: int


def write(path: Path, graph: bytes, manifest: Manifest) -> Bundle:
    """Write `graph` with its contract to `path`, atomically, and read it back."""
    digest = hashlib.sha256(graph).hexdigest()
    manifest = msgspec.structs.replace(manifest, graph_sha256=digest)
    content = msgspec.json.encode(manifest).decode()
    body = graph + protobuf.metadata_entry(_MANIFEST_KEY, content)
    trailer = protobuf.metadata_entry(_HASH_KEY, hashlib.sha256(body).hexdigest())
    parse(body + trailer, path)  # never leave a file that would be refused
    return _replace(path, body + trailer)


def sign(policy: Bundle, signature: str) -> Bundle:
    """Write `signature` into the file of `policy`, in the place of an older one."""
    unsigned, _ = _split_signature(policy.model)
    return _replace(
        policy.path, unsigned + protobuf.metadata_entry(_SIGNATURE_KEY, signature)
    )


def _replace(path: Path, model: bytes) -> Bundle:
    """Write `model` to `path`, atomically, and read it back."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(model)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise BundleError(f"could not write {path}: {error.strerror}") from error
    return read(path)


def read(path: Path) -> Bundle:
    """Read and check a bundle.

    Raises:
        BundleError: the file is missing, is no bundle, was changed after it was
            written, is of another schema, or its graph disagrees with its manifest.
    """
    try:
        model = Path(path).read_bytes()
    except OSError as error:
        raise BundleError(f"could not read {path}: {error.strerror}") from error
    return parse(model, Path(path))


def parse(model: bytes, path: Path) -> Bundle:
    """Check the bytes of a bundle; `path` is only for messages."""
    unsigned, signature = _split_signature(model)
    body, sha256 = _check_hash(unsigned, path)
    try:
        found = protobuf.metadata(memoryview(body))
        inputs, outputs = protobuf.ports(memoryview(body))
    except (ProtobufError, UnicodeDecodeError) as error:
        raise BundleError(f"{path} is not an ONNX file: {error}") from error
    if _MANIFEST_KEY not in found:
        raise BundleError(f"{path} is an ONNX file without a robostack manifest")
    offset, content = found[_MANIFEST_KEY]
    manifest = _decode(content, path)
    if hashlib.sha256(body[:offset]).hexdigest() != manifest.graph_sha256:
        raise BundleError(f"{path}: the graph is not the one its manifest was made for")
    _check_ports(path, "inputs", inputs, expected_inputs(manifest))
    _check_ports(path, "outputs", outputs, expected_outputs(manifest))
    _check_golden(path, manifest)
    return Bundle(path, manifest, model, sha256, signature)


def expected_inputs(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Return the graph inputs, by name, with their shapes after the batch axis."""
    window = () if manifest.history == 1 else (manifest.history,)
    arrays = {k: (*window, a.size) for k, a in manifest.robot.observation.items()}
    noise = {NOISE: _action_shape(manifest)} if manifest.stochastic else {}
    return arrays | {f"state.{k}": (n,) for k, n in manifest.state.items()} | noise


def expected_outputs(manifest: Manifest) -> dict[str, tuple[int, ...]]:
    """Return the graph outputs, by name, with their shapes after the batch axis."""
    actions = {"action": _action_shape(manifest)}
    return actions | {f"next_state.{k}": (n,) for k, n in manifest.state.items()}


def golden_inputs(manifest: Manifest) -> dict[str, Array]:
    """Return the golden inputs, (N, ...) each."""
    shapes = expected_inputs(manifest)
    golden = manifest.golden.inputs
    return {k: float32(golden[k]).reshape(-1, *shape) for k, shape in shapes.items()}


def _action_shape(manifest: Manifest) -> tuple[int, ...]:
    chunk = () if manifest.chunk == 1 else (manifest.chunk,)
    return (*chunk, manifest.robot.action.size)


def _split_signature(model: bytes) -> tuple[bytes, str]:
    """Return `model` without its signature, and that, or an empty string."""
    before, last = model[: -len(_SIGNED)], model[-len(_SIGNED) :]
    prefix = _SIGNED[: -signing.SIZE]
    if not last.startswith(prefix):
        return model, ""
    return before, last[len(prefix) :].decode(errors="replace")


def _check_hash(model: bytes, path: Path) -> tuple[bytes, str]:
    body, trailer = model[:-_TRAILER_SIZE], model[-_TRAILER_SIZE:]
    actual = hashlib.sha256(body).hexdigest()
    stated = trailer[-64:]
    if trailer[:-64] != protobuf.metadata_entry(_HASH_KEY, "0" * 64)[:-64]:
        raise BundleError(
            f"{path} is not a robostack bundle, or was cut short or changed at its "
            "end; make one with `robostack export`, or of a foreign ONNX policy with "
            "`robostack bundle attach`"
        )
    if stated != actual.encode():
        raise BundleError(
            f"{path} was changed after it was written: its content hash is "
            f"{actual[:16]}..., expected {stated.decode(errors='replace')[:16]}...; "
            "export it again"
        )
    return body, actual


def _decode(content: str, path: Path) -> Manifest:
    try:
        schema = msgspec.json.decode(content, type=_Version).schema
        if schema != SCHEMA:
            raise BundleError(
                f"{path} has manifest schema {schema}, expected {SCHEMA}; export it "
                "again with this version of robostack"
            )
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.MsgspecError, SpecError) as error:
        raise BundleError(f"{path}: the manifest is malformed: {error}") from error
    if manifest.stochastic and NOISE in manifest.robot.observation:
        raise BundleError(
            f"{path}: the robot observes an array named {NOISE!r}, the input that a "
            "stochastic policy draws with; name that array otherwise"
        )
    if manifest.robot.digest != manifest.robot_digest:
        raise BundleError(
            f"{path}: its robot has digest {manifest.robot.digest}, expected "
            f"{manifest.robot_digest}, the one the policy was made for: a name, unit, "
            "bound or limit was edited; export it again"
        )
    return manifest


def _check_ports(
    path: Path, what: str, found: list[Port], expected: dict[str, tuple[int, ...]]
) -> None:
    names = {port.name for port in found}
    if names != expected.keys():
        raise BundleError(
            f"{path}: expected the graph {what} {sorted(expected)}, got {sorted(names)}"
        )
    for port in found:
        if port.dtype != "float32" or port.shape[1:] != expected[port.name]:
            raise BundleError(
                f"{path}: expected {port.name} as float32 (batch, "
                f"{str(expected[port.name])[1:-1]}), got {port.dtype} {port.shape}"
            )


def _check_golden(path: Path, manifest: Manifest) -> None:
    golden = manifest.golden
    try:
        sizes = {len(array) for array in golden_inputs(manifest).values()}
        actions = float32(golden.action)
    except (KeyError, ValueError) as error:
        raise BundleError(
            f"{path}: the golden inputs are malformed: {error}"
        ) from error
    if sizes != {len(actions)} or not len(actions) or not np.isfinite(actions).all():
        raise BundleError(f"{path}: expected finite golden vectors of equal number")

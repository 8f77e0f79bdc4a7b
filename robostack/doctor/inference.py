"""Which providers of ONNX Runtime work here: a session of each is made and asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from robostack.robot import Finding

# onnx.proto by hand, since no exporter need be installed: y = Identity(x), float (1,)
_PORT = b"\x12\x0a\x0a\x08\x08\x01\x12\x04\x0a\x02\x08\x01"  # a type
_MODEL = (
    b"\x08\x08"  # IR version 8
    b"\x3a\x37"  # graph, 55 bytes
    b"\x0a\x10\x0a\x01x\x12\x01y\x22\x08Identity"  # node
    b"\x12\x01g"  # name
    b"\x5a\x0f\x0a\x01x"
    + _PORT
    + b"\x62\x0f\x0a\x01y"
    + _PORT  # input, output
    + b"\x42\x02\x10\x0d"  # operators of opset 13
)


def inference() -> Iterator[Finding]:
    """Yield what runs a policy on this computer."""
    try:
        from robostack.runtime import providers
    except ModuleNotFoundError:
        yield Finding(
            "ok", "inference", "onnxruntime is not installed: a node needs none", ""
        )
        return
    wanted: tuple[Literal["cpu", "cuda"], ...] = ("cpu", "cuda")
    for name in wanted:
        if name == "cuda" and not providers.has_gpu():
            yield Finding("ok", "inference", "cuda: no GPU that ONNX Runtime sees", "")
            continue
        try:
            session = providers.make_session(_MODEL, name)
        except providers.ProviderError as error:
            yield Finding("advice", "inference", str(error), "or run on the CPU")
            continue
        found = session.get_providers()[0]
        yield Finding("ok", "inference", f"{name}: {found} works", "")

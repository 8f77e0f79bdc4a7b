"""A policy as one ONNX graph, in the layout that robostack/bundle.py describes."""

from __future__ import annotations

import contextlib
import copy
import logging
import warnings
from collections.abc import Iterator

import torch

from robostack.bundle import NOISE
from robostack.spec import RobotSpec

from ._codec import Actor, Deployed

_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


def export_onnx(policy: Deployed[Actor], spec: RobotSpec) -> bytes:
    """Return `policy` as an ONNX file: an input per observation array, by its name."""
    policy = copy.deepcopy(policy).cpu().eval()
    sizes = {name: array.size for name, array in spec.observation.items()}
    if policy.stochastic:
        sizes |= {NOISE: spec.action.size}
    arrays = tuple(torch.zeros(2, size) for size in sizes.values())
    batch = torch.export.Dim("batch")
    with _quiet():
        program = torch.onnx.export(
            policy,
            arrays,
            input_names=list(sizes),
            output_names=["action"],
            dynamic_shapes=(tuple({0: batch} for _ in arrays),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx.export gave no program; it always should")
    graph: bytes = program.model_proto.SerializeToString()
    return graph


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about itself away from users."""
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

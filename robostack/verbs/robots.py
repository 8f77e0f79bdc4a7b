"""`robostack serve` and `stop`: nodes."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import tyro
from tyro.conf import Positional

from robostack import limits_file, plugins
from robostack.link import endpoints
from robostack.link.keys import load_client, load_node
from robostack.link.stop import request_stop
from robostack.robot import Variant
from robostack.signing import load_trust

from .doctor import show_finding
from .verb import Verb, console

if TYPE_CHECKING:
    from robostack.node.loops import Node


class Serve(msgspec.Struct, frozen=True):
    """Serve a robot or a world to clients, until Ctrl-C.

    Limits, watchdog and latched faults are on. Real time unless --lockstep.
    """

    robot: Positional[str]  # sim:WORLD[/ARGUMENT] or hardware:ROBOT[/ARGUMENT]
    port: str = ""  # of the robot, such as /dev/ttyACM0 or emulated
    bind: str = endpoints.DEFAULT  # where to listen; beyond this computer needs --keys
    lockstep: bool = False  # worlds only: advance when a command arrives
    keys: Path | None = None  # folder of CURVE keys
    trust: Path | None = None  # public key or folder: run only bundles they signed
    limits: Path | None = None  # TOML file; see --print-limits
    print_limits: bool = False  # write the limits in effect as such a file, and end
    black_box: Path | None = None  # folder for the last minute before a fault
    variant: Annotated[
        Variant, tyro.conf.arg(help="worlds only: how it differs from its nominal self")
    ] = Variant()


class Stop(msgspec.Struct, frozen=True):
    """Stop a robot now and latch it; needs no lease, and works while others command."""

    robot: Positional[str] = endpoints.DEFAULT  # endpoint of the node
    keys: Path | None = None  # folder of this client's CURVE keys


def serve(flags: Serve) -> int:
    """Serve until told to end; hardware only with a clean bill of health."""
    from robostack.doctor.robot import insist
    from robostack.node import serve as node_serve
    from robostack.node.black_box import default_folder
    from robostack.node.device import limits_of, make
    from robostack.node.keyboard import stdin
    from robostack.node.terminal import HELP, terminal

    def say(sentence: str) -> None:
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)

    address = plugins.with_port(flags.robot, flags.port)
    if flags.print_limits:
        return _print_limits(address, flags.limits)
    if address.startswith("hardware:"):
        for advice in insist(address).of("advice"):
            show_finding(advice)
    variant = None if flags.variant == Variant() else flags.variant
    robot = make(address, variant)
    ending = threading.Event()
    options = node_serve.Options(
        lockstep=flags.lockstep,
        keys=None if flags.keys is None else load_node(flags.keys),
        limits=limits_of(robot, address, flags.limits),
        trust=None if flags.trust is None else load_trust(flags.trust),
        black_box=flags.black_box or default_folder(),
        say=say,
    )
    with contextlib.ExitStack() as stack:

        def ready(node: Node) -> None:
            mode = "in lockstep" if flags.lockstep else "in real time"
            where = f"serving {address} at {flags.bind}, {mode}"
            say(f"{where}; Ctrl-C ends it")
            keys = terminal(stdin(), node, ending.set, say)
            if stack.enter_context(keys):
                say(HELP)

        node_serve.serve(
            robot, address, flags.bind, options, stop_event=ending, on_ready=ready
        )
    return 0


def _print_limits(address: str, file: Path | None) -> int:
    """Write the limits that `serve` would enforce."""
    from robostack.node.device import limits_of, make

    limits = limits_of(make(address), address, file)
    console.print(
        limits_file.dump(limits), markup=False, highlight=False, soft_wrap=True
    )
    return 0


def stop(flags: Stop) -> int:
    """Latch ESTOP at a node."""
    keys = load_client(flags.keys) if flags.keys else None
    stopped = request_stop(flags.robot, who="robostack stop", keys=keys)
    console.print(f"{flags.robot} is stopped: {stopped.state}, until it is restarted")
    return 0


VERBS = {"serve": Verb(Serve, serve), "stop": Verb(Stop, stop)}

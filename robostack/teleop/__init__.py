"""How a person moves a robot: keyboard, gamepad, or a second arm."""

"""How a command reaches a device: as a process of this machine, or over SSH."""

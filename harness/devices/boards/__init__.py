"""Virtual ARM boards: full-system emulation that counts instructions. docs/virtual-boards.md tells what they are good for."""

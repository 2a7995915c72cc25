"""The device registry, the transports, and the files that are sent to devices."""

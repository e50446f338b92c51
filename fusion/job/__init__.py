"""What the commands share: configuration, the command frame, launching processes, run folders."""

"""What the commands share: configuration, the command frame, processes, run folders."""

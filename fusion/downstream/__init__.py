"""What fused images are good for: detection and other tasks on them, their networks and scores."""

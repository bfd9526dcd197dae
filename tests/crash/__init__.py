"""What is left when the power goes, the disk fails, or the process is killed."""

"""Lightning modules: loss, optimizer and validation of each task."""

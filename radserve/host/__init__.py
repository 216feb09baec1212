"""Host resources: ports, CPU and memory, processes, locks, the run directory."""

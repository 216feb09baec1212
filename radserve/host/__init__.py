"""Operating system: processes, background tasks, ports, listening sockets, CPU resources and the run directory."""

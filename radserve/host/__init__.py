"""Operating system: processes, ports, listening sockets, CPU resources and the run directory."""

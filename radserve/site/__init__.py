"""Site profiles: fits and signs what a hospital calibrates on its own labelled images."""

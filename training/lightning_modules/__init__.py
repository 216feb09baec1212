"""Lightning modules that train each task."""

"""What is run: configuration, run ids, paths, resolved specs, FLOPs. Light to import."""

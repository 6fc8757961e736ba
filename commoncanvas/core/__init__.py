"""What every stage stands on: paths, files, keys, shards, pictures, determinism."""

"""Pages and generated documents."""

"""What flies: a camera frame in, a position fix out."""

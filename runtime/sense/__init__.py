"""The camera side: frames, telemetry, lenses, ortho patches and the simulator."""

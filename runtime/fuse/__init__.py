"""From candidates to one honest position: belief, refinement, integrity."""

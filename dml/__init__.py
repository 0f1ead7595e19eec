"""Deep metric learning: pair-based losses, trained and judged exactly."""

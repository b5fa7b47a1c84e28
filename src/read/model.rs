//! Flights and their spools under a model checker.

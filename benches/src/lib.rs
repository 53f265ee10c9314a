//! Turnpike against a bare relay and a direct call (see the benches themselves).

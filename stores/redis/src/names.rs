//! What things are called in the server.

/// Makes the names of what a store keeps.
#[derive(Clone)]
pub(crate) struct Names {
    prefix: String,
}

impl Names {
    /// The channel of the bus.
    pub(crate) fn bus(&self) -> String {
        format!("{}:bus", self.prefix)
    }
}

//! Under construction.

use std::net::SocketAddr;

use super::Settings;

/// A simulated account that answers.
pub struct Running {
    /// Where.
    pub address: SocketAddr,
}

/// Starts one.
///
/// # Errors
/// If no address can be bound or its folder can't be made.
pub async fn start(settings: Settings) -> std::io::Result<Running> {
    let _ = settings;
    Err(std::io::Error::other("under construction"))
}

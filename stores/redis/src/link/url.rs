//! The URLs of servers.

use larder_store::{Error, ErrorKind, Result};
use redis::{ConnectionInfo, IntoConnectionInfo};

use super::Settings;

/// What the URLs say. The messages never repeat a URL: it may hold a password.
pub(super) fn parse(settings: &Settings) -> Result<Vec<ConnectionInfo>> {
    if settings.connections == 0 {
        return Err(Error::invalid("redis needs at least one connection"));
    }
    if settings.urls.is_empty() {
        return Err(Error::invalid("redis needs a URL"));
    }
    settings.urls.iter().map(|url| parse_one(url)).collect()
}

fn parse_one(url: &str) -> Result<ConnectionInfo> {
    let info = url.into_connection_info().map_err(|cause| {
        let message = format!("the redis URL does not work: {}", reason(&cause));
        Error::new(ErrorKind::Invalid, message)
    })?;
    #[cfg(feature = "tls")]
    if matches!(info.addr(), redis::ConnectionAddr::TcpTls { .. }) {
        // Does nothing if the application chose a provider.
        drop(rustls::crypto::ring::default_provider().install_default());
    }
    Ok(info)
}

/// The library's words without the detail, which may quote the URL.
fn reason(error: &redis::RedisError) -> String {
    let words = error.to_string();
    let end = words.find(" - ").unwrap_or(words.len());
    words[..end].to_lowercase()
}

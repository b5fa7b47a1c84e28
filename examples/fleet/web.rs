//! As much HTTP as the origin, the service and their callers need.

use std::{
    convert::Infallible,
    io,
    net::{Ipv4Addr, SocketAddr},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn,
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use larder::BoxError;
use tokio::net::TcpListener;

/// Who answered, as the service says it in each answer.
pub(crate) const ANSWERED_BY: &str = "x-answered-by";

pub(crate) type Answer = Response<Full<Bytes>>;

/// Serves on a free port of the loopback interface, until the process ends.
pub(crate) async fn serve<F, Fut>(answer: F) -> io::Result<SocketAddr>
where
    F: Fn(Method, String) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Answer> + Send + 'static,
{
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let answer = answer.clone();
            let service = service_fn(move |request: Request<Incoming>| {
                let reply = answer(request.method().clone(), request.uri().path().to_owned());
                async move { Ok::<_, Infallible>(reply.await) }
            });
            let _ = connection.set_nodelay(true);
            let connection = http1::Builder::new()
                .pipeline_flush(true)
                .serve_connection(TokioIo::new(connection), service);
            tokio::spawn(connection);
        }
    });
    Ok(address)
}

pub(crate) fn answer(status: StatusCode, by: &str, body: impl Into<Bytes>) -> Answer {
    let answer = Response::builder().status(status).header(ANSWERED_BY, by);
    answer
        .body(Full::new(body.into()))
        .expect("a header of ours is valid")
}

/// A client with a pool of connections.
#[derive(Clone)]
pub(crate) struct Client(legacy::Client<HttpConnector, Empty<Bytes>>);

/// What a service or the origin answered.
pub(crate) struct Page {
    pub(crate) by: String,
    pub(crate) bytes: Bytes,
}

impl Client {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self(legacy::Client::builder(TokioExecutor::new()).build(connector))
    }

    pub(crate) async fn call(
        &self,
        method: Method,
        server: SocketAddr,
        path: &str,
    ) -> Result<Page, BoxError> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{server}{path}"))
            .body(Empty::new())?;
        let response = self.0.request(request).await?;
        let status = response.status();
        let by = response.headers().get(ANSWERED_BY);
        let by = by
            .and_then(|by| by.to_str().ok())
            .unwrap_or_default()
            .to_owned();
        let bytes = response.into_body().collect().await?.to_bytes();
        if !status.is_success() {
            return Err(format!("{path}: {status}: {}", String::from_utf8_lossy(&bytes)).into());
        }
        Ok(Page { by, bytes })
    }

    pub(crate) async fn get(&self, server: SocketAddr, path: &str) -> Result<Page, BoxError> {
        self.call(Method::GET, server, path).await
    }
}

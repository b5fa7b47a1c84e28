//! The fetcher: an HTTP client that revalidates what the cache has.

use std::net::SocketAddr;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{
    Request, StatusCode,
    header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH},
};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use larder::{BoxError, FetchContext, Fetched};

#[derive(Clone)]
pub(crate) struct Client {
    http: legacy::Client<HttpConnector, Empty<Bytes>>,
    origin: SocketAddr,
}

impl Client {
    pub(crate) fn new(origin: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            http: legacy::Client::builder(TokioExecutor::new()).build(connector),
            origin,
        }
    }

    /// Fetches what the cache has not got, or asks whether its stale copy is still right.
    pub(crate) async fn fetch(self, cx: FetchContext) -> Result<Fetched, BoxError> {
        let mut request = Request::get(format!("http://{}{}", self.origin, cx.key()));
        if let Some(tag) = cx.etag() {
            request = request.header(IF_NONE_MATCH, tag.to_string());
        }
        let response = self.http.request(request.body(Empty::new())?).await?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::NOT_MODIFIED => return Ok(Fetched::not_modified()),
            StatusCode::NOT_FOUND => return Ok(Fetched::absent()),
            status => return Err(format!("the origin answers {status}").into()),
        }
        let header = |name: HeaderName| {
            let value = response.headers().get(name);
            value.and_then(|value| value.to_str().ok())
        };
        let len = header(CONTENT_LENGTH).map(str::parse).transpose()?;
        let etag = header(ETAG).map(str::parse).transpose()?;
        let media_type = header(CONTENT_TYPE).map(str::to_owned);

        let mut fetched = Fetched::stream(len, response.into_body().into_data_stream());
        if let Some(etag) = etag {
            fetched = fetched.etag(etag);
        }
        if let Some(media_type) = media_type {
            fetched = fetched.content_type(media_type);
        }
        Ok(fetched)
    }
}
